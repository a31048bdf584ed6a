package testalliance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"time"

	tsp "github.com/digitorus/timestamp"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/timestamp"
)

// StampPad is a timestamp authority whose clock the test sets.
type StampPad struct {
	key        *ecdsa.PrivateKey
	cert, root *x509.Certificate
}

// NewStampPad makes the keys of an authority, valid from a year before Start.
func NewStampPad() (*StampPad, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p := &StampPad{key: key}
	p.cert, p.root, err = timestamp.SelfIssue(key.Public(), "示范公证处", time.Unix(Start, 0).AddDate(-1, 0, 0))
	return p, err
}

// Entry is the authority as a policy names it.
func (p *StampPad) Entry(id string, demonstration bool) evidence.TimestampAuthority {
	return evidence.TimestampAuthority{ID: id, Name: "示范公证处", Demonstration: demonstration,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.root.Raw}))}
}

// Token stamps a checkpoint's body at a time, in seconds since 1970, under a
// policy; accuracy 0 states none.
func (p *StampPad) Token(body string, at int64, accuracy time.Duration, policy ...int) ([]byte, error) {
	imprint := sha256.Sum256([]byte(body))
	stamp := &tsp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: imprint[:], Time: time.Unix(at, 0).UTC(), Accuracy: accuracy,
		Policy: asn1.ObjectIdentifier(policy), AddTSACertificate: true}
	response, err := stamp.CreateResponseWithOpts(p.cert, p.key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var r struct{ Status, Token asn1.RawValue }
	_, err = asn1.Unmarshal(response, &r)
	return r.Token.FullBytes, err
}

// BodyAt returns what is stamped of the log at a size.
func (a *Alliance) BodyAt(size uint64) string {
	cp := evidence.CosignedCheckpoint{Origin: a.Origin(), Checkpoint: evidence.Checkpoint{Size: size, Root: a.RootAt(size)}}
	return cp.Body()
}
