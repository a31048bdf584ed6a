package member

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// Config of a Home. Dir, Signer and Person.Member are required.
type Config struct {
	Dir    string          // the member's home; journal/ and vault/ are made in it
	Signer evidence.Signer // the member's key
	Person evidence.Person // as enrolled, for the manifests
	// Identity opens her objects in the vault. Nil: deposits that keep nothing
	// cannot be made, and packages hold no plaintext.
	Identity age.Identity
	// Recipient is the public half of Identity, to which objects are encrypted.
	Recipient age.Recipient
	// Readers may open what is deposited besides.
	Readers []age.Recipient
	Now     func() time.Time // nil: time.Now
	Random  io.Reader        // for salts; nil: crypto/rand.Reader
}

// Home is a member's opened home. Several processes may use it at once.
type Home struct {
	config  Config
	journal journal
	store   *vault.Dir
	vault   *vault.Vault
	inUse   func() // lets go of the shared lock on the vault
}

// Open makes journal and vault where they are missing. Close it after use.
func Open(ctx context.Context, c Config) (*Home, error) {
	if c.Dir == "" || c.Signer == nil || c.Person.Member == "" {
		return nil, errors.New("opening a member's home: directory, signer and member id are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	h := &Home{config: c, journal: journal{filepath.Join(c.Dir, "journal")}}
	if err := os.MkdirAll(h.journal.dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening a member's home: %w", err)
	}
	var err error
	// Shared by all who use the vault; Sweep takes it alone.
	if h.inUse, err = lockFile(ctx, h.lockPath(), true, nil); err != nil {
		return nil, fmt.Errorf("opening a member's home: %w", err)
	}
	if h.store, err = vault.OpenDir(filepath.Join(c.Dir, "vault")); err != nil {
		h.inUse()
		return nil, fmt.Errorf("opening a member's home: %w", err)
	}
	h.vault = vault.New(h.store)
	return h, nil
}

func (h *Home) lockPath() string { return filepath.Join(h.journal.dir, "vault.lock") }

// Close lets go of the home.
func (h *Home) Close() error {
	err := h.store.Close()
	h.inUse()
	return err
}

// Vault returns the member's vault.
func (h *Home) Vault() *vault.Vault { return h.vault }

// KID returns the kid of the member's key.
func (h *Home) KID() evidence.Digest { return h.config.Signer.Public().KID() }

// Sweep removes what interrupted deposits left in the vault, and returns how
// many blobs. When another process uses the home it does nothing: swept is
// false.
func (h *Home) Sweep(ctx context.Context) (n int, swept bool, err error) {
	h.inUse()
	defer func() {
		again, lockErr := lockFile(ctx, h.lockPath(), true, nil)
		if lockErr != nil {
			again = func() {}
		}
		h.inUse, err = again, errors.Join(err, lockErr)
	}()
	f, err := os.OpenFile(h.lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, false, fmt.Errorf("sweeping the vault: %w", err)
	}
	defer f.Close()
	alone, err := tryLock(f, false)
	if err != nil || !alone {
		return 0, false, err
	}
	if err := h.store.RemoveTemporary(ctx); err != nil {
		return 0, false, fmt.Errorf("sweeping the vault: %w", err)
	}
	n, err = h.vault.Sweep(ctx)
	return n, err == nil, err
}

// Trails returns the trails that this home has signed statements of.
func (h *Home) Trails() ([]evidence.Digest, error) { return h.journal.trails() }

// Entries returns this home's statements of a trail, in order.
func (h *Home) Entries(trail evidence.Digest) ([]Entry, error) { return h.journal.entries(trail) }

// LastTrail returns the trail that was added to last; ok is false when none was.
func (h *Home) LastTrail() (trail evidence.Digest, ok bool, err error) { return h.journal.last() }

// Pending returns the statements that were signed and are not known to be final.
func (h *Home) Pending() ([]Entry, error) {
	trails, err := h.journal.trails()
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, t := range trails {
		entries, err := h.journal.entries(t)
		if err != nil {
			return nil, err
		}
		all = append(all, pendingOf(entries)...)
	}
	return all, nil
}

// Resend sends the trail's pending statements again, the same bytes, and
// returns them with their places. A statement that the rules refuse is set
// aside; the error is then the *client.Problem.
func (h *Home) Resend(ctx context.Context, c *client.Client, trail evidence.Digest, waiting func()) ([]Entry, error) {
	unlock, err := h.journal.lock(ctx, trail, waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return h.resend(ctx, c, trail)
}

func (h *Home) resend(ctx context.Context, c *client.Client, trail evidence.Digest) ([]Entry, error) {
	entries, err := h.journal.entries(trail)
	if err != nil {
		return nil, err
	}
	pending := pendingOf(entries)
	for i := range pending {
		if _, err := h.send(ctx, c, &pending[i]); err != nil {
			return pending[:i], err
		}
	}
	return pending, nil
}

// send deposits an entry and writes down what became of it.
func (h *Home) send(ctx context.Context, c *client.Client, e *Entry) (*client.Final, error) {
	final, err := c.Deposit(ctx, e.Statement.Bytes())
	if err != nil {
		return nil, h.failed(e, err)
	}
	if final.Entry != e.Statement.Digest() {
		return nil, fmt.Errorf("statement %s was registered before as %s, under another signature: this home is a copy, or was restored from one", e.Statement.Digest(), final.Entry)
	}
	return final, h.journal.settle(e, Place{Position: final.Position, TreeSize: final.TreeSize, Time: final.Time.UTC().Format(time.RFC3339)})
}

// failed sets an entry aside when the rules refuse it for good.
func (h *Home) failed(e *Entry, err error) error {
	var p *client.Problem
	if errors.As(err, &p) && p.Rule() {
		return errors.Join(err, h.journal.refuse(e, Refusal{p.Code, p.Detail}))
	}
	return err
}

// manifest returns the manifest that a statement commits to; nil when the vault
// does not hold it.
func (h *Home) manifest(ctx context.Context, s *evidence.Statement) ([]byte, error) {
	if !s.Envelope() || h.config.Identity == nil {
		return nil, nil
	}
	r, err := h.vault.Open(ctx, evidence.Digest(s.Payload), h.config.Identity)
	if errors.Is(err, vault.ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the manifest %x: %w", s.Payload, err)
	}
	return io.ReadAll(io.LimitReader(r, evidence.MaxManifest+1))
}

func (h *Home) keep(ctx context.Context, r io.Reader, progress func(int64)) (vault.Object, error) {
	if h.config.Recipient == nil {
		return vault.Object{}, errors.New("there is no vault key to encrypt to")
	}
	to := append([]age.Recipient{h.config.Recipient}, h.config.Readers...)
	return h.vault.Put(ctx, r, to, progress)
}

func (h *Home) keepBytes(ctx context.Context, data []byte) error {
	_, err := h.keep(ctx, bytes.NewReader(data), nil)
	return err
}
