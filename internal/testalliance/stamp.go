package testalliance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
func NewStampPad() (*StampPad, error) { return NewStampPadAt(time.Unix(Start, 0).AddDate(-1, 0, 0)) }

// NewStampPadAt makes the keys of an authority that begins at a time; its
// certificates end ten years later.
func NewStampPadAt(begin time.Time) (*StampPad, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p := &StampPad{key: key}
	p.cert, p.root, err = timestamp.SelfIssue(key.Public(), "示范公证处", begin)
	return p, err
}

// Certificate is the authority's own.
func (p *StampPad) Certificate() *x509.Certificate { return p.cert }

// OwnEntry is the authority as a policy names it by its own certificate, so that
// no word about it rests on the signature of its root.
func (p *StampPad) OwnEntry(id string) evidence.TimestampAuthority {
	return evidence.TimestampAuthority{ID: id, Name: "示范公证处",
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))}
}

// Entry is the authority as a policy names it.
func (p *StampPad) Entry(id string, demonstration bool) evidence.TimestampAuthority {
	return evidence.TimestampAuthority{ID: id, Name: "示范公证处", Demonstration: demonstration,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.root.Raw}))}
}

// Token stamps a checkpoint's body at a time, in seconds since 1970, under a
// policy; accuracy 0 states none.
func (p *StampPad) Token(body string, at int64, accuracy time.Duration, policy ...int) ([]byte, error) {
	return p.TokenOver(crypto.SHA256, []byte(body), at, accuracy, policy...)
}

// TokenOver is Token with another digest algorithm, for the imprint and the
// signature.
func (p *StampPad) TokenOver(hash crypto.Hash, data []byte, at int64, accuracy time.Duration, policy ...int) ([]byte, error) {
	h := hash.New()
	h.Write(data)
	stamp := &tsp.Timestamp{HashAlgorithm: hash, HashedMessage: h.Sum(nil), Time: time.Unix(at, 0).UTC(), Accuracy: accuracy,
		Policy: asn1.ObjectIdentifier(policy), AddTSACertificate: true}
	response, err := stamp.CreateResponseWithOpts(p.cert, p.key, hash)
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
