package member_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// A package carries the tokens over the checkpoints of its receipts, and leaves
// out what an institution calls one.
func TestPackageCarriesTokens(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	e, final, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "打开网页", text("page.html", "<p>")), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if stamped, asking, err := w.client.AwaitTimestamp(t.Context(), final.Position, time.Minute); err != nil || stamped || asking {
		t.Errorf("nobody asks an authority: %v %v %v", stamped, asking, err)
	}
	rep, _, packed := w.check(t, h, e.Trail)
	wantMatch(t, rep)
	if packed.Tokens != 0 || packed.Unstamped != 1 || len(rep.Timestamps) != 0 {
		t.Errorf("%+v", packed)
	}

	pad, err := testalliance.NewStampPad()
	if err != nil {
		t.Fatal(err)
	}
	size := final.Position + 1
	token, err := pad.Token(w.net.BodyAt(size), testalliance.BlockTime(size-1)+1, time.Second, 1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pad.Token(w.net.BodyAt(size-1), testalliance.BlockTime(size-1)+1, time.Second, 1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.net.Stamp(size, map[string][]byte{"ca": token, "notary": other, "forensic": []byte("no token")})
	if stamped, asking, err := w.client.AwaitTimestamp(t.Context(), final.Position, time.Minute); err != nil || !stamped || !asking {
		t.Errorf("%v %v %v", stamped, asking, err)
	}
	if stamped, asking, err := w.client.AwaitTimestamp(t.Context(), final.Position+100, 300*time.Millisecond); err == nil {
		t.Errorf("a position that is not there: %v %v", stamped, asking)
	}
	rep, data, packed := w.check(t, h, e.Trail)
	wantMatch(t, rep) // its policy names no authority, and no verdict rests on the token
	if packed.Tokens != 1 || packed.Unstamped != 0 || len(rep.Timestamps) != 1 || rep.Timestamps[0].Authority != "ca" || rep.Timestamps[0].Verdict != verify.Undetermined {
		t.Errorf("%+v %+v", packed, rep.Timestamps)
	}
	if err := w.net.Policy.AddTimestampAuthority(pad.Entry("ca", false)); err != nil {
		t.Fatal(err)
	}
	if rep, err = verify.Check(t.Context(), bytes.NewReader(data), int64(len(data)), verify.Options{Policy: w.net.Policy}); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, rep)
	if len(rep.Timestamps) != 1 || rep.Timestamps[0].Verdict != verify.Matches || rep.Steps[0].Time.Token == nil {
		t.Errorf("%+v", rep.Timestamps)
	}
}

// A token that does not come delays nothing for long.
func TestTokenThatDoesNotCome(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	w.net.Stamp(0, nil) // asked for, and none comes
	_, final, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "a", text("a", "a")), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if stamped, asking, err := w.client.AwaitTimestamp(t.Context(), final.Position, 400*time.Millisecond); err != nil || stamped || !asking {
		t.Errorf("%v %v %v", stamped, asking, err)
	}
}

// A statement's own token goes into the package, and one over something else that
// an institution passes off as such does not.
func TestPackageCarriesStatementTokens(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	e, final, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "打开网页", text("page.html", "<p>")), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if tokens, err := w.client.StampStatement(t.Context(), final.Position, e.Statement.Digest()); err == nil {
		t.Fatalf("nobody asks an authority, and there is %v", tokens)
	}
	pad, err := testalliance.NewStampPad()
	if err != nil {
		t.Fatal(err)
	}
	at := testalliance.BlockTime(final.Position) + 1
	token, err := pad.Token(string(e.Statement.Bytes()), at, time.Second, 1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pad.Token("other", at, time.Second, 1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.net.StampStatement(final.Position, map[string][]byte{"notary": other})
	if _, err := w.client.StampStatement(t.Context(), final.Position, e.Statement.Digest()); err == nil {
		t.Error("a token over something else is taken")
	}
	w.net.StampStatement(final.Position, map[string][]byte{"ca": token, "notary": other})
	if tokens, err := w.client.StampStatement(t.Context(), final.Position, e.Statement.Digest()); err != nil || len(tokens) != 1 || tokens["ca"] == nil {
		t.Fatal(tokens, err)
	}
	if err := w.net.Policy.AddTimestampAuthority(pad.Entry("ca", false)); err != nil {
		t.Fatal(err)
	}
	_, data, packed := w.check(t, h, e.Trail)
	rep, err := verify.Check(t.Context(), bytes.NewReader(data), int64(len(data)), verify.Options{Policy: w.net.Policy})
	if err != nil {
		t.Fatal(err)
	}
	wantMatch(t, rep)
	if packed.Tokens != 1 || packed.Unstamped != 0 || len(rep.Timestamps) != 1 || rep.Timestamps[0].Step != 1 || rep.Timestamps[0].Verdict != verify.Matches || rep.Steps[0].Time.OwnToken == nil {
		t.Errorf("%+v %+v", packed, rep.Timestamps)
	}
}
