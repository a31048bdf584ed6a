package evidence

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxInstitutions of one alliance: every institution sends every batch and
	// vote to every other, and CometBFT networks run with about this many
	// validators.
	MaxInstitutions = 100
	// maxDescriptor is the size in bytes of the largest descriptor: three receipt
	// keys, an address of 2,000 bytes and all proofs take under 6,000.
	maxDescriptor = 8 << 10
	// maxAlliance holds MaxInstitutions of the largest descriptors.
	maxAlliance = 1 << 20
)

// InstitutionKind is court, notary, ca, forensic or other.
type InstitutionKind string

// The kinds of institutions.
const (
	KindCourt    InstitutionKind = "court"
	KindNotary   InstitutionKind = "notary"
	KindCA       InstitutionKind = "ca" // certification or registration authority
	KindForensic InstitutionKind = "forensic"
	KindOther    InstitutionKind = "other"
)

func (k InstitutionKind) valid() bool {
	return slices.Contains([]InstitutionKind{KindCourt, KindNotary, KindCA, KindForensic, KindOther}, k)
}

// KeyUse is the one purpose of a key.
type KeyUse string

// The uses of an institution's keys.
const (
	UseConsensus KeyUse = "consensus" // votes on blocks, Ed25519
	UseNode      KeyUse = "node"      // names the node to its peers, Ed25519
	UseReceipt   KeyUse = "receipt"   // signs log roots, the receipts
	UseCosign    KeyUse = "cosign"    // cosigns public checkpoints, Ed25519
	UseStatement KeyUse = "statement" // signs the institution's own statements
	UseAttest    KeyUse = "attest"    // signs trail heads and answers, Ed25519 or P-256
	UseTLS       KeyUse = "tls"       // authenticates connections between institutions
)

// Addresses is where an institution is reached.
type Addresses struct {
	API  string `json:"api"`  // https://host[:port][/path], http only for tests and demos
	Peer string `json:"peer"` // host:port, batches and witnessing
	P2P  string `json:"p2p"`  // host:port, consensus
}

// InstitutionKeys are public keys, each for one purpose: consensus and node as
// 32 raw bytes, the others as DER SubjectPublicKeyInfo.
type InstitutionKeys struct {
	Consensus []byte   `json:"consensus"`
	Node      []byte   `json:"node"`
	Receipt   [][]byte `json:"receipt"` // one or more, each of another algorithm
	Cosign    []byte   `json:"cosign"`
	Statement []byte   `json:"statement"`
	Attest    []byte   `json:"attest"`
	TLS       []byte   `json:"tls"`
}

// Descriptor is what one institution says of itself when an alliance is
// founded or when it asks to join. spec/alliance.md, part 1.
type Descriptor struct {
	V         int               `json:"v"`  // 1
	ID        string            `json:"id"` // [a-z0-9][a-z0-9-]{0,31}
	Name      string            `json:"name"`
	Kind      InstitutionKind   `json:"kind"`
	Addresses Addresses         `json:"addresses"`
	Keys      InstitutionKeys   `json:"keys"`
	Proofs    map[string][]byte `json:"proofs"` // by ProofNames: 64-byte signatures by each key
}

// ParseDescriptor reads a descriptor from its canonical bytes and validates it.
// Errors are *FieldError.
func ParseDescriptor(data []byte) (*Descriptor, error) {
	if len(data) > maxDescriptor {
		return nil, &FieldError{"$", "too-large", fmt.Sprintf("the descriptor has %d bytes, more than %d", len(data), maxDescriptor), "", nil}
	}
	d := new(Descriptor)
	if err := UnmarshalCanonical(data, d); err != nil {
		return nil, asFieldError(err)
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return d, nil
}

// Encode returns the canonical bytes. It does not validate.
func (d *Descriptor) Encode() ([]byte, error) { return MarshalCanonical(d) }

// namedKey is a key under the name of its proof.
type namedKey struct {
	proof string
	use   KeyUse
	field string
	bytes []byte
}

func (d *Descriptor) namedKeys() []namedKey {
	k := &d.Keys
	all := []namedKey{
		{"consensus", UseConsensus, ".keys.consensus", k.Consensus},
		{"node", UseNode, ".keys.node", k.Node},
	}
	for i, der := range k.Receipt {
		all = append(all, namedKey{"receipt." + strconv.Itoa(i+1), UseReceipt, fmt.Sprintf(".keys.receipt[%d]", i), der})
	}
	return append(all,
		namedKey{"cosign", UseCosign, ".keys.cosign", k.Cosign},
		namedKey{"statement", UseStatement, ".keys.statement", k.Statement},
		namedKey{"attest", UseAttest, ".keys.attest", k.Attest},
		namedKey{"tls", UseTLS, ".keys.tls", k.TLS})
}

func (k namedKey) parse() (*PublicKey, error) {
	if k.use == UseConsensus || k.use == UseNode {
		return NewEd25519Key(k.bytes)
	}
	return ParsePublicKey(k.bytes)
}

// algorithms lists what a key may be used with.
func (u KeyUse) algorithms() []Algorithm {
	switch u {
	case UseConsensus, UseNode, UseCosign:
		return []Algorithm{EdDSA}
	case UseAttest, UseTLS:
		return []Algorithm{EdDSA, ES256}
	}
	return []Algorithm{EdDSA, ES256, SM2SM3}
}

// ProofNames lists the names under which Proofs holds a signature: consensus,
// node, receipt.1 and so on, cosign, statement, attest, tls.
func (d *Descriptor) ProofNames() []string {
	var names []string
	for _, k := range d.namedKeys() {
		names = append(names, k.proof)
	}
	return names
}

// PublicKeys returns the descriptor's keys for a use.
func (d *Descriptor) PublicKeys(use KeyUse) ([]*PublicKey, error) {
	var keys []*PublicKey
	for _, k := range d.namedKeys() {
		if k.use != use {
			continue
		}
		pub, err := k.parse()
		if err != nil {
			return nil, fmt.Errorf("%s key of %s: %w", use, d.ID, err)
		}
		keys = append(keys, pub)
	}
	return keys, nil
}

// proofLabel separates proofs of possession from all else a key signs.
const proofLabel = "zhenglian key possession v1\n"

// SigningInput returns the bytes that the key named proof signs: the label, the
// name, a line feed, and the canonical descriptor with empty proofs.
func (d *Descriptor) SigningInput(proof string) ([]byte, error) {
	bare := *d
	bare.Proofs = map[string][]byte{}
	data, err := MarshalCanonical(&bare)
	if err != nil {
		return nil, err
	}
	return append([]byte(proofLabel+proof+"\n"), data...), nil
}

// Prove adds the proof of possession of one key. Every other field must have its
// final value, since the proof covers all of them.
func (d *Descriptor) Prove(proof string, s Signer) error {
	for _, k := range d.namedKeys() {
		if k.proof != proof {
			continue
		}
		pub, err := k.parse()
		if err != nil {
			return fmt.Errorf("proving the %s key: %w", proof, err)
		}
		if !pub.Equal(s.Public()) {
			return fmt.Errorf("proving the %s key: the signer holds key %s, the descriptor names %s", proof, s.Public().KID(), pub.KID())
		}
		input, err := d.SigningInput(proof)
		if err != nil {
			return fmt.Errorf("proving the %s key: %w", proof, err)
		}
		sig, err := s.Sign(input)
		if err != nil {
			return fmt.Errorf("proving the %s key: %w", proof, err)
		}
		if d.Proofs == nil {
			d.Proofs = map[string][]byte{}
		}
		d.Proofs[proof] = sig
		return nil
	}
	return fmt.Errorf("the descriptor has no key named %q, only %s", proof, strings.Join(d.ProofNames(), ", "))
}

// Validate checks every field, that no key serves two purposes, and that each
// key signed this very descriptor. Errors are *FieldError.
func (d *Descriptor) Validate() error {
	_, err := d.validate("$")
	return err
}

// validate returns the keys by kid, with the field that named each.
func (d *Descriptor) validate(path string) (map[Digest]string, error) {
	if d.V != 1 {
		return nil, &FieldError{path + ".v", "version", fmt.Sprintf("version %d is not known, only 1 is", d.V), "use a newer version of this program", nil}
	}
	if err := checkSlug(path+".id", d.ID); err != nil {
		return nil, err
	}
	if err := checkText(path+".name", d.Name, 1, 100, false); err != nil {
		return nil, err
	}
	if !d.Kind.valid() {
		return nil, &FieldError{path + ".kind", "kind", fmt.Sprintf("%.20q is no kind of institution", d.Kind), "use court, notary, ca, forensic or other", nil}
	}
	if err := d.Addresses.validate(path + ".addresses"); err != nil {
		return nil, err
	}
	used := map[Digest]string{}
	keys := d.namedKeys()
	if len(d.Keys.Receipt) == 0 {
		return nil, &FieldError{path + ".keys.receipt", "required", "there is no receipt key", "name an Ed25519 or P-256 key, beside it an SM2 key where wanted", nil}
	}
	public := make([]*PublicKey, len(keys))
	receiptAlgorithms := map[Algorithm]bool{}
	for i, k := range keys {
		pub, err := k.parse()
		if err != nil {
			return nil, &FieldError{path + k.field, "key", err.Error(), "export the public key again", err}
		}
		alg := pub.Algorithm()
		if allowed := k.use.algorithms(); !slices.Contains(allowed, alg) {
			return nil, &FieldError{path + k.field, "key-algorithm", fmt.Sprintf("a %s key cannot be %s", k.use, alg), fmt.Sprintf("make one for %v", allowed), nil}
		}
		if k.use == UseReceipt {
			if receiptAlgorithms[alg] {
				return nil, &FieldError{path + k.field, "key-algorithm", fmt.Sprintf("a second receipt key is %s", alg), "name one receipt key of each algorithm", nil}
			}
			receiptAlgorithms[alg] = true
		}
		if other, ok := used[pub.KID()]; ok {
			return nil, &FieldError{path + k.field, "key-reuse", "the key is the same as " + other, "make a key for each purpose", nil}
		}
		used[pub.KID()] = path + k.field
		public[i] = pub
	}
	if !receiptAlgorithms[EdDSA] && !receiptAlgorithms[ES256] {
		return nil, &FieldError{path + ".keys.receipt", "key-algorithm", "no receipt key is Ed25519 or P-256, and other people's tools know no SM2", "add one", nil}
	}
	if len(d.Proofs) > len(keys) {
		return nil, &FieldError{path + ".proofs", "proof", "there are more proofs than keys", "make the descriptor again", nil}
	}
	for i, k := range keys {
		sig, ok := d.Proofs[k.proof]
		if !ok {
			return nil, &FieldError{path + ".proofs" + pathName(k.proof), "required", "the proof that the key is held is missing", "sign the descriptor with this key", nil}
		}
		input, err := d.SigningInput(k.proof)
		if err != nil {
			return nil, asFieldError(err)
		}
		if err := public[i].VerifyStrict(input, sig); err != nil {
			return nil, &FieldError{path + ".proofs" + pathName(k.proof), "proof", "the proof does not verify: the descriptor was changed after signing, or another key signed",
				"let the institution sign its descriptor again", err}
		}
	}
	return used, nil
}

func (a *Addresses) validate(path string) error {
	fail := func(field, reason, hint string) error { return &FieldError{path + field, "address", reason, hint, nil} }
	u, err := url.Parse(a.API)
	switch {
	case err != nil || len(a.API) > 2000 || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return fail(".api", fmt.Sprintf("%.60q is no http or https address", a.API), "write it like https://court.example:8443")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(a.API, "#"):
		return fail(".api", "the address holds a user, a query or a fragment", "write scheme, host, port and path alone")
	case strings.HasSuffix(a.API, "/") || u.String() != a.API:
		return fail(".api", "the address is not in its plain form", "write "+strings.TrimRight(u.String(), "/"))
	}
	for _, f := range []struct{ field, value string }{{".peer", a.Peer}, {".p2p", a.P2P}} {
		host, port, err := net.SplitHostPort(f.value)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || n == 0 || strconv.FormatUint(n, 10) != port || !isHost(host) {
			return fail(f.field, fmt.Sprintf("%.60q is not host:port", f.value), "write it like court.example:26656")
		}
	}
	return nil
}

func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	if net.ParseIP(s) != nil {
		return true
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// isSlug: [a-z0-9][a-z0-9-]{0,31}
func isSlug(s string) bool {
	if s == "" || len(s) > 32 || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

func checkSlug(path, s string) error {
	if !isSlug(s) {
		return &FieldError{path, "slug", fmt.Sprintf("%.40q cannot be used as a name in addresses and file names", s),
			"use 1 to 32 of a-z, 0-9 and -, not beginning with -, such as hangzhou-court", nil}
	}
	return nil
}

// Alliance is the founding document: it names the institutions that start the
// chain, and its digest is the alliance's name. spec/alliance.md, part 2.
type Alliance struct {
	V            int          `json:"v"` // 1
	Name         string       `json:"name"`
	Slug         string       `json:"slug"`
	Created      string       `json:"created"` // RFC 3339, whole seconds
	Rules        int          `json:"rules"`   // number of the rules the chain starts with: 1
	ChainID      string       `json:"chain_id"`
	Institutions []Descriptor `json:"institutions"` // sorted by id
}

// NewAlliance founds an alliance of validated descriptors, which it sorts.
func NewAlliance(name, slug string, created time.Time, descriptors []Descriptor) (*Alliance, error) {
	a := &Alliance{V: 1, Name: name, Slug: slug, Created: created.Truncate(time.Second).Format(time.RFC3339), Rules: 1, Institutions: slices.Clone(descriptors)}
	slices.SortFunc(a.Institutions, func(x, y Descriptor) int { return strings.Compare(x.ID, y.ID) })
	id, err := a.chainID()
	if err != nil {
		return nil, err
	}
	a.ChainID = id
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return a, nil
}

// chainID is the slug, "-" and the first 8 hexadecimal digits of the digest of
// the document with an empty chain_id, so that two foundings of the same name
// never share a chain. (CometBFT allows 50 characters.)
func (a *Alliance) chainID() (string, error) {
	bare := *a
	bare.ChainID = ""
	data, err := MarshalCanonical(&bare)
	if err != nil {
		return "", asFieldError(err)
	}
	d := SumSHA256(data)
	return a.Slug + "-" + hex.EncodeToString(d[:4]), nil
}

// ParseAlliance reads an alliance from its canonical bytes and validates it,
// the institutions' proofs included. Errors are *FieldError.
func ParseAlliance(data []byte) (*Alliance, error) {
	if len(data) > maxAlliance {
		return nil, &FieldError{"$", "too-large", fmt.Sprintf("the document has %d bytes, more than %d", len(data), maxAlliance), "", nil}
	}
	a := new(Alliance)
	if err := UnmarshalCanonical(data, a); err != nil {
		return nil, asFieldError(err)
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return a, nil
}

// Encode returns the canonical bytes. It does not validate.
func (a *Alliance) Encode() ([]byte, error) { return MarshalCanonical(a) }

// Validate checks every field and every institution's proofs, and that no key
// is used twice in the whole alliance. Errors are *FieldError.
func (a *Alliance) Validate() error {
	if a.V != 1 {
		return &FieldError{"$.v", "version", fmt.Sprintf("version %d is not known, only 1 is", a.V), "use a newer version of this program", nil}
	}
	if err := checkText("$.name", a.Name, 1, 100, false); err != nil {
		return err
	}
	if err := checkSlug("$.slug", a.Slug); err != nil {
		return err
	}
	if err := checkTime("$.created", a.Created); err != nil {
		return err
	}
	if a.Rules != 1 {
		return &FieldError{"$.rules", "version", fmt.Sprintf("rules %d are not known, only 1 are", a.Rules), "use a newer version of this program", nil}
	}
	if n := len(a.Institutions); n == 0 || n > MaxInstitutions {
		return &FieldError{"$.institutions", "institutions", fmt.Sprintf("%d institutions, want 1 to %d", n, MaxInstitutions), "four or more bear the failure of one", nil}
	}
	used := map[Digest]string{}
	for i := range a.Institutions {
		path := fmt.Sprintf("$.institutions[%d]", i)
		if i > 0 && a.Institutions[i].ID <= a.Institutions[i-1].ID {
			return &FieldError{path + ".id", "institutions", "the institutions are not sorted by id, or two have the same", "give each its own id", nil}
		}
		keys, err := a.Institutions[i].validate(path)
		if err != nil {
			return err
		}
		for kid, field := range keys {
			if other, ok := used[kid]; ok {
				return &FieldError{min(field, other), "key-reuse", "two institutions name the same key, there and at " + max(field, other), "each institution makes its own keys", nil}
			}
			used[kid] = field
		}
	}
	want, err := a.chainID()
	if err != nil {
		return err
	}
	if a.ChainID != want {
		return &FieldError{"$.chain_id", "chain-id", "the chain id is not the one that follows from the document", "write " + want, nil}
	}
	return nil
}

// ID returns the alliance's name: SHA-256 of the canonical bytes. It is zero
// when they cannot be made, which Validate finds out first.
func (a *Alliance) ID() Digest {
	data, err := a.Encode()
	if err != nil {
		return Digest{}
	}
	return SumSHA256(data)
}

// Origin returns the checkpoint's first line: the slug, "-" and the first 16
// hexadecimal digits of the id.
func (a *Alliance) Origin() string { return a.Slug + "-" + a.ID().String()[:16] }

// CosignerName returns the name in an institution's cosignature lines.
func (a *Alliance) CosignerName(inst string) string { return a.Origin() + "/" + inst }

// Institution returns the descriptor with this id, or nil.
func (a *Alliance) Institution(id string) *Descriptor {
	for i := range a.Institutions {
		if a.Institutions[i].ID == id {
			return &a.Institutions[i]
		}
	}
	return nil
}

// Quorum returns how many of n institutions are more than two thirds.
func Quorum(n int) int { return n*2/3 + 1 }
