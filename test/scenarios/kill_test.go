package scenarios

import (
	"testing"
)

// One validator dies under load: the others go on, and it catches up.
func TestKillOne(t *testing.T) {
	w := newWorld(t, worldConfig{})
	l := w.startLoad()
	l.goesOn(50)
	notary := w.node("notary")
	notary.Kill()
	l.goesOn(100, "ca", "court", "forensic")
	w.must(notary.Start(w.ctx))
	w.must(notary.WaitReady(w.ctx))
	l.goesOn(50)
	l.end()
	w.check()
}

// Each node in turn is stopped by its operator and started again under load.
// Nobody is told that a good deposit is refused because a node was stopping.
func TestRollingRestart(t *testing.T) {
	long(t)
	w := newWorld(t, worldConfig{})
	l := w.startLoad()
	for _, n := range w.a.Nodes {
		l.goesOn(20)
		w.must(n.Stop())
		w.must(n.Start(w.ctx))
		w.must(n.WaitReady(w.ctx))
	}
	l.goesOn(20)
	l.end()
	w.check()
}

// long skips a scenario that a short run leaves out.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out of short runs")
	}
}

// All validators die at once under load, twice: nothing that was acknowledged
// or accepted is lost.
func TestKillAll(t *testing.T) {
	long(t)
	w := newWorld(t, worldConfig{})
	l := w.startLoad()
	for range 2 {
		l.goesOn(50)
		for _, n := range w.a.Nodes {
			n.Kill()
		}
		w.must(w.a.Start(w.ctx))
	}
	l.goesOn(50)
	l.end()
	w.check()
}
