package recording_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// A recorder links events as they happen, and a reader finds out whether all of
// them are there.
func Example() {
	chain := recording.Chain{Session: evidence.SumSHA256([]byte("32 random bytes"))}
	var log strings.Builder
	write := func(e *recording.Event) {
		line, digest, err := chain.Link(e)
		if err != nil {
			fmt.Println(err)
			return
		}
		log.WriteString(string(line) + "\n") // and fsync, before the next
		chain.Advance(e, digest)
	}
	key := evidence.SumSHA256([]byte("the recorder's key")).String()
	write(&recording.Event{Phase: evidence.PhaseBefore, Type: recording.TypeOpen, At: "2026-11-22T15:05:38.123Z", Data: recording.Data{"trail": key, "recorder": key, "version": "1"}})
	write(&recording.Event{Phase: evidence.PhaseDuring, Type: recording.TypeInput, At: "2026-11-22T15:05:39.000Z", Mono: 877_000, Data: recording.Data{"kind": "click", "x": int64(10), "y": int64(20)}})
	write(&recording.Event{Phase: evidence.PhaseAfter, Type: recording.TypeClose, At: "2026-11-22T15:05:40.000Z", Mono: 1_877_000, Data: chain.Close(recording.StateComplete, "")})

	r := recording.NewLogReader(strings.NewReader(log.String()))
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Seq, e.Type)
	}
	fmt.Println("closed:", r.Chain().Closed)
	// Output:
	// 0 session.open
	// 1 input
	// 2 session.close
	// closed: true
}

func BenchmarkReadLog(b *testing.B) {
	log := whole(b).Log.String()
	n := 0
	for b.Loop() {
		events, _, err := readAll([]byte(log))
		must(b, err)
		n += len(events)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
