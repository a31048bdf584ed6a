package scenarios

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/zhenglian/zhenglian/internal/local"
)

// links are TCP proxies on every connection between one institution and the
// others, in both directions, of both kinds.
type links struct {
	server  *toxiproxy.ApiServer
	proxies []*toxiproxy.Proxy
}

// through puts proxies between id and all others, by the settings of both sides.
func (l *links) through(a *local.Alliance, id string) error {
	own := a.Node(id)
	for _, n := range a.Nodes {
		if n.ID == id {
			continue
		}
		if err := l.route(own, n); err != nil {
			return err
		}
		if err := l.route(n, own); err != nil {
			return err
		}
	}
	return nil
}

// route makes from reach to by proxies.
func (l *links) route(from, to *local.Node) error {
	var listen []string
	for _, upstream := range []string{to.Peer, to.P2P} {
		p := toxiproxy.NewProxy(l.server, from.ID+" to "+to.ID, "127.0.0.1:0", upstream)
		if err := p.Start(); err != nil {
			return err
		}
		l.proxies = append(l.proxies, p)
		listen = append(listen, p.Listen)
	}
	return appendTo(filepath.Join(from.Home, "node.toml"), fmt.Sprintf("\n[peers.%s]\npeer = %q\np2p = %q\n", to.ID, listen[0], listen[1]))
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// blackHole swallows all data both ways; connections stay open, as when a cable
// is pulled.
func (l *links) blackHole() error {
	for _, p := range l.proxies {
		for _, stream := range []string{"upstream", "downstream"} {
			toxic := fmt.Sprintf(`{"name":"hole-%s","type":"timeout","stream":%q,"attributes":{"timeout":0}}`, stream, stream)
			if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse closes every connection and takes no new one, as a firewall does.
func (l *links) refuse() {
	for _, p := range l.proxies {
		p.Stop()
	}
}

func (l *links) mend(ctx context.Context) error {
	for _, p := range l.proxies {
		p.Toxics.ResetToxics(ctx)
		if !p.Enabled {
			if err := p.Start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// One institution is cut off, twice: swallowed, then refused. The others go on,
// and it catches up; what it accepted meanwhile is not lost.
func TestCutOff(t *testing.T) {
	long(t)
	l := &links{server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())}
	t.Cleanup(l.refuse)
	w := newWorld(t, worldConfig{prepare: func(a *local.Alliance) {
		if err := l.through(a, "notary"); err != nil {
			t.Fatal(err)
		}
	}})
	notary := w.node("notary")
	load := w.startLoad(w.node("ca"), w.node("court"), w.node("forensic"))
	load.goesOn(50)
	for _, cut := range []func() error{l.blackHole, func() error { l.refuse(); return nil }} {
		w.must(cut())
		load.goesOn(100)
		before, err := notary.Status(w.ctx)
		w.must(err)
		alone := w.send(http.MethodPost, notary.API+"/api/v1/statements?wait=none", typeCOSE, w.open(w.members[0]))
		if alone.status != http.StatusAccepted || alone.Final {
			t.Fatalf("the institution that is cut off answers %v", alone)
		}
		w.done.accepted(w.digest(alone.Digest))
		load.goesOn(100)
		if after, err := notary.Status(w.ctx); err != nil || after.WitnessedSize > before.WitnessedSize+100 {
			t.Fatalf("the cut does not cut: %+v, then %+v, %v", before, after, err)
		}
		w.must(l.mend(w.ctx))
		w.eventually("the institution to catch up", func() error {
			s, err := notary.Status(w.ctx)
			if err == nil && s.WitnessedSize <= before.WitnessedSize+200 {
				err = fmt.Errorf("it is at size %d", s.WitnessedSize)
			}
			return err
		})
		load.goesOn(20)
	}
	load.end()
	w.check()
}
