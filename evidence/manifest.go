package evidence

import "io"

// FieldError says which field of a document breaks which rule and what to do.
type FieldError struct {
	Field  string // JSON path, such as $.objects[3].name
	Code   string // stable word for programs and vectors
	Reason string // one sentence
	Hint   string // what to do about it
	err    error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }
func (e *FieldError) Unwrap() error { return e.err }

// Salt is 32 random bytes; its text is base64url without padding, 43 characters.
type Salt [32]byte

// Phase is the part of a trail a deposit belongs to.
type Phase string

const (
	PhaseBefore Phase = "before"
	PhaseDuring Phase = "during"
	PhaseAfter  Phase = "after"
)

// Manifest is the private plaintext a deposit statement commits to.
type Manifest struct {
	V          int        `json:"v"`
	Salt       Salt       `json:"salt"`
	Phase      Phase      `json:"phase"`
	Step       string     `json:"step"`
	Created    string     `json:"created"`
	Person     Person     `json:"person"`
	Place      Place      `json:"place"`
	Dimensions Dimensions `json:"dimensions"`
	Note       string     `json:"note,omitempty"`
	Objects    []Object   `json:"objects"`
}

// Person is who deposits.
type Person struct {
	Member     string `json:"member"`
	Commitment Digest `json:"commitment,omitzero"` // required from assurance 1
	Assurance  int    `json:"assurance"`           // 0 to 3
	Demo       bool   `json:"demo"`
}

// Place keeps what the depositor says apart from what somebody else saw.
type Place struct {
	Claimed   map[string]string `json:"claimed"`
	Witnessed map[string]string `json:"witnessed"`
}

// Dimensions are free facts on before, during and after.
type Dimensions struct {
	Before map[string]string `json:"before,omitempty"`
	During map[string]string `json:"during,omitempty"`
	After  map[string]string `json:"after,omitempty"`
}

// Object is one evidence file, by digest.
type Object struct {
	Name   string    `json:"name"`
	Size   int64     `json:"size"`
	Media  string    `json:"media"`
	SHA256 Digest    `json:"sha256"`
	SM3    Digest    `json:"sm3"`
	Vault  *VaultRef `json:"vault,omitempty"`
}

// VaultRef binds the encrypted form kept in a vault.
type VaultRef struct {
	Chunks     int64  `json:"chunks"`
	PlainRoot  Digest `json:"plain_root"`
	CipherRoot Digest `json:"cipher_root"`
}

func NewSalt(random io.Reader) (Salt, error)       { return Salt{}, errSoon }
func (m *Manifest) Validate() error                { return errSoon }
func (m *Manifest) Encode() ([]byte, error)        { return nil, errSoon }
func ParseManifest(data []byte) (*Manifest, error) { return nil, errSoon }
func SumSM3(data []byte) Digest                    { return Digest{} }
func Commit(salt Salt, fields ...string) Digest    { return Digest{} }
