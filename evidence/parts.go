package evidence

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// PackageParts is an evidence package before its plaintext: what institutions
// give out about a trail. It travels as JSON to where the plaintext can be
// opened, a member's browser for one, and becomes a package there.
type PackageParts struct {
	Alliance []byte       `json:"alliance"` // founding document, canonical bytes
	Trail    Digest       `json:"trail"`
	TreeSize uint64       `json:"tree_size"`
	Steps    []PartStep   `json:"steps"` // in the order of the trail
	Signers  []PartSigner `json:"signers"`
	// Heads by institution, Checkpoints by size of the log, Timestamps by size and
	// authority.
	Heads       map[string][]byte            `json:"heads"`
	Checkpoints map[uint64][]byte            `json:"checkpoints"`
	Timestamps  map[uint64]map[string][]byte `json:"timestamps"`
	// KeyChanges of institutions, in log order, where some key in the package is not
	// a founder's.
	KeyChanges []Registration `json:"key_changes,omitempty"`
	// InstitutionKeys are receipt keys by institution, each a PUBLIC KEY block.
	InstitutionKeys map[string][]string `json:"institution_keys"`
	// OlderKeys are receipt keys that an institution no longer uses.
	OlderKeys map[string][]string `json:"older_keys,omitempty"`
	Missing   []string            `json:"missing"` // institutions of which some receipt was not to be had
	Foreign   int                 `json:"foreign"` // statements that name the trail without a right to
}

// PartStep is one statement of the trail.
type PartStep struct {
	Statement []byte            `json:"statement"`
	Position  uint64            `json:"position"`
	Receipts  map[string][]byte `json:"receipts"` // by institution
	// Timestamps are tokens over the statement itself, by authority.
	Timestamps map[string][]byte `json:"timestamps,omitempty"`
}

// PartSigner is a key that signed and what the registry says of it.
type PartSigner struct {
	Key        []byte        `json:"key"`                  // SubjectPublicKeyInfo, DER
	Enrolment  *Registration `json:"enrolment,omitempty"`  // none for a founder's key
	Revocation *Registration `json:"revocation,omitempty"` // none when not revoked
	// Passkey is the statement of a passkey, instead of an enrolment.
	Passkey      *Registration     `json:"passkey,omitempty"`
	Certificates []PartCertificate `json:"certificates,omitempty"`
}

// PartCertificate is how a signer's certificate was registered and, where it is
// at hand, the certificate.
type PartCertificate struct {
	SHA256   Digest       `json:"sha256"` // of the DER
	Issuance Registration `json:"issuance"`
	Chain    string       `json:"chain,omitempty"` // PEM, the key's own first
}

// Plaintext is what only a member has of a package.
type Plaintext interface {
	// Manifest returns the manifest that a deposit commits to, nil when it is not
	// to be had: the step then stays in the package without it.
	Manifest(s *Statement) ([]byte, error)
	// Object returns a file's content, nil when it is not to be had.
	Object(o *Object) (io.Reader, error)
}

// Packed says what a package was written with and without.
type Packed struct {
	Steps    int   `json:"steps"`
	Withheld []int `json:"withheld"`  // steps without their manifest, from 1
	NoObject int   `json:"no_object"` // objects that are named and absent
}

// Write writes the package to w, which must be empty and, when objects are
// added, an io.Seeker too. It checks what it writes as PackageWriter does; that
// the receipts hold is for a verifier to say.
func (p *PackageParts) Write(w io.Writer, plain Plaintext) (*Packed, error) {
	pw, err := NewPackageWriter(w, PackageInfo{Alliance: SumSHA256(p.Alliance), Trail: p.Trail, TreeSize: p.TreeSize})
	if err != nil {
		return nil, err
	}
	out := &Packed{Steps: len(p.Steps), Withheld: []int{}}
	for i := range p.Steps {
		if err := p.writeStep(pw, &p.Steps[i], plain, out); err != nil {
			return nil, err
		}
	}
	if err := p.writeRest(pw); err != nil {
		return nil, err
	}
	return out, pw.Close()
}

func (p *PackageParts) writeStep(pw *PackageWriter, step *PartStep, plain Plaintext, out *Packed) error {
	s, err := ParseStatement(step.Statement)
	if err != nil {
		return err
	}
	var data []byte
	if s.Envelope() {
		if data, err = plain.Manifest(s); err != nil {
			return fmt.Errorf("opening the manifest of %s: %w", s.Digest(), err)
		}
	}
	n, err := pw.AddStep(step.Statement, step.Position, data, step.Receipts)
	if err != nil {
		return err
	}
	for _, authority := range slices.Sorted(maps.Keys(step.Timestamps)) {
		if err := pw.AddStatementTimestamp(n, authority, step.Timestamps[authority]); err != nil {
			return err
		}
	}
	if data == nil {
		if s.Envelope() {
			out.Withheld = append(out.Withheld, n)
		}
		return nil
	}
	m, err := ParseManifest(data)
	if err != nil {
		return fmt.Errorf("reading the manifest of step %d: %w", n, err)
	}
	for i := range m.Objects {
		content, err := plain.Object(&m.Objects[i])
		if err != nil {
			return fmt.Errorf("opening %s: %w", m.Objects[i].Name, err)
		}
		if content == nil {
			out.NoObject++
			continue
		}
		if err := pw.AddObject(n, i+1, content); err != nil {
			return err
		}
	}
	return nil
}

// writeRest adds registrations, heads, checkpoints, tokens and keys.
func (p *PackageParts) writeRest(pw *PackageWriter) error {
	for _, r := range p.KeyChanges {
		if err := pw.AddKeyChange(r.Statement, r.Receipts); err != nil {
			return err
		}
	}
	keys := make([]*PublicKey, len(p.Signers))
	for i, s := range p.Signers {
		key, err := ParsePublicKey(s.Key)
		if err != nil {
			return fmt.Errorf("reading signer key %d: %w", i, err)
		}
		keys[i] = key
		if s.Enrolment != nil {
			if err := pw.AddEnrolment(key.KID(), s.Enrolment.Statement, s.Enrolment.Receipts); err != nil {
				return err
			}
		}
		if s.Passkey != nil {
			if err := pw.AddPasskey(key.KID(), s.Passkey.Statement, s.Passkey.Receipts); err != nil {
				return err
			}
		}
		for _, c := range s.Certificates {
			if err := pw.AddIssuance(c.SHA256, c.Issuance.Statement, c.Issuance.Receipts); err != nil {
				return err
			}
			if c.Chain == "" {
				continue
			}
			if err := pw.AddCertificate([]byte(c.Chain)); err != nil {
				return err
			}
		}
		if s.Revocation != nil {
			if err := pw.AddRevocation(key.KID(), s.Revocation.Statement, s.Revocation.Receipts); err != nil {
				return err
			}
		}
	}
	for _, inst := range slices.Sorted(maps.Keys(p.Heads)) {
		if err := pw.AddHead(inst, p.Heads[inst]); err != nil {
			return err
		}
	}
	for _, size := range slices.Sorted(maps.Keys(p.Checkpoints)) {
		if err := pw.AddCheckpoint(size, p.Checkpoints[size]); err != nil {
			return err
		}
	}
	for _, size := range slices.Sorted(maps.Keys(p.Timestamps)) {
		for _, authority := range slices.Sorted(maps.Keys(p.Timestamps[size])) {
			if err := pw.AddTimestamp(size, authority, p.Timestamps[size][authority]); err != nil {
				return err
			}
		}
	}
	if err := pw.AddAlliance(p.Alliance); err != nil {
		return err
	}
	for _, inst := range slices.Sorted(maps.Keys(p.InstitutionKeys)) {
		now, err := parseKeys(inst, p.InstitutionKeys[inst])
		if err != nil {
			return err
		}
		if err := pw.AddInstitutionKeys(inst, now...); err != nil {
			return err
		}
		older, err := parseKeys(inst, p.OlderKeys[inst])
		if err != nil {
			return err
		}
		for _, key := range older {
			if err := pw.AddOlderInstitutionKey(inst, key); err != nil {
				return err
			}
		}
	}
	for i, key := range keys {
		if p.Signers[i].Passkey != nil {
			continue // its statement holds it, and it signs nothing that other tools check
		}
		if err := pw.AddMemberKey(key); err != nil {
			return err
		}
	}
	return nil
}

func parseKeys(inst string, texts []string) ([]*PublicKey, error) {
	keys := make([]*PublicKey, len(texts))
	for i, text := range texts {
		var err error
		if keys[i], err = ParsePublicKeyPEM([]byte(text)); err != nil {
			return nil, fmt.Errorf("reading a key of %s: %w", inst, err)
		}
	}
	return keys, nil
}

// Tokens counts the timestamp tokens, and the steps that none covers: neither
// one over the statement itself nor one over a checkpoint after it.
func (p *PackageParts) Tokens() (tokens, unstamped int) {
	var last uint64
	for size, by := range p.Timestamps {
		tokens += len(by)
		last = max(last, size)
	}
	for _, step := range p.Steps {
		tokens += len(step.Timestamps)
		if step.Position >= last && len(step.Timestamps) == 0 {
			unstamped++
		}
	}
	return tokens, unstamped
}
