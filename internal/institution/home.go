package institution

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

const (
	descriptorFile = "descriptor.json"
	allianceFile   = "alliance.json"
	configFile     = "node.toml"
)

// maxPublicFile is larger than the largest genesis (evidence allows 1 MiB).
const maxPublicFile = 2 << 20

func keysDir(home string) string { return filepath.Join(home, "keys") }

// Home is an opened home. It is read-only and safe for concurrent use.
type Home struct {
	Path       string
	Descriptor *evidence.Descriptor
	Alliance   *evidence.Alliance // nil before Join
	Config     Config

	keys   map[evidence.KeyUse][]*signing.Key
	tokens *signing.Tokens
}

// Open loads and checks a home: the descriptor is valid and holds the public
// half of each key file (the log does of keys that were replaced), key files
// are reachable by their owner alone, and the alliance, where there is one, holds
// this very descriptor. With uses given, only those keys are read: a command
// takes no key that it does not need.
// Errors are *Error.
func Open(home string, uses ...evidence.KeyUse) (*Home, error) {
	h, err := OpenPublic(home)
	if err != nil {
		return nil, err
	}
	h.keys = make(map[evidence.KeyUse][]*signing.Key)
	store := h.keyStore()
	for _, k := range filePlan(h.Descriptor) {
		if len(uses) > 0 && !slices.Contains(uses, k.use) {
			continue
		}
		key, err := h.loadCurrent(store, k)
		if err != nil {
			return nil, err
		}
		h.keys[k.use] = append(h.keys[k.use], key)
	}
	return h, nil
}

// OpenPublic is Open without any private key.
func OpenPublic(home string) (*Home, error) {
	h := &Home{Path: home}
	data, err := readPublic(filepath.Join(home, descriptorFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(keysDir(home)); err == nil {
			return nil, interrupted(home)
		}
		return nil, &Error{Code: CodeNoHome, Path: home, Reason: "no institution lives here", Hint: "make one with `zhenglian institution init`, or correct --home"}
	}
	if err == nil {
		h.Descriptor, err = evidence.ParseDescriptor(data)
	}
	if err != nil {
		return nil, &Error{Code: CodeDescriptor, Path: filepath.Join(home, descriptorFile), Reason: "the descriptor is damaged or was altered", Hint: "restore it from a backup, or from any member's copy of alliance.json", Err: err}
	}
	if err := h.loadAlliance(); err != nil {
		return nil, err
	}
	if h.Config, err = h.loadConfig(os.Environ()); err != nil {
		return nil, err
	}
	h.tokens = signing.NewTokens(h.Config.Token.signing(home))
	return h, h.checkPeers()
}

func readPublic(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPublicFile {
		return nil, fmt.Errorf("it has %d bytes, more than %d", info.Size(), maxPublicFile)
	}
	return os.ReadFile(path)
}

// expectedKey is a key file and the public key that must be in it.
type expectedKey struct {
	name string
	use  evidence.KeyUse
	der  []byte // SubjectPublicKeyInfo, or 32 raw bytes of an Ed25519 key
}

func filePlan(d *evidence.Descriptor) []expectedKey {
	plan := []expectedKey{
		{"consensus", evidence.UseConsensus, d.Keys.Consensus},
		{"node", evidence.UseNode, d.Keys.Node},
	}
	for _, der := range d.Keys.Receipt {
		name := "receipt"
		if pub, err := evidence.ParsePublicKey(der); err == nil && pub.Algorithm() == evidence.SM2SM3 {
			name = nameReceiptSM2
		}
		plan = append(plan, expectedKey{name, evidence.UseReceipt, der})
	}
	return append(plan,
		expectedKey{"cosign", evidence.UseCosign, d.Keys.Cosign},
		expectedKey{"statement", evidence.UseStatement, d.Keys.Statement},
		expectedKey{"attest", evidence.UseAttest, d.Keys.Attest},
		expectedKey{"tls", evidence.UseTLS, d.Keys.TLS})
}

func loadKey(store signing.Mixed, want expectedKey) (*signing.Key, error) {
	path := store.Place(want.name)
	key, err := store.Key(want.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeKeyMissing, Path: path, Reason: "the " + want.name + " key is missing", Hint: "restore it from the institution's backup; it cannot be made again"}
	}
	if err != nil {
		return nil, &Error{Code: CodeKeyUnreadable, Path: path, Reason: "the " + want.name + " key cannot be used", Err: err}
	}
	if pub := key.Public(); !bytes.Equal(pub.DER(), want.der) && !(len(want.der) == 32 && pub.Algorithm() == evidence.EdDSA && bytes.Equal(pub.Raw(), want.der)) {
		return nil, &Error{Code: CodeKeyMismatch, Path: path, Reason: fmt.Sprintf("the file holds key %s, which is not the %s key of the descriptor", pub.KID(), want.name), Hint: "restore the key file or the descriptor from the same backup"}
	}
	return key, nil
}

func (h *Home) loadAlliance() error {
	path := filepath.Join(h.Path, allianceFile)
	data, err := readPublic(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Error{Code: CodeAlliance, Path: path, Reason: "the alliance's genesis cannot be read", Err: err}
	}
	h.Alliance, err = parseAllianceOf(h.Descriptor, path, data)
	return err
}

// parseAllianceOf reads a genesis and finds d in it, unchanged.
func parseAllianceOf(d *evidence.Descriptor, path string, data []byte) (*evidence.Alliance, error) {
	a, err := evidence.ParseAlliance(data)
	if err != nil {
		return nil, &Error{Code: CodeAlliance, Path: path, Reason: "the file is no alliance's genesis, or it was altered", Hint: "get it again from another institution of the alliance", Err: err}
	}
	self := a.Institution(d.ID)
	if self == nil {
		return nil, &Error{Code: CodeNotInAlliance, Path: path, Reason: fmt.Sprintf("the alliance %q has no institution %q", a.Name, d.ID), Hint: "send descriptor.json to those who found the alliance"}
	}
	own, err := d.Encode()
	if err != nil {
		return nil, &Error{Code: CodeDescriptor, Path: path, Reason: "the own descriptor cannot be encoded", Err: err}
	}
	theirs, err := self.Encode()
	if err != nil || !bytes.Equal(own, theirs) {
		return nil, &Error{Code: CodeOtherSelf, Path: path, Reason: fmt.Sprintf("the alliance %q knows %q by another descriptor than the one in this home", a.Name, d.ID), Hint: "the alliance was founded with an older or a foreign descriptor: found it again with this one", Err: err}
	}
	return a, nil
}

// Join gives the home its alliance: it copies the genesis in after finding the
// home's own descriptor in it, unchanged. Joining the same alliance again is no
// error. Errors are *Error.
func Join(home string, genesis []byte) (*evidence.Alliance, error) {
	h, err := OpenPublic(home)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(home, allianceFile)
	a, err := parseAllianceOf(h.Descriptor, path, genesis)
	if err != nil {
		return nil, err
	}
	if h.Alliance != nil {
		if h.Alliance.ID() == a.ID() {
			return a, nil
		}
		return nil, &Error{Code: CodeOtherAlliance, Path: path, Reason: fmt.Sprintf("this home belongs to the alliance %q (%s) already", h.Alliance.Name, h.Alliance.ID()), Hint: "make another home for another alliance"}
	}
	if err := signing.CreateFile(path, genesis, 0o644); err != nil {
		return nil, &Error{Code: CodeAlliance, Path: path, Reason: "the genesis cannot be written", Err: err}
	}
	return a, nil
}

// ID returns the institution's id.
func (h *Home) ID() string { return h.Descriptor.ID }

// Key returns the key of a use that counted when the home was opened, of several
// receipt keys the first. It is nil when Open was told to leave it.
func (h *Home) Key(use evidence.KeyUse) *signing.Key {
	if keys := h.keys[use]; len(keys) > 0 {
		return keys[0]
	}
	return nil
}

// Keys returns all keys of a use, in the descriptor's order: of UseReceipt the
// Ed25519 or P-256 key and, where there is one, the SM2 key.
func (h *Home) Keys(use evidence.KeyUse) []*signing.Key { return h.keys[use] }

// Joined returns the alliance, or an *Error that says how to join one.
func (h *Home) Joined() (*evidence.Alliance, error) {
	if h.Alliance == nil {
		return nil, &Error{Code: CodeNotJoined, Path: h.Path, Reason: "this institution has not joined an alliance", Hint: "run `zhenglian institution join --home " + h.Path + " alliance.json`"}
	}
	return h.Alliance, nil
}

// DescriptorPath returns where the public descriptor is.
func (h *Home) DescriptorPath() string { return filepath.Join(h.Path, descriptorFile) }

// DataDir returns where the node keeps its stores.
func (h *Home) DataDir() string {
	if filepath.IsAbs(h.Config.Data) {
		return h.Config.Data
	}
	return filepath.Join(h.Path, h.Config.Data)
}

// PeerAddresses returns where another institution is reached: the alliance's
// addresses with the overrides of node.toml. Errors are *Error.
func (h *Home) PeerAddresses(id string) (evidence.Addresses, error) {
	d, err := h.peer(id)
	if err != nil {
		return evidence.Addresses{}, err
	}
	addr := d.Addresses
	if o, ok := h.Config.Peers[id]; ok {
		if o.Peer != "" {
			addr.Peer = o.Peer
		}
		if o.P2P != "" {
			addr.P2P = o.P2P
		}
	}
	return addr, nil
}

// Peers returns the ids of the other institutions, in the alliance's order.
func (h *Home) Peers() []string {
	var ids []string
	if h.Alliance != nil {
		for i := range h.Alliance.Institutions {
			if id := h.Alliance.Institutions[i].ID; id != h.ID() {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func (h *Home) peer(id string) (*evidence.Descriptor, error) {
	a, err := h.Joined()
	if err != nil {
		return nil, err
	}
	d := a.Institution(id)
	if d == nil || id == h.ID() {
		return nil, &Error{Code: CodeUnknownPeer, Path: h.Path, Reason: fmt.Sprintf("%q is no other institution of the alliance %q", id, a.Name)}
	}
	return d, nil
}
