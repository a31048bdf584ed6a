package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
	"github.com/zhenglian/zhenglian/internal/sigbatch"
)

// A batch's bytes: "ZLB1", the count as 4 bytes big-endian, then each statement
// with its length before it as 2 bytes big-endian. Its name is their SHA-256.
const batchMagic = "ZLB1"

const (
	// maxBatchBytes bounds what a peer must hold in memory for one push; it
	// takes 3,500 statements of 300 bytes.
	maxBatchBytes = 1 << 20
	// maxBatchCount bounds the time one batch holds up the block that carries it.
	maxBatchCount = 4096

	batchHeader = len(batchMagic) + 4
)

// What is known of one signature.
const (
	sigUnknown = iota // the key was not known when the batch came
	sigGood
	sigBad
)

// item is one statement of a batch with what verifying it found, all of it
// independent of where in the log it will stand.
type item struct {
	st     *evidence.Statement // nil: not a statement, refused says why
	entry  evidence.Digest
	id     evidence.Digest
	sig    byte
	refuse *registry.Refusal // format only
}

type batch struct {
	digest evidence.Digest
	raw    []byte
	items  []item
	loc    location // where it is durable
}

func (b *batch) tx() []byte {
	t := make([]byte, 0, txBatchLen)
	t = append(t, txBatch)
	t = append(t, b.digest[:]...)
	return binary.BigEndian.AppendUint32(t, uint32(len(b.items)))
}

func encodeBatch(statements [][]byte) []byte {
	n := batchHeader
	for _, s := range statements {
		n += 2 + len(s)
	}
	raw := make([]byte, 0, n)
	raw = append(raw, batchMagic...)
	raw = binary.BigEndian.AppendUint32(raw, uint32(len(statements)))
	for _, s := range statements {
		raw = binary.BigEndian.AppendUint16(raw, uint16(len(s)))
		raw = append(raw, s...)
	}
	return raw
}

// decodeBatch splits the bytes and reads every statement. A statement that
// cannot be read stays in its place with the reason; only a broken frame fails
// the whole.
func decodeBatch(raw []byte) (*batch, error) {
	if len(raw) > maxBatchBytes {
		return nil, fmt.Errorf("a batch of %d bytes, at most %d are allowed", len(raw), maxBatchBytes)
	}
	if len(raw) < batchHeader || string(raw[:len(batchMagic)]) != batchMagic {
		return nil, errors.New("not a batch")
	}
	n := binary.BigEndian.Uint32(raw[len(batchMagic):])
	if n == 0 || n > maxBatchCount {
		return nil, fmt.Errorf("a batch of %d statements, want 1 to %d", n, maxBatchCount)
	}
	b := &batch{digest: evidence.SumSHA256(raw), raw: raw, items: make([]item, n)}
	rest := raw[batchHeader:]
	for i := range b.items {
		if len(rest) < 2 {
			return nil, fmt.Errorf("the batch ends at statement %d of %d", i, n)
		}
		size := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+size {
			return nil, fmt.Errorf("the batch ends within statement %d of %d", i, n)
		}
		b.items[i] = newItem(rest[2 : 2+size : 2+size])
		rest = rest[2+size:]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes follow the last statement", len(rest))
	}
	return b, nil
}

// newItem reads one statement; its digests are computed by verify, which has
// the bytes that are signed at hand.
func newItem(data []byte) item {
	st, err := evidence.ParseStatement(data)
	if err != nil {
		return item{refuse: refusalOf(err)}
	}
	return item{st: st}
}

func refusalOf(err error) *registry.Refusal {
	var f *evidence.FormatError
	if errors.As(err, &f) {
		return &registry.Refusal{Code: f.Code, Field: f.Field, Reason: fmt.Sprintf("at byte %d: %s", f.Offset, f.Reason)}
	}
	return &registry.Refusal{Code: evidence.CodeMalformed, Field: "statement", Reason: err.Error()}
}

// verifier checks the signatures of a batch: Ed25519 all at once, the others
// one by one on as many goroutines as there are processors to use.
type verifier struct {
	reg      *registry.Registry
	ed       *sigbatch.Verifier
	parallel int
}

// verify fills entry, id and sig of every item that is a statement. A
// signature whose key is not known yet stays sigUnknown.
func (v *verifier) verify(items []item) {
	size := 0
	for i := range items {
		if st := items[i].st; st != nil {
			size += len(st.Bytes()) // the Sig_structure is never longer
		}
	}
	arena := make([]byte, 0, size)
	ed := make([]sigbatch.Item, 0, len(items))
	edAt := make([]int, 0, len(items))
	type single struct {
		at  int
		key *registry.Key
		tbs []byte
	}
	var singles []single
	for i := range items {
		st := items[i].st
		if st == nil {
			continue
		}
		start := len(arena)
		arena = st.AppendToBeSigned(arena)
		tbs := arena[start:len(arena):len(arena)]
		items[i].entry, items[i].id = st.Digest(), evidence.SumSHA256(tbs)
		key, ok := v.reg.Key(st.KID)
		switch {
		case !ok:
		case key.Public.Algorithm() != st.Algorithm:
			items[i].sig = sigBad
		case st.Algorithm == evidence.EdDSA:
			ed = append(ed, sigbatch.Item{Key: [32]byte(key.Public.Raw()), Message: tbs, Signature: st.Signature})
			edAt = append(edAt, i)
		default:
			singles = append(singles, single{i, key, tbs})
		}
	}
	if len(ed) > 0 {
		for j, ok := range v.ed.Verify(ed) {
			items[edAt[j]].sig = sigBad
			if ok {
				items[edAt[j]].sig = sigGood
			}
		}
	}
	var wg sync.WaitGroup
	for w := range min(v.parallel, len(singles)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := w; j < len(singles); j += v.parallel {
				s := singles[j]
				items[s.at].sig = sigBad
				if s.key.Public.Verify(s.tbs, items[s.at].st.Signature) == nil {
					items[s.at].sig = sigGood
				}
			}
		}()
	}
	wg.Wait()
}
