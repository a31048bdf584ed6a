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

// All validators die at once under load, twice: nothing that was acknowledged
// or accepted is lost.
func TestKillAll(t *testing.T) {
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
