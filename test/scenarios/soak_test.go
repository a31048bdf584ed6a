package scenarios

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/local"
)

// soakVariable says for how long TestSoak runs, as Go writes durations.
const soakVariable = "ZHENGLIAN_SOAK"

// TestSoak kills and stops nodes at random under load until the time is over,
// and asserts the invariant every few rounds. Each round's choices follow from
// the seed, which is shown.
func TestSoak(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv(soakVariable))
	if err != nil {
		t.Skipf("set %s to a duration such as 10m", soakVariable)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for until := time.Now().Add(d); time.Now().Before(until); {
		// A fresh alliance now and then keeps the logs small enough to be read whole.
		t.Run("alliance", func(t *testing.T) {
			w := newWorld(t, worldConfig{})
			for range 3 {
				w.soakRound(random)
				if time.Now().After(until) {
					return
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}

func (w *world) soakRound(random *rand.Rand) {
	l := w.startLoad()
	l.goesOn(20)
	for range 3 {
		var down []*local.Node
		for _, i := range random.Perm(len(w.a.Nodes))[:1+random.IntN(len(w.a.Nodes))] {
			n := w.a.Nodes[i]
			w.Logf("ending %s", n.ID)
			if random.IntN(4) == 0 {
				w.must(n.Stop())
			} else {
				n.Kill()
			}
			down = append(down, n)
		}
		if len(down) == 1 {
			var up []string
			for _, n := range w.a.Nodes {
				if n != down[0] {
					up = append(up, n.ID)
				}
			}
			l.goesOn(20, up...)
		}
		for _, n := range down {
			w.must(n.Start(w.ctx))
		}
		l.goesOn(20)
	}
	l.end()
	w.check()
}
