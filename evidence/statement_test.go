package evidence

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/emmansun/gmsm/sm2"
)

func testSigners(t testing.TB) map[string]Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sm, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Signer{}
	if out["ed25519"], err = NewSigner(ed); err != nil {
		t.Fatal(err)
	}
	if out["p256"], err = NewSigner(p256); err != nil {
		t.Fatal(err)
	}
	if out["sm2"], err = NewSigner(sm); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStatementRoundTrip(t *testing.T) {
	for name, signer := range testSigners(t) {
		t.Run(name, func(t *testing.T) {
			payload := SumSHA256([]byte("manifest"))
			s, err := Statement{Issuer: "m:1", Subject: SubjectNewTrail, IssuedAt: 1_700_000_000, ContentType: TypeDeposit,
				Payload: payload[:], After: Checkpoint{Root: SumSHA256(nil)}, ManifestSM3: SumSHA256([]byte("sm3"))}.Sign(signer)
			if err != nil {
				t.Fatal(err)
			}
			if err := signer.Public().VerifyStrict(s.ToBeSigned(), s.Signature); err != nil {
				t.Fatal(err)
			}
			trail, ok := s.Trail()
			if !ok || trail != s.Digest() {
				t.Fatalf("trail %v %v", trail, ok)
			}
			next, err := Statement{Issuer: "m:1", Subject: TrailSubject(trail), IssuedAt: 1_700_000_001, ContentType: TypeAuthorisation,
				Payload: (&Authorisation{KID: payload, Rights: RightRead}).Encode(), Prev: s.Digest(), After: Checkpoint{1, SumSHA256([]byte("r"))}}.Sign(signer)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := next.Trail(); got != trail {
				t.Fatalf("trail of the second is %v", got)
			}
			enrol := &Enrolment{Member: "m:2", Key: signer.Public(), Kind: KindPerson, Assurance: 2, Demo: true}
			if _, err := (Statement{Issuer: "ca", Subject: SubjectRegistry, IssuedAt: 1_700_000_001, ContentType: TypeEnrolment, Payload: enrol.Encode()}).Sign(signer); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", len(s.Bytes()))
		})
	}
}

func BenchmarkParseStatement(b *testing.B) {
	payload := SumSHA256([]byte("manifest"))
	s, err := Statement{Issuer: "m:1", Subject: SubjectNewTrail, IssuedAt: 1_700_000_000, ContentType: TypeDeposit,
		Payload: payload[:], After: Checkpoint{Root: SumSHA256(nil)}, ManifestSM3: SumSHA256([]byte("sm3"))}.Sign(testSigners(b)["ed25519"])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var p Statement
		if err := p.parse(s.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
