package recording_test

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

func vectors(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile("../../spec/vectors/recording/" + name)
	must(t, err)
	must(t, json.Unmarshal(data, v))
}

func TestVectors(t *testing.T) {
	var good []struct {
		Name    string
		Log     string
		Digests []string
		Closed  bool
		Batches []struct {
			First, Last int
			Root, Head  string
		}
	}
	vectors(t, "valid.json", &good)
	for _, v := range good {
		events, chain, err := readAll([]byte(v.Log))
		if err != nil || chain.Closed != v.Closed || len(events) != len(v.Digests) {
			t.Errorf("%s: %d events, %v", v.Name, len(events), err)
			continue
		}
		for i, e := range events {
			if e.Digest.String() != v.Digests[i] {
				t.Errorf("%s: event %d", v.Name, i)
			}
		}
		for _, b := range v.Batches {
			tree := recording.NewTree()
			for _, e := range events[b.First : b.Last+1] {
				must(t, tree.Add(e.Digest))
			}
			root, err := tree.Root()
			must(t, err)
			if root.String() != b.Root || events[b.Last].Digest.String() != b.Head {
				t.Errorf("%s: batch %d to %d has the root %s", v.Name, b.First, b.Last, root)
			}
		}
	}
	var bad []struct {
		Name, Log, Code string
		Seq             int64
	}
	vectors(t, "invalid.json", &bad)
	for _, v := range bad {
		_, _, err := readAll([]byte(v.Log))
		var e *recording.EventError
		if !errors.As(err, &e) || e.Code != v.Code || e.Seq != v.Seq {
			t.Errorf("%s: %v, want %s at %d", v.Name, err, v.Code, v.Seq)
		}
	}
	var ids []struct {
		Session  evidence.Digest
		Exchange int64
		Kind, ID string
	}
	vectors(t, "ids.json", &ids)
	for _, v := range ids {
		if got := recording.RecordID(v.Session, v.Exchange, v.Kind); got != v.ID {
			t.Errorf("%d %s: %s, want %s", v.Exchange, v.Kind, got, v.ID)
		}
	}
	if len(good) < 2 || len(bad) < 25 || len(ids) < 4 {
		t.Errorf("%d, %d and %d vectors", len(good), len(bad), len(ids))
	}
}
