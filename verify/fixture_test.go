package verify_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// story is the alliance and the trail that most tests begin with: Li opens a
// trail, authorises the notary's recorder, which adds a step, and closes it.
type story struct {
	*testalliance.Alliance
	li, recorder *testalliance.Member
	trail        evidence.Digest
}

func tell(t testing.TB, seed string, n int) *story {
	t.Helper()
	a, err := testalliance.New(seed, n)
	must(t, err)
	s := &story{Alliance: a}
	s.li, err = a.Enrol("m:li", 2, false)
	must(t, err)
	s.recorder, err = a.Enrol("m:recorder", 1, true)
	must(t, err)
	s.trail, err = a.Open(s.li, testalliance.Step{Phase: evidence.PhaseBefore, Name: "开始取证", Objects: map[string][]byte{"consent.txt": []byte("同意")}})
	must(t, err)
	_, err = a.Authorise(s.li, s.trail, s.recorder.Signer.Public().KID(), evidence.RightAppend)
	must(t, err)
	_, err = a.Deposit(s.recorder, s.trail, testalliance.Step{Objects: map[string][]byte{"page.html": []byte("<p>侵权网页</p>"), "shot.png": []byte("png")}, Order: []string{"page.html", "shot.png"}})
	must(t, err)
	_, err = a.Deposit(s.li, s.trail, testalliance.Step{Phase: evidence.PhaseAfter, Name: "封存"})
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *story) content(t testing.TB) *testalliance.Content {
	t.Helper()
	c, err := s.Content(s.trail)
	must(t, err)
	return c
}

func encode(t testing.TB, c *testalliance.Content) []byte {
	t.Helper()
	data, err := c.Encode()
	must(t, err)
	return data
}

func check(t testing.TB, pkg []byte, opts verify.Options) *verify.Report {
	t.Helper()
	rep, err := verify.Check(context.Background(), bytes.NewReader(pkg), int64(len(pkg)), opts)
	must(t, err)
	return rep
}

// wants requires a verdict of the whole and, for each id, a line with the
// reason.
func wants(t testing.TB, rep *verify.Report, v verify.Verdict, lines ...string) {
	t.Helper()
	if rep.Verdict != v {
		t.Errorf("the whole %s, want %s (%s %v)", rep.Verdict, v, rep.Summary.Key, rep.Summary.Params)
		show(t, rep)
	}
	for _, key := range lines {
		if find(rep, key) == nil {
			t.Errorf("no line has the reason %q", key)
			show(t, rep)
		}
	}
}

func find(rep *verify.Report, key string) *verify.Line {
	for i := range rep.Checks {
		if rep.Checks[i].Reason.Key == key {
			return &rep.Checks[i]
		}
	}
	return nil
}

func show(t testing.TB, rep *verify.Report) {
	t.Helper()
	for _, c := range rep.Checks {
		if c.Verdict != verify.Matches {
			t.Logf("%s: %s %+v %s %v", c.Verdict, c.ID, c.Subject, c.Reason.Key, c.Reason.Params)
		}
	}
}
