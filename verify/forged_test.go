package verify_test

import (
	"context"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// A forger can make a whole alliance: institutions of the same names, a log,
// members, receipts, all of it in agreement. Only the verifier's own trust
// tells it from the real one.
func TestForgedAlliance(t *testing.T) {
	real, forged := tell(t, "real", 4), tell(t, "forged", 4)
	pkg := encode(t, forged.content(t))

	rep := check(t, pkg, verify.Options{})
	wants(t, rep, verify.Undetermined, "no-policy")
	if rep.IssuerEstablished || rep.Summary.Key != "summary-issuer-not-established" || rep.NotProven[0].Key != "not-proven-issuer" {
		t.Errorf("without a policy: issuer %v, %s, %v", rep.IssuerEstablished, rep.Summary.Key, rep.NotProven)
	}
	if n := rep.Count(verify.Undetermined); n != 1 {
		t.Errorf("%d lines cannot be determined, want the issuer's alone", n)
	}

	id := real.ID()
	for name, opts := range map[string]verify.Options{"policy": {Policy: real.Policy}, "pinned id": {Alliance: &id}} {
		t.Run(name, func(t *testing.T) {
			rep := check(t, pkg, opts)
			wants(t, rep, verify.DoesNotMatch, "alliance-other")
			if rep.Summary.Key != "summary-other-alliance" {
				t.Errorf("the report begins with %s", rep.Summary.Key)
			}
			if rep.IssuerEstablished {
				t.Error("the issuer is established")
			}
		})
	}
	t.Run("posing as the real one", func(t *testing.T) {
		c := forged.content(t)
		c.Info.Alliance = real.ID()
		var err error
		c.Alliance, err = real.Encode()
		must(t, err)
		rep := check(t, encode(t, c), verify.Options{})
		if rep.Verdict == verify.Matches || rep.IssuerEstablished {
			t.Errorf("without a policy: %s", rep.Verdict)
		}
		rep = check(t, encode(t, c), verify.Options{Policy: real.Policy})
		wants(t, rep, verify.DoesNotMatch, "receipt-log", "quorum-missing")
		if rep.IssuerEstablished {
			t.Error("the issuer is established")
		}
	})
	t.Run("policy and pinned id of two alliances", func(t *testing.T) {
		wants(t, check(t, pkg, verify.Options{Policy: forged.Policy, Alliance: &id}), verify.DoesNotMatch, "policy-other-alliance")
	})
	t.Run("pinned id and no founding document", func(t *testing.T) {
		c := real.content(t)
		c.Alliance = nil
		wants(t, check(t, encode(t, c), verify.Options{Alliance: &id}), verify.Undetermined, "alliance-absent", "no-keys")
	})
}

// Institutions that sign two logs of one size are caught as soon as both roots
// meet in one package.
func TestTwoRoots(t *testing.T) {
	a, b := tell(t, "same", 4), tell(t, "same", 4)
	_, err := a.Open(a.li, testalliance.Step{Name: "one"})
	must(t, err)
	_, err = b.Open(b.li, testalliance.Step{Name: "other"})
	must(t, err)
	c := a.content(t)
	other, err := b.Receipts(c.Steps[3].Position, b.Size(), "notary")
	must(t, err)
	c.Steps[3].Receipts["notary"] = other["notary"]
	wants(t, check(t, encode(t, c), verify.Options{Policy: a.Policy}), verify.DoesNotMatch, "two-roots")
}

// The court holds the log itself: what is not in it fails, with receipts that
// are right in every respect.
func TestCourtsOwnLog(t *testing.T) {
	court, colluding := tell(t, "same", 4), tell(t, "same", 4)
	_, err := colluding.Deposit(colluding.li, colluding.trail, testalliance.Step{Name: "added later"})
	must(t, err)
	pkg := encode(t, colluding.content(t))
	wants(t, check(t, pkg, verify.Options{Policy: court.Policy}), verify.Matches)
	wants(t, check(t, pkg, verify.Options{Policy: court.Policy, Log: court.Log("court")}), verify.DoesNotMatch, "own-log-absent")

	_, err = court.Enrol("m:wang", 2, false)
	must(t, err)
	_, err = court.Enrol("m:zhao", 2, false)
	must(t, err)
	rep := check(t, pkg, verify.Options{Policy: court.Policy, Log: court.Log("court")})
	wants(t, rep, verify.DoesNotMatch, "own-log-absent", "own-root-differs")

	t.Run("withheld steps are listed", func(t *testing.T) {
		s := tell(t, "withheld", 4)
		c := s.content(t)
		c.Steps = c.Steps[:2]
		clear(c.Heads)
		rep := check(t, encode(t, c), verify.Options{Policy: s.Policy, Log: s.Log("court")})
		wants(t, rep, verify.Undetermined, "complete-withheld")
		if len(rep.Withheld) != 2 || rep.Withheld[0].Number != 3 || rep.Withheld[0].Position == nil || *rep.Withheld[0].Position != 4 || rep.Withheld[1].Number != 4 {
			t.Errorf("withheld: %+v", rep.Withheld)
		}
	})
	t.Run("a stranger's statement in the log is no step", func(t *testing.T) {
		s := tell(t, "stranger", 4)
		pkg := encode(t, s.content(t))
		eve, err := s.Enrol("m:eve", 2, false)
		must(t, err)
		_, err = s.Deposit(eve, s.trail, testalliance.Step{})
		must(t, err)
		rep := check(t, pkg, verify.Options{Policy: s.Policy, Log: s.Log("court")})
		wants(t, rep, verify.Matches)
		if len(rep.Notices) != 1 || rep.Notices[0].Reason.Key != "foreign-in-log" {
			t.Errorf("notices: %+v", rep.Notices)
		}
	})
	t.Run("the registry knows of a revocation that the package leaves out", func(t *testing.T) {
		s := tell(t, "revoked", 4)
		_, err := s.Revoke(s.li)
		must(t, err)
		_, err = s.Deposit(s.li, s.trail, testalliance.Step{})
		must(t, err)
		c := s.content(t)
		clear(c.Revocations)
		wants(t, check(t, encode(t, c), verify.Options{Policy: s.Policy}), verify.Matches)
		wants(t, check(t, encode(t, c), verify.Options{Policy: s.Policy, Log: s.Log("court")}), verify.DoesNotMatch, "key-revoked")
	})
	t.Run("no enrolment needed, the court knows the key", func(t *testing.T) {
		s := tell(t, "known", 4)
		c := s.content(t)
		clear(c.Enrolments)
		wants(t, check(t, encode(t, c), verify.Options{Policy: s.Policy, Log: s.Log("court")}), verify.Matches)
	})
	t.Run("a log that lags behind says so", func(t *testing.T) {
		s, ahead := tell(t, "lag", 4), tell(t, "lag", 4)
		_, err := ahead.Enrol("m:wang", 2, false)
		must(t, err)
		wants(t, check(t, encode(t, ahead.content(t)), verify.Options{Policy: s.Policy, Log: s.Log("court")}), verify.Undetermined, "own-root-beyond")
	})
}

// Lies that the package writer would refuse to write.
func TestRepackedLies(t *testing.T) {
	s := tell(t, "repacked", 4)
	honest := encode(t, s.content(t))
	object := "objects/000003/01-page.html"
	cases := []struct {
		name   string
		alter  func(ix *evidence.Index, files map[string][]byte)
		reason string
		path   string
	}{
		{"object exchanged", func(ix *evidence.Index, files map[string][]byte) { files[object] = []byte("<p>harmless</p>") }, "object-digest", object},
		{"object renamed", func(ix *evidence.Index, files map[string][]byte) {
			to := "objects/000003/01-other.html"
			files[to] = files[object]
			for i := range ix.Files {
				if ix.Files[i].Path == object {
					ix.Files[i].Path = to
				}
			}
			ix.Steps[2].Objects[0].Path = to
		}, "object-name", "objects/000003/01-other.html"},
		{"object that no manifest names", func(ix *evidence.Index, files map[string][]byte) {
			to := "objects/000003/07-more.txt"
			files[to] = []byte("more")
			ix.Files = append(ix.Files, evidence.IndexFile{Path: to, Role: evidence.RoleObject})
			ix.Steps[2].Objects = append(ix.Steps[2].Objects, evidence.IndexObject{Path: to})
		}, "object-not-in-manifest", "objects/000003/07-more.txt"},
		{"manifest altered", func(ix *evidence.Index, files map[string][]byte) {
			files["manifests/000003.json"] = append(files["manifests/000003.json"], ' ')
		}, "manifest-digest", "manifests/000003.json"},
		{"founding document altered", func(ix *evidence.Index, files map[string][]byte) {
			files["trust/alliance.json"] = []byte("{}")
		}, "alliance-malformed", "trust/alliance.json"},
		{"receipts of a step that is not there", func(ix *evidence.Index, files map[string][]byte) {
			files["receipts/000000.court.cose"] = files["receipts/000001.court.cose"]
			ix.Files = append(ix.Files, evidence.IndexFile{Path: "receipts/000000.court.cose", Role: evidence.RoleReceipt})
		}, "container-damaged", "receipts/000000.court.cose"},
		{"key file with another name", func(ix *evidence.Index, files map[string][]byte) {
			files["trust/court.pem"], files["trust/notary.pem"] = files["trust/notary.pem"], files["trust/court.pem"]
		}, "key-file-not-trusted", "trust/court.pem"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			pkg, err := testalliance.Repack(honest, tc.alter)
			must(t, err)
			rep := check(t, pkg, verify.Options{Policy: s.Policy})
			wants(t, rep, verify.DoesNotMatch, tc.reason)
			if !rep.Named(tc.path) {
				t.Errorf("no line names %s", tc.path)
				show(t, rep)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("this is no package"), "zip": []byte("PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")} {
		if rep, err := verify.Check(context.Background(), reader(data), int64(len(data)), verify.Options{}); err == nil {
			t.Errorf("%s: %s, want an error", name, rep.Verdict)
		}
	}
	s := tell(t, "later version", 1)
	pkg, err := testalliance.Repack(encode(t, s.content(t)), func(ix *evidence.Index, _ map[string][]byte) { ix.V = 2 })
	must(t, err)
	if rep, err := verify.Check(context.Background(), reader(pkg), int64(len(pkg)), verify.Options{}); err == nil {
		t.Errorf("version 2: %s, want an error", rep.Verdict)
	}
}

func TestEndedContextAndFailingReader(t *testing.T) {
	s := tell(t, "context", 1)
	pkg := encode(t, s.content(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := verify.Check(ctx, reader(pkg), int64(len(pkg)), verify.Options{}); err == nil {
		t.Error("an ended context gives a report")
	}
	if _, err := verify.Check(context.Background(), reader(pkg[:len(pkg)/2]), int64(len(pkg)), verify.Options{}); err == nil {
		t.Error("a reader that fails gives a report")
	}
}

// A package that the court's log knows nothing of is not complete in it.
func TestUnknownTrail(t *testing.T) {
	ours, theirs := tell(t, "ours", 4), tell(t, "theirs", 4)
	rep := check(t, encode(t, theirs.content(t)), verify.Options{Policy: ours.Policy, Log: ours.Log("court")})
	wants(t, rep, verify.DoesNotMatch, "alliance-other", "own-log-other-alliance")
	if rep.Completeness.Known || rep.Completeness.Count != 0 || rep.Summary.Key != "summary-other-alliance" {
		t.Errorf("%+v, %+v", rep.Completeness, rep.Summary)
	}
}

// A revocation after the steps changes no verdict; the reader is told of it and
// of its reason.
func TestRevokedLater(t *testing.T) {
	s := tell(t, "revoked later", 4)
	_, err := s.Revoke(s.li)
	must(t, err)
	c, err := s.Content(s.trail)
	must(t, err)
	for _, opts := range []verify.Options{{Policy: s.Policy}, {Policy: s.Policy, Log: s.Log("court")}} {
		rep := check(t, encode(t, c), opts)
		found := false
		for _, n := range rep.Notices {
			found = found || n.Reason.Key == "key-revoked-later-reason" && n.Reason.Params["revocation"] != ""
		}
		if !found {
			t.Errorf("no reason in %+v", rep.Notices)
		}
	}
}
