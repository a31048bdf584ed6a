package timestamp

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"
)

const (
	queryType = "application/timestamp-query" // RFC 3161 §3.4
	replyType = "application/timestamp-reply"

	// maxQuery in bytes: a query over SHA-512 with a nonce has about 110, and
	// extensions are refused.
	maxQuery = 4 << 10
)

// Failure is a reason for which an authority does not issue: the numbers of
// PKIFailureInfo (RFC 3161 §2.4.2).
type Failure int

const (
	BadAlgorithm        Failure = 0  // the digest algorithm is not accepted
	BadRequest          Failure = 2  // not a transaction that is supported
	BadDataFormat       Failure = 5  // the query cannot be read
	TimeNotAvailable    Failure = 14 // the clock's error is unknown or too large
	UnacceptedPolicy    Failure = 15 // another policy is asked for
	UnacceptedExtension Failure = 16 // extensions are not supported
	AddInfoNotAvailable Failure = 17 // additional information is not available
	SystemFailure       Failure = 25 // a fault of the authority
)

func (f Failure) String() string {
	switch f {
	case BadAlgorithm:
		return "badAlg"
	case BadRequest:
		return "badRequest"
	case BadDataFormat:
		return "badDataFormat"
	case TimeNotAvailable:
		return "timeNotAvailable"
	case UnacceptedPolicy:
		return "unacceptedPolicy"
	case UnacceptedExtension:
		return "unacceptedExtension"
	case AddInfoNotAvailable:
		return "addInfoNotAvailable"
	case SystemFailure:
		return "systemFailure"
	}
	return fmt.Sprintf("failure %d", int(f))
}

// RefusalError is an authority's refusal.
type RefusalError struct {
	Status  int     // PKIStatus: 2 rejection, 3 waiting, 4 and 5 revocation
	Failure Failure // -1 when the authority does not say
	Text    string
}

func (e *RefusalError) Error() string {
	s := "the authority refuses"
	if e.Failure >= 0 {
		s += " with " + e.Failure.String()
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

func refusal(f Failure, format string, args ...any) *RefusalError {
	return &RefusalError{Status: 2, Failure: f, Text: fmt.Sprintf(format, args...)}
}

// query is TimeStampReq, RFC 3161 §2.4.1.
type query struct {
	Version int
	Imprint struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Policy       asn1.ObjectIdentifier `asn1:"optional"`
	Nonce        *big.Int              `asn1:"optional"`
	Certificates bool                  `asn1:"optional"`
	Extensions   []pkix.Extension      `asn1:"optional,tag:0"`
}

// hash returns the digest algorithm of the imprint, 0 when it is not accepted.
func (q *query) hash() crypto.Hash {
	for _, h := range digestAlgorithms() {
		if q.Imprint.Algorithm.Algorithm.Equal(hashOID(h)) {
			return h
		}
	}
	return 0
}

// digestAlgorithms are those accepted in queries. One with SHA-1 is refused:
// whoever can make collisions could have one of two contents stamped.
func digestAlgorithms() []crypto.Hash {
	return []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}
}

func hashOID(h crypto.Hash) asn1.ObjectIdentifier {
	switch h {
	case crypto.SHA256:
		return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	case crypto.SHA384:
		return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	default:
		return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	}
}

// parseQuery reads a query and says which policy-free rule it breaks.
func parseQuery(der []byte) (*query, *RefusalError) {
	q := new(query)
	rest, err := asn1.Unmarshal(der, q)
	if err != nil {
		return nil, refusal(BadDataFormat, "the query is not a TimeStampReq in DER")
	}
	if len(rest) != 0 {
		return nil, refusal(BadDataFormat, "bytes follow the query")
	}
	if q.Version != 1 {
		return nil, refusal(BadRequest, "version %d is not known, only 1 is", q.Version)
	}
	hash := q.hash()
	if hash == 0 {
		return nil, refusal(BadAlgorithm, "digest algorithm %s is not accepted; use SHA-256", q.Imprint.Algorithm.Algorithm)
	}
	if len(q.Imprint.Digest) != hash.Size() {
		return nil, refusal(BadDataFormat, "the digest has %d bytes, %s has %d", len(q.Imprint.Digest), hash, hash.Size())
	}
	if len(q.Extensions) != 0 {
		return nil, refusal(UnacceptedExtension, "extensions are not supported")
	}
	if q.Nonce != nil && q.Nonce.BitLen() > 256 {
		return nil, refusal(BadRequest, "the nonce has more than 256 bits")
	}
	return q, nil
}

// reply is TimeStampResp, RFC 3161 §2.4.2.
type reply struct {
	Status struct {
		Status  int
		Text    []asn1.RawValue `asn1:"optional"` // PKIFreeText: UTF8String
		Failure asn1.BitString  `asn1:"optional"`
	}
	Token asn1.RawValue `asn1:"optional"`
}

// encode returns the refusal as a TimeStampResp.
func (e *RefusalError) encode() ([]byte, error) {
	var r reply
	r.Status.Status = e.Status
	if e.Text != "" {
		r.Status.Text = []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte(e.Text)}}
	}
	// A bit string of named bits ends with its last one (X.690 §11.2.2).
	f := asn1.BitString{Bytes: make([]byte, e.Failure/8+1), BitLength: int(e.Failure) + 1}
	f.Bytes[e.Failure/8] = 0x80 >> (e.Failure % 8)
	r.Status.Failure = f
	der, err := asn1.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a refusal: %w", err)
	}
	return der, nil
}

var errNotReply = errors.New("the answer is not a TimeStampResp in DER")

// parseReply returns the token in an answer, or the *RefusalError that it is.
func parseReply(der []byte) ([]byte, error) {
	var r reply
	rest, err := asn1.Unmarshal(der, &r)
	if err != nil || len(rest) != 0 {
		return nil, errNotReply
	}
	// 0 is granted, 1 granted with modifications; whether a modification is
	// acceptable shows when the token is checked.
	if r.Status.Status != 0 && r.Status.Status != 1 {
		e := &RefusalError{Status: r.Status.Status, Failure: -1}
		for i := range r.Status.Failure.BitLength {
			if r.Status.Failure.At(i) != 0 {
				e.Failure = Failure(i)
				break
			}
		}
		var texts []string
		for _, t := range r.Status.Text {
			if utf8.Valid(t.Bytes) && len(t.Bytes) <= 1000 {
				texts = append(texts, string(t.Bytes))
			}
		}
		e.Text = strings.Join(texts, "; ")
		return nil, e
	}
	if len(r.Token.FullBytes) == 0 {
		return nil, fmt.Errorf("the answer grants and has no token: %w", errNotReply)
	}
	return r.Token.FullBytes, nil
}
