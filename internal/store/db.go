package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Row and Rows are what a query answers, so that callers need not know the
// engine's package.
type (
	Row  = sql.Row
	Rows = sql.Rows
)

// ErrNone: a query for one row found none.
var ErrNone = sql.ErrNoRows

// Reader is what DB and Tx have in common. Placeholders are $1, $2, …
type Reader interface {
	QueryRow(ctx context.Context, query string, args ...any) *Row
	Query(ctx context.Context, query string, args ...any) (*Rows, error)
}

// DB is an open application database. It is safe for concurrent use.
type DB struct {
	db       *sql.DB
	postgres bool
}

// Open opens the database that dsn names and brings its tables up to date. A
// dsn is a postgres:// or postgresql:// URL, or the path of an SQLite file,
// which is made, readable by its owner alone, when it is not there.
func Open(ctx context.Context, dsn string) (*DB, error) {
	d := &DB{postgres: strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")}
	var err error
	if d.postgres {
		d.db, err = sql.Open("pgx", dsn)
	} else {
		d.db, err = openSQLite(dsn)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the application database: %w", withoutPassword(err, dsn))
	}
	// The portal is one process with few writers: more connections than this
	// wait inside the engine instead of here.
	d.db.SetMaxOpenConns(16)
	d.db.SetMaxIdleConns(4)
	if err := d.migrate(ctx); err != nil {
		d.db.Close()
		return nil, fmt.Errorf("bringing the application database up to date: %w", withoutPassword(err, dsn))
	}
	return d, nil
}

// openSQLite opens the file with a journal that readers don't wait for (WAL)
// and a commit that is on disk before it returns (synchronous FULL; WAL's
// default would lose the last transactions in a power cut). BEGIN IMMEDIATE
// takes the write lock at once, so that no transaction fails half-way for it.
func openSQLite(path string) (*sql.DB, error) {
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.ContainsAny(path, "?#") {
		return nil, fmt.Errorf("%q names no file: give a path without '?' and '#', or a postgres:// URL", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
}

// withoutPassword keeps a DSN with its password out of what is logged.
func withoutPassword(err error, dsn string) error {
	u, parse := url.Parse(dsn)
	if parse != nil || u.User == nil {
		return err
	}
	if pw, ok := u.User.Password(); ok && pw != "" && strings.Contains(err.Error(), pw) {
		return errors.New(strings.ReplaceAll(err.Error(), pw, "•••"))
	}
	return err
}

// migrate applies the numbered files that the database has not seen. Packages
// own ranges of numbers (001–019 identity, 020–029 ca, 030–039 custody), so a
// lower number may come after a higher one.
func (d *DB) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithAllowOutofOrder(true), goose.WithDisableGlobalRegistry(true)}
	if d.postgres {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker() // two portals that start at once
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, d.db, dir, options...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the database.
func (d *DB) Close() error { return d.db.Close() }

// QueryRow runs a query that answers at most one row; Scan fails with ErrNone
// when there is none.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) *Row {
	return d.db.QueryRowContext(ctx, query, args...)
}

// Query runs a query; see Collect.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	return d.db.QueryContext(ctx, query, args...)
}

// Tx is a transaction of In.
type Tx struct{ tx *sql.Tx }

// QueryRow is DB.QueryRow inside the transaction.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *Row {
	return t.tx.QueryRowContext(ctx, query, args...)
}

// Query is DB.Query inside the transaction.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	return t.tx.QueryContext(ctx, query, args...)
}

// Exec runs a statement and returns how many rows it changed.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// maxAttempts bounds how often In repeats a transaction that lost against
// another. Under contention each round commits at least one, so this many
// concurrent writers of the same rows get through.
const maxAttempts = 20

// In runs fn in a serializable transaction and commits it. When it returns nil
// the data is on disk. When fn fails, nothing of it remains and its error is
// returned. A transaction that lost against a concurrent one is run again, so
// fn must have no effects outside of tx and set what it answers anew.
func (d *DB) In(ctx context.Context, fn func(tx *Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := d.once(ctx, fn)
		if err == nil || !lost(err) || attempt == maxAttempts {
			return err
		}
		pause := time.Duration(attempt) * time.Duration(1+rand.IntN(5)) * time.Millisecond
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (d *DB) once(ctx context.Context, fn func(tx *Tx) error) error {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer tx.Rollback() // after a commit this does nothing; it also serves a panic in fn
	if err := fn(&Tx{tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing a transaction: %w", err)
	}
	return nil
}

// lost: the engine chose another transaction over this one (SQLSTATE 40001
// serialization_failure, 40P01 deadlock_detected, SQLITE_BUSY).
func lost(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}

// IsDuplicate says whether err is the refusal of a row whose key, or another
// unique value, is there already.
func IsDuplicate(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505" // unique_violation
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && (lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// Collect reads all rows of a query, whose answer goes in as it is:
//
//	store.Collect(db.Query(ctx, "SELECT …"))(func(r *store.Rows) (T, error) { … })
func Collect[T any](rows *Rows, err error) func(read func(*Rows) (T, error)) ([]T, error) {
	return func(read func(*Rows) (T, error)) ([]T, error) {
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var all []T
		for rows.Next() {
			one, err := read(rows)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, rows.Err()
	}
}
