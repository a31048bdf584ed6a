package ledger

import (
	"errors"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"pgregory.net/rapid"
)

// Append fails at each of its writes, in the middle of it: the log stays as it
// was and works again once there is space.
func TestAppendFails(t *testing.T) {
	for _, c := range []struct {
		op, name string
		written  int
	}{
		{"write", "entries", 0},
		{"write", "entries", 12_345},
		{"open", "hashes.1", 0},
		{"syncdir", "", 0},
		{"write", "hashes.1", 0},
		{"write", "hashes.1", 33},
		{"open", "hashes.2", 0},
		{"write", "hashes.2", 7},
	} {
		for _, cutFails := range []bool{false, true} {
			disk := newMemDisk()
			l, err := open(disk)
			if err != nil {
				t.Fatal(err)
			}
			entries := digests(0, 66_000)
			mustAppend(t, l, entries[:200])
			before, rootBefore := l.Head()

			disk.fail = func(op, name string) (int, error) {
				if op == c.op && name == c.name || cutFails && op == "truncate" {
					return c.written, errInjected
				}
				return 0, nil
			}
			size, root, err := l.Append(entries[200:])
			if !errors.Is(err, errInjected) {
				t.Fatalf("%v: Append returned %v", c, err)
			}
			if size != before || root != rootBefore || l.Size() != before || l.Root() != rootBefore {
				t.Fatalf("%v: after the failure the log is at %d %s", c, size, root)
			}
			if _, err := l.Entry(200); !errors.Is(err, ErrRange) {
				t.Errorf("%v: an entry never published can be read: %v", c, err)
			}
			disk.fail = nil
			mustCheck(t, l)
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			other := digests(500_000, 65_800)
			mustAppend(t, l, other)
			want := reference(append(entries[:200:200], other...)).Hash()
			if got := l.Root(); got != evidence.Digest(want) {
				t.Errorf("%v: root after trying again is %s, want %x", c, got, want)
			}
			mustCheck(t, l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSyncFails(t *testing.T) {
	disk := newMemDisk()
	l, err := open(disk)
	if err != nil {
		t.Fatal(err)
	}
	entries := digests(0, 1000)
	mustAppend(t, l, entries[:300])
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, entries[300:])
	disk.fail = func(op, name string) (int, error) {
		if op == "sync" {
			return 0, errInjected
		}
		return 0, nil
	}
	if err := l.Sync(); !errors.Is(err, errInjected) || !strings.Contains(err.Error(), "entries") {
		t.Fatalf("Sync returned %v", err)
	}
	disk.fail = nil
	if err := l.Sync(); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("the next Sync returned %v, want ErrSyncFailed", err)
	}
	if _, _, err := l.Append(entries[:1]); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Append returned %v, want ErrSyncFailed", err)
	}
	if _, err := l.InclusionProof(5, 1000); err != nil {
		t.Errorf("reading goes on, but: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Close returned %v, want ErrSyncFailed", err)
	}
	if l, err = open(disk); err != nil {
		t.Fatal(err)
	}
	if l.Synced() != 300 {
		t.Fatalf("synced %d, want 300", l.Synced())
	}
	if err := l.Truncate(l.Synced()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, entries[300:])
	mustCheck(t, l)
}

// A power cut at any moment, keeping any part of what was not synced, costs
// nothing that Sync had promised, and the caller gets back to the agreed log.
func TestPowerCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := newMemDisk()
		var l *Log
		reopen := func() {
			var err error
			if l, err = open(disk); err != nil {
				t.Fatalf("opening: %v", err)
			}
			l.syncHashesEvery = 1000
		}
		reopen()
		var agreed []evidence.Digest // what was published
		promised := 0                // how much of it Sync promised
		fresh := 0
		tree := reference(nil) // of agreed
		agree := func(entries []evidence.Digest) {
			agreed = append(agreed, entries...)
			for i := range entries {
				tree.AppendData(entries[i][:])
			}
		}
		rootOf := func(n int) evidence.Digest { return evidence.Digest(tree.HashAt(uint64(n))) }
		check := func() {
			if l.Size() != uint64(len(agreed)) || l.Root() != rootOf(len(agreed)) {
				t.Fatalf("log at %d %s, want %d %s", l.Size(), l.Root(), len(agreed), rootOf(len(agreed)))
			}
			if err := l.Check(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		draw := func() []evidence.Digest {
			n := rapid.SampledFrom([]int{1, 3, 255, 256, 700, 2000}).Draw(t, "n")
			fresh += n
			return digests(fresh, n)
		}
		appendAll := func(entries []evidence.Digest) {
			if _, _, err := l.Append(entries); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				entries := draw()
				appendAll(entries)
				agree(entries)
			},
			"append fails": func(t *rapid.T) {
				after := rapid.IntRange(0, 2).Draw(t, "after")
				written := rapid.IntRange(0, 300).Draw(t, "written")
				disk.fail = func(op, name string) (int, error) {
					if op == "write" || op == "truncate" {
						if after--; after < 0 {
							return written, errInjected
						}
					}
					return 0, nil
				}
				entries := draw()
				_, _, err := l.Append(entries)
				disk.fail = nil
				if err == nil {
					agree(entries)
				}
			},
			"sync": func(t *rapid.T) {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
				promised = len(agreed)
			},
			"truncate": func(t *rapid.T) {
				n := rapid.IntRange(0, len(agreed)).Draw(t, "to")
				if err := l.Truncate(uint64(n)); err != nil {
					t.Fatal(err)
				}
				agreed, promised = agreed[:n:n], min(promised, n)
				tree = reference(agreed)
			},
			"restart": func(t *rapid.T) {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				promised = len(agreed)
				reopen()
				if l.Recovered() != (Recovery{}) {
					t.Fatalf("after a clean Close: %+v", l.Recovered())
				}
			},
			"kill": func(t *rapid.T) { // the process dies, the system lives
				reopen()
				if err := l.Truncate(uint64(len(agreed))); err != nil {
					t.Fatal(err)
				}
			},
			"power cut": func(t *rapid.T) {
				disk = disk.powerCut(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "fate") })
				reopen()
				if l.Size() < uint64(promised) || l.Recovered().Lost > 0 {
					t.Fatalf("%d entries after a power cut, %+v; %d were promised", l.Size(), l.Recovered(), promised)
				}
				for _, n := range []int{promised, int(l.Synced())} {
					if root, err := l.RootAt(uint64(n)); err != nil || root != rootOf(n) {
						t.Fatalf("root at %d is %s (%v), want %s", n, root, err, rootOf(n))
					}
				}
				if err := l.Check(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if err := l.Truncate(l.Synced()); err != nil {
					t.Fatal(err)
				}
				appendAll(agreed[l.Size():])
				promised = int(l.Synced())
			},
			"": func(*rapid.T) { check() },
		})
	})
}

// lengthOnly is the fate of a file that had its length written and not its bytes.
func lengthOnly(n int) int {
	if n == 3 {
		return 0
	}
	return 1
}

// The hashes under a full tile of level 1 do not count for the root that Open
// compares: only the order of the fsyncs keeps them right.
func TestPowerCutLosesHashes(t *testing.T) {
	entries := digests(0, 131_100) // 512 full tiles, 2 of level 1, and 28 entries
	want := evidence.Digest(reference(entries).Hash())
	for _, c := range []struct {
		every   uint64
		rebuilt uint64
	}{{1, 0}, {syncHashesEvery, 514}} {
		disk := newMemDisk()
		l, err := open(disk)
		if err != nil {
			t.Fatal(err)
		}
		l.syncHashesEvery = c.every
		mustAppend(t, l, entries[:70_000])
		mustAppend(t, l, entries[70_000:])
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		disk = disk.powerCut(func(int) int { return 3 }) // the mark reaches the disk …
		if l, err = open(disk); err != nil {
			t.Fatal(err)
		}
		if l.Recovered() != (Recovery{Rebuilt: c.rebuilt}) {
			t.Errorf("hashes synced every %d entries: Open mended %+v", c.every, l.Recovered())
		}
		disk = disk.powerCut(lengthOnly) // … and what Open wrote does not
		if l, err = open(disk); err != nil {
			t.Fatal(err)
		}
		if l.Root() != want {
			t.Errorf("root %s, want %s", l.Root(), want)
		}
		mustCheck(t, l)
	}
}

// Only hashes.1 loses its bytes: all else is on disk.
func TestHashesNeverReachTheDisk(t *testing.T) {
	for _, every := range []uint64{1, syncHashesEvery} {
		disk := newMemDisk()
		l, err := open(disk)
		if err != nil {
			t.Fatal(err)
		}
		l.syncHashesEvery = every
		mustAppend(t, l, digests(0, 131_100))
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.synced.Sync(), l.levels[1].Sync()); err != nil {
			t.Fatal(err)
		}
		if l, err = open(disk.powerCut(lengthOnly)); err != nil {
			t.Fatal(err)
		}
		if l.Synced() != 131_100 {
			t.Errorf("synced %d", l.Synced())
		}
		mustCheck(t, l)
	}
}

// Hashes the mark vouches for were deleted, Open rebuilt them, and then the
// power went: they must be there.
func TestRebuiltHashesSurvive(t *testing.T) {
	disk := newMemDisk()
	l, err := open(disk)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, digests(0, 131_100))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	disk = disk.powerCut(func(int) int { return 3 }) // everything is on disk
	delete(disk.files, "hashes.1")
	delete(disk.durable, "hashes.1")
	if l, err = open(disk); err != nil {
		t.Fatal(err)
	}
	if l.Recovered() != (Recovery{Rebuilt: 512}) {
		t.Errorf("Open mended %+v", l.Recovered())
	}
	if l, err = open(disk.powerCut(lengthOnly)); err != nil {
		t.Fatal(err)
	}
	mustCheck(t, l)
}
