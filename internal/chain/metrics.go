package chain

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zhenglian/zhenglian/evidence"
)

type metrics struct {
	accepted   prometheus.Counter
	results    *prometheus.CounterVec
	fetched    prometheus.Counter
	badWitness prometheus.Counter
	badTokens  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		accepted:   prometheus.NewCounter(prometheus.CounterOpts{Name: "zhenglian_statements_accepted_total", Help: "Statements taken from clients and durable on this node."}),
		results:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zhenglian_statements_total", Help: "Statements in committed batches, by what became of them."}, []string{"code"}),
		fetched:    prometheus.NewCounter(prometheus.CounterOpts{Name: "zhenglian_batches_fetched_total", Help: "Batches asked for at the peers because they were not here."}),
		badWitness: prometheus.NewCounter(prometheus.CounterOpts{Name: "zhenglian_root_signatures_refused_total", Help: "Root signatures of peers that did not verify over this node's own root."}),
		badTokens:  prometheus.NewCounter(prometheus.CounterOpts{Name: "zhenglian_timestamp_tokens_refused_total", Help: "Timestamp tokens of peers that did not verify over this node's own log."}),
	}
	if reg != nil {
		reg.MustRegister(m.accepted, m.results, m.fetched, m.badWitness, m.badTokens)
	}
	return m
}

// count adds a batch's results.
func (m *metrics) count(results []result) {
	n := map[evidence.Code]int{}
	for i := range results {
		n[results[i].code]++
	}
	for code, k := range n {
		m.results.WithLabelValues(code.String()).Add(float64(k))
	}
}
