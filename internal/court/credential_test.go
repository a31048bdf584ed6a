package court_test

import (
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
	"github.com/zhenglian/zhenglian/internal/court"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// The court's node says itself whose passkey confirmed an act, and that it was
// revoked, whatever the package leaves out.
func TestActBeforeTheCourt(t *testing.T) {
	const site = "portal.example"
	b := newBench(t)
	auth := webauthntest.New(site)
	confirmed := func(name string) {
		t.Helper()
		defer b.net.Lock()()
		_, err := b.net.Deposit(b.alice, b.trail, testalliance.Step{Name: name, Act: func(m *evidence.Manifest) error {
			m.Act = &evidence.Act{Kind: "sign"}
			challenge, err := m.ActDigest()
			m.Act.Passkey = auth.Assert(challenge, "https://"+site, true)
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	unlock := b.net.Lock()
	err := b.net.BindPasskey("ca", &evidence.Passkey{Member: "m:alice", Key: auth.Key(), Credential: auth.Credential(), RelyingParty: site, Demo: true})
	unlock()
	if err != nil {
		t.Fatal(err)
	}
	confirmed("签署")
	d := b.check(t, b.pack(t, func(c *testalliance.Content) { clear(c.Passkeys) }))
	if d.Kind != court.EvidenceChain || d.Links[3].Verdict != "matches" {
		for _, i := range append(d.Differs, d.Open...) {
			t.Logf("%+v", d.Report.Checks[i])
		}
		t.Fatalf("%s", d.Kind)
	}

	unlock = b.net.Lock()
	err = b.net.RevokePasskey(auth.Key().KID())
	unlock()
	if err != nil {
		t.Fatal(err)
	}
	confirmed("再签署")
	d = b.check(t, b.pack(t, func(c *testalliance.Content) { clear(c.Revocations) }))
	if d.Kind != court.Invalid || !differs(d, "act") {
		t.Fatalf("%s %v", d.Kind, d.Differs)
	}
}
