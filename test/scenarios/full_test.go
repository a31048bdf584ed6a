package scenarios

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zhenglian/zhenglian/internal/local"
)

const (
	diskSize    = 160 << 20
	diskReserve = 48 << 20
)

// fill leaves this much room on a node's disk.
func fill(n *local.Node, room int64) error {
	var st syscall.Statfs_t
	data := filepath.Join(n.Home, "data")
	if err := syscall.Statfs(data, &st); err != nil {
		return err
	}
	size := int64(st.Bavail)*st.Bsize - room
	if size <= 0 {
		return fmt.Errorf("only %d bytes are free", int64(st.Bavail)*st.Bsize)
	}
	f, err := os.Create(filepath.Join(data, "somebody-elses-file"))
	if err != nil {
		return err
	}
	return errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
}

func unfill(n *local.Node) error {
	return os.Remove(filepath.Join(n.Home, "data", "somebody-elses-file"))
}

// The disk of one node fills up, then those of all four: new deposits are
// refused there with a clear error, old ones stay served, and everything goes
// on when there is room.
func TestDiskFull(t *testing.T) {
	long(t)
	if os.Getuid() != 0 {
		t.Skip("mounting small disks needs root")
	}
	w := newWorld(t, worldConfig{
		env: []string{fmt.Sprintf("ZHENGLIAN_NODE_LIMITS_FREE_DISK_BYTES=%d", diskReserve)},
		prepare: func(a *local.Alliance) {
			for _, n := range a.Nodes {
				data := filepath.Join(n.Home, "data")
				if err := os.MkdirAll(data, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mount("tmpfs", data, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", diskSize)); err != nil {
					t.Skipf("small disks cannot be mounted here: %v", err)
				}
				t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
			}
		}})
	old := w.open(w.members[0])
	w.deposit(w.node("ca"), old)

	full := func(n *local.Node) {
		t.Helper()
		// Old is what this node has: three others may have made a deposit final
		// that it is still to apply.
		acks, _ := w.done.list()
		acks = acks[:min(5, len(acks))]
		served := func() error {
			for _, a := range acks {
				if got := w.send(http.MethodGet, n.API+"/api/v1/statements/"+a.Entry.String(), "", nil); got.status != http.StatusOK {
					return fmt.Errorf("%s answers %v for position %d", n.ID, got, a.Position)
				}
			}
			return nil
		}
		w.eventually(n.ID+" to have the first deposits", served)
		w.must(fill(n, 1<<20))
		w.eventually(n.ID+" to notice that its disk is full", func() error {
			if a := w.try(n, w.open(w.members[0])); a.status != http.StatusInsufficientStorage || a.Code != "disk-full" || !strings.Contains(a.Detail, "until there is room") {
				return fmt.Errorf("it answers %v", a)
			}
			return nil
		})
		if err := served(); err != nil {
			t.Errorf("an old deposit while the disk is full: %v", err)
		}
	}

	notary := w.node("notary")
	load := w.startLoad(w.node("ca"), w.node("court"), w.node("forensic"))
	load.goesOn(30)
	// Another institution's deposits may not be refused because of this one.
	full(notary)
	load.goesOn(100)
	w.must(unfill(notary))
	w.eventually("the notary to take deposits again", func() error {
		if a := w.try(notary, w.open(w.members[0])); !a.Final {
			return fmt.Errorf("it answers %v", a)
		}
		return nil
	})
	load.end()
	w.check()

	for _, n := range w.a.Nodes {
		full(n)
	}
	for _, n := range w.a.Nodes {
		w.must(unfill(n))
	}
	for _, n := range w.a.Nodes {
		w.eventually(n.ID+" to take deposits again", func() error {
			if a := w.try(n, w.open(w.members[0])); !a.Final {
				return fmt.Errorf("it answers %v", a)
			}
			return nil
		})
	}
	w.check()
}
