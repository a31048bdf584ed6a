package evidence

import (
	"bytes"
	"errors"
	"math/big"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawDigest(t *rapid.T, label string) (d Digest) {
	copy(d[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
	d[0] |= 1 // never zero
	return d
}

func drawID(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-z0-9.:-]{1,64}`).Draw(t, label)
}

// drawStatement makes a statement of any kind that the format allows.
func drawStatement(t *rapid.T, signers []Signer) *Statement {
	signer := rapid.SampledFrom(signers).Draw(t, "signer")
	s := Statement{Issuer: drawID(t, "iss"), IssuedAt: rapid.Int64Range(0, maxTime).Draw(t, "iat"),
		ContentType: rapid.SampledFrom([]string{TypeDeposit, TypeAuthorisation, TypeEnrolment, TypeRevocation, TypePasskey, TypeCertificate}).Draw(t, "kind")}
	switch s.ContentType {
	case TypeDeposit:
		d := drawDigest(t, "payload")
		s.Payload, s.ManifestSM3, s.Subject = d[:], drawDigest(t, "sm3"), SubjectNewTrail
	case TypeAuthorisation:
		s.Payload = (&Authorisation{drawDigest(t, "kid"), rapid.Uint64Range(0, 3).Draw(t, "rights")}).Encode()
	case TypeEnrolment:
		s.Payload = (&Enrolment{Member: "m:" + rapid.StringMatching(`[a-z0-9.:-]{1,62}`).Draw(t, "member"), Key: rapid.SampledFrom(signers).Draw(t, "key").Public(),
			Kind: MemberKind(rapid.Uint64Range(1, 4).Draw(t, "kind of member")), Assurance: rapid.Uint64Range(0, 3).Draw(t, "assurance"),
			Commitment: drawDigest(t, "commitment"), Demo: rapid.Bool().Draw(t, "demo")}).Encode()
	case TypeRevocation:
		s.Payload = (&Revocation{drawDigest(t, "kid"), rapid.SampledFrom([]uint64{0, 1, 2, 3, 4, 5, 6, 8, 9, 10}).Draw(t, "reason")}).Encode()
	}
	switch s.ContentType {
	case TypePasskey:
		s.Payload = (&Passkey{Member: "m:" + rapid.StringMatching(`[a-z0-9.:-]{1,62}`).Draw(t, "member"), Key: rapid.SampledFrom(signers[:2]).Draw(t, "key").Public(),
			Credential: drawDigest(t, "credential"), RelyingParty: rapid.StringMatching(`[a-z0-9]{1,20}\.[a-z]{1,20}`).Draw(t, "site"), Demo: rapid.Bool().Draw(t, "demo")}).Encode()
	case TypeCertificate:
		from := rapid.Int64Range(0, maxTime-MaxCertificate).Draw(t, "from")
		s.Payload = (&Certificate{KID: drawDigest(t, "kid"), Serial: CertificateSerial(big.NewInt(rapid.Int64Range(1, 1<<63-1).Draw(t, "serial"))),
			NotBefore: from, NotAfter: from + rapid.Int64Range(0, MaxCertificate).Draw(t, "validity"), SHA256: drawDigest(t, "certificate")}).Encode()
	}
	if s.Registry() {
		s.Subject = SubjectRegistry
	} else {
		s.After = Checkpoint{rapid.Uint64Range(0, 1<<63-1).Draw(t, "size"), drawDigest(t, "root")}
		if s.Subject == "" || rapid.Bool().Draw(t, "continues") {
			s.Subject, s.Prev = TrailSubject(drawDigest(t, "trail")), drawDigest(t, "prev")
		}
	}
	signed, err := s.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func someSigners(t testing.TB) []Signer {
	m := testSigners(t)
	return []Signer{m["ed25519"], m["p256"], m["sm2"]}
}

// TestStatementProperty: what is signed is read back as it was, has one
// encoding, and no change of one bit leaves both the form and the signature whole.
func TestStatementProperty(t *testing.T) {
	signers := someSigners(t)
	keys := map[Digest]*PublicKey{}
	for _, s := range signers {
		keys[s.Public().KID()] = s.Public()
	}
	rapid.Check(t, func(t *rapid.T) {
		s := drawStatement(t, signers)
		again, err := ParseStatement(s.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() != s.ID() || again.Digest() != s.Digest() || !bytes.Equal(reencode(again), s.Bytes()) {
			t.Fatal("read back differently")
		}
		bad := bytes.Clone(s.Bytes())
		bit := rapid.IntRange(0, len(bad)*8-1).Draw(t, "bit")
		bad[bit/8] ^= 1 << (bit % 8)
		changed, err := ParseStatement(bad)
		if err != nil {
			var f *FormatError
			if !errors.As(err, &f) {
				t.Fatalf("error %v", err)
			}
			return
		}
		key, known := keys[changed.KID]
		if known && key.Algorithm() == changed.Algorithm && key.Verify(changed.ToBeSigned(), changed.Signature) == nil {
			t.Fatalf("bit %d changed and it still verifies", bit)
		}
	})
}

// TestStatementCut: no proper beginning of a statement, and none with bytes
// after it, is a statement.
func TestStatementCut(t *testing.T) {
	signers := someSigners(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawStatement(t, signers)
		if _, err := ParseStatement(s.Bytes()[:rapid.IntRange(0, len(s.Bytes())-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a part was accepted")
		}
		if _, err := ParseStatement(slices.Concat(s.Bytes(), rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(t, "more"))); err == nil {
			t.Fatal("more was accepted")
		}
	})
}

// merkleRoot and merklePath follow RFC 9162 §2.1.1 and §2.1.3.1 word for word.
func merkleRoot(entries []Digest) Digest {
	switch n := len(entries); n {
	case 0:
		return SumSHA256(nil)
	case 1:
		return SumSHA256(append([]byte{0}, entries[0][:]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1)
		l, r := merkleRoot(entries[:k]), merkleRoot(entries[k:])
		return SumSHA256(slices.Concat([]byte{1}, l[:], r[:]))
	}
}

func merklePath(m int, entries []Digest) []Digest {
	if len(entries) == 1 {
		return nil
	}
	k := 1 << (bits.Len(uint(len(entries)-1)) - 1)
	if m < k {
		return append(merklePath(m, entries[:k]), merkleRoot(entries[k:]))
	}
	return append(merklePath(m-k, entries[k:]), merkleRoot(entries[:k]))
}

// TestReceiptProperty: the receipt of any entry of any tree verifies, and not
// for another entry, nor with a changed path.
func TestReceiptProperty(t *testing.T) {
	signers := someSigners(t)
	rapid.Check(t, func(t *rapid.T) {
		entries := make([]Digest, rapid.IntRange(1, 70).Draw(t, "size"))
		for i := range entries {
			entries[i] = SumSHA256([]byte{byte(i)})
		}
		index := rapid.IntRange(0, len(entries)-1).Draw(t, "index")
		signer := rapid.SampledFrom(signers).Draw(t, "signer")
		rs, err := SignRoot(signer, "court", "demo-0123456789abcdef", 1_700_000_000, Checkpoint{uint64(len(entries)), merkleRoot(entries)})
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseReceipt(rs.Receipt(uint64(index), merklePath(index, entries)))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.VerifyInclusion(signer.Public(), entries[index]); err != nil {
			t.Fatal(err)
		}
		if other := rapid.IntRange(0, len(entries)).Draw(t, "other"); other != index {
			if r.VerifyInclusion(signer.Public(), SumSHA256([]byte{byte(other)})) == nil {
				t.Fatalf("the receipt of entry %d verifies for %d", index, other)
			}
		}
		if len(r.Path) > 0 {
			at := rapid.IntRange(0, len(r.Path)-1).Draw(t, "at")
			r.Path[at][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
			if r.VerifyInclusion(signer.Public(), entries[index]) == nil {
				t.Fatal("a changed path verifies")
			}
		}
	})
}
