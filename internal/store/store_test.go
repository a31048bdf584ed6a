package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		for _, c := range []struct {
			name string
			test func(*testing.T, storetest.NewDSN)
		}{
			{"Transactions", transactions}, {"Concurrent", concurrent}, {"Reopened", reopened}, {"Sessions", sessions}, {"Moved", moved}, {"Rotation", rotation},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, fresh) })
		}
	})
}

func table(t *testing.T, db *store.DB) {
	t.Helper()
	err := db.In(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), "CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL, secret BYTEA, ok BOOLEAN NOT NULL DEFAULT FALSE)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, db *store.DB, query string, args ...any) int64 {
	t.Helper()
	var n int64
	err := db.In(t.Context(), func(tx *store.Tx) (err error) {
		n, err = tx.Exec(t.Context(), query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func transactions(t *testing.T, fresh storetest.NewDSN) {
	db, ctx := fresh.Open(t), t.Context()
	table(t, db)
	secret := []byte{0, 1, 0xff, '\'', 0}
	if n := exec(t, db, "INSERT INTO things (id, n, secret, ok) VALUES ($1, $2, $3, $4)", "a", 7, secret, true); n != 1 {
		t.Fatalf("%d rows", n)
	}
	var n int64
	var got []byte
	var ok bool
	if err := db.QueryRow(ctx, "SELECT n, secret, ok FROM things WHERE id = $1 AND n = $2", "a", 7).Scan(&n, &got, &ok); err != nil || n != 7 || !bytes.Equal(got, secret) || !ok {
		t.Fatalf("%d %x %v %v", n, got, ok, err)
	}
	err := db.In(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO things (id, n) VALUES ('a', 1)")
		return err
	})
	if !store.IsDuplicate(err) {
		t.Errorf("second row of one key: %v", err)
	}
	if store.IsDuplicate(errors.New("other")) {
		t.Error("any error is a duplicate")
	}
	no := errors.New("no")
	err = db.In(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM things"); err != nil {
			return err
		}
		return no
	})
	if err != no {
		t.Errorf("got %v", err)
	}
	err = db.In(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(ctx, "INSERT INTO things (id, n) VALUES ('a', 5) ON CONFLICT (id) DO UPDATE SET n = things.n + excluded.n RETURNING n").Scan(&n)
	})
	if err != nil || n != 12 {
		t.Errorf("upsert after a rollback: %d %v", n, err)
	}
	if err := db.QueryRow(ctx, "SELECT n FROM things WHERE id = 'b'").Scan(&n); !errors.Is(err, store.ErrNone) {
		t.Errorf("no row: %v", err)
	}
	all, err := store.Collect[string](db.Query(ctx, "SELECT id FROM things"))(func(r *store.Rows) (s string, err error) { return s, r.Scan(&s) })
	if err != nil || len(all) != 1 || all[0] != "a" {
		t.Errorf("%v %v", all, err)
	}
	if _, err := store.Collect[string](db.Query(ctx, "SELECT nothing FROM nowhere"))(nil); err == nil {
		t.Error("a wrong query has rows")
	}
}

// Reading and then writing what was read is safe among concurrent writers.
func concurrent(t *testing.T, fresh storetest.NewDSN) {
	db, ctx := fresh.Open(t), t.Context()
	table(t, db)
	exec(t, db, "INSERT INTO things (id, n) VALUES ('a', 0)")
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := db.In(ctx, func(tx *store.Tx) error {
					var n int64
					if err := tx.QueryRow(ctx, "SELECT n FROM things WHERE id = 'a'").Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, "UPDATE things SET n = $1 WHERE id = 'a'", n+1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int64
	if err := db.QueryRow(ctx, "SELECT n FROM things WHERE id = 'a'").Scan(&n); err != nil || n != writers*each {
		t.Errorf("%d %v: updates were lost", n, err)
	}
}

func reopened(t *testing.T, fresh storetest.NewDSN) {
	dsn := fresh(t)
	db, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	table(t, db)
	exec(t, db, "INSERT INTO things (id, n) VALUES ('a', 3)")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int64
	if err := db.QueryRow(t.Context(), "SELECT n FROM things").Scan(&n); err != nil || n != 3 {
		t.Errorf("%d %v", n, err)
	}
}

func sessions(t *testing.T, fresh storetest.NewDSN) {
	db, keys, ctx := fresh.Open(t), storetest.Keys(t), t.Context()
	now := time.Unix(1_000_000, 0)
	s := store.NewSessions(db, keys, func() time.Time { return now })
	if err := s.CommitCtx(ctx, "token", []byte("one"), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit("token", []byte("two"), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit("other", []byte("three"), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if b, ok, err := s.Find("token"); string(b) != "two" || !ok || err != nil {
		t.Fatalf("%q %v %v", b, ok, err)
	}
	var rows int
	if err := db.QueryRow(ctx, "SELECT COUNT(*) FROM sessions WHERE token = 'token' OR token = 'other'").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d tokens lie in the database as they are (%v)", rows, err)
	}
	now = now.Add(time.Minute) // the moment of expiry is too late
	if _, ok, err := s.Find("other"); ok || err != nil {
		t.Errorf("an expired session is found (%v)", err)
	}
	if n, err := s.Sweep(ctx); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if b, ok, err := s.Find("token"); string(b) != "two" || !ok || err != nil {
		t.Errorf("a live session went with it: %q %v %v", b, ok, err)
	}
	// Whoever can write to the database gives one session the data of another.
	if err := s.Commit("officer", []byte("officer"), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	exec(t, db, "UPDATE sessions SET data = (SELECT data FROM sessions ORDER BY length(data) DESC LIMIT 1)")
	found := 0
	for _, token := range []string{"token", "officer"} {
		if _, ok, err := s.Find(token); err != nil {
			t.Error(err)
		} else if ok {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d sessions open after their data was exchanged, want the one it belongs to", found)
	}
	if err := s.Delete("officer"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("officer"); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	if _, ok, _ := s.Find("officer"); ok {
		t.Error("a deleted session is found")
	}
}

// A sealed value opens in its own place alone, and not altered.
func moved(t *testing.T, fresh storetest.NewDSN) {
	db, keys, ctx := fresh.Open(t), storetest.Keys(t), t.Context()
	table(t, db)
	for _, id := range []string{"a", "b"} {
		exec(t, db, "INSERT INTO things (id, n, secret) VALUES ($1, 0, $2)", id, keys.Seal("things", "secret", id, []byte("secret of "+id)))
	}
	exec(t, db, "UPDATE things SET secret = (SELECT x.secret FROM things x WHERE x.id = 'a') WHERE id = 'b'")
	var a, b []byte
	if err := errors.Join(db.QueryRow(ctx, "SELECT secret FROM things WHERE id = 'a'").Scan(&a), db.QueryRow(ctx, "SELECT secret FROM things WHERE id = 'b'").Scan(&b)); err != nil {
		t.Fatal(err)
	}
	if plain, err := keys.Open("things", "secret", "a", a); err != nil || string(plain) != "secret of a" {
		t.Errorf("%q %v", plain, err)
	}
	if bytes.Contains(a, []byte("secret")) {
		t.Error("the plaintext lies in the database")
	}
	for name, open := range map[string]func() ([]byte, error){
		"another row":    func() ([]byte, error) { return keys.Open("things", "secret", "b", b) },
		"another column": func() ([]byte, error) { return keys.Open("things", "public", "a", a) },
		"another table":  func() ([]byte, error) { return keys.Open("thing", "ssecret", "a", a) },
		"another key":    func() ([]byte, error) { return storetest.Keys(t).Open("things", "secret", "a", a) },
		"cut":            func() ([]byte, error) { return keys.Open("things", "secret", "a", a[:5]) },
		"empty":          func() ([]byte, error) { return keys.Open("things", "secret", "a", nil) },
	} {
		if plain, err := open(); !errors.Is(err, store.ErrSealed) {
			t.Errorf("%s: %q %v", name, plain, err)
		}
	}
	for i := range a {
		bad := bytes.Clone(a)
		bad[i] ^= 1
		if _, err := keys.Open("things", "secret", "a", bad); !errors.Is(err, store.ErrSealed) {
			t.Fatalf("altered at byte %d: %v", i, err)
		}
	}
}

func rotation(t *testing.T, fresh storetest.NewDSN) {
	db, ctx := fresh.Open(t), t.Context()
	table(t, db)
	path := filepath.Join(t.TempDir(), "store.keys")
	first, err := store.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		id := fmt.Sprint(i)
		exec(t, db, "INSERT INTO things (id, n, secret) VALUES ($1, 0, $2)", id, first.Seal("things", "secret", id, []byte(id)))
	}
	exec(t, db, "INSERT INTO things (id, n) VALUES ('without', 0)")
	second, err := first.Rotate(path)
	if err != nil {
		t.Fatal(err)
	}
	columns := []store.Column{{Table: "things", Column: "secret", Row: "id"}}
	if n, err := second.Reseal(ctx, db, columns); n != 5 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	if n, err := second.Reseal(ctx, db, columns); n != 0 || err != nil {
		t.Fatalf("again: %d %v", n, err)
	}
	if _, err := second.Retire(path); err != nil {
		t.Fatal(err)
	}
	third, err := store.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	var sealed []byte
	if err := db.QueryRow(ctx, "SELECT secret FROM things WHERE id = '3'").Scan(&sealed); err != nil {
		t.Fatal(err)
	}
	if plain, err := third.Open("things", "secret", "3", sealed); err != nil || string(plain) != "3" {
		t.Errorf("%q %v", plain, err)
	}
	if _, err := first.Open("things", "secret", "3", sealed); !errors.Is(err, store.ErrSealed) {
		t.Errorf("the old key opens what was sealed again: %v", err)
	}
	if !bytes.Equal(first.Blind("id", "x"), third.Blind("id", "x")) {
		t.Error("blind indexes changed with the sealing key")
	}
}

// Without the key file nobody can compute the index of a guessed number.
func TestBlind(t *testing.T) {
	a, b := storetest.Keys(t), storetest.Keys(t)
	if !bytes.Equal(a.Blind("id", "110101199003070134"), a.Blind("id", "110101199003070134")) {
		t.Error("one value, two indexes")
	}
	for name, other := range map[string][]byte{"another key file": b.Blind("id", "x"), "another purpose": a.Blind("phone", "x"), "another split": a.Blind("i", "dx")} {
		if bytes.Equal(a.Blind("id", "x"), other) {
			t.Errorf("%s gives the same index", name)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "store.keys")
	k, err := store.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.OpenKeys(path)
	if err != nil || !bytes.Equal(k.Blind("a", "b"), again.Blind("a", "b")) {
		t.Errorf("read again: %v", err)
	}
	if plain, err := again.Open("t", "c", "r", k.Seal("t", "c", "r", nil)); err != nil || len(plain) != 0 {
		t.Errorf("%q %v", plain, err)
	}
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k)} {
		if strings.ContainsAny(s, "=[{") {
			t.Errorf("the keys print as %s", s)
		}
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, bad := range map[string]string{
		"empty": "", "another title": "x\n" + lines[1] + lines[2], "no index": lines[0] + lines[2], "no seal": lines[0] + lines[1],
		"two indexes": lines[0] + lines[1] + lines[1] + lines[2], "short key": lines[0] + lines[1] + "seal 00000000 AAAA\n", "bad id": lines[0] + lines[1] + "seal xyz " + strings.Fields(lines[2])[2], "unknown line": string(text) + "more\n",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.OpenKeys(path); err == nil {
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), strings.Fields(lines[1])[1]) {
			t.Errorf("%s: the message has the key: %v", name, err)
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenKeys(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a file that others can read: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, dsn := range []string{"", ":memory:", "a.db?mode=ro"} {
		if db, err := store.Open(t.Context(), dsn); err == nil {
			db.Close()
			t.Errorf("%q opened", dsn)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := store.Open(ctx, "postgres://u:topsecret@127.0.0.1:1/db?connect_timeout=1"); err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("%v", err)
	}
}

func TestSQLiteIsPrivateAndDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "名 字 %41.db")
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ pragma, want string }{{"journal_mode", "wal"}, {"synchronous", "2"}, {"foreign_keys", "1"}, {"busy_timeout", "10000"}} {
		var got string
		if err := db.QueryRow(t.Context(), "PRAGMA "+c.pragma).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.pragma, got, c.want, err)
		}
	}
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", name, info.Mode().Perm())
		}
	}
}
