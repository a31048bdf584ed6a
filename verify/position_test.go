package verify_test

import (
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// TestAlteredPosition moves a deposit to before the revocation of its signer's
// key, in every receipt and in the index alike. Entry 6 of 7 and entry 3 of 4
// have a path of the same turns, so the root is the same, and a signature over
// the root alone would hold for both.
func TestAlteredPosition(t *testing.T) {
	const (
		trueSize, truePosition = 7, 6
		lieSize, liePosition   = 4, 3
	)
	s := backdated(t)
	if s.Size() != trueSize {
		t.Fatalf("the log has %d entries, want %d", s.Size(), trueSize)
	}
	wants(t, check(t, encode(t, s.content(t)), verify.Options{Policy: s.Policy}), verify.DoesNotMatch, "key-revoked")

	stranger, err := testalliance.Signer("stranger")
	must(t, err)
	// lie makes the receipt of the lie with the size that the header is to say,
	// signed by whoever holds the key that signs.
	lie := func(t *testing.T, id string, rec *evidence.Receipt, signs evidence.Signer) *evidence.RootSignature {
		key := pretender{names: s.Get(id).Receipt, signs: signs}
		root, err := evidence.SignRoot(key, id, s.Origin(), rec.IssuedAt, evidence.Checkpoint{Size: lieSize, Root: s.RootAt(trueSize)})
		must(t, err)
		return root
	}
	cases := []struct {
		name   string
		root   func(t *testing.T, id string, rec *evidence.Receipt) *evidence.RootSignature
		want   verify.Verdict
		reason string
	}{
		{"in the proof", func(t *testing.T, id string, rec *evidence.Receipt) *evidence.RootSignature {
			root := rec.RootSignature
			root.Size = lieSize // the header and its signature stay
			return &root
		}, verify.DoesNotMatch, "receipt-malformed"},
		{"in the proof and in the header", func(t *testing.T, id string, rec *evidence.Receipt) *evidence.RootSignature {
			root := lie(t, id, rec, stranger)
			root.Signature = rec.Signature
			return root
		}, verify.DoesNotMatch, "receipt-signature"},
		// What the lie is worth: nothing else in the package contradicts it.
		{"if every institution had signed it", func(t *testing.T, id string, rec *evidence.Receipt) *evidence.RootSignature {
			return lie(t, id, rec, s.Get(id).Receipt)
		}, verify.Matches, "receipt-holds"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := s.content(t)
			step := &c.Steps[1]
			if step.Position != truePosition {
				t.Fatalf("the deposit stands at %d, want %d", step.Position, truePosition)
			}
			step.Position = liePosition
			for id, raw := range step.Receipts {
				rec, err := evidence.ParseReceipt(raw)
				must(t, err)
				step.Receipts[id] = tc.root(t, id, rec).Receipt(liePosition, rec.Path)
			}
			rep := check(t, encode(t, c), verify.Options{Policy: s.Policy})
			wants(t, rep, tc.want, tc.reason)
			for id := range step.Receipts {
				path := "receipts/000002." + id + ".cose"
				if named := rep.Named(path); named != (tc.want == verify.DoesNotMatch) {
					t.Errorf("%s named: %v", path, named)
					show(t, rep)
				}
			}
		})
	}
}

// backdated tells of a deposit by a key that was revoked just before, in a
// statement that does not let on: it names an old checkpoint.
func backdated(t *testing.T) *story {
	t.Helper()
	a, err := testalliance.New("backdated", 4)
	must(t, err)
	s := &story{Alliance: a}
	s.li, err = a.Enrol("m:li", 2, false)
	must(t, err)
	s.trail, err = a.Open(s.li, testalliance.Step{Objects: map[string][]byte{"consent.txt": []byte("同意")}})
	must(t, err)
	for _, id := range []string{"m:a", "m:b", "m:c"} {
		_, err := a.Enrol(id, 1, false)
		must(t, err)
	}
	_, err = a.Revoke(s.li)
	must(t, err)
	_, err = a.Deposit(s.li, s.trail, testalliance.Step{After: &evidence.Checkpoint{Size: 2, Root: a.RootAt(2)}})
	must(t, err)
	return s
}
