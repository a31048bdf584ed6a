package evidence

import "time"

// InstitutionKind is court, notary, ca, forensic or other.
type InstitutionKind string

const (
	KindCourt    InstitutionKind = "court"
	KindNotary   InstitutionKind = "notary"
	KindCA       InstitutionKind = "ca"
	KindForensic InstitutionKind = "forensic"
	KindOther    InstitutionKind = "other"
)

// KeyUse is the one purpose of a key.
type KeyUse string

const (
	UseConsensus KeyUse = "consensus"
	UseNode      KeyUse = "node"
	UseReceipt   KeyUse = "receipt"
	UseCosign    KeyUse = "cosign"
	UseStatement KeyUse = "statement"
	UseAttest    KeyUse = "attest"
	UseTLS       KeyUse = "tls"
)

type Addresses struct {
	API  string `json:"api"`
	Peer string `json:"peer"`
	P2P  string `json:"p2p"`
}

type InstitutionKeys struct {
	Consensus []byte   `json:"consensus"` // 32 bytes, Ed25519
	Node      []byte   `json:"node"`      // 32 bytes, Ed25519
	Receipt   [][]byte `json:"receipt"`   // SPKI DER
	Cosign    []byte   `json:"cosign"`
	Statement []byte   `json:"statement"`
	Attest    []byte   `json:"attest"`
	TLS       []byte   `json:"tls"`
}

// Descriptor is what one institution says of itself.
type Descriptor struct {
	V         int               `json:"v"`
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Kind      InstitutionKind   `json:"kind"`
	Addresses Addresses         `json:"addresses"`
	Keys      InstitutionKeys   `json:"keys"`
	Proofs    map[string][]byte `json:"proofs"` // proof name → 64-byte signature
}

func ParseDescriptor(data []byte) (*Descriptor, error) { return nil, errSoon }
func (d *Descriptor) Encode() ([]byte, error)          { return nil, errSoon }
func (d *Descriptor) Validate() error                  { return errSoon }

// ProofNames lists "consensus", "node", "receipt.1", …, one for each key.
func (d *Descriptor) ProofNames() []string                      { return nil }
func (d *Descriptor) SigningInput(proof string) ([]byte, error) { return nil, errSoon }

// Prove signs the descriptor with the key that proof names.
func (d *Descriptor) Prove(proof string, s Signer) error          { return errSoon }
func (d *Descriptor) PublicKeys(use KeyUse) ([]*PublicKey, error) { return nil, errSoon }

// Alliance is the genesis.
type Alliance struct {
	V            int          `json:"v"`
	Name         string       `json:"name"`
	Slug         string       `json:"slug"`
	Created      string       `json:"created"`
	Rules        int          `json:"rules"`
	ChainID      string       `json:"chain_id"`
	Institutions []Descriptor `json:"institutions"`
}

func NewAlliance(name, slug string, created time.Time, descriptors []Descriptor) (*Alliance, error) {
	return nil, errSoon
}
func ParseAlliance(data []byte) (*Alliance, error)    { return nil, errSoon }
func (a *Alliance) Encode() ([]byte, error)           { return nil, errSoon }
func (a *Alliance) Validate() error                   { return errSoon }
func (a *Alliance) ID() Digest                        { return Digest{} }
func (a *Alliance) Origin() string                    { return "" }
func (a *Alliance) CosignerName(inst string) string   { return "" }
func (a *Alliance) Institution(id string) *Descriptor { return nil }
func Quorum(n int) int                                { return n*2/3 + 1 }
