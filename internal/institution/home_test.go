package institution

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

func params(id string, kind evidence.InstitutionKind) Params {
	return Params{ID: id, Name: "机构 " + id, Kind: kind, Addresses: evidence.Addresses{API: "http://127.0.0.1:8101", Peer: "127.0.0.1:8201", P2P: "127.0.0.1:8301"}}
}

func initHome(t *testing.T, p Params) (string, *evidence.Descriptor) {
	t.Helper()
	home := filepath.Join(t.TempDir(), p.ID)
	d, err := Init(home, p)
	if err != nil {
		t.Fatal(err)
	}
	return home, d
}

func genesis(t *testing.T, ds ...*evidence.Descriptor) []byte {
	t.Helper()
	var all []evidence.Descriptor
	for _, d := range ds {
		all = append(all, *d)
	}
	a, err := evidence.NewAlliance("试验联盟", "test", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), all)
	if err != nil {
		t.Fatal(err)
	}
	data, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantCode(t *testing.T, err error, code ErrorCode) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Error with %s", err, code)
	}
	if e.Code != code {
		t.Errorf("error %s (%v), want %s", e.Code, e, code)
	}
}

func open(t *testing.T, home string) *Home {
	t.Helper()
	h, err := Open(home)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestInitOpenJoin(t *testing.T) {
	p := params("court", evidence.KindCourt)
	p.ReceiptAlgorithm, p.SM2Receipt = evidence.ES256, true
	home, d := initHome(t, p)
	h := open(t, home)
	if len(d.Keys.Receipt) != 2 || len(h.Keys(evidence.UseReceipt)) != 2 {
		t.Fatalf("%d receipt keys in the descriptor, %d in the home, want 2", len(d.Keys.Receipt), len(h.Keys(evidence.UseReceipt)))
	}
	if got := h.Key(evidence.UseReceipt).Public().Algorithm(); got != evidence.ES256 {
		t.Errorf("the first receipt key is %s", got)
	}
	if got := h.Keys(evidence.UseReceipt)[1].Public().Algorithm(); got != evidence.SM2SM3 {
		t.Errorf("the second receipt key is %s", got)
	}
	if _, err := h.Joined(); err == nil {
		t.Error("joined before Join")
	} else {
		wantCode(t, err, CodeNotJoined)
	}
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the home has mode %v, %v", info.Mode(), err)
	}
	// An alliance of one.
	a, err := Join(home, genesis(t, d))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Join(home, genesis(t, d)); err != nil {
		t.Errorf("joining the same alliance again: %v", err)
	}
	h = open(t, home)
	if joined, err := h.Joined(); err != nil || joined.ID() != a.ID() {
		t.Errorf("joined %v, %v", joined, err)
	}
	if got, want := h.DataDir(), filepath.Join(home, "data"); got != want {
		t.Errorf("data in %s, want %s", got, want)
	}
}

func TestOpenReadsOnlyTheKeysAskedFor(t *testing.T) {
	home, _ := initHome(t, params("ca", evidence.KindCA))
	for _, use := range []evidence.KeyUse{evidence.UseConsensus, evidence.UseTLS} {
		if err := os.Remove(signing.Dir(keysDir(home)).Path(string(use))); err != nil {
			t.Fatal(err)
		}
	}
	h, err := Open(home, evidence.UseStatement)
	if err != nil {
		t.Fatal(err)
	}
	if h.Key(evidence.UseStatement) == nil || h.Key(evidence.UseReceipt) != nil {
		t.Error("another key than the statement key was read")
	}
	_, err = Open(home)
	wantCode(t, err, CodeKeyMissing)
}

func TestInitRefuses(t *testing.T) {
	home, _ := initHome(t, params("court", evidence.KindCourt))
	before, err := os.ReadFile(filepath.Join(home, "keys", "receipt.pem"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Init(home, params("court", evidence.KindCourt))
	wantCode(t, err, CodeExists)
	if after, _ := os.ReadFile(filepath.Join(home, "keys", "receipt.pem")); !bytes.Equal(before, after) {
		t.Error("a key was replaced")
	}

	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "diary.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Init(foreign, params("court", evidence.KindCourt))
	wantCode(t, err, CodeExists)

	// A power cut before the descriptor was written.
	if err := os.Remove(filepath.Join(home, descriptorFile)); err != nil {
		t.Fatal(err)
	}
	_, err = Init(home, params("court", evidence.KindCourt))
	wantCode(t, err, CodeInterrupted)
	_, err = Open(home)
	wantCode(t, err, CodeInterrupted)
	_, err = Open(t.TempDir())
	wantCode(t, err, CodeNoHome)

	for name, change := range map[string]func(*Params){
		"id":        func(p *Params) { p.ID = "Court!" },
		"name":      func(p *Params) { p.Name = "" },
		"kind":      func(p *Params) { p.Kind = "bank" },
		"api":       func(p *Params) { p.Addresses.API = "court.example" },
		"peer":      func(p *Params) { p.Addresses.Peer = "court.example" },
		"algorithm": func(p *Params) { p.ReceiptAlgorithm = evidence.SM2SM3 },
	} {
		p, home := params("court", evidence.KindCourt), filepath.Join(t.TempDir(), "home")
		change(&p)
		_, err := Init(home, p)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantCode(t, err, CodeParams)
		if _, err := os.Lstat(home); !os.IsNotExist(err) {
			t.Errorf("%s: keys were made for nothing: %v", name, err)
		}
	}
}

func TestOpenFindsWhatWasAltered(t *testing.T) {
	edit := func(t *testing.T, path string, old, new string) {
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%q is not in %s: %v", old, path, err)
		}
		if err := os.WriteFile(path, bytes.Replace(data, []byte(old), []byte(new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copyFile := func(t *testing.T, from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		code  ErrorCode
		alter func(t *testing.T, home, other string)
	}{
		"descriptor edited":   {CodeDescriptor, func(t *testing.T, home, _ string) { edit(t, filepath.Join(home, descriptorFile), ":8201", ":8202") }},
		"descriptor reshaped": {CodeDescriptor, func(t *testing.T, home, _ string) { edit(t, filepath.Join(home, descriptorFile), "{", "{ ") }},
		"descriptor foreign": {CodeKeyMismatch, func(t *testing.T, home, other string) {
			copyFile(t, filepath.Join(other, descriptorFile), filepath.Join(home, descriptorFile))
			if err := os.Remove(filepath.Join(home, allianceFile)); err != nil {
				t.Fatal(err)
			}
		}},
		"key foreign": {CodeKeyMismatch, func(t *testing.T, home, other string) {
			copyFile(t, filepath.Join(other, "keys", "cosign.pem"), filepath.Join(home, "keys", "cosign.pem"))
		}},
		"consensus and node key swapped": {CodeKeyMismatch, func(t *testing.T, home, _ string) {
			copyFile(t, filepath.Join(home, "keys", "node.pem"), filepath.Join(home, "keys", "consensus.pem"))
		}},
		"key damaged": {CodeKeyUnreadable, func(t *testing.T, home, _ string) {
			edit(t, filepath.Join(home, "keys", "attest.pem"), "PRIVATE", "PRIVAT")
		}},
		"key exposed": {CodeKeyUnreadable, func(t *testing.T, home, _ string) {
			if err := os.Chmod(filepath.Join(home, "keys", "tls.pem"), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		"key directory exposed": {CodeKeyUnreadable, func(t *testing.T, home, _ string) {
			if err := os.Chmod(filepath.Join(home, "keys"), 0o777); err != nil {
				t.Fatal(err)
			}
		}},
		"alliance edited": {CodeAlliance, func(t *testing.T, home, _ string) {
			edit(t, filepath.Join(home, allianceFile), "试验", "实验!")
			edit(t, filepath.Join(home, allianceFile), ":8201", ":8202")
		}},
		"alliance too large": {CodeAlliance, func(t *testing.T, home, _ string) {
			if err := os.WriteFile(filepath.Join(home, allianceFile), make([]byte, maxPublicFile+1), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			home, d := initHome(t, params("court", evidence.KindCourt))
			other, _ := initHome(t, params("court", evidence.KindCourt))
			if _, err := Join(home, genesis(t, d)); err != nil {
				t.Fatal(err)
			}
			open(t, home)
			tc.alter(t, home, other)
			_, err := Open(home)
			wantCode(t, err, tc.code)
		})
	}
}

func TestWrongAlliance(t *testing.T) {
	home, d := initHome(t, params("court", evidence.KindCourt))
	_, notary := initHome(t, params("notary", evidence.KindNotary))
	_, impostor := initHome(t, params("court", evidence.KindCourt))

	_, err := Join(home, genesis(t, notary))
	wantCode(t, err, CodeNotInAlliance)
	_, err = Join(home, genesis(t, notary, impostor))
	wantCode(t, err, CodeOtherSelf)
	_, err = Join(home, []byte("{}"))
	wantCode(t, err, CodeAlliance)
	if _, err := os.Lstat(filepath.Join(home, allianceFile)); !os.IsNotExist(err) {
		t.Errorf("a wrong genesis was kept: %v", err)
	}
	if _, err := Join(home, genesis(t, d)); err != nil {
		t.Fatal(err)
	}
	_, err = Join(home, genesis(t, d, notary))
	wantCode(t, err, CodeOtherAlliance)
}

func TestPeerAddresses(t *testing.T) {
	home, d := initHome(t, params("court", evidence.KindCourt))
	_, notary := initHome(t, params("notary", evidence.KindNotary))
	if _, err := Join(home, genesis(t, d, notary)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, configFile), []byte("[peers.notary]\npeer = \"10.0.0.7:7443\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, home)
	got, err := h.PeerAddresses("notary")
	if want := (evidence.Addresses{API: "http://127.0.0.1:8101", Peer: "10.0.0.7:7443", P2P: "127.0.0.1:8301"}); err != nil || got != want {
		t.Errorf("addresses %+v, %v; want %+v", got, err, want)
	}
	if peers := h.Peers(); len(peers) != 1 || peers[0] != "notary" {
		t.Errorf("peers %v", peers)
	}
	_, err = h.PeerAddresses("court")
	wantCode(t, err, CodeUnknownPeer)
	if err := os.WriteFile(filepath.Join(home, configFile), []byte("[peers.nobody]\npeer = \"10.0.0.7:7443\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(home)
	wantCode(t, err, CodeConfigUnknown)
	if !strings.Contains(err.Error(), "notary") {
		t.Errorf("the error does not name the institutions there are: %v", err)
	}
}
