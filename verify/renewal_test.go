package verify_test

import (
	"bytes"
	"crypto"
	_ "crypto/sha512"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// archive is a package that is kept for decades, and the authorities that
// stamped it. The first authority's certificates end nine years after the trail.
type archive struct {
	*story
	first, second stampPad
	data          []byte
	stamped       int64 // time of the checkpoint's token
}

const year = 365 * 24 * 3600

func newArchive(t *testing.T, name string) *archive {
	t.Helper()
	a := &archive{story: tell(t, name, 4), first: newStampPad(t)}
	pad, err := testalliance.NewStampPadAt(time.Unix(testalliance.Start, 0))
	must(t, err)
	a.second = stampPad{pad}
	c := a.content(t)
	size := c.Info.TreeSize
	a.stamped = testalliance.BlockTime(size-1) + 2
	c.Checkpoints[size], err = a.Cosigned(size)
	must(t, err)
	c.Timestamps[size] = a.first.token(t, a.BodyAt(size), a.stamped, time.Second, realPolicy())
	a.data = encode(t, c)
	a.add(t, map[string][]byte{ownPath: a.first.token(t, string(c.Steps[0].Statement), a.stamped, time.Second, realPolicy())})
	return a
}

// trust lets the policy know both authorities: the second by its own certificate.
func (a *archive) trust(t *testing.T, revoked ...evidence.AuthorityRevocation) {
	t.Helper()
	first := a.first.Entry("notary", false)
	first.Revoked = revoked
	a.Policy.TimestampAuthorities = nil
	must(t, a.Policy.AddTimestampAuthority(first))
	must(t, a.Policy.AddTimestampAuthority(a.second.OwnEntry("other")))
}

func (a *archive) open(t *testing.T) *evidence.Package {
	t.Helper()
	p, err := evidence.OpenPackage(bytes.NewReader(a.data), int64(len(a.data)))
	must(t, err)
	return p
}

// renew adds a renewal by the pad at a time.
func (a *archive) renew(t *testing.T, pad stampPad, id string, at int64, policy ...int) {
	t.Helper()
	p := a.open(t)
	n, list, err := p.ListForRenewal(t.Context())
	must(t, err)
	token, err := pad.TokenOver(crypto.SHA512, list, at, time.Second, policy...)
	must(t, err)
	a.add(t, map[string][]byte{evidence.RenewalListPath(n): list, evidence.RenewalTokenPath(n, id): token})
}

// add puts more files under timestamps/.
func (a *archive) add(t *testing.T, files map[string][]byte) {
	t.Helper()
	file := &evidence.MemoryFile{}
	must(t, a.open(t).AddTimestamps(file, files))
	a.data = file.Bytes()
}

func (a *archive) check(t *testing.T) *verify.Report {
	t.Helper()
	must(t, a.Policy.Validate())
	return check(t, a.data, verify.Options{Policy: a.Policy})
}

// tokens returns the report's tokens by path.
func tokens(rep *verify.Report) map[string]verify.Timestamp {
	out := map[string]verify.Timestamp{}
	for _, t := range rep.Timestamps {
		out[t.Path] = t
	}
	return out
}

func stampText(at int64) string { return time.Unix(at, 0).UTC().Format(time.RFC3339) }

const ownPath = "timestamps/statements/000001.notary.tsr"

// A statement's own token stands beside the checkpoint's, for its step alone.
func TestStatementToken(t *testing.T) {
	a := newArchive(t, "own")
	a.trust(t)
	rep := a.check(t)
	wants(t, rep, verify.Matches)
	own := tokens(rep)[ownPath]
	if own.Verdict != verify.Matches || own.Step != 1 || own.Reason.Key != "timestamp-statement-holds" {
		t.Fatalf("%+v", own)
	}
	for _, s := range rep.Steps {
		if (s.Time.OwnToken != nil) != (s.N == 1) || s.Time.Token == nil {
			t.Errorf("step %d: %+v, %+v", s.N, s.Time.OwnToken, s.Time.Token)
		}
	}
	for name, tc := range map[string]struct {
		data   func(c *testalliance.Content) []byte
		at     int64
		reason string
	}{
		"over another statement":              {func(c *testalliance.Content) []byte { return c.Steps[1].Statement }, a.stamped, "timestamp-statement-refused"},
		"before the checkpoint that it names": {func(c *testalliance.Content) []byte { return c.Steps[0].Statement }, a.stamped - 3*86400, "timestamp-statement-contradiction"},
	} {
		t.Run(name, func(t *testing.T) {
			c := a.content(t)
			der, err := a.first.Token(string(tc.data(c)), tc.at, time.Second, realPolicy()...)
			must(t, err)
			a.data = encode(t, c)
			a.add(t, map[string][]byte{ownPath: der})
			rep := a.check(t)
			wants(t, rep, verify.DoesNotMatch)
			if l := find(rep, tc.reason); l == nil || l.Subject.Path != ownPath {
				show(t, rep)
			}
			if rep.Steps[0].Time.OwnToken != nil {
				t.Error("the bracket uses it")
			}
		})
	}
}

// An own token of before the block narrows the bracket of its step alone.
func TestStatementTokenNarrows(t *testing.T) {
	a := newArchive(t, "own-narrow")
	a.trust(t)
	c := a.content(t)
	block := testalliance.BlockTime(c.Steps[0].Position)
	der, err := a.first.Token(string(c.Steps[0].Statement), block-3, 1500*time.Millisecond, realPolicy()...)
	must(t, err)
	a.data = encode(t, c)
	a.add(t, map[string][]byte{ownPath: der})
	rep := a.check(t)
	wants(t, rep, verify.Matches)
	if got, want := rep.Steps[0].Time.NotAfter, stampText(block-1); got != want {
		t.Errorf("not later than %s, want %s", got, want)
	}
	if rep.Steps[1].Time.NotAfter == stampText(block-1) {
		t.Error("the token of step 1 narrows step 2")
	}
}

// What becomes of a token as certificates end, keys are lost and algorithms fall.
func TestRenewals(t *testing.T) {
	revoked := func(at int64, reason string) evidence.AuthorityRevocation {
		return evidence.AuthorityRevocation{At: stampText(at), Reason: reason}
	}
	broken := func(alg string, since int64) func(a *archive) {
		return func(a *archive) {
			a.Policy.BrokenAlgorithms = append(a.Policy.BrokenAlgorithms, evidence.BrokenAlgorithm{Algorithm: alg, Since: stampText(since)})
		}
	}
	const start = testalliance.Start
	for _, tc := range []struct {
		name    string
		renew   []int64 // by the second authority, at these times
		demo    bool    // under a demonstration's policy
		revoked []evidence.AuthorityRevocation
		policy  []func(a *archive)
		want    verify.Verdict
		reason  string // of the first token
		counts  bool   // the steps have it
		seen    bool
		late    bool
	}{
		{name: "long expired, never renewed", want: verify.Matches, reason: "timestamp-holds", counts: true},
		{name: "renewed in time", renew: []int64{start + 5*year}, want: verify.Matches, reason: "timestamp-holds", counts: true, seen: true},
		{name: "renewed after its certificate", renew: []int64{start + 9*year + 30*86400}, want: verify.Matches, reason: "timestamp-holds", counts: true, late: true},
		{name: "authority retired later", revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "cessationOfOperation")}, want: verify.Matches, reason: "timestamp-holds", counts: true},
		{name: "authority retired before", revoked: []evidence.AuthorityRevocation{revoked(start-86400, "superseded")}, want: verify.DoesNotMatch, reason: "timestamp-refused"},
		{name: "key lost later, not renewed", revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "keyCompromise")}, want: verify.Matches, reason: "timestamp-compromised"},
		{name: "revoked without a reason", revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "")}, want: verify.Matches, reason: "timestamp-compromised"},
		{name: "key lost, renewed before", renew: []int64{start + year}, revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "keyCompromise")}, want: verify.Matches, reason: "timestamp-holds", counts: true, seen: true},
		{name: "key lost, renewed after", renew: []int64{start + 3*year}, revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "keyCompromise")}, want: verify.Matches, reason: "timestamp-compromised", late: true},
		{name: "key lost, renewed by a demonstration", demo: true, renew: []int64{start + year}, revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "keyCompromise")}, want: verify.Matches, reason: "timestamp-compromised"},
		{name: "another certificate revoked", revoked: []evidence.AuthorityRevocation{{Certificate: evidence.SumSHA256([]byte("another")), At: stampText(start), Reason: "keyCompromise"}}, want: verify.Matches, reason: "timestamp-holds", counts: true},
		{name: "signature broken, not renewed", policy: []func(*archive){broken("ECDSA-P256", start+4*year)}, want: verify.Matches, reason: "timestamp-broken"},
		{name: "signature broken, both of one kind", renew: []int64{start + year}, policy: []func(*archive){broken("ECDSA-P256", start+4*year)}, want: verify.Matches, reason: "timestamp-broken"},
		{name: "digest broken, not renewed", policy: []func(*archive){broken("SHA-256", start+4*year)}, want: verify.Undetermined, reason: "timestamp-broken"},
		{name: "digest broken, renewed by SHA-512", renew: []int64{start + year}, policy: []func(*archive){broken("SHA-256", start+4*year)}, want: verify.Matches, reason: "timestamp-holds", counts: true, seen: true},
		{name: "digest broken, renewed too late", renew: []int64{start + 5*year}, policy: []func(*archive){broken("SHA-256", start+4*year)}, want: verify.Undetermined, reason: "timestamp-broken", late: true},
		{name: "renewed twice", renew: []int64{start + year, start + 3*year}, revoked: []evidence.AuthorityRevocation{revoked(start+2*year, "keyCompromise")}, want: verify.Matches, reason: "timestamp-holds", counts: true, seen: true},
		{name: "renewal older than the token", renew: []int64{start - 20*86400 + 20*86400 - 7200}, want: verify.DoesNotMatch, reason: "timestamp-holds", counts: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newArchive(t, "archive")
			a.trust(t, tc.revoked...)
			for _, change := range tc.policy {
				change(a)
			}
			policy := realPolicy()
			if tc.demo {
				policy = []int{2, 999, 3161, 1}
			}
			for _, at := range tc.renew {
				a.renew(t, a.second, "other", at, policy...)
			}
			rep := a.check(t)
			if rep.Verdict != tc.want {
				show(t, rep)
				t.Fatalf("verdict %s, want %s", rep.Verdict, tc.want)
			}
			all := tokens(rep)
			for path, ts := range all {
				if ts.Renewal > 0 {
					continue
				}
				reason := ts.Reason.Key
				if ts.Step > 0 {
					reason = strings.Replace(reason, "timestamp-statement-", "timestamp-", 1)
				}
				if reason != tc.reason || (ts.SeenBy != "") != tc.seen {
					t.Errorf("%s: %+v", path, ts)
				}
				if open := unchecked(rep, path); open != (tc.reason == "timestamp-compromised" || tc.reason == "timestamp-broken") {
					t.Errorf("%s is listed as open: %v", path, open)
				}
			}
			if len(all) != 2+len(tc.renew) {
				t.Errorf("%d tokens", len(all))
			}
			if got := rep.Steps[0].Time.Token != nil && rep.Steps[0].Time.OwnToken != nil; got != tc.counts {
				t.Errorf("the bracket rests on the tokens: %v", got)
			}
			late := false
			for _, n := range rep.Notices {
				late = late || n.Reason.Key == "renewal-late"
			}
			if late != tc.late {
				t.Errorf("told of a late renewal: %v, %+v", late, rep.Notices)
			}
		})
	}
}

// A chain of renewals: the second authority's key falls too, and a third took its
// renewal over in time.
func TestRenewalOfARenewal(t *testing.T) {
	const start = testalliance.Start
	for _, saved := range []bool{true, false} {
		a := newArchive(t, "chain")
		third, err := testalliance.NewStampPadAt(time.Unix(start, 0))
		must(t, err)
		a.renew(t, a.second, "other", start+year, realPolicy()...)
		if saved {
			a.renew(t, stampPad{third}, "third", start+6*year, realPolicy()...)
		}
		lost := func(at int64) []evidence.AuthorityRevocation {
			return []evidence.AuthorityRevocation{{At: stampText(at), Reason: "keyCompromise"}}
		}
		first, second := a.first.Entry("notary", false), a.second.OwnEntry("other")
		first.Revoked, second.Revoked = lost(start+2*year), lost(start+7*year)
		must(t, a.Policy.AddTimestampAuthority(first))
		must(t, a.Policy.AddTimestampAuthority(second))
		must(t, a.Policy.AddTimestampAuthority(stampPad{third}.Entry("third", false)))
		rep := a.check(t)
		wants(t, rep, verify.Matches)
		if got := rep.Steps[0].Time.Token != nil; got != saved {
			show(t, rep)
			t.Errorf("saved %v: the bracket rests on the token: %v", saved, got)
		}
		want := "renewal-holds"
		if !saved {
			want = "timestamp-compromised"
		}
		if got := tokens(rep)[evidence.RenewalTokenPath(1, "other")]; got.Reason.Key != want {
			t.Errorf("saved %v: %+v", saved, got)
		}
	}
}

// What somebody does to the files of a renewal shows, or adds nothing.
func TestForgedRenewals(t *testing.T) {
	const start = testalliance.Start
	list, token := evidence.RenewalListPath(1), evidence.RenewalTokenPath(1, "other")
	for _, tc := range []struct {
		name   string
		make   func(t *testing.T, a *archive)
		want   verify.Verdict
		reason string
	}{
		{"a list that does not parse", func(t *testing.T, a *archive) {
			a.add(t, map[string][]byte{list: []byte("x\n"), token: []byte("token")})
		}, verify.DoesNotMatch, "renewal-malformed"},
		{"a token over another list", func(t *testing.T, a *archive) {
			_, text, err := a.open(t).ListForRenewal(t.Context())
			must(t, err)
			der, err := a.second.TokenOver(crypto.SHA512, []byte("other"), start+year, time.Second, realPolicy()...)
			must(t, err)
			a.add(t, map[string][]byte{list: text, token: der})
		}, verify.DoesNotMatch, "renewal-refused"},
		{"a list of other files of these names", func(t *testing.T, a *archive) {
			text := evidence.EncodeRenewalList([]evidence.RenewalEntry{{Path: "statements/000001.cose"}})
			der, err := a.second.TokenOver(crypto.SHA512, text, start+year, time.Second, realPolicy()...)
			must(t, err)
			a.add(t, map[string][]byte{list: text, token: der})
		}, verify.DoesNotMatch, "renewal-differs"},
		{"a token without its list", func(t *testing.T, a *archive) {
			a.add(t, map[string][]byte{token: []byte("token")})
		}, verify.Undetermined, "renewal-no-list"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newArchive(t, "forged-renewal")
			a.trust(t)
			tc.make(t, a)
			rep := a.check(t)
			if rep.Verdict != tc.want || find(rep, tc.reason) == nil {
				show(t, rep)
				t.Errorf("verdict %s, want %s for %s", rep.Verdict, tc.want, tc.reason)
			}
		})
	}
	t.Run("of an authority that nobody knows", func(t *testing.T) {
		a := newArchive(t, "unknown-renewal")
		a.renew(t, a.second, "other", start+year, realPolicy()...)
		must(t, a.Policy.AddTimestampAuthority(a.first.Entry("notary", false)))
		rep := a.check(t)
		wants(t, rep, verify.Matches)
		if !unchecked(rep, list) || !unchecked(rep, token) {
			t.Errorf("%+v", rep.Unchecked)
		}
	})
	t.Run("a list that leaves the checkpoint out renews nothing", func(t *testing.T) {
		a := newArchive(t, "partial")
		a.trust(t, evidence.AuthorityRevocation{At: stampText(start + 2*year), Reason: "keyCompromise"})
		sum, err := a.open(t).SHA512(t.Context(), ownPath)
		must(t, err)
		text := evidence.EncodeRenewalList([]evidence.RenewalEntry{{SHA512: sum, Path: ownPath}})
		der, err := a.second.TokenOver(crypto.SHA512, text, start+year, time.Second, realPolicy()...)
		must(t, err)
		a.add(t, map[string][]byte{list: text, token: der})
		rep := a.check(t)
		wants(t, rep, verify.Matches)
		if got := tokens(rep)[ownPath]; got.Reason.Key != "timestamp-compromised" {
			t.Errorf("%+v", got)
		}
	})
}
