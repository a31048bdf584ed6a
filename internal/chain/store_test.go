package chain

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/evidence"
)

type stored struct {
	digest evidence.Digest
	loc    location
	raw    []byte
}

// openStore opens the store in dir, runs it until the test ends or stop is
// called, and returns what it found.
func openStore(t *testing.T, dir string, from location) (s *batchStore, found map[evidence.Digest]location, damage []location, stop func()) {
	t.Helper()
	found = map[evidence.Digest]location{}
	s, err := openBatchStore(dir, from, slog.New(slog.DiscardHandler), func(d evidence.Digest, l location, _ []byte) { found[d] = l }, func(l location) { damage = append(damage, l) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.run(ctx) })
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return s, found, damage, stop
}

func putSome(t *testing.T, s *batchStore, n int) []stored {
	t.Helper()
	out := make([]stored, n)
	var wg sync.WaitGroup
	for i := range out {
		raw := make([]byte, 100+37*i)
		_, _ = rand.Read(raw)
		out[i] = stored{digest: evidence.SumSHA256(raw), raw: raw}
		wg.Go(func() {
			loc, err := s.put(context.Background(), out[i].digest, raw)
			if err != nil {
				t.Error(err)
			}
			out[i].loc = loc
		})
	}
	wg.Wait()
	return out
}

func TestBatchStoreKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s, _, _, stop := openStore(t, dir, location{})
	put := putSome(t, s, 40)
	stop()
	s, found, damage, _ := openStore(t, dir, location{})
	if len(damage) != 0 || len(found) != len(put) {
		t.Fatalf("found %d of %d, damage %v", len(found), len(put), damage)
	}
	for _, p := range put {
		raw, err := s.get(p.digest, found[p.digest])
		if err != nil || !bytes.Equal(raw, p.raw) {
			t.Fatalf("batch %s: %v", p.digest, err)
		}
	}
}

// A torn end, at whatever byte, loses nothing before it; what is put afterwards
// is found too.
func TestBatchStoreTornEnd(t *testing.T) {
	dir := t.TempDir()
	s, _, _, stop := openStore(t, dir, location{})
	put := putSome(t, s, 3)
	stop()
	name := filepath.Join(dir, "00000001.seg")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	last := put[0].loc
	for _, p := range put {
		if last.before(p.loc) {
			last = p.loc
		}
	}
	for cut := int(last.off); cut < len(whole); cut += 13 {
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, found, damage, stop := openStore(t, dir, location{})
		if len(found) != 2 || len(damage) != 0 {
			t.Fatalf("cut at %d: found %d, damage %v", cut, len(found), damage)
		}
		more := putSome(t, s, 1)
		stop()
		_, found, damage, stop = openStore(t, dir, location{})
		if _, ok := found[more[0].digest]; !ok || len(found) != 3 || len(damage) != 0 {
			t.Fatalf("cut at %d: after another batch found %d, damage %v", cut, len(found), damage)
		}
		stop()
	}
}

// A flipped bit in one frame is named, and costs that frame alone.
func TestBatchStoreDamage(t *testing.T) {
	dir := t.TempDir()
	s, _, _, stop := openStore(t, dir, location{})
	put := putSome(t, s, 5)
	stop()
	name := filepath.Join(dir, "00000001.seg")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	first := put[0]
	for _, p := range put {
		if p.loc.before(first.loc) {
			first = p
		}
	}
	for _, at := range []int{0, 5, 10, frameHeader, frameHeader + int(first.loc.size) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, found, damage, stop := openStore(t, dir, location{})
		if len(found) != 4 || len(damage) != 1 || damage[0].off != 0 {
			t.Fatalf("flip at %d: found %d, damage %v", at, len(found), damage)
		}
		if _, err := s.get(first.digest, first.loc); at >= frameHeader && err == nil {
			t.Fatalf("flip at %d: a damaged batch was served", at)
		}
		for d, l := range found {
			if _, err := s.get(d, l); err != nil {
				t.Fatal(err)
			}
		}
		stop()
	}
}

func TestBatchStoreScansFromTheSafePlace(t *testing.T) {
	dir := t.TempDir()
	s, _, _, stop := openStore(t, dir, location{})
	putSome(t, s, 4)
	safe := s.endsAt()
	later := putSome(t, s, 2)
	stop()
	_, found, _, _ := openStore(t, dir, safe)
	if len(found) != 2 {
		t.Fatalf("found %d, want the 2 after the safe place", len(found))
	}
	for _, p := range later {
		if _, ok := found[p.digest]; !ok {
			t.Fatal("a batch after the safe place was not found")
		}
	}
}

// The filter never denies what was added.
func TestFilterNeverDenies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f idFilter
		f.ready = true
		var ids [][prefixLen]byte
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			var id [prefixLen]byte
			copy(id[:], rapid.SliceOfN(rapid.Byte(), prefixLen, prefixLen).Draw(t, "id"))
			ids = append(ids, id)
		}
		f.add(ids)
		for _, id := range ids {
			var d evidence.Digest
			copy(d[:], id[:])
			if !f.mayHave(d) {
				t.Fatalf("denies %x", id)
			}
		}
	})
}

func TestFilterMostlyKnowsWhatIsNew(t *testing.T) {
	var f idFilter
	f.ready = true
	for i := range 1 << 17 {
		d := evidence.SumSHA256(fmt.Append(nil, i))
		f.add([][prefixLen]byte{[prefixLen]byte(d[:])})
	}
	wrong := 0
	for i := range 10000 {
		if f.mayHave(evidence.SumSHA256(fmt.Append(nil, "new", i))) {
			wrong++
		}
	}
	if wrong > 200 { // an eighth full: far under the 1 % of a full filter
		t.Fatalf("%d of 10,000 new IDs are taken for known", wrong)
	}
}

func TestBlockRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := block{First: rapid.Uint64Range(0, 1<<40).Draw(t, "first"), Time: rapid.Int64Range(0, 1<<44).Draw(t, "time")}
		for range rapid.IntRange(0, 4).Draw(t, "batches") {
			bb := blockBatch{Digest: evidence.SumSHA256([]byte{byte(len(b.Batches))}), Loc: location{seg: 3, off: 1 << 33, size: 9}, Count: rapid.Uint32Range(1, maxBatchCount).Draw(t, "count")}
			for range rapid.IntRange(0, 3).Draw(t, "refused") {
				bb.Refused = append(bb.Refused, refused{rapid.Uint32().Draw(t, "at"), evidence.Code(rapid.Uint32Range(1, 16).Draw(t, "code"))})
			}
			b.Batches = append(b.Batches, bb)
		}
		enc := b.encode()
		got, err := decodeBlock(enc)
		if err != nil || !bytes.Equal(got.encode(), enc) {
			t.Fatalf("%v %v", got, err)
		}
		for cut := range enc {
			if _, err := decodeBlock(enc[:cut]); err == nil {
				t.Fatalf("a record cut at %d of %d was read", cut, len(enc))
			}
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(encodeBatch([][]byte{{1, 2, 3}, {}}))
	f.Add([]byte(batchMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := decodeBatch(raw)
		if err != nil {
			return
		}
		var parts [][]byte
		rest := raw[batchHeader:]
		for range b.items {
			n := int(rest[0])<<8 | int(rest[1])
			parts = append(parts, rest[2:2+n])
			rest = rest[2+n:]
		}
		if !bytes.Equal(encodeBatch(parts), raw) {
			t.Fatal("an accepted batch does not encode to itself")
		}
	})
}

// A validator without memory abstains once, where the others can do without it.
func TestAmnesiacAbstainsOnce(t *testing.T) {
	for _, c := range []struct {
		needed bool
		first  int64
		want   [3]bool // at first, first again, first+1
	}{
		{false, 7, [3]bool{true, true, false}},
		{false, 1, [3]bool{false, false, false}},
		{true, 7, [3]bool{false, false, false}},
	} {
		now := time.Unix(0, 0)
		a := &amnesiac{needed: c.needed, now: func() time.Time { return now }}
		got := [3]bool{a.abstains(c.first), a.abstains(c.first), a.abstains(c.first + 1)}
		if got != c.want {
			t.Errorf("needed %v, first %d: abstains %v, want %v", c.needed, c.first, got, c.want)
		}
		if now = now.Add(abstainFor); a.abstains(c.first) {
			t.Errorf("first %d: abstains for ever", c.first)
		}
	}
}
