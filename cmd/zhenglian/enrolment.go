package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// enrolmentRequest is what a member hands to a CA institution: canonical JSON,
// public. The proof shows that its maker holds the key. It does not name the
// CA, so a stranger who gets hold of a request could have the key enrolled for
// himself: he could sign nothing with it, but the member would have to make
// another key. Hand it over privately.
type enrolmentRequest struct {
	V      int    `json:"v"`    // 1
	Kind   string `json:"kind"` // evidence.MemberKind
	Key    string `json:"key"`  // PEM, PUBLIC KEY
	Vault  string `json:"vault"`
	Made   string `json:"made"`  // RFC 3339, UTC; the member's clock
	Proof  []byte `json:"proof"` // 64 bytes by Key over signingInput
	public *evidence.PublicKey
}

// requestLabel separates these signatures from all else that a member key signs.
const requestLabel = "zhenglian enrolment request v1\n"

// signingInput is the label and the canonical JSON with an empty proof.
func (r *enrolmentRequest) signingInput() ([]byte, error) {
	bare := *r
	bare.Proof = []byte{}
	data, err := evidence.MarshalCanonical(&bare)
	if err != nil {
		return nil, err
	}
	return append([]byte(requestLabel), data...), nil
}

func newRequest(key *signing.Key, kind evidence.MemberKind, vault string, now time.Time) (*enrolmentRequest, error) {
	r := &enrolmentRequest{V: 1, Kind: kind.String(), Key: string(key.Public().PEM()), Vault: vault,
		Made: now.UTC().Format(time.RFC3339), public: key.Public()}
	input, err := r.signingInput()
	if err != nil {
		return nil, err
	}
	if r.Proof, err = key.Sign(input); err != nil {
		return nil, fmt.Errorf("proving the member key: %w", err)
	}
	return r, nil
}

// Errors of a request, which explain says in the reader's language.
var (
	errRequestVersion = errors.New("the enrolment request is of a version that this program does not know")
	errRequestKind    = errors.New("the kind of member is none of person, enterprise, platform, service")
	errRequestVault   = errors.New("the vault key is no age recipient")
	errRequestTime    = errors.New("the time of the request is not in RFC 3339")
	errRequestProof   = errors.New("the proof does not verify: the request was changed, or its maker does not hold the key")
)

// badKeyError says that enrolment refuses a public key.
type badKeyError struct{ err error }

func (e *badKeyError) Error() string { return "this public key is refused: " + e.err.Error() }
func (e *badKeyError) Unwrap() error { return e.err }

// parseRequest reads and checks a request. A key of small order, with torsion
// or in another encoding gives a *badKeyError.
func parseRequest(data []byte) (*enrolmentRequest, *evidence.PublicKey, error) {
	r := new(enrolmentRequest)
	if err := evidence.UnmarshalCanonical(data, r); err != nil {
		return nil, nil, err
	}
	if r.V != 1 {
		return nil, nil, errRequestVersion
	}
	public, err := evidence.ParsePublicKeyPEM([]byte(r.Key))
	if err != nil {
		return nil, nil, &badKeyError{err}
	}
	if _, ok := evidence.ParseMemberKind(r.Kind); !ok {
		return nil, nil, errRequestKind
	}
	if !isRecipient(r.Vault) {
		return nil, nil, errRequestVault
	}
	if _, err := time.Parse(time.RFC3339, r.Made); err != nil {
		return nil, nil, errRequestTime
	}
	input, err := r.signingInput()
	if err != nil {
		return nil, nil, err
	}
	if err := public.VerifyStrict(input, r.Proof); err != nil {
		return nil, nil, errRequestProof
	}
	r.public = public
	return r, public, nil
}

func isRecipient(s string) bool {
	if strings.ContainsAny(s, " \t\r\n") {
		return false
	}
	_, hybrid := age.ParseHybridRecipient(s)
	_, classic := age.ParseX25519Recipient(s)
	return hybrid == nil || classic == nil
}

// enrolment is what a CA institution gives back to the member. Private: with
// the salt, whoever guesses her name and number can confirm the guess.
type enrolment struct {
	V           int             `json:"v"`           // 1
	Alliance    evidence.Digest `json:"alliance"`    // id of the alliance
	Institution string          `json:"institution"` // that enrolled her
	Member      string          `json:"member"`      // her id in the registry
	KID         evidence.Digest `json:"kid"`
	Kind        string          `json:"kind"`
	Assurance   int             `json:"assurance"`
	Demo        bool            `json:"demo"`
	Commitment  evidence.Digest `json:"commitment,omitzero"` // absent at assurance 0
	Salt        *evidence.Salt  `json:"salt,omitempty"`      // of the commitment
	Statement   evidence.Digest `json:"statement"`           // digest of the enrolment statement
	Position    uint64          `json:"position"`            // its place in the log
}

func parseEnrolment(data []byte) (*enrolment, error) {
	e := new(enrolment)
	if err := evidence.UnmarshalCanonical(data, e); err != nil {
		return nil, err
	}
	if e.V != 1 {
		return nil, fmt.Errorf("version %d is not known, only 1 is", e.V)
	}
	return e, nil
}

// pendingEnrolment is written before the statement is submitted. When the
// answer is lost, the same statement is sent again, and the log gives it the
// place that it has already.
type pendingEnrolment struct {
	Enrolment enrolment `json:"enrolment"` // without position
	Statement []byte    `json:"statement"` // registered bytes
}

// realName is the private file that the RA's officer makes from the documents
// she saw.
type realName struct {
	Name     string `json:"name"`
	Document string `json:"document"` // kind of document, such as 居民身份证
	Number   string `json:"number"`
}

var errRealName = errors.New(`the real-name file needs "name", "document" and "number", and nothing else`)

// commitTo returns the salted commitment that stands in the log instead of a
// name. Without a real name it commits to nothing, which only a demonstration
// may do.
func commitTo(r *realName, salt evidence.Salt) evidence.Digest {
	if r == nil {
		return evidence.Commit(salt)
	}
	return evidence.Commit(salt, r.Name, r.Document, r.Number)
}
