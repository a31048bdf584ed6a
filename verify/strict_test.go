package verify_test

import (
	"crypto/sha512"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// trickster signs so that the chain's cofactored rule accepts the signature and
// RFC 8032's strict one does not: its R has a point of order eight added.
type trickster struct {
	evidence.Signer
	secret scalar.Scalar
}

func newTrickster(t *testing.T, signer evidence.Signer, seed [32]byte) trickster {
	t.Helper()
	h := sha512.Sum512(seed[:])
	h[0] &= 248
	h[31] = h[31]&63 | 64
	tr := trickster{Signer: signer}
	var wide [64]byte
	copy(wide[:], h[:32])
	_, err := tr.secret.SetBytesModOrderWide(wide[:])
	must(t, err)
	return tr
}

func (s trickster) Sign(message []byte) ([]byte, error) {
	nonce := sha512.Sum512(append([]byte("nonce"), message...))
	var r, k, sum scalar.Scalar
	if _, err := r.SetBytesModOrderWide(nonce[:]); err != nil {
		return nil, err
	}
	var point curve.EdwardsPoint
	point.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, &r)
	point.Add(&point, curve.EIGHT_TORSION[1])
	var y curve.CompressedEdwardsY
	y.SetEdwardsPoint(&point)
	h := sha512.New()
	h.Write(y[:])
	h.Write(s.Public().Raw())
	h.Write(message)
	if _, err := k.SetBytesModOrderWide(h.Sum(nil)); err != nil {
		return nil, err
	}
	sum.Mul(&k, &s.secret)
	sum.Add(&sum, &r)
	sig := append([]byte{}, y[:]...)
	tail := make([]byte, 32)
	if err := sum.ToBytes(tail); err != nil {
		return nil, err
	}
	return append(sig, tail...), nil
}

func TestStrictRule(t *testing.T) {
	s := tell(t, "strict", 4)
	tricky := *s.li
	tricky.Signer = newTrickster(t, s.li.Signer, evidence.SumSHA256([]byte("strict/member/m:li")))
	_, err := s.Deposit(&tricky, s.trail, testalliance.Step{})
	must(t, err)
	rep := check(t, encode(t, s.content(t)), verify.Options{Policy: s.Policy})
	wants(t, rep, verify.Undetermined, "strict-fails")
	for _, c := range rep.Checks {
		if c.ID == "signature" && c.Verdict != verify.Matches {
			t.Errorf("the chain's rule refuses it too: %+v", c)
		}
	}
}
