package custody

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// MaxPiece is the largest piece of an upload in bytes, held in memory while its
// digest is checked.
const MaxPiece = 4 << 20

const (
	folderParts = "parts"
	// staleAfter is how long an unfinished upload waits for its next piece.
	staleAfter = 48 * time.Hour
	// maxBlobs of one member: each object has two blobs, and one grant a device.
	maxBlobs = 200_000
	// maxParts of one member: a page has one or two uploads on their way, a few
	// pages may be open, some were closed half-way.
	maxParts = 32
)

// blobs is the folder of ciphertext:
//
//	<member>/{data,objects,grants}/…  as vault.Dir has it
//	<member>/parts/<folder>.<name>    pieces of an upload that is not whole
type blobs struct {
	dir  string
	root *os.Root
	busy locks // by path: pieces of one blob come one after another
}

// blobName is every name that a vault gives (spec/vault.md).
var blobName = regexp.MustCompile(`^(data/[0-9a-f]{32}|objects/[0-9a-f]{64}|grants/[0-9a-f]{32}\.[0-9a-f]{64})$`)

// memberFolder is the member's folder: ids have no '_' and no '/', and none is
// "." or ".." since each begins with "m:".
func memberFolder(member string) (string, error) {
	if !strings.HasPrefix(member, "m:") || strings.Trim(member, "abcdefghijklmnopqrstuvwxyz0123456789-.:") != "" || len(member) > 64 {
		return "", ErrNotFound
	}
	return strings.ReplaceAll(member, ":", "_"), nil
}

func place(member, name string) (folder string, err error) {
	if folder, err = memberFolder(member); err != nil {
		return "", err
	}
	if !blobName.MatchString(name) {
		return "", refuse(RefuseName, "%.80q is not data/, objects/ or grants/ and a name that a vault gives", name)
	}
	return folder, nil
}

// PutPiece adds one piece of at most MaxPiece bytes to a blob of the member, at
// offset. digest is the piece's SHA-256. With last, the blob is whole: when
// PutPiece returns it is durable and never changes again. have is how many bytes
// of it are here. Errors are *Refusal, *OffsetError when the piece does not begin
// where the last one ended, and ErrExist when the blob is whole already.
func (c *Custody) PutPiece(ctx context.Context, member, name string, offset int64, piece []byte, digest evidence.Digest, last bool) (have int64, err error) {
	folder, err := place(member, name)
	if err != nil {
		return 0, err
	}
	switch {
	case len(piece) > MaxPiece:
		return 0, refuse(RefuseLarge, "a piece of %d bytes, at most %d are allowed", len(piece), MaxPiece)
	case sha256.Sum256(piece) != digest:
		return 0, refuse(RefusePiece, "the piece does not have the digest declared: it was altered on its way")
	case offset < 0 || offset > c.config.MaxBlob-int64(len(piece)):
		return 0, refuse(RefuseLarge, "a blob may have %d bytes", c.config.MaxBlob)
	}
	if err := c.blobs.prepare(folder); err != nil {
		return 0, err
	}
	part := folder + "/" + folderParts + "/" + strings.Replace(name, "/", ".", 1)
	defer c.blobs.busy.lock(part)()
	if size, err := c.blobs.size(folder + "/" + name); err == nil {
		if _, err := c.row(ctx, member, name, size); err != nil { // a power cut came between both
			return 0, err
		}
		return size, ErrExist
	}
	used, err := c.Used(ctx, member)
	if err != nil {
		return 0, err
	}
	n, waiting, err := c.blobs.unfinished(folder, part)
	if err != nil {
		return 0, err
	}
	if used.Bytes+waiting+offset+int64(len(piece)) > c.config.Quota || used.Blobs >= maxBlobs {
		return 0, refuse(RefuseQuota, "%d of %d bytes are used, %d are in unfinished uploads", used.Bytes, c.config.Quota, waiting)
	}
	if n >= maxParts {
		return 0, refuse(RefuseTooMany, "%d uploads are not finished", n)
	}
	if have, err = c.blobs.appendPiece(part, offset, piece); err != nil || !last {
		return have, err
	}
	if err := c.blobs.check(folder, name, part, have); err != nil {
		_ = c.blobs.root.Remove(part)
		return 0, err
	}
	if err := c.blobs.finish(part, folder+"/"+name); err != nil {
		return have, err
	}
	return c.row(ctx, member, name, have)
}

// row notes a whole blob.
func (c *Custody) row(ctx context.Context, member, name string, size int64) (int64, error) {
	err := c.config.DB.In(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO custody_blobs (member, name, size, created) VALUES ($1, $2, $3, $4) ON CONFLICT (member, name) DO NOTHING`, member, name, size, c.now())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("noting a blob: %w", err)
	}
	return size, nil
}

// Usage is what a member keeps here.
type Usage struct {
	Bytes, Quota int64
	Blobs        int64
}

// Used returns what the member keeps here.
func (c *Custody) Used(ctx context.Context, member string) (Usage, error) {
	u := Usage{Quota: c.config.Quota}
	err := c.config.DB.QueryRow(ctx, `SELECT COALESCE(SUM(size), 0), COUNT(*) FROM custody_blobs WHERE member = $1`, member).Scan(&u.Bytes, &u.Blobs)
	if err != nil {
		return u, fmt.Errorf("adding up what a member keeps: %w", err)
	}
	return u, nil
}

// Size returns a whole blob's bytes. ErrNotFound.
func (c *Custody) Size(_ context.Context, member, name string) (int64, error) {
	folder, err := place(member, name)
	if err != nil {
		return 0, err
	}
	return c.blobs.size(folder + "/" + name)
}

// Pending returns how many bytes of an unfinished upload are here, 0 when none.
func (c *Custody) Pending(_ context.Context, member, name string) (int64, error) {
	folder, err := place(member, name)
	if err != nil {
		return 0, err
	}
	size, err := c.blobs.size(folder + "/" + folderParts + "/" + strings.Replace(name, "/", ".", 1))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return size, err
}

// Open returns a whole blob for reading. ErrNotFound. The caller closes it.
func (c *Custody) Open(_ context.Context, member, name string) (io.ReadSeekCloser, error) {
	folder, err := place(member, name)
	if err != nil {
		return nil, err
	}
	f, err := c.blobs.root.Open(folder + "/" + name)
	if err != nil {
		return nil, absent(err)
	}
	return f, nil
}

// List returns the names of whole blobs with a prefix, which holds the folder,
// its slash and at least an object's 32 hexadecimal digits, sorted.
func (c *Custody) List(ctx context.Context, member, prefix string) ([]string, error) {
	if !listPrefix.MatchString(prefix) {
		return nil, refuse(RefuseName, "%.80q is not a folder, a slash and 32 hexadecimal digits", prefix)
	}
	// A row is there for every whole blob; the prefix has no character of LIKE's.
	return store.Collect[string](c.config.DB.Query(ctx, `SELECT name FROM custody_blobs WHERE member = $1 AND name LIKE $2 ORDER BY name`, member, prefix+"%"))(
		func(r *store.Rows) (name string, err error) { err = r.Scan(&name); return name, err })
}

var listPrefix = regexp.MustCompile(`^(data|objects|grants)/[0-9a-f]{32}[0-9a-f.]{0,65}$`)

func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return fmt.Errorf("reading a blob: %w", err)
}

// prepare makes the member's folders.
func (b *blobs) prepare(folder string) error {
	if info, err := b.root.Stat(folder + "/" + folderParts); err == nil && info.IsDir() {
		return nil
	}
	d, err := vault.OpenDir(filepath.Join(b.dir, folder)) // makes and syncs its own folders
	if err != nil {
		return fmt.Errorf("making a member's folder: %w", err)
	}
	if err := d.Close(); err != nil {
		return err
	}
	if err := b.root.Mkdir(folder+"/"+folderParts, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making a member's folder: %w", err)
	}
	for _, p := range []string{".", folder} {
		if err := b.sync(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *blobs) size(path string) (int64, error) {
	info, err := b.root.Lstat(path)
	if err != nil {
		return 0, absent(err)
	}
	return info.Size(), nil
}

// unfinished counts the member's other uploads that are not whole, and their
// bytes.
func (b *blobs) unfinished(folder, but string) (n int, bytes int64, err error) {
	parts, err := fs.ReadDir(b.root.FS(), folder+"/"+folderParts)
	if err != nil {
		return 0, 0, fmt.Errorf("looking for unfinished uploads: %w", err)
	}
	for _, p := range parts {
		info, err := p.Info()
		if err != nil || path.Join(folder, folderParts, p.Name()) == but {
			continue // gone meanwhile: it is whole
		}
		n++
		bytes += info.Size()
	}
	return n, bytes, nil
}

func (b *blobs) appendPiece(part string, offset int64, piece []byte) (have int64, err error) {
	f, err := b.root.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("keeping a piece: %w", err)
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if have = info.Size(); offset == 0 && have > 0 {
		// She begins again: under a fresh root key the ciphertext is another.
		if err := f.Truncate(0); err != nil {
			return have, fmt.Errorf("beginning a blob again: %w", err)
		}
		have = 0
	}
	if have != offset {
		return have, &OffsetError{have}
	}
	n, err := f.WriteAt(piece, offset)
	if err != nil {
		return have, errors.Join(fmt.Errorf("keeping a piece: %w", err), f.Truncate(have))
	}
	return have + int64(n), nil
}

// check refuses heads and grants that no fetch could use, so that what is kept
// can be opened by whom it is for, as far as that shows without a key.
func (b *blobs) check(folder, name, part string, size int64) error {
	kind, rest, _ := strings.Cut(name, "/")
	if kind == "data" {
		return nil
	}
	const head = 24 // magic and id, spec/vault.md
	f, err := b.root.Open(part)
	if err != nil {
		return absent(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2<<20))
	if err != nil {
		return fmt.Errorf("reading a blob: %w", err)
	}
	if int64(len(data)) != size || len(data) < head {
		return refuse(RefuseBlob, "%d bytes are no head and no grant", size)
	}
	id := hex.EncodeToString(data[8:head])
	have, err := b.size(folder + "/data/" + id)
	if err != nil {
		return refuse(RefuseBlob, "it belongs to data/%s, which is not here: upload that first", id)
	}
	if kind == "grants" {
		if string(data[:8]) != "ZLGRANT1" || !strings.HasPrefix(rest, id+".") {
			return refuse(RefuseBlob, "it is no grant of the object it is named for")
		}
		return nil
	}
	digest, err := evidence.ParseDigest(rest)
	if err != nil {
		return refuse(RefuseName, "%v", err)
	}
	var m vault.Memory
	if err := m.Put(context.Background(), name, func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(data)); return err }); err != nil {
		return err
	}
	o, err := vault.New(&m).Stat(context.Background(), digest)
	if err != nil {
		return refuse(RefuseBlob, "it is no head of the object it is named for: %v", err)
	}
	if want := o.Size + o.Chunks*(16+64); have != want { // tag and two leaves a chunk
		return refuse(RefuseBlob, "data/%s has %d bytes, its head tells of %d", id, have, want)
	}
	return nil
}

// finish makes a part the blob: its bytes are on disk before its name is, and
// the name before finish returns.
func (b *blobs) finish(part, blob string) error {
	f, err := b.root.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("finishing a blob: %w", err)
	}
	err = f.Sync()
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = b.root.Link(part, blob)
	}
	if err == nil {
		err = b.sync(path.Dir(blob))
	}
	if err != nil {
		return fmt.Errorf("finishing a blob: %w", err)
	}
	// A part that stays is dropped when it is stale.
	_ = b.root.Remove(part)
	return nil
}

func (b *blobs) sync(folder string) error {
	f, err := b.root.Open(folder)
	if err != nil {
		return fmt.Errorf("syncing a folder: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("syncing a folder: %w", err)
	}
	return nil
}

// sweep drops unfinished uploads that nobody goes on with, and returns how many.
func (b *blobs) sweep(before time.Time) (n int, err error) {
	parts, err := fs.Glob(b.root.FS(), "*/"+folderParts+"/*")
	if err != nil {
		return 0, fmt.Errorf("looking for unfinished uploads: %w", err)
	}
	for _, p := range parts {
		unlock := b.busy.lock(p)
		info, err := b.root.Lstat(p)
		if err == nil && info.ModTime().Before(before) && b.root.Remove(p) == nil {
			n++
		}
		unlock()
	}
	return n, nil
}
