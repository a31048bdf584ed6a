package api

import (
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/registry"
)

// The registry's entries of passkeys and certificates are public, and hold no
// name; a passkey signs no requests.
func TestCredentialsInTheRegistry(t *testing.T) {
	w := newWorld(t)
	phone := newP256(t)
	kid := phone.Public().KID()
	credential := evidence.SumSHA256([]byte("credential"))
	w.node.set(func() {
		w.node.members[kid] = chain.MemberView{KID: kid, Holder: "m:alice", Kind: "passkey", Demo: true, DER: phone.Public().DER(), EnrolledAt: 3,
			Passkey: &evidence.Passkey{Member: "m:alice", Key: phone.Public(), Credential: credential, RelyingParty: "portal.example", Demo: true}}
		m := w.node.members[w.alice.Public().KID()]
		m.Certificates = []registry.Issued{{Certificate: &evidence.Certificate{KID: m.KID, Serial: []byte{0x12, 0x67}, NotBefore: 1772323200, NotAfter: 1772409600, SHA256: credential}, Position: 4}}
		w.node.members[m.KID] = m
	})
	var m Member
	w.get("/api/v1/members/"+kid.String()).into(t, &m)
	if m.Passkey == nil || *m.Passkey != (Passkey{credential.String(), "portal.example"}) || m.Kind != "passkey" || !m.Demo || m.Genesis || len(m.Certificates) != 0 {
		t.Errorf("%+v", m)
	}
	m = Member{}
	w.get("/api/v1/members/"+w.alice.Public().KID().String()).into(t, &m)
	if m.Passkey != nil || len(m.Certificates) != 1 {
		t.Fatalf("%+v", m)
	}
	if c := m.Certificates[0]; c.IssuedAt != 4 || c.Serial != "1267" || c.SHA256 != credential.String() || c.NotBefore.Unix() != 1772323200 || c.NotAfter.Unix() != 1772409600 {
		t.Errorf("%+v", c)
	}
	opening, _ := w.trail(evidence.RightRead)
	w.want(w.as(phone, "/api/v1/trails/"+opening.Digest().String()), 401, "unknown-key")
}

// A revoked key sees its own positions and no longer those of her other keys.
func TestRevokedKeySeesNoOtherKeys(t *testing.T) {
	w := newWorld(t)
	newer := newP256(t)
	w.node.enrol(t, "m:alice", newer)
	alices := "/api/v1/keys/" + w.alice.Public().KID().String() + "/positions"
	if a := w.as(newer, alices); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.node.revoke(newer, 4) // superseded
	w.want(w.as(newer, alices), 403, "forbidden")
	if a := w.as(newer, "/api/v1/keys/"+newer.Public().KID().String()+"/positions"); a.status != 200 {
		t.Errorf("its own: %d %s", a.status, a.body)
	}
}
