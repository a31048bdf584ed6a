package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	outcomes *prometheus.CounterVec
	batches  prometheus.Gauge
	denied   *prometheus.CounterVec
	handler  http.Handler
}

func newMetrics(reg *prometheus.Registry, node Node, tsa func() AuthorityStatus) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zhenglian_http_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "zhenglian_http_request_seconds", Help: "Time to answer, by route.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "zhenglian_http_requests_in_flight", Help: "Requests being answered."}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zhenglian_deposits_total", Help: "Statements submitted here, by outcome."}, []string{"code"}),
		batches:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "zhenglian_batches_open", Help: "Batch requests being read."}),
		denied:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zhenglian_http_denied_total", Help: "Signed requests refused, by reason."}, []string{"code"}),
		handler:  promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.outcomes, m.batches, m.denied, nodeCollector{node, tsa}} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	// A batch lasts as long as its sender likes; it would only blur the others.
	if !strings.HasSuffix(route, "/batches") {
		m.duration.WithLabelValues(route).Observe(took.Seconds())
	}
}

// nodeCollector reads the node's status once a scrape.
type nodeCollector struct {
	node Node
	tsa  func() AuthorityStatus // nil: no authority runs here
}

// Describe sends nothing: an unchecked collector, whose labels are institutions.
func (nodeCollector) Describe(chan<- *prometheus.Desc) {}

func (c nodeCollector) Collect(out chan<- prometheus.Metric) {
	st := c.node.Status()
	gauge := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("zhenglian_"+name, help, nil, nil), prometheus.GaugeValue, v)
	}
	gauge("chain_height", "Height of the last block.", float64(st.Height))
	if !st.BlockTime.IsZero() {
		gauge("block_time_seconds", "Time of the last block, seconds since 1970.", float64(st.BlockTime.UnixMilli())/1000)
	}
	gauge("log_size", "Entries in the log.", float64(st.Size))
	gauge("log_witnessed_size", "Entries under the largest root that a quorum signed.", float64(st.WitnessedSize))
	gauge("deposits_pending", "Statements accepted and not yet in the log.", float64(st.Pending))
	gauge("disk_free_bytes", "Room on the node's disk.", float64(st.DiskFree))
	gauge("faults", "Stores that are broken.", float64(len(st.Faults)))
	gauge("ready", "1 when the node is ready.", asFloat(len(notReady(st)) == 0))
	c.stamps(out, gauge)
	reachable := prometheus.NewDesc("zhenglian_peer_reachable", "1 when the institution's node answers.", []string{"institution"}, nil)
	witnessed := prometheus.NewDesc("zhenglian_peer_witnessed_size", "Largest log size the institution signed.", []string{"institution"}, nil)
	for id, p := range st.Peers {
		out <- prometheus.MustNewConstMetric(reachable, prometheus.GaugeValue, asFloat(p.Reachable), id)
		out <- prometheus.MustNewConstMetric(witnessed, prometheus.GaugeValue, float64(p.WitnessedSize), id)
	}
}

// stamps tells how the asking for tokens and the own authority stand.
func (c nodeCollector) stamps(out chan<- prometheus.Metric, gauge func(name, help string, v float64)) {
	if st := c.node.Stamps(); len(st.Authorities) > 0 {
		gauge("timestamp_size", "Log size of the newest checkpoint with a timestamp token.", float64(st.Size))
		if !st.Last.IsZero() {
			gauge("timestamp_last_seconds", "When the newest timestamp token came, seconds since 1970.", float64(st.Last.UnixMilli())/1000)
		}
		gauge("timestamp_backlog", "Entries of the public log that no timestamp token covers.", float64(st.Backlog))
		if !st.Since.IsZero() {
			gauge("timestamp_backlog_since_seconds", "Block time of the first entry that no timestamp token covers, seconds since 1970.", float64(st.Since.UnixMilli())/1000)
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("zhenglian_timestamp_failures_total", "Rounds in which no timestamp authority gave a token.", nil, nil),
			prometheus.CounterValue, float64(st.Failures))
	}
	if c.tsa == nil {
		return
	}
	st := c.tsa()
	gauge("tsa_ready", "1 when the institution's timestamp authority signs.", asFloat(st.Ready))
	gauge("tsa_entries", "Tokens in the register of the institution's timestamp authority.", float64(st.Entries))
	if st.ClockErrorSeconds != nil {
		gauge("tsa_clock_error_seconds", "The most by which the timestamp authority's clock can be wrong.", *st.ClockErrorSeconds)
	}
}

func asFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// notReady lists why the node should get no requests now, in words that name
// no path and no address.
func notReady(st chain.Status) []reason {
	var out []reason
	for _, store := range sortedKeys(st.Faults) {
		out = append(out, reason{"fault", store})
	}
	if st.CatchingUp {
		out = append(out, reason{"catching-up", "chain"})
	}
	// Alone it can take statements and answer for old ones, but nothing new
	// becomes final.
	present := 1
	for _, p := range st.Peers {
		if p.Reachable {
			present++
		}
	}
	if present < evidence.Quorum(len(st.Peers)+1) {
		out = append(out, reason{"no-quorum", "peers"})
	}
	return out
}
