package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Followed is a key change that a policy took in.
type Followed struct {
	Statement   Digest
	Position    uint64
	Institution string
	*KeyChange
}

// NotFollowed is a key change that did not stand, and why.
type NotFollowed struct {
	Statement Digest
	Err       error
	// Open is set when it is not refuted: keys that the policy does not know signed
	// it or its receipts.
	Open bool
}

// Follow takes key changes into a copy of the policy. Each must be signed by
// the institution's statement key of that position, prove that the new key is
// held, replace a key that counts there, and have receipts of a quorum of
// institutions for one position. What the policy has already is left out of the
// result; the order of the changes does not matter. The policy must be valid.
//
// A receipt counts under the keys that follow from all the changes: where
// several institutions change keys at once, the roots that cover the changes are
// signed by their new keys. That takes nothing on trust: each of these keys was
// named by its own institution, with a key that the policy leads to, so that
// fewer than a quorum of institutions cannot make a quorum of receipts.
//
// Follow cannot know of a change that nobody hands it: then the old key still
// counts, as for one who asks nobody whether a certificate was revoked.
func (p *Policy) Follow(changes []Registration) (*Policy, []Followed, []NotFollowed) {
	f := &following{base: p, verified: map[Digest]bool{}}
	var refused []NotFollowed
	seen := map[Digest]bool{}
	for _, c := range changes {
		d := SumSHA256(c.Statement)
		if seen[d] {
			continue
		}
		seen[d] = true
		if len(seen) > MaxKeyChanges*MaxInstitutions {
			refused = append(refused, NotFollowed{d, errors.New("there are more key changes than an alliance can have made"), false})
			break
		}
		switch read, err := f.read(d, c); {
		case err != nil:
			refused = append(refused, NotFollowed{d, err, false})
		case read != nil:
			f.changes = append(f.changes, read)
		}
	}
	slices.SortFunc(f.changes, func(a, b *followed) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), slices.Compare(a.Statement[:], b.Statement[:]))
	})
	for {
		next, worst := f.round(&refused)
		if worst == nil {
			out := make([]Followed, len(f.changes))
			for i, c := range f.changes {
				out[i] = c.Followed
			}
			return next, out, refused
		}
		// One at a time: without it, others may stand.
		f.changes = slices.DeleteFunc(f.changes, func(c *followed) bool { return c == worst })
	}
}

type following struct {
	base     *Policy
	changes  []*followed
	verified map[Digest]bool // SHA-256(kid ‖ receipt ‖ entry) → it verifies
}

type followed struct {
	Followed
	statement *Statement
	receipts  []*Receipt
	raw       map[*Receipt][]byte
}

// read parses a change and finds the position that a quorum of its receipts
// name. It is nil without an error for one that the policy has.
func (f *following) read(d Digest, r Registration) (*followed, error) {
	s, err := ParseStatement(r.Statement)
	if err != nil {
		return nil, err
	}
	if s.ContentType != TypeKeyChange {
		return nil, fmt.Errorf("it is no key change but %s", s.ContentType)
	}
	change, err := ParseKeyChange(s.Payload)
	if err != nil {
		return nil, err
	}
	inst := f.base.Institution(s.Issuer)
	if inst == nil {
		return nil, fmt.Errorf("the policy knows no institution %q", s.Issuer)
	}
	for i := range inst.Keys {
		if k := &inst.Keys[i]; k.pub != nil && k.pub.Equal(change.Key) && k.Use == change.Use {
			return nil, nil
		}
	}
	if err := change.Prove(f.base.Alliance, s.Issuer); err != nil {
		return nil, fmt.Errorf("the new key does not prove that it is held: %w", err)
	}
	c := &followed{Followed: Followed{Statement: d, Institution: s.Issuer, KeyChange: change}, statement: s, raw: map[*Receipt][]byte{}}
	count := map[uint64]int{}
	var first error
	for inst, data := range r.Receipts {
		rec, err := ParseReceipt(data)
		switch {
		case err == nil && rec.Issuer != inst:
			err = fmt.Errorf("it is issued by %q", rec.Issuer)
		case err == nil && rec.Log != f.base.Origin:
			err = fmt.Errorf("it is of the log %q, not %q", rec.Log, f.base.Origin)
		}
		if err != nil {
			first = cmp.Or(first, fmt.Errorf("the receipt of %s: %w", inst, err))
			continue
		}
		c.receipts = append(c.receipts, rec)
		c.raw[rec] = data
		count[rec.LeafIndex]++
	}
	for _, position := range slices.Sorted(maps.Keys(count)) {
		if count[position] >= f.base.Quorum {
			c.Position = position // the only one when a quorum is more than half
			c.receipts = slices.DeleteFunc(c.receipts, func(r *Receipt) bool { return r.LeafIndex != position })
			return c, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("no %d institutions have receipts for one position", f.base.Quorum), first)
}

// round applies all changes in the order of the log and counts their receipts.
// Those that the rules refuse are taken out; worst is the one with the fewest
// receipts when some has no quorum.
func (f *following) round(refused *[]NotFollowed) (next *Policy, worst *followed) {
	next = f.base.clone()
	f.changes = slices.DeleteFunc(f.changes, func(c *followed) bool {
		err := next.apply(c)
		if err != nil {
			*refused = append(*refused, NotFollowed{c.Statement, err, !next.KnownKey(c.statement.KID) || !next.KnownKey(c.Replaces)})
		}
		return err != nil
	})
	least, open, why := 0, false, error(nil)
	for _, c := range f.changes {
		have, unknown, err := f.count(next, c)
		if have < next.Quorum && (worst == nil || have < least) {
			worst, least, open, why = c, have, have+unknown >= next.Quorum, err
		}
	}
	if worst != nil {
		*refused = append(*refused, NotFollowed{worst.Statement, errors.Join(fmt.Errorf("receipts of %d institutions hold for it, and %d are needed", least, next.Quorum), why), open})
	}
	return next, worst
}

// count returns how many institutions' receipts hold, and how many are by keys
// that are not known.
func (f *following) count(p *Policy, c *followed) (n, unknown int, first error) {
	for _, r := range c.receipts {
		inst, key, ok := p.ByKID(r.KID, UseReceipt, r.Size)
		if !ok || inst != r.Issuer {
			if _, known := p.Known(r.KID, UseReceipt); !known {
				unknown++
			}
			first = cmp.Or(first, fmt.Errorf("key %s is not one of %s for size %d", r.KID, r.Issuer, r.Size))
			continue
		}
		name := SumSHA256(slices.Concat(r.KID[:], c.Statement[:], c.raw[r]))
		good, known := f.verified[name]
		if !known {
			err := r.VerifyInclusion(key, c.Statement)
			good = err == nil
			f.verified[name] = good
			first = cmp.Or(first, err)
		}
		if good {
			n++
		}
	}
	return n, unknown, first
}

func (p *Policy) clone() *Policy {
	q := *p
	q.Institutions = slices.Clone(p.Institutions)
	for i := range q.Institutions {
		q.Institutions[i].Keys = slices.Clone(p.Institutions[i].Keys)
	}
	return &q
}

// apply puts a change into the policy, at its position.
func (p *Policy) apply(c *followed) error {
	holder, key, ok := p.ByKID(c.statement.KID, UseStatement, c.Position)
	switch {
	case !ok || holder != c.Institution:
		return fmt.Errorf("it is not signed by a statement key of %s for position %d", c.Institution, c.Position)
	case key.Algorithm() != c.statement.Algorithm:
		return fmt.Errorf("it is signed with %s, the key is %s", c.statement.Algorithm, key.Algorithm())
	}
	if err := key.Verify(c.statement.ToBeSigned(), c.statement.Signature); err != nil {
		return err
	}
	for i := range p.Institutions {
		for j := range p.Institutions[i].Keys {
			if k := &p.Institutions[i].Keys[j]; k.pub == nil || k.pub.Equal(c.Key) {
				return errors.New("the new key is in use already")
			}
		}
	}
	inst := p.Institution(c.Institution)
	for i := range inst.Keys {
		k := &inst.Keys[i]
		if k.Use != c.Use || k.To != 0 || k.pub.KID() != c.Replaces || k.From > c.Position {
			continue
		}
		k.To, k.Ended = c.Position+1, ReasonName(c.Reason)
		inst.Keys = slices.Insert(inst.Keys, i+1, PolicyKey{Use: c.Use, Key: string(c.Key.PEM()), From: c.Position + 1, pub: c.Key})
		return nil
	}
	return fmt.Errorf("%s is not a %s key of %s for position %d", c.Replaces, c.Use, c.Institution, c.Position)
}

// PolicyKeys returns what a policy says of a history, in the history's order.
func (h *KeyHistory) PolicyKeys() []PolicyKey {
	var out []PolicyKey
	for _, k := range h.All() {
		pk := PolicyKey{Use: k.Use, Key: string(k.Public.PEM()), From: k.From, To: k.To, pub: k.Public}
		if k.To != 0 {
			pk.Ended = ReasonName(k.Reason)
		}
		out = append(out, pk)
	}
	return out
}

// KnownKey reports whether the policy has the key, for whatever purpose.
func (p *Policy) KnownKey(kid Digest) bool {
	for _, use := range policyUses() {
		if _, ok := p.Known(kid, use); ok {
			return true
		}
	}
	return false
}

// Changed reports whether some key of the policy counts from a change on, and not
// since the founding.
func (p *Policy) Changed() bool {
	for i := range p.Institutions {
		for j := range p.Institutions[i].Keys {
			if p.Institutions[i].Keys[j].From > 0 {
				return true
			}
		}
	}
	return false
}

// AllKeys returns an institution's keys for a use, of all sizes.
func (p *Policy) AllKeys(inst string, use KeyUse) []*PublicKey {
	var keys []*PublicKey
	if i := p.Institution(inst); i != nil {
		for j := range i.Keys {
			if k := &i.Keys[j]; k.Use == use && k.pub != nil {
				keys = append(keys, k.pub)
			}
		}
	}
	return keys
}

// Known reports whether the policy has the key for a use at any size, and
// returns its holder.
func (p *Policy) Known(kid Digest, use KeyUse) (inst string, ok bool) {
	for i := range p.Institutions {
		for j := range p.Institutions[i].Keys {
			if k := &p.Institutions[i].Keys[j]; k.Use == use && k.pub != nil && k.pub.KID() == kid {
				return p.Institutions[i].ID, true
			}
		}
	}
	return "", false
}

// Compromised returns the kids of keys that ended because they were
// compromised, with the sizes from which they no longer count.
func (p *Policy) Compromised() map[Digest]uint64 {
	out := map[Digest]uint64{}
	for i := range p.Institutions {
		for j := range p.Institutions[i].Keys {
			if k := &p.Institutions[i].Keys[j]; k.pub != nil && k.Ended == ReasonName(ReasonCompromised) {
				out[k.pub.KID()] = k.To
			}
		}
	}
	return out
}
