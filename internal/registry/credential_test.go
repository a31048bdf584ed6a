package registry_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// newStory makes a registry with one member and her key.
func newStory(t testing.TB) (*testalliance.Alliance, *registry.Registry, evidence.Signer, func(contentType string, payload []byte)) {
	t.Helper()
	a, err := testalliance.New("registry", 4)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(a.Alliance)
	if err != nil {
		t.Fatal(err)
	}
	key, err := testalliance.Signer("li")
	if err != nil {
		t.Fatal(err)
	}
	position := uint64(0)
	apply := func(contentType string, payload []byte) {
		t.Helper()
		s, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, ContentType: contentType, Payload: payload}.Sign(a.Get("ca").Statement)
		if err != nil {
			t.Fatal(err)
		}
		if no := r.Check(s, 0); no != nil {
			t.Fatalf("%s: %s", contentType, no.Reason)
		}
		if err := r.Apply(s, position); err != nil {
			t.Fatal(err)
		}
		position++
	}
	apply(evidence.TypeEnrolment, (&evidence.Enrolment{Member: "m:li", Key: key.Public(), Kind: evidence.KindPerson}).Encode())
	return a, r, key, apply
}

func certificate(kid evidence.Digest, n int64) *evidence.Certificate {
	return &evidence.Certificate{KID: kid, Serial: []byte{1}, NotBefore: n, NotAfter: n + 100, SHA256: evidence.SumSHA256(fmt.Append(nil, n))}
}

// A Key that was returned stays as it is, whatever is registered afterwards, so
// that readers need no lock beside the writer.
func TestKeysDoNotChange(t *testing.T) {
	_, r, key, apply := newStory(t)
	kid := key.Public().KID()
	var seen []*registry.Key
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if k, ok := r.Key(kid); ok {
				for _, c := range k.Certificates {
					if c.NotAfter == 0 {
						t.Error("a certificate half written")
					}
				}
				_, _ = k.Expires()
			}
		}
	})
	for n := range int64(50) {
		k, _ := r.Key(kid)
		seen = append(seen, k)
		apply(evidence.TypeCertificate, certificate(kid, n*10).Encode())
	}
	apply(evidence.TypeRevocation, (&evidence.Revocation{KID: kid}).Encode())
	close(done)
	wg.Wait()
	for n, k := range seen {
		until, limited := k.Expires()
		if len(k.Certificates) != n || k.Revoked || limited != (n > 0) || n > 0 && until != int64(n-1)*10+100 {
			t.Fatalf("key %d: %d certificates, revoked %v, until %d", n, len(k.Certificates), k.Revoked, until)
		}
	}
}

// The end of a key is a matter of block time alone, to the millisecond.
func TestEndOfAKey(t *testing.T) {
	_, r, key, apply := newStory(t)
	apply(evidence.TypeCertificate, certificate(key.Public().KID(), 1000).Encode())
	d := evidence.SumSHA256([]byte("m"))
	s, err := evidence.Statement{Issuer: "m:li", Subject: evidence.SubjectNewTrail, ContentType: evidence.TypeDeposit, Payload: d[:], ManifestSM3: d}.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	for blockTime, want := range map[int64]evidence.Code{0: evidence.CodeOK, 1100_000: evidence.CodeOK, 1100_999: evidence.CodeOK, 1101_000: evidence.CodeExpiredKey, 1 << 60: evidence.CodeExpiredKey} {
		got := evidence.CodeOK
		if no := r.Check(s, blockTime); no != nil {
			got = no.Code
		}
		if got != want {
			t.Errorf("block time %d: %s, want %s", blockTime, got, want)
		}
	}
}

// Two registries that fold the same statements agree, passkeys and all; one that
// lacks a statement does not.
func TestCredentialsAreInTheHash(t *testing.T) {
	_, r, key, apply := newStory(t)
	seen := map[evidence.Digest]bool{r.Hash(): true}
	phone, err := testalliance.Signer("phone")
	if err != nil {
		t.Fatal(err)
	}
	apply(evidence.TypePasskey, (&evidence.Passkey{Member: "m:li", Key: phone.Public(), RelyingParty: "portal.example"}).Encode())
	if seen[r.Hash()] {
		t.Error("a passkey leaves the hash as it was")
	}
	seen[r.Hash()] = true
	apply(evidence.TypeCertificate, certificate(key.Public().KID(), 5).Encode())
	if seen[r.Hash()] {
		t.Error("a certificate leaves the hash as it was")
	}
	if k, ok := r.Key(phone.Public().KID()); !ok || k.Passkey == nil || k.Enrolment != nil || k.EnrolledBy != "ca" || k.Holder != "m:li" {
		t.Errorf("%+v", k)
	}
}

func BenchmarkCheckDeposit(b *testing.B) {
	_, r, key, apply := newStory(b)
	apply(evidence.TypeCertificate, certificate(key.Public().KID(), 1000).Encode())
	d := evidence.SumSHA256([]byte("m"))
	s, err := evidence.Statement{Issuer: "m:li", Subject: evidence.SubjectNewTrail, ContentType: evidence.TypeDeposit, Payload: d[:], ManifestSM3: d}.Sign(key)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if no := r.Check(s, 1_000_000); no != nil {
			b.Fatal(no.Reason)
		}
	}
}
