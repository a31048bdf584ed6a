package testalliance

import (
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// generation is a key that an institution has replaced.
type generation struct {
	use    evidence.KeyUse
	signer evidence.Signer
	to     uint64 // it counts for sizes (a statement key: positions) below
}

// At returns the signer that counts for a size of the log; of a statement key,
// for a position.
func (i *Institution) At(use evidence.KeyUse, size uint64) evidence.Signer {
	for _, g := range i.older {
		if g.use == use && size < g.to {
			return g.signer
		}
	}
	return *i.current(use)
}

func (i *Institution) current(use evidence.KeyUse) *evidence.Signer {
	switch use {
	case evidence.UseReceipt:
		return &i.Receipt
	case evidence.UseCosign:
		return &i.Cosign
	case evidence.UseAttest:
		return &i.Attest
	}
	return &i.Statement
}

// KeyChange makes the statement that replaces an institution's key, and the new
// key, without registering anything.
func (a *Alliance) KeyChange(id string, use evidence.KeyUse, reason uint64) (*evidence.Statement, evidence.Signer, error) {
	inst := a.Get(id)
	next, err := Signer(fmt.Sprintf("%s/%s/%s/%d", a.seed, id, use, len(inst.older)))
	if err != nil {
		return nil, nil, err
	}
	change, err := evidence.NewKeyChange(a.ID(), id, use, (*inst.current(use)).Public().KID(), reason, next)
	if err != nil {
		return nil, nil, err
	}
	s, err := a.SignKeyChange(id, change)
	return s, next, err
}

// SignKeyChange signs a key change, good or bad, as the institution.
func (a *Alliance) SignKeyChange(id string, change *evidence.KeyChange) (*evidence.Statement, error) {
	return evidence.Statement{Issuer: id, Subject: evidence.SubjectRegistry, IssuedAt: BlockTime(a.Size()),
		ContentType: evidence.TypeKeyChange, Payload: change.Encode()}.Sign(a.Get(id).Statement)
}

// Rotate replaces an institution's key and returns the change's position.
func (a *Alliance) Rotate(id string, use evidence.KeyUse, reason uint64) (uint64, error) {
	s, next, err := a.KeyChange(id, use, reason)
	if err != nil {
		return 0, err
	}
	p := a.Append(s)
	inst := a.Get(id)
	into := inst.current(use)
	inst.older = append(inst.older, generation{use, *into, p + 1})
	*into = next
	return p, nil
}

// KeyChanges returns the positions of the key changes.
func (a *Alliance) KeyChanges() []uint64 {
	var out []uint64
	for p, raw := range a.statements {
		if s, err := evidence.ParseStatement(raw); err == nil && s.ContentType == evidence.TypeKeyChange {
			out = append(out, uint64(p))
		}
	}
	return out
}

// ChangesAsOf returns the key changes with receipts over the log of that size.
func (a *Alliance) ChangesAsOf(size uint64) ([]evidence.Registration, error) {
	var out []evidence.Registration
	for _, p := range a.KeyChanges() {
		if p >= size {
			continue
		}
		r, err := a.registration(p, size)
		if err != nil {
			return nil, err
		}
		out = append(out, *r)
	}
	return out, nil
}
