// Package storetest runs tests of the application database on both engines it
// stands on: SQLite, and a PostgreSQL 15 cluster that is made for the test in a
// temporary directory, listens on a Unix socket alone and is gone afterwards.
//
//	storetest.Run(t, func(t, open)) ──┬─► sqlite:   open(t) → a new file each time
//	                                  └─► postgres: open(t) → a new database each time
package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/zhenglian/zhenglian/internal/store"
)

// bin is where Debian and Ubuntu put the programs of PostgreSQL 15.
const bin = "/usr/lib/postgresql/15/bin"

// NewDSN names a new, empty database for t.
type NewDSN func(t testing.TB) string

// Open opens a new, empty database for t and closes it when t ends.
func (n NewDSN) Open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), n(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Keys makes a key file for t.
func Keys(t testing.TB) *store.Keys {
	t.Helper()
	k, err := store.OpenKeys(filepath.Join(t.TempDir(), "store.keys"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Run runs test as two subtests. The second is skipped where PostgreSQL 15 is
// not installed, and there alone.
func Run(t *testing.T, test func(t *testing.T, fresh NewDSN)) {
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

// SQLite names a new file in t's temporary directory.
func SQLite(t testing.TB) string { return filepath.Join(t.TempDir(), "portal.db") }

// Postgres starts a cluster that lives as long as t.
func Postgres(t *testing.T) NewDSN {
	t.Helper()
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		t.Skipf("PostgreSQL 15 is not installed (%v): this test ran on SQLite alone", err)
	}
	// Not t.TempDir: a socket's path may have 107 bytes.
	dir, err := os.MkdirTemp("", "zlpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := asPostgres(t, dir)
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	// fsync off: the cluster does not outlive the test. What a power cut leaves
	// is the engine's own promise, not tested here.
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60")
	server.SysProcAttr, server.Dir = attr, dir
	var log strings.Builder
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT) // at once: nothing here is worth a shutdown in order
		server.Wait()                          // it says that it was told to quit
	})
	dsn := func(db string) string {
		return fmt.Sprintf("postgres://postgres@/%s?host=%s", db, url.QueryEscape(dir))
	}
	admin, err := sql.Open("pgx", dsn("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = admin.Ping(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cluster did not come up: %v\n%s", err, log.String())
		}
	}
	n := 0
	return func(t testing.TB) string {
		t.Helper()
		n++
		name := "t" + strconv.Itoa(n)
		if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
			t.Fatal(err)
		}
		return dsn(name)
	}
}

// asPostgres: the server refuses to run as root, so root runs it as the user
// that the package brings.
func asPostgres(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		t.Skip("root cannot run PostgreSQL and there is no user postgres: this test ran on SQLite alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
