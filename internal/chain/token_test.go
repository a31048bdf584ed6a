package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openTokenIndex(t *testing.T, dir string) *index {
	t.Helper()
	fail := func(detail string) { t.Errorf("index: %s", detail) }
	idx, err := openIndex(dir, slog.New(slog.DiscardHandler), fail, fail)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

// held counts the tokens in an index.
func held(t *testing.T, idx *index) (n int) {
	t.Helper()
	for _, kind := range []byte{tokenCheckpoint, tokenStatement} {
		if err := idx.scan([]byte{kind}, []byte{kind + 1}, func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Tokens survive the loss of the index, of its newest writes, of the file, and of
// a part of it.
func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens")
	log := &syncBuffer{}
	runs := 0
	// open begins with an empty index, or goes on with the last one.
	open := func(fresh bool) (*tokenFile, *index) {
		t.Helper()
		if fresh {
			runs++
		}
		idx := openTokenIndex(t, filepath.Join(dir, fmt.Sprint("index-", runs)))
		f, err := openTokens(path, idx, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return f, idx
	}
	shut := func(f *tokenFile, idx *index) {
		t.Helper()
		if err := errors.Join(f.close(), idx.db.Flush(), idx.db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	f, idx := open(true)
	id := f.id
	for n := range uint64(5) {
		if err := f.add(idx, tokenRecord{tokenCheckpoint, n, "ca", []byte(fmt.Sprint("token ", n))}, tokenRecord{tokenStatement, n, "ca", []byte("own")}); err != nil {
			t.Fatal(err)
		}
	}
	shut(f, idx)
	for _, tc := range []struct {
		name  string
		harm  func(data []byte) []byte // to the file; nil: it is taken away
		fresh bool                     // without the index
		want  int
		id    bool // the file stays the one that peers know
		kept  bool // a damaged file is kept
	}{
		{"nothing", func(d []byte) []byte { return d }, false, 10, true, false},
		{"file lost", nil, false, 10, false, false},
		{"other bytes", func([]byte) []byte { return []byte("something else that is long enough for a header") }, false, 10, false, true},
		{"index lost", func(d []byte) []byte { return d }, true, 10, true, false},
		{"cut in the last record, index lost", func(d []byte) []byte { return d[:len(d)-3] }, true, 9, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			shut(open(true)) // an index that has them all
			if tc.harm == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, tc.harm(append([]byte{}, before...)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			f, idx := open(tc.fresh)
			if got := held(t, idx); got != tc.want {
				t.Errorf("%d tokens, want %d", got, tc.want)
			}
			if (f.id == id) != tc.id {
				t.Errorf("the file is the same: %v", f.id == id)
			}
			// One that is there stays as it is.
			for _, n := range []uint64{3, 50} {
				if err := f.add(idx, tokenRecord{tokenCheckpoint, n, "ca", []byte("another")}); err != nil {
					t.Fatal(err)
				}
			}
			if v, err := idx.get((&tokenRecord{tokenCheckpoint, 3, "ca", nil}).key()); err != nil || string(v) != "token 3" {
				t.Errorf("the token of size 3 is now %q, %v", v, err)
			}
			var all []tokenRecord
			for at, more := int64(0), true; more; {
				page, next, err := f.page(f.id, at, 3)
				if err != nil {
					t.Fatal(err)
				}
				all, at, more = append(all, page...), next, len(page) > 0
			}
			if len(all) != tc.want+1 {
				t.Errorf("%d records in the file, want %d", len(all), tc.want+1)
			}
			shut(f, idx)
			kept, _ := filepath.Glob(path + ".damaged-*")
			if (len(kept) > 0) != tc.kept {
				t.Errorf("kept aside: %v", kept)
			}
			for _, k := range kept {
				if err := os.Remove(k); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Damage far from the end, with the index gone: what is before it stays, and the
	// damaged file is kept.
	f, idx = open(true)
	for n := range uint64(4) {
		if err := f.add(idx, tokenRecord{tokenCheckpoint, 100 + n, "ca", make([]byte, 60<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	shut(f, idx)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-3*(60<<10)] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, idx = open(true)
	if got := held(t, idx); got != 11 && got != 10 {
		t.Errorf("%d tokens before the damage", got)
	}
	shut(f, idx)
	if kept, _ := filepath.Glob(path + ".damaged-*"); len(kept) != 1 || !strings.Contains(log.String(), "damaged") {
		t.Errorf("kept aside: %v", kept)
	}
}

// mutePad checks tokens and gives none.
type mutePad struct{ stampPad }

func (*mutePad) Stamp(context.Context, [32]byte) (string, []byte, error) {
	return "", nil, errors.New("away")
}

// What one node's authority stamped, its peers have too, when they know the
// authority; a statement's own token with it.
func TestTokensOfPeers(t *testing.T) {
	a := startAllied(t, func(c *Config) {
		switch c.Institution {
		case "notary":
			c.Stamper = &stampPad{calls: 1}
		case "court":
			c.Stamper = &mutePad{}
		}
	})
	o := a.submit("notary", a.enrolment(0))
	own, err := a.nodes["notary"].StampStatement(t.Context(), o.Position)
	if err != nil || len(own) != 1 {
		t.Fatal(own, err)
	}
	again, err := a.nodes["notary"].StampStatement(t.Context(), o.Position)
	if err != nil || string(again["pad"]) != string(own["pad"]) {
		t.Errorf("asked twice for one statement: %x, %v", again, err)
	}
	court := a.nodes["court"]
	// The court has the block a moment after the notary.
	entry, err := court.entryAt(o.Position)
	for began := time.Now(); errors.Is(err, ErrNotFound) && time.Since(began) < time.Minute; entry, err = court.entryAt(o.Position) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil || string(own["pad"]) != string(entry[:]) {
		t.Errorf("the token is over %x, the entry is %x, %v", own["pad"], entry, err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, tokens, err := court.TimestampFor(o.Position)
		if err != nil {
			t.Fatal(err)
		}
		of, err := court.StatementTimestamps(o.Position)
		if err != nil {
			t.Fatal(err)
		}
		if len(tokens) == 1 && len(of) == 1 {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the court has %v and %v: %+v", tokens, of, court.Stamps())
		}
	}
	if s := court.Stamps(); s.Size == 0 || s.Last.IsZero() || s.Backlog != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := a.nodes["ca"].StampStatement(t.Context(), o.Position); !errors.Is(err, ErrNoAuthority) {
		t.Error(err)
	}
	if _, err := court.StampStatement(t.Context(), 1<<40); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}

	// What a peer could send and must not be kept.
	r := a.nodes["notary"]
	size := r.Stamps().Size
	b, _, err := r.idx.boundaryAt(size)
	if err != nil {
		t.Fatal(err)
	}
	good := r.bodyDigest(b)
	other := sha256.Sum256([]byte("other"))
	o2 := a.submit("ca", a.enrolment(1))
	for name, tc := range map[string]struct {
		token tokenWire
		err   bool
		later bool
	}{
		"of an unknown authority":  {tokenWire{"checkpoint", size, "stranger", good[:]}, false, false},
		"here already":             {tokenWire{"checkpoint", size, "pad", good[:]}, false, false},
		"over something else":      {tokenWire{"statement", o2.Position, "pad", other[:]}, true, false},
		"of no block":              {tokenWire{"checkpoint", 0, "pad", good[:]}, true, false},
		"of no kind":               {tokenWire{"trail", 1, "pad", good[:]}, true, false},
		"of a later checkpoint":    {tokenWire{"checkpoint", 1 << 40, "pad", good[:]}, true, true},
		"of a later statement":     {tokenWire{"statement", 1 << 40, "pad", good[:]}, true, true},
		"empty":                    {tokenWire{"statement", o2.Position, "pad", nil}, true, false},
		"with a very long subject": {tokenWire{"statement", o2.Position, strings.Repeat("x", 1000), good[:]}, false, false},
	} {
		_, take, err := court.judgeToken(tc.token)
		if take || (err != nil) != tc.err || errors.Is(err, errNotYet) != tc.later {
			t.Errorf("%s: taken %v, %v", name, take, err)
		}
	}
}
