package verify_test

import (
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// stampPad is an authority whose tokens the test makes.
type stampPad struct{ *testalliance.StampPad }

func newStampPad(t testing.TB) stampPad {
	t.Helper()
	p, err := testalliance.NewStampPad()
	must(t, err)
	return stampPad{p}
}

// realPolicy is one outside the arc for examples.
func realPolicy() []int { return []int{1, 2, 3, 4} }

func (p stampPad) token(t testing.TB, body string, at int64, accuracy time.Duration, policy []int) []byte {
	t.Helper()
	der, err := p.Token(body, at, accuracy, policy...)
	must(t, err)
	return der
}

func TestTimestamps(t *testing.T) {
	type tokens = map[uint64][]byte
	demo := []int{2, 999, 3161, 1}
	for _, tc := range []struct {
		name   string
		unit   bool // the policy names no authority
		demo   bool // the policy calls it a demonstration's
		make   func(p stampPad, s *story, size uint64, block int64) []byte
		bare   bool // the package has no checkpoint of that size
		want   verify.Verdict
		reason string
		token  bool // the steps have the token beside their block time
	}{
		{name: "a token", want: verify.Matches, reason: "timestamp-holds", token: true, make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block+2, 1500*time.Millisecond, realPolicy())
		}},
		{name: "without accuracy", want: verify.Matches, reason: "timestamp-holds-no-accuracy", token: true, make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block+2, 0, realPolicy())
		}},
		{name: "a demonstration's, by its policy", want: verify.Matches, reason: "timestamp-holds-demo", token: true, make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block+2, 0, demo)
		}},
		{name: "a demonstration's, by the verifier", demo: true, want: verify.Matches, reason: "timestamp-holds-demo", token: true, make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block+2, time.Second, realPolicy())
		}},
		{name: "no authority in the policy", unit: true, want: verify.Matches, make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block+2, time.Second, realPolicy())
		}},
		{name: "over another checkpoint", want: verify.DoesNotMatch, reason: "timestamp-refused", make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size-1), block+2, time.Second, realPolicy())
		}},
		{name: "of another authority under this one's name", want: verify.DoesNotMatch, reason: "timestamp-refused", make: func(_ stampPad, s *story, size uint64, block int64) []byte {
			return newStampPad(t).token(t, s.BodyAt(size), block+2, time.Second, realPolicy())
		}},
		{name: "backdated with a stolen key", want: verify.DoesNotMatch, reason: "timestamp-contradiction", make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block-86400, time.Second, realPolicy())
		}},
		{name: "no checkpoint", bare: true, want: verify.Undetermined, reason: "timestamp-no-checkpoint", make: func(p stampPad, s *story, size uint64, block int64) []byte {
			return p.token(t, s.BodyAt(size), block+2, time.Second, realPolicy())
		}},
		{name: "not DER", want: verify.DoesNotMatch, reason: "timestamp-refused", make: func(stampPad, *story, uint64, int64) []byte { return []byte("token") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, p := tell(t, "stamps", 4), newStampPad(t)
			c := s.content(t)
			size := c.Info.TreeSize
			block := testalliance.BlockTime(size - 1)
			if !tc.bare {
				var err error
				c.Checkpoints[size], err = s.Cosigned(size)
				must(t, err)
			}
			c.Timestamps = tokens{size: tc.make(p, s, size, block)}
			if !tc.unit {
				must(t, s.Policy.AddTimestampAuthority(p.Entry("notary", tc.demo)))
			}
			rep := check(t, encode(t, c), verify.Options{Policy: s.Policy})
			wants(t, rep, tc.want)
			if len(rep.Timestamps) != 1 {
				t.Fatalf("%+v", rep.Timestamps)
			}
			ts := rep.Timestamps[0]
			if tc.unit {
				if ts.Verdict != verify.Undetermined || ts.Reason.Key != "unchecked-timestamp" || !unchecked(rep, ts.Path) {
					t.Errorf("%+v %+v", ts, rep.Unchecked)
				}
				return
			}
			l := find(rep, tc.reason)
			if l == nil || l.Verdict != tc.want || l.Subject.Path != ts.Path || ts.Verdict != tc.want {
				show(t, rep)
				t.Fatalf("%+v, %+v", l, ts)
			}
			for _, st := range rep.Steps {
				switch {
				case tc.token != (st.Time.Token != nil):
					t.Errorf("step %d: token %+v", st.N, st.Time.Token)
				case tc.token && (st.Time.Token.NotAfter != ts.NotAfter || st.Time.Token.Demo != (tc.reason == "timestamp-holds-demo") || st.Time.NotAfter == ts.NotAfter):
					t.Errorf("step %d: %+v, %+v", st.N, st.Time, st.Time.Token)
				}
			}
			shown := false
			for _, n := range rep.NotProven {
				shown = shown || n.Key == "not-proven-demo-timestamp"
			}
			if shown != (tc.reason == "timestamp-holds-demo") {
				t.Errorf("not proven: %+v", rep.NotProven)
			}
		})
	}
}

func unchecked(rep *verify.Report, path string) bool {
	for _, u := range rep.Unchecked {
		if u.Path == path {
			return true
		}
	}
	return false
}

// A real token that is earlier than the block time narrows the bracket; a
// demonstration's never does.
func TestTokenNarrowsTheBracket(t *testing.T) {
	for _, demo := range []bool{false, true} {
		s, p := tell(t, "narrow", 4), newStampPad(t)
		must(t, s.Policy.AddTimestampAuthority(p.Entry("notary", demo)))
		c := s.content(t)
		size := c.Info.TreeSize
		block := testalliance.BlockTime(size - 1)
		var err error
		c.Checkpoints[size], err = s.Cosigned(size)
		must(t, err)
		c.Timestamps[size] = p.token(t, s.BodyAt(size), block-3, 1500*time.Millisecond, realPolicy())
		rep := check(t, encode(t, c), verify.Options{Policy: s.Policy})
		wants(t, rep, verify.Matches)
		want := time.Unix(block, 0).UTC().Format(time.RFC3339)
		if !demo {
			want = time.Unix(block-1, 0).UTC().Format(time.RFC3339) // the accuracy rounded up
		}
		for _, st := range rep.Steps {
			if st.Time.NotAfter != want {
				t.Errorf("demonstration %v: step %d not later than %s, want %s", demo, st.N, st.Time.NotAfter, want)
			}
		}
	}
}
