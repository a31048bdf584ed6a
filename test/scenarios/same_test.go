package scenarios

import (
	"testing"
)

func TestSame(t *testing.T) {
	w := newWorld(t, worldConfig{})
	st := w.open(w.members[0])
	first := w.deposit(w.node("ca"), st)
	for _, n := range w.a.Nodes {
		if got := w.deposit(n, st); got != first {
			t.Error(got)
		}
	}
	w.check()
}
