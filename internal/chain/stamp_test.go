package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// stampPad is an authority whose token is the imprint; the first call fails.
type stampPad struct {
	mu    sync.Mutex
	calls int
}

func (s *stampPad) Authorities() []string { return []string{"pad"} }

func (s *stampPad) Check(_ string, imprint [32]byte, token []byte) (time.Time, error) {
	if string(token) != string(imprint[:]) {
		return time.Time{}, errors.New("a token over something else")
	}
	return time.Unix(1, 0), nil
}

func (s *stampPad) Stamp(_ context.Context, imprint [32]byte) (string, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.calls == 1 {
		return "", nil, errors.New("away")
	}
	return "pad", imprint[:], nil
}

// A new checkpoint gets a token, also after the authority was away, and receipts
// are over a root that has one.
func TestStamps(t *testing.T) {
	pad := &stampPad{}
	a := startAllied(t, func(c *Config) {
		if c.Institution == "notary" {
			c.Stamper = pad
		}
	})
	if s := a.nodes["court"].Stamps(); len(s.Authorities) != 0 {
		t.Errorf("the court asks %v", s.Authorities)
	}
	for i := range 3 {
		o := a.submit("notary", a.enrolment(i))
		n := a.nodes["notary"]
		var size uint64
		var tokens map[string][]byte
		var err error
		for began := time.Now(); size == 0; time.Sleep(20 * time.Millisecond) {
			if size, tokens, err = n.TimestampFor(o.Position); err != nil {
				t.Fatal(err)
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("no token: %+v", n.Stamps())
			}
		}
		cp, err := n.CheckpointAt(size)
		if err != nil {
			t.Fatal(err)
		}
		if want := sha256.Sum256([]byte(cp.Body())); len(tokens) != 1 || string(tokens["pad"]) != string(want[:]) {
			t.Errorf("token %x over the checkpoint of size %d, want %x", tokens, size, want)
		}
		receipts, err := n.ReceiptsAt(o.Position)
		if err != nil || len(receipts) < evidence.Quorum(4) {
			t.Fatal(len(receipts), err)
		}
		for id, rs := range receipts {
			if r, err := evidence.ParseReceipt(rs[0]); err != nil || r.Size != size {
				t.Errorf("%s: receipt over size %d, stamped is %d: %v", id, r.Size, size, err)
			}
		}
		if at, err := n.Timestamps(size); err != nil || len(at) != 1 {
			t.Error(at, err)
		}
	}
	n := a.nodes["notary"]
	if _, err := n.Timestamps(1 << 40); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := n.TimestampFor(1 << 40); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if s := n.Stamps(); s.Size == 0 || s.LastError != "" || len(s.Authorities) != 1 {
		t.Errorf("%+v", s)
	}
	pad.mu.Lock()
	defer pad.mu.Unlock()
	if pad.calls < 2 || pad.calls > 8 {
		t.Errorf("%d queries for three deposits", pad.calls)
	}
}
