package scenarios

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
)

// batchBytes frames statements as institutions push them to each other.
func batchBytes(statements ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte("ZLB1"), uint32(len(statements)))
	for _, s := range statements {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return b
}

// pushAs puts bytes to one peer's interface with this TLS identity.
func (w *world) pushAs(cfg *tls.Config, n *local.Node, method, path string, body []byte) *answer {
	w.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, Timeout: patience}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(w.ctx, method, "https://"+n.Peer+path, bytes.NewReader(body))
	w.must(err)
	resp, err := c.Do(req)
	if err != nil {
		return &answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	return &answer{status: resp.StatusCode, header: resp.Header, body: text.Bytes(), err: err}
}

// A lying institution pushes a batch to one peer only. On an idle alliance and
// on a busy one it is committed everywhere; garbage in it harms nobody.
func TestPartialPush(t *testing.T) {
	long(t)
	w := newWorld(t, worldConfig{})
	caTLS, err := w.ca.ClientTLS("court")
	w.must(err)
	court := w.node("court")
	for round := range 6 {
		good := w.open(w.members[0])
		forged := bytes.Clone(w.open(w.members[1]))
		forged[len(forged)-1] ^= 1
		body := batchBytes(good, []byte("garbage"), forged, []byte{})
		if a := w.pushAs(caTLS, court, http.MethodPut, "/batch", body); a.status != http.StatusNoContent {
			t.Fatalf("the court answers a push with %v", a)
		}
		// Nobody but the court was told. It has to become known all the same.
		w.eventually(fmt.Sprintf("the batch of round %d to be in every log", round), func() error {
			for _, n := range w.a.Nodes {
				if a := w.send(http.MethodGet, n.API+"/api/v1/statements/"+evidence.SumSHA256(good).String(), "", nil); a.status != http.StatusOK {
					return fmt.Errorf("%s answers %v", n.ID, a)
				}
			}
			return nil
		})
		if a := w.send(http.MethodGet, court.API+"/api/v1/statements/"+evidence.SumSHA256(forged).String(), "", nil); a.status != http.StatusNotFound {
			t.Errorf("a forged statement is in the log: %v", a)
		}
		w.done.accepted(evidence.SumSHA256(good))
	}
	// What is no batch at all is refused.
	for name, body := range map[string][]byte{"empty": nil, "no batch": []byte("ZLB2\x00\x00\x00\x01"), "none in it": batchBytes(), "cut": batchBytes(w.open(w.members[0]))[:40],
		"too long": append(batchBytes(w.open(w.members[0])), 0), "too large": make([]byte, 2<<20)} {
		if a := w.pushAs(caTLS, court, http.MethodPut, "/batch", body); a.status != http.StatusBadRequest {
			t.Errorf("a push that is %s: %v", name, a)
		}
	}
	w.check()
	w.idle()
}

// idle asserts that the alliance makes no block for ten seconds.
func (w *world) idle() {
	w.Helper()
	heights := func() (sum int64) {
		for _, n := range w.a.Nodes {
			s, err := n.Status(w.ctx)
			w.must(err)
			sum += s.Height
		}
		return sum
	}
	// The empty block that carries the app hash may still be on its way.
	before := heights()
	w.eventually("the last block to be everywhere", func() error {
		time.Sleep(time.Second)
		if now := heights(); now != before {
			before = now
			return fmt.Errorf("blocks are still made")
		}
		return nil
	})
	time.Sleep(10 * time.Second) // the thing itself: ten idle seconds
	if after := heights(); after != before {
		w.Errorf("an idle alliance made blocks: heights sum up to %d, then %d", before, after)
	}
}
