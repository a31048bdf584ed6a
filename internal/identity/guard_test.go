package identity_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/store/storetest"
)

// Whoever can write to the database, without the key file, is found out.
func accessLog(t *testing.T, w *world) {
	w.must(w.reg.CheckAccesses(w.ctx)) // empty
	a := w.signedIn("a", 2)
	for range 5 {
		w.signedIn("a", 0)
	}
	w.must(w.reg.CheckAccesses(w.ctx))
	n, head, err := w.reg.AccessHead(w.ctx)
	w.must(err)
	if n != 6 || len(head) != 32 {
		t.Fatalf("%d entries, head %x", n, head)
	}
	type change struct {
		name     string
		alter    []string
		number   int64
		readable bool
	}
	for _, c := range []change{
		{"an entry in the middle is deleted", []string{"DELETE FROM accesses WHERE seq = 3"}, 3, true},
		{"the first is deleted", []string{"DELETE FROM accesses WHERE seq = 1"}, 1, true},
		{"the last is deleted", []string{"DELETE FROM accesses WHERE seq = 6"}, 6, true},
		{"the last is deleted and the head put back", []string{"DELETE FROM accesses WHERE seq = 6", "UPDATE accesses_head SET seq = 5"}, 5, true},
		{"and the head's code taken from a row", []string{"DELETE FROM accesses WHERE seq = 6", "UPDATE accesses_head SET seq = 5, mac = (SELECT mac FROM accesses WHERE seq = 5)"}, 5, true},
		{"all are deleted", []string{"DELETE FROM accesses"}, 1, true},
		{"all and the head are deleted but one", []string{"DELETE FROM accesses WHERE seq > 1", "DELETE FROM accesses_head"}, 1, true},
		{"the gap is closed", []string{"DELETE FROM accesses WHERE seq = 3", "UPDATE accesses SET seq = 3 WHERE seq = 4"}, 3, false},
		{"the actor is another", []string{"UPDATE accesses SET actor = 'p:somebody' WHERE seq = 2"}, 2, true},
		{"the subject is another", []string{"UPDATE accesses SET subject = 'p:somebody' WHERE seq = 2"}, 2, true},
		{"the time is another", []string{"UPDATE accesses SET at = at + 1 WHERE seq = 2"}, 2, true},
		{"a purpose is moved", []string{"UPDATE accesses SET purpose = (SELECT x.purpose FROM accesses x WHERE x.seq = 1) WHERE seq = 2"}, 2, false},
		{"an entry is added", []string{"INSERT INTO accesses (seq, at, actor, subject, action, object, purpose, mac) SELECT 7, at, actor, subject, action, object, purpose, mac FROM accesses WHERE seq = 6"}, 7, false},
	} {
		undo := errors.New("undo")
		// In a transaction that is given up, so that each change stands alone.
		err := w.db.In(w.ctx, func(tx *store.Tx) error {
			for _, q := range c.alter {
				if n, err := tx.Exec(w.ctx, q); err != nil || n == 0 {
					t.Fatalf("%s: %s: %d rows, %v", c.name, q, n, err)
				}
			}
			return undo
		})
		w.is(err, undo, c.name)
		w.snapshot(func() {
			for _, q := range c.alter {
				w.exec(q)
			}
			var broken *identity.BrokenLog
			if err := w.reg.CheckAccesses(w.ctx); !errors.As(err, &broken) {
				t.Errorf("%s: %v", c.name, err)
			} else if broken.Number != c.number {
				t.Errorf("%s: found at %d (%s), want %d", c.name, broken.Number, broken.Reason, c.number)
			}
		})
		w.must(w.reg.CheckAccesses(w.ctx))
	}
	// An entry missing at the end stops the register from going on as if.
	w.exec("DELETE FROM accesses WHERE seq = 6")
	if _, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a"}); err == nil {
		t.Error("the log goes on over a gap")
	}
	_ = a
}

// snapshot runs do and puts the access log back as it was.
func (w *world) snapshot(do func()) {
	w.t.Helper()
	for _, table := range []string{"accesses", "accesses_head"} {
		w.exec("CREATE TABLE IF NOT EXISTS keep_" + table + " AS SELECT * FROM " + table + " WHERE 1 = 0")
		w.exec("DELETE FROM keep_" + table)
		w.exec("INSERT INTO keep_" + table + " SELECT * FROM " + table)
	}
	do()
	for _, table := range []string{"accesses", "accesses_head"} {
		w.exec("DELETE FROM " + table)
		w.exec("INSERT INTO " + table + " SELECT * FROM keep_" + table)
	}
}

func lockOut(t *testing.T, w *world) {
	attempt := func(person, address string) *identity.Locked {
		t.Helper()
		err := w.reg.Attempt(w.ctx, identity.ActionRecovery, person, address)
		var locked *identity.Locked
		if err != nil && !errors.As(err, &locked) {
			t.Fatal(err)
		}
		return locked
	}
	for i := range 5 {
		if l := attempt("a", ""); l != nil {
			t.Fatalf("locked at attempt %d", i+1)
		}
	}
	var last time.Duration
	for range 14 {
		l := attempt("a", "")
		if l == nil {
			t.Fatal("not locked")
		}
		wait := l.Until.Sub(w.now)
		if wait < 2*last && wait != 24*time.Hour || wait > 24*time.Hour {
			t.Fatalf("%v after %v", wait, last)
		}
		last = wait
		if l := attempt("a", ""); l == nil {
			t.Fatal("an attempt while locked")
		} else if got := l.Until.Sub(w.now); got != wait {
			t.Fatalf("an attempt while locked moved the end from %v to %v", wait, got)
		}
		w.now = l.Until
		if l := attempt("a", ""); l != nil {
			t.Fatalf("locked at its end: %v", l)
		}
	}
	if last != 24*time.Hour {
		t.Errorf("it ends at %v", last)
	}
	if attempt("b", "") != nil {
		t.Error("another person is locked, too")
	}
	w.must(w.reg.Passed(w.ctx, identity.ActionRecovery, "a", ""))
	if attempt("a", "") != nil {
		t.Error("locked after a success")
	}
	// One address, always another name.
	n := 0
	for ; attempt("guess"+string(rune('0'+n%10))+strings.Repeat("x", n/10), "192.0.2.9") == nil; n++ {
		if n > 100 {
			t.Fatal("an address is never locked")
		}
	}
	if n != 50 {
		t.Errorf("locked after %d", n)
	}
	if attempt("c", "192.0.2.10") != nil {
		t.Error("another address is locked, too")
	}
	// Attempts at the same time are all counted.
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 12 {
		wg.Go(func() {
			if err := w.reg.Attempt(w.ctx, identity.ActionAct, "p", ""); err == nil {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if passed > 5 {
		t.Errorf("%d of 12 simultaneous attempts went through, want 5", passed)
	}
	// Failed acts and codes do lock.
	a := w.signedIn("a", 2)
	var err error
	for range 6 {
		_, err = w.reg.Recover(w.ctx, a, "wrong")
	}
	var locked *identity.Locked
	if !errors.As(err, &locked) {
		t.Errorf("six wrong codes: %v", err)
	}
	for range 6 {
		_, err = w.reg.FinishAct(w.ctx, a, "c:unknown", digest("x"), nil)
	}
	if !errors.As(err, &locked) {
		t.Errorf("six wrong confirmations: %v", err)
	}
}

// A sealed value that was moved between rows, columns or persons is not taken
// for what it says.
func sealedColumns(t *testing.T, w *world) {
	a, b := w.signedIn("a", 2), w.signedIn("b", 2)
	w.enrolled(a)
	kb := w.enrolled(b)
	w.exec("UPDATE facts SET value = (SELECT x.value FROM facts x WHERE x.id = $1) WHERE id = $2", a.Person+"/name", b.Person+"/name")
	if _, err := w.reg.Person(w.ctx, b.Person); !errors.Is(err, store.ErrSealed) {
		t.Errorf("b has a's name: %v", err)
	}
	w.exec("UPDATE member_keys SET recipient = label WHERE kid = $1", kb.KID.String())
	if _, err := w.reg.Key(w.ctx, b, kb.KID); !errors.Is(err, store.ErrSealed) {
		t.Errorf("a label as a recipient: %v", err)
	}
	// Every column that the list names is there and opens under a new key.
	officer := w.signedIn("officer", 2)
	c := w.signedIn("c", 0)
	app := w.submitted(c, identity.ApplyPerson, w.personal(80))
	_, err := w.reg.Decide(w.ctx, officer, app.ID, identity.Decision{Outcome: identity.ApplicationCorrection, Reason: "more"})
	w.must(err)
	w.exec("DELETE FROM facts WHERE person = $1", b.Person)
	w.exec("UPDATE member_keys SET recipient = NULL WHERE kid = $1", kb.KID.String())
	path := t.TempDir() + "/k"
	next, err := w.keys.Rotate(path)
	w.must(err)
	for _, column := range identity.SealedColumns() {
		if _, err := next.Reseal(w.ctx, w.db, []store.Column{column}); err != nil {
			t.Errorf("%+v: %v", column, err)
		}
	}
	w.keys, err = next.Retire(path)
	w.must(err)
	w.reg = w.restart()
	w.must(w.reg.CheckAccesses(w.ctx))
	got, err := w.reg.Application(w.ctx, c, app.ID)
	w.must(err)
	if got.Body.Name != "王五" || got.Reply != "more" {
		t.Errorf("%+v", got)
	}
	if p, err := w.reg.Person(w.ctx, a.Person); err != nil || p.Name != "测试a" {
		t.Errorf("%+v %v", p, err)
	}
}

// Whoever steals the database cannot find a number in it, nor read one.
func enumeration(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	w.enrolled(a)
	n := number(w.count).Number()
	var document []byte
	w.must(w.db.QueryRow(w.ctx, "SELECT document FROM persons WHERE id = $1", a.Person).Scan(&document))
	if len(document) != 32 {
		t.Fatalf("%x", document)
	}
	thief, err := identity.New(identity.Config{DB: w.db, Keys: storetest.Keys(t), Origin: origin, Now: func() time.Time { return w.now }})
	w.must(err)
	// With any other key file the same number has another index: it is not found.
	if p, err := thief.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a"}); err == nil && p.ID == a.Person {
		t.Error("a sign-in is found without the key")
	}
	var other []byte
	p, err := thief.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "probe", Facts: w.facts("x", n, 2)})
	w.must(err) // not ErrDocument: there is no oracle without the key
	w.must(w.db.QueryRow(w.ctx, "SELECT document FROM persons WHERE id = $1", p.ID).Scan(&other))
	if bytes.Equal(document, other) {
		t.Error("the index of a number does not depend on the key")
	}
	// Nothing of what is known of her stands in any column as it is.
	for _, table := range []string{"persons", "signins", "facts", "members", "member_keys", "submissions", "accesses", "lockouts"} {
		rows, err := store.Collect[string](w.db.Query(w.ctx, "SELECT * FROM "+table))(func(r *store.Rows) (string, error) {
			columns, err := r.Columns()
			if err != nil {
				return "", err
			}
			raw, to := make([][]byte, len(columns)), make([]any, len(columns))
			for i := range raw {
				to[i] = &raw[i]
			}
			return "", errors.Join(r.Scan(to...), check(t, table, columns, raw, n, "测试a"))
		})
		w.must(err)
		if table == "facts" && len(rows) == 0 {
			t.Error("there was nothing to look at")
		}
	}
}

func check(t *testing.T, table string, columns []string, raw [][]byte, secrets ...string) error {
	for i, b := range raw {
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s.%s has %q", table, columns[i], s)
			}
		}
	}
	return nil
}

func exportAndErase(t *testing.T, w *world) {
	a := w.signedIn("a", 0)
	app := w.submitted(a, identity.ApplyPerson, w.personal(90))
	_, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a", Facts: []identity.Fact{{Name: identity.FactPhone, Value: "13800000000", Source: issuer, Level: 1, Verified: w.now}}})
	w.must(err)
	e, err := w.reg.Export(w.ctx, a)
	w.must(err)
	text, err := e.JSON()
	w.must(err)
	for _, want := range []string{"13800000000", "王五", app.ID, "身份证.pdf", `"Subject": "a"`, "sign-in"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the export lacks %q", want)
		}
	}
	kept, err := w.reg.Erase(w.ctx, a)
	w.must(err)
	if len(kept) != 1 || kept[0].What != "access-log" {
		t.Errorf("%+v", kept)
	}
	_, err = w.reg.Person(w.ctx, a.Person)
	w.is(err, identity.ErrUnknown, "an erased person")
	for _, q := range []string{"SELECT COUNT(*) FROM facts", "SELECT COUNT(*) FROM signins", "SELECT COUNT(*) FROM applications", "SELECT COUNT(*) FROM documents"} {
		var n int
		w.must(w.db.QueryRow(w.ctx, q).Scan(&n))
		if n != 0 {
			t.Errorf("%s: %d", q, n)
		}
	}
	w.must(w.reg.CheckAccesses(w.ctx))
	if again := w.signedIn("a", 0); again.Person == a.Person {
		t.Error("the sign-in leads to the erased person")
	}
	// Whoever was enrolled: the identity stays, the rest goes.
	m := w.signedIn("m", 2)
	k := w.enrolled(m)
	w.submitted(m, identity.ApplyPerson, w.personal(91))
	_, err = w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "m", Facts: []identity.Fact{{Name: identity.FactPhone, Value: "13900000000", Source: issuer, Level: 1, Verified: w.now}}})
	w.must(err)
	kept, err = w.reg.Erase(w.ctx, m)
	w.must(err)
	if len(kept) != 3 {
		t.Errorf("%+v", kept)
	}
	e, err = w.reg.Export(w.ctx, m)
	w.must(err)
	if len(e.Applications) != 0 || len(e.Facts) != 3 || len(e.Members) != 1 || e.Members[0].Keys[0].KID != k.KID.String() || e.Members[0].Salt == "" {
		t.Errorf("%+v", e)
	}
}
