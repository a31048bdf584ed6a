package timestamp

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A damaged register goes on from its last good line, and the damaged file stays.
func TestMendRegister(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	path, good := filled(t)
	if m, err := MendRegister(path, now); err != nil || m.Damage != nil || m.Kept != "" || m.Head.Entries != 5 {
		t.Fatalf("a register that is whole: %+v, %v", m, err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for name, tc := range map[string]struct {
		data    []byte
		entries uint64
	}{
		"a line altered":       {bytes.Replace(good, []byte("\n3 2026-01-02T03:04:02Z"), []byte("\n3 2026-01-02T03:04:03Z"), 1), 2},
		"the first line":       {append([]byte("x"), good...), 0},
		"a line taken out":     {bytes.Join([][]byte{lines[0], lines[1], lines[3], lines[4]}, nil), 1},
		"the last line mended": {append(bytes.Clone(good[:len(good)-3]), '0', '0', '\n'), 4},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "register")
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			var damage *DamageError
			if _, err := OpenRegister(path); !errors.As(err, &damage) {
				t.Fatalf("it opens: %v", err)
			}
			// A run that was cut after the copy leaves a file that does not disturb.
			if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := MendRegister(path, now)
			if err != nil || m.Damage == nil || m.Head.Entries != tc.entries || m.Lost <= 0 {
				t.Fatalf("%+v, %v", m, err)
			}
			if kept, err := os.ReadFile(m.Kept); err != nil || !bytes.Equal(kept, tc.data) {
				t.Errorf("the damaged file is not kept as it was: %v", err)
			}
			r := openRegister(t, path)
			if h := r.Head(); h.Entries != tc.entries || tc.entries > 0 && h != m.Head {
				t.Errorf("head %+v, want %+v", h, m.Head)
			}
			if tc.entries > 1 {
				if _, err := r.Append(entry(0)); !errors.Is(err, ErrTimeWentBack) {
					t.Errorf("a time before the kept entries: %v", err)
				}
			}
			if head, err := r.Append(entry(9)); err != nil || head.Entries != tc.entries+1 {
				t.Errorf("the next entry: %+v, %v", head, err)
			}
		})
	}
	t.Run("in use", func(t *testing.T) {
		path, _ := filled(t)
		openRegister(t, path)
		if _, err := MendRegister(path, now); !errors.Is(err, ErrRegisterInUse) {
			t.Error(err)
		}
	})
}

// An authority that cannot run answers as one, with the reason.
func TestClosed(t *testing.T) {
	s := newStation(t, newP256(t), nil)
	server := httptest.NewServer(Closed("the register is damaged"))
	t.Cleanup(server.Close)
	_, err := newTestClient(t, Remote{URL: server.URL, Trust: s.trust()}).Stamp(t.Context(), [32]byte{1})
	wantFailure(t, err, SystemFailure)
	if !strings.Contains(err.Error(), "the register is damaged") {
		t.Error(err)
	}
}

// A query over SHA-512 gets a token that is signed over SHA-512 too, and OpenSSL
// agrees.
func TestStampSHA512(t *testing.T) {
	s := newStation(t, newP256(t), nil)
	c := newTestClient(t, Remote{URL: s.serve(t), Trust: s.trust()})
	data := []byte("a list of files")
	sum := sha512.Sum512(data)
	token, err := c.StampDigest(t.Context(), crypto.SHA512, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"list": data, "token": token.DER} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := writePEM(t, filepath.Join(dir, "root.pem"), s.root)
	if out := openssl(t, "ts", "-verify", "-data", filepath.Join(dir, "list"), "-in", filepath.Join(dir, "token"), "-token_in", "-CAfile", root); !strings.Contains(out, "OK") {
		t.Error(out)
	}
	for _, a := range []string{"SHA-512", "ECDSA-P256"} {
		if !strings.Contains(strings.Join(token.Info.Algorithms, " "), a) {
			t.Errorf("%v has no %s", token.Info.Algorithms, a)
		}
	}
	if _, err := c.StampDigest(t.Context(), crypto.SHA1, sum[:20]); err == nil {
		t.Error("SHA-1 is stamped")
	}
	if st := s.Status(); !st.Ready || st.Entries != 1 || st.Reason != "" || st.Last.IsZero() {
		t.Errorf("%+v", st)
	}
}
