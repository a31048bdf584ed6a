package evidence

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
)

// maxPolicy is the size in bytes of the largest policy: MaxInstitutions, each
// with MaxKeyChanges keys of under 300 bytes beyond those it was founded with,
// take half of it.
const maxPolicy = 16 << 20

// Policy says whose keys a verification trusts, for which sizes of the log, and
// how many institutions must agree. It comes from the verifier, never from a
// package. spec/alliance.md, part 3.
type Policy struct {
	V            int                 `json:"v"` // 1
	Alliance     Digest              `json:"alliance"`
	Name         string              `json:"name"`
	Origin       string              `json:"origin"`
	Quorum       int                 `json:"quorum"`
	Institutions []PolicyInstitution `json:"institutions"` // sorted by id
	// TimestampAuthorities whose tokens count, sorted by id; absent when none does.
	TimestampAuthorities []TimestampAuthority `json:"timestamp_authorities,omitempty"`
	// BrokenAlgorithms of timestamp tokens, sorted by algorithm.
	BrokenAlgorithms []BrokenAlgorithm `json:"broken_algorithms,omitempty"`
	// Acts are what is demanded of acts by their kind, sorted by kind.
	Acts []ActRule `json:"acts,omitempty"`
	// CertificateAuthorities under which members' certificates are issued, sorted
	// by id and certificate.
	CertificateAuthorities []CertificateAuthority `json:"certificate_authorities,omitempty"`
}

// TimestampAuthority is an RFC 3161 authority as others trust it: the public
// file that it hands out, and its entry in a policy.
type TimestampAuthority struct {
	ID   string `json:"id"` // as in timestamps/<size>.<id>.tsr
	Name string `json:"name"`
	// Certificate is PEM, up to MaxAuthorityCertificates CERTIFICATE blocks: the
	// root above its certificates, or its own; the newest first. More than one
	// stand there when it has replaced its key.
	Certificate   string `json:"certificate"`
	Demonstration bool   `json:"demonstration"`
	// Revoked certificates of it; absent when none is.
	Revoked []AuthorityRevocation `json:"revoked,omitempty"`

	certs []*x509.Certificate // set by Validate
}

// MaxAuthorityCertificates of one timestamp authority, past and present.
const MaxAuthorityCertificates = 8

// X509 returns the newest certificate, nil before Validate.
func (t *TimestampAuthority) X509() *x509.Certificate {
	if len(t.certs) == 0 {
		return nil
	}
	return t.certs[0]
}

// Anchors returns all its certificates: a token holds that any of them leads to.
// None before Validate.
func (t *TimestampAuthority) Anchors() []*x509.Certificate { return slices.Clone(t.certs) }

// MaxTimestampAuthorities of one policy: more than anybody asks, and at 4 KiB
// each well below the largest policy.
const MaxTimestampAuthorities = 32

// ParseTimestampAuthority reads an authority's public file. Errors are
// *FieldError.
func ParseTimestampAuthority(data []byte) (*TimestampAuthority, error) {
	if len(data) > maxSmallFile {
		return nil, &FieldError{"$", "too-large", fmt.Sprintf("the authority's file has %d bytes, more than %d", len(data), maxSmallFile), "", nil}
	}
	canonical, err := Canonicalize(data)
	if err != nil {
		return nil, asFieldError(err)
	}
	t := new(TimestampAuthority)
	if err := UnmarshalCanonical(canonical, t); err != nil {
		return nil, asFieldError(err)
	}
	return t, t.validate("$")
}

// Encode returns the canonical bytes. It does not validate.
func (t *TimestampAuthority) Encode() ([]byte, error) { return MarshalCanonical(t) }

func (t *TimestampAuthority) validate(path string) error {
	if err := checkSlug(path+".id", t.ID); err != nil {
		return err
	}
	if err := checkText(path+".name", t.Name, 1, 100, false); err != nil {
		return err
	}
	var err error
	if t.certs, err = parseAuthorityCertificates(path+".certificate", t.Certificate); err != nil {
		return err
	}
	return t.validateRevoked(path)
}

// PolicyInstitution is one institution and its keys, past and present.
type PolicyInstitution struct {
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Kind InstitutionKind `json:"kind"`
	Keys []PolicyKey     `json:"keys"`
}

// PolicyKey is a key and the sizes of the log it counts for: from ≤ size < to,
// without end when to is 0.
type PolicyKey struct {
	Use  KeyUse `json:"use"` // receipt, cosign, attest or statement
	Key  string `json:"key"` // PEM, one PUBLIC KEY block
	From uint64 `json:"from"`
	To   uint64 `json:"to,omitempty"`
	// Ended says why it counts no longer: superseded, keyCompromise or
	// unspecified; empty where nobody said so.
	Ended string `json:"ended,omitempty"`

	pub *PublicKey // set by Validate
}

func (k *PolicyKey) covers(size uint64) bool { return k.From <= size && (k.To == 0 || size < k.To) }

// PolicyFromAlliance trusts the founding keys for every size and asks for more
// than two thirds of the institutions.
func PolicyFromAlliance(a *Alliance) (*Policy, error) {
	p := &Policy{V: 1, Alliance: a.ID(), Name: a.Name, Origin: a.Origin(), Quorum: Quorum(len(a.Institutions))}
	for i := range a.Institutions {
		d := &a.Institutions[i]
		h, err := NewKeyHistory(d)
		if err != nil {
			return nil, err
		}
		p.Institutions = append(p.Institutions, PolicyInstitution{ID: d.ID, Name: d.Name, Kind: d.Kind, Keys: h.PolicyKeys()})
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// ParsePolicy reads a policy. Since people write and edit it, and no digest is
// taken of it, the JSON may be laid out freely. Errors are *FieldError.
func ParsePolicy(data []byte) (*Policy, error) {
	if len(data) > maxPolicy {
		return nil, &FieldError{"$", "too-large", fmt.Sprintf("the policy has %d bytes, more than %d", len(data), maxPolicy), "", nil}
	}
	canonical, err := Canonicalize(data)
	if err != nil {
		return nil, asFieldError(err)
	}
	p := new(Policy)
	if err := UnmarshalCanonical(canonical, p); err != nil {
		return nil, asFieldError(err)
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Encode returns the canonical bytes. It does not validate.
func (p *Policy) Encode() ([]byte, error) { return MarshalCanonical(p) }

// Validate checks every field and reads the keys; Keys and ByKID know no key
// before it. Errors are *FieldError.
func (p *Policy) Validate() error {
	if p.V != 1 {
		return &FieldError{"$.v", "version", fmt.Sprintf("version %d is not known, only 1 is", p.V), "use a newer version of this program", nil}
	}
	if p.Alliance.IsZero() {
		return &FieldError{"$.alliance", "required", "the alliance's id is all zeros", "take it from the alliance's founding document", nil}
	}
	if err := checkText("$.name", p.Name, 1, 100, false); err != nil {
		return err
	}
	if err := checkText("$.origin", p.Origin, 1, 100, false); err != nil {
		return err
	}
	if n := len(p.Institutions); n == 0 || n > MaxInstitutions {
		return &FieldError{"$.institutions", "institutions", fmt.Sprintf("%d institutions, want 1 to %d", n, MaxInstitutions), "", nil}
	}
	if p.Quorum < 1 || p.Quorum > len(p.Institutions) {
		return &FieldError{"$.quorum", "range", fmt.Sprintf("a quorum of %d cannot be reached by %d institutions, or needs none", p.Quorum, len(p.Institutions)),
			fmt.Sprintf("more than two thirds are %d", Quorum(len(p.Institutions))), nil}
	}
	holder := map[Digest]string{} // kid → institution and use
	for i := range p.Institutions {
		inst := &p.Institutions[i]
		path := fmt.Sprintf("$.institutions[%d]", i)
		if err := checkSlug(path+".id", inst.ID); err != nil {
			return err
		}
		if i > 0 && inst.ID <= p.Institutions[i-1].ID {
			return &FieldError{path + ".id", "institutions", "the institutions are not sorted by id, or two have the same", "sort them", nil}
		}
		if err := checkText(path+".name", inst.Name, 1, 100, false); err != nil {
			return err
		}
		if !inst.Kind.valid() {
			return &FieldError{path + ".kind", "kind", fmt.Sprintf("%.20q is no kind of institution", inst.Kind), "use court, notary, ca, forensic or other", nil}
		}
		for j := range inst.Keys {
			if err := inst.Keys[j].validate(fmt.Sprintf("%s.keys[%d]", path, j), inst.ID, holder); err != nil {
				return err
			}
		}
	}
	if err := p.validateBroken(); err != nil {
		return err
	}
	if err := p.validateActs(); err != nil {
		return err
	}
	if err := p.validateIssuers(); err != nil {
		return err
	}
	return p.validateAuthorities()
}

func (p *Policy) validateAuthorities() error {
	if p.TimestampAuthorities == nil {
		return nil
	}
	if n := len(p.TimestampAuthorities); n == 0 || n > MaxTimestampAuthorities {
		return &FieldError{"$.timestamp_authorities", "timestamp-authorities", fmt.Sprintf("%d authorities, want 1 to %d", n, MaxTimestampAuthorities), "leave the field out when none is trusted", nil}
	}
	for i := range p.TimestampAuthorities {
		path := fmt.Sprintf("$.timestamp_authorities[%d]", i)
		if err := p.TimestampAuthorities[i].validate(path); err != nil {
			return err
		}
		if i > 0 && p.TimestampAuthorities[i].ID <= p.TimestampAuthorities[i-1].ID {
			return &FieldError{path + ".id", "timestamp-authorities", "the authorities are not sorted by id, or two have the same", "sort them", nil}
		}
	}
	return nil
}

// AddTimestampAuthority puts an authority in its place. Errors are *FieldError.
func (p *Policy) AddTimestampAuthority(t TimestampAuthority) error {
	at, _ := slices.BinarySearchFunc(p.TimestampAuthorities, t.ID, func(x TimestampAuthority, id string) int {
		return bytes.Compare([]byte(x.ID), []byte(id))
	})
	p.TimestampAuthorities = slices.Insert(p.TimestampAuthorities, at, t)
	return p.validateAuthorities()
}

// TimestampAuthority returns the authority with this id, or nil.
func (p *Policy) TimestampAuthority(id string) *TimestampAuthority {
	for i := range p.TimestampAuthorities {
		if p.TimestampAuthorities[i].ID == id {
			return &p.TimestampAuthorities[i]
		}
	}
	return nil
}

func (k *PolicyKey) validate(path, inst string, holder map[Digest]string) error {
	if !slices.Contains(policyUses(), k.Use) {
		return &FieldError{path + ".use", "key-use", fmt.Sprintf("%.20q is no use", k.Use), "use receipt, cosign, attest or statement", nil}
	}
	pub, err := ParsePublicKeyPEM([]byte(k.Key))
	if err != nil {
		return &FieldError{path + ".key", "key", err.Error(), "paste the whole PUBLIC KEY block with its line feeds", err}
	}
	if !slices.Contains(k.Use.algorithms(), pub.Algorithm()) {
		return &FieldError{path + ".key", "key-algorithm", fmt.Sprintf("a %s key cannot be %s", k.Use, pub.Algorithm()), "", nil}
	}
	if k.From > maxJSONInteger || k.To > maxJSONInteger || k.To != 0 && k.To <= k.From {
		return &FieldError{path + ".to", "range", fmt.Sprintf("the key counts from size %d to below %d, which is nothing", k.From, k.To), "leave `to` out while the key is in use", nil}
	}
	if k.Ended != "" && (k.To == 0 || !slices.Contains(endings(), k.Ended)) {
		return &FieldError{path + ".ended", "range", fmt.Sprintf("%.30q is no reason why a key has ended, or the key has not", k.Ended), "use superseded, keyCompromise or unspecified, together with `to`", nil}
	}
	// One key may stand in several ranges, but always with one holder and use.
	if h, ok := holder[pub.KID()]; ok && h != inst+" "+string(k.Use) {
		return &FieldError{path + ".key", "key-reuse", "the key is already used for another purpose or by another institution: " + h, "give each purpose its own key", nil}
	}
	holder[pub.KID()] = inst + " " + string(k.Use)
	k.pub = pub
	return nil
}

// Institution returns the institution with this id, or nil.
func (p *Policy) Institution(id string) *PolicyInstitution {
	for i := range p.Institutions {
		if p.Institutions[i].ID == id {
			return &p.Institutions[i]
		}
	}
	return nil
}

// Keys returns an institution's keys for a use that count for a log of this
// size; none when the policy does not know the institution.
func (p *Policy) Keys(inst string, use KeyUse, size uint64) []*PublicKey {
	i := p.Institution(inst)
	if i == nil {
		return nil
	}
	var keys []*PublicKey
	for j := range i.Keys {
		if k := &i.Keys[j]; k.Use == use && k.pub != nil && k.covers(size) {
			keys = append(keys, k.pub)
		}
	}
	return keys
}

// ByKID returns who holds a key for a use that counts for a log of this size.
func (p *Policy) ByKID(kid Digest, use KeyUse, size uint64) (inst string, key *PublicKey, ok bool) {
	for i := range p.Institutions {
		for j := range p.Institutions[i].Keys {
			if k := &p.Institutions[i].Keys[j]; k.Use == use && k.pub != nil && k.pub.KID() == kid && k.covers(size) {
				return p.Institutions[i].ID, k.pub, true
			}
		}
	}
	return "", nil, false
}
