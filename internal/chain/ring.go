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
	trouble atomic.Bool // a key that counts now is not to be had, or does not sign
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

// SigningError says that a key of this institution did not sign: its token is
// gone or does not answer, or what came out is no signature by that key.
type SigningError struct {
	Use  evidence.KeyUse
	KID  evidence.Digest
	Size uint64 // of the root that was to be signed
	Err  error
}

func (e *SigningError) Error() string {
	return fmt.Sprintf("the %s key %s did not sign the root of size %d: see to the token that it is on, or to its file: %v", e.Use, e.KID, e.Size, e.Err)
}

func (e *SigningError) Unwrap() error { return e.Err }

// keyRetry is how long a node whose key is missing or does not sign waits before
// it tries again.
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

// keyTrouble takes keys that are missing or do not sign off the errors that end
// the node: without them it still votes and serves, and tries again. A token may
// be unplugged for an hour, and the log has to go on.
func (n *Node) keyTrouble(err error) error {
	var missing *KeyMissingError
	var failed *SigningError
	switch {
	case err == nil:
		if n.ring.trouble.CompareAndSwap(true, false) {
			n.clearFault("keys")
		}
		return nil
	case errors.As(err, &missing):
		err = missing
	case errors.As(err, &failed):
		err = failed
	default:
		return err
	}
	n.ring.trouble.Store(true)
	n.fault("keys", err.Error())
	return nil
}
