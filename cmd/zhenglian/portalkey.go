package main

import (
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
)

// keyLook is how long a portal goes on with a key before it looks whether
// `institution rotate` has put another in its place.
const keyLook = 5 * time.Second

// currentKey signs with the institution's key of a use that counts now, which may
// be replaced while the portal runs. It implements evidence.Signer.
type currentKey struct {
	home *institution.Home
	use  evidence.KeyUse
	now  func() time.Time

	mu     sync.Mutex
	signer evidence.Signer
	looked time.Time
}

func newCurrentKey(h *institution.Home, use evidence.KeyUse) *currentKey {
	return &currentKey{home: h, use: use, now: time.Now, signer: h.Key(use)}
}

// key returns the signer; when the home cannot be read now, the one before.
func (k *currentKey) key() evidence.Signer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.now(); now.Sub(k.looked) >= keyLook {
		k.looked = now
		if key, err := k.home.Current(k.use); err == nil && !key.Public().Equal(k.signer.Public()) {
			k.signer = key
		}
	}
	return k.signer
}

// Public implements evidence.Signer.
func (k *currentKey) Public() *evidence.PublicKey { return k.key().Public() }

// Sign implements evidence.Signer.
func (k *currentKey) Sign(message []byte) ([]byte, error) { return k.key().Sign(message) }
