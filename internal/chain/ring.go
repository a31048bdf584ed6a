package chain

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// ring holds this institution's signing keys of all generations that this
// process has met. Which of them counts is the registry's to say:
//
//	size of the root ──► registry: public keys ──► ring, else Config.Signer ──► signer
//
// So a node goes over to a new key with the block that registers the change,
// without being told, and after a restart signs an old root as before.
type ring struct {
	mu      sync.Mutex
	signers map[evidence.Digest]evidence.Signer
	missing atomic.Bool // a key that counts now is not to be had
}

// KeyMissingError says that the log names a key of this institution that is not
// in its home.
type KeyMissingError struct {
	Use  evidence.KeyUse
	KID  evidence.Digest
	Size uint64
	Err  error
}

func (e *KeyMissingError) Error() string {
	s := fmt.Sprintf("the %s key %s, which counts for size %d of the log, is not in this institution's home: restore it from the backup, or replace it again", e.Use, e.KID, e.Size)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *KeyMissingError) Unwrap() error { return e.Err }

// keyRetry is how long a node that lacks a key waits before it looks again.
const keyRetry = 2 * time.Second

func (r *ring) add(signers ...evidence.Signer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.signers == nil {
		r.signers = map[evidence.Digest]evidence.Signer{}
	}
	for _, s := range signers {
		if v := reflect.ValueOf(s); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			continue // destroyed after it was replaced
		}
		r.signers[s.Public().KID()] = s
	}
}

func (r *ring) get(kid evidence.Digest) evidence.Signer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.signers[kid]
}

// signers returns this institution's keys of a use that count for a size, in
// the order of its descriptor. The error is a *KeyMissingError.
func (n *Node) signers(use evidence.KeyUse, size uint64) ([]evidence.Signer, error) {
	keys := n.reg.InstitutionKeys(n.id, use, size)
	out := make([]evidence.Signer, len(keys))
	for i, k := range keys {
		s := n.ring.get(k.KID())
		if s == nil {
			var err error
			if n.cfg.Signer != nil {
				s, err = n.cfg.Signer(use, k.KID())
			}
			if err != nil || s == nil {
				return nil, &KeyMissingError{use, k.KID(), size, err}
			}
			if !s.Public().Equal(k) {
				return nil, &KeyMissingError{use, k.KID(), size, fmt.Errorf("the home gives key %s for it", s.Public().KID())}
			}
			n.ring.add(s)
			n.log.Info("signing with a new key", "use", use, "kid", k.KID(), "size", size)
		}
		out[i] = s
	}
	return out, nil
}

// signer is signers for a use that has one key.
func (n *Node) signer(use evidence.KeyUse, size uint64) (evidence.Signer, error) {
	all, err := n.signers(use, size)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no %s key of this institution is known for size %d", use, size)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// keyTrouble takes a missing key off the errors that end the node: without it
// the node still votes and serves, and looks again.
func (n *Node) keyTrouble(err error) error {
	var missing *KeyMissingError
	if !errors.As(err, &missing) {
		if err == nil && n.ring.missing.CompareAndSwap(true, false) {
			n.clearFault("keys")
		}
		return err
	}
	n.ring.missing.Store(true)
	n.fault("keys", missing.Error())
	return nil
}
