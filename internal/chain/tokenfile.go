package chain

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// tokenFile is the account of the timestamp tokens that this node holds, outside
// the index, which can be computed again and they cannot:
//
//	header │ id │ length, checksum, record │ length, checksum, record │ …
//
// Each record is appended and synced before the index has it. The index notes up
// to which byte it knows the file, and every start reads on from there: what a
// crash took from the index comes back, and a lost index reads all. Peers read
// the same records in the same order; the id, random, tells them when the file is
// another one. A record cut short was answered for by nobody and is taken off.
//
// Not trusted: whoever alters a token makes it fail where it is checked.
type tokenFile struct {
	log  *slog.Logger
	path string
	id   tokenFileID

	mu   sync.Mutex
	file *os.File
	size int64
	err  error // after a failed write nobody knows what is on disk
}

type tokenFileID [16]byte

const (
	tokenHeader = "zhenglian-tokens/1\n"
	tokenStart  = int64(len(tokenHeader) + len(tokenFileID{}))
	// maxTokenRecord is a token of the largest size with its head.
	maxTokenRecord = 64<<10 + 128
	tokenFrame     = 8 // length and checksum
)

// The kinds of token, which are prefixes of their keys in the index too.
const (
	tokenCheckpoint byte = 'T' // over the checkpoint of a size
	tokenStatement  byte = 'O' // over the statement at a position
)

// tokenRecord is one token.
type tokenRecord struct {
	Kind      byte
	N         uint64 // size or position
	Authority string
	Token     []byte // DER
}

func (r *tokenRecord) key() []byte { return append(u64key(r.Kind, r.N), r.Authority...) }

func (r *tokenRecord) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{r.Kind}, r.N)
	b = append(b, byte(len(r.Authority)))
	b = append(b, r.Authority...)
	return append(b, r.Token...)
}

func decodeTokenRecord(b []byte) (tokenRecord, error) {
	if len(b) < 10 || len(b) < 10+int(b[9]) || b[0] != tokenCheckpoint && b[0] != tokenStatement {
		return tokenRecord{}, errors.New("a token's record cannot be read")
	}
	name := 10 + int(b[9])
	return tokenRecord{b[0], binary.BigEndian.Uint64(b[1:]), string(b[10:name]), b[name:]}, nil
}

// openTokens opens the file, gives the index what it lacks of it, and begins one
// with what the index has where there is none. A damaged file is moved aside, and
// one of its good records takes its place; the peers have the others.
func openTokens(path string, idx *index, log *slog.Logger) (*tokenFile, error) {
	t := &tokenFile{log: log, path: path}
	var err error
	t.file, err = os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return t, t.begin(idx)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the tokens: %w", err)
	}
	if err := t.load(idx); err != nil {
		return nil, errors.Join(err, t.file.Close())
	}
	return t, nil
}

// begin makes a file of the tokens in the index, whole or not at all.
func (t *tokenFile) begin(idx *index) (err error) {
	next := t.path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("beginning the tokens: %w", err)
	}
	t.file = f
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("beginning the tokens: %w", err), f.Close())
		}
	}()
	if _, err := rand.Read(t.id[:]); err != nil {
		return err
	}
	if _, err := f.Write(append([]byte(tokenHeader), t.id[:]...)); err != nil {
		return err
	}
	t.size = tokenStart
	for _, kind := range []byte{tokenCheckpoint, tokenStatement} {
		err := idx.scan([]byte{kind}, []byte{kind + 1}, func(k, v []byte) (bool, error) {
			return true, t.write(&tokenRecord{kind, binary.BigEndian.Uint64(k[1:]), string(k[9:]), v})
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(f.Sync(), os.Rename(next, t.path), syncDir(filepath.Dir(t.path)), t.note(idx, t.size))
}

// load reads the file from where the index knows it.
func (t *tokenFile) load(idx *index) error {
	head := make([]byte, tokenStart)
	if _, err := t.file.ReadAt(head, 0); err != nil || !bytes.HasPrefix(head, []byte(tokenHeader)) {
		return t.replace(idx, 0, errors.New("it does not begin like one"))
	}
	copy(t.id[:], head[len(tokenHeader):])
	end, err := t.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("reading the tokens: %w", err)
	}
	at := tokenStart
	if v, err := idx.get(tokenNoteKey); err != nil {
		return err
	} else if len(v) == len(t.id)+8 && bytes.Equal(v[:len(t.id)], t.id[:]) {
		if known := int64(binary.BigEndian.Uint64(v[len(t.id):])); known >= tokenStart && known <= end {
			at = known
		}
	}
	began := at
	for at < end {
		r, next, err := t.read(at, end)
		if err != nil && end-at <= maxTokenRecord+tokenFrame {
			t.log.Warn("a timestamp token was cut short by a crash and taken off", "bytes", end-at)
			if err := errors.Join(t.file.Truncate(at), t.file.Sync()); err != nil {
				return fmt.Errorf("taking a token cut short off: %w", err)
			}
			end = at
			break
		}
		if err != nil {
			return t.replace(idx, at, err)
		}
		if have, err := idx.get(r.key()); err != nil {
			return err
		} else if have == nil {
			if err := idx.db.Set(r.key(), r.Token, pebble.NoSync); err != nil {
				return fmt.Errorf("giving the index its tokens: %w", err)
			}
		}
		at = next
	}
	t.size = end
	if end == began {
		return nil
	}
	return t.note(idx, end)
}

// replace keeps a damaged file under another name and goes on with what the index
// has, to which load has given every record before the damage.
func (t *tokenFile) replace(idx *index, at int64, why error) error {
	kept := fmt.Sprintf("%s.damaged-%d", t.path, at)
	t.log.Error("the file of timestamp tokens is damaged; a new one begins, and the other institutions have the rest", "file", t.path, "byte", at, "error", why, "kept", kept)
	if err := errors.Join(os.Rename(t.path, kept), t.file.Close()); err != nil {
		return fmt.Errorf("moving the damaged tokens aside: %w", err)
	}
	return t.begin(idx)
}

// tokenNoteKey holds the file's id and how many bytes of it the index has.
var tokenNoteKey = []byte{'U'}

func (t *tokenFile) note(idx *index, at int64) error {
	if err := idx.db.Set(tokenNoteKey, binary.BigEndian.AppendUint64(t.id[:], uint64(at)), pebble.NoSync); err != nil {
		return fmt.Errorf("noting the tokens in the index: %w", err)
	}
	return nil
}

// read returns the record at an offset and where the next begins.
func (t *tokenFile) read(at, end int64) (tokenRecord, int64, error) {
	frame := make([]byte, tokenFrame)
	if at+tokenFrame > end {
		return tokenRecord{}, 0, io.ErrUnexpectedEOF
	}
	if _, err := t.file.ReadAt(frame, at); err != nil {
		return tokenRecord{}, 0, err
	}
	n := int64(binary.BigEndian.Uint32(frame))
	if n > maxTokenRecord || at+tokenFrame+n > end {
		return tokenRecord{}, 0, io.ErrUnexpectedEOF
	}
	body := make([]byte, n)
	if _, err := t.file.ReadAt(body, at+tokenFrame); err != nil {
		return tokenRecord{}, 0, err
	}
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(frame[4:]) {
		return tokenRecord{}, 0, errors.New("its checksum differs")
	}
	r, err := decodeTokenRecord(body)
	return r, at + tokenFrame + n, err
}

func (t *tokenFile) write(r *tokenRecord) error {
	body := r.encode()
	if len(body) > maxTokenRecord {
		return fmt.Errorf("a token of %d bytes is too large to keep", len(r.Token))
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	frame = binary.BigEndian.AppendUint32(frame, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	if _, err := t.file.WriteAt(append(frame, body...), t.size); err != nil {
		return err
	}
	t.size += int64(tokenFrame + len(body))
	return nil
}

// add appends records and returns when they are on disk and in the index. Of two
// tokens by one authority over the same, the first stays.
func (t *tokenFile) add(idx *index, records ...tokenRecord) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	fresh := make([]tokenRecord, 0, len(records))
	for _, r := range records {
		have, err := idx.get(r.key())
		if err != nil {
			return err
		}
		if have == nil {
			fresh = append(fresh, r)
		}
	}
	if records = fresh; len(records) == 0 {
		return nil
	}
	before := t.size
	fail := func(err error) error {
		t.size = before
		if cut := t.file.Truncate(before); cut != nil {
			t.err = fmt.Errorf("the tokens' file cannot be written any more: %w", cut)
		}
		return fmt.Errorf("keeping a timestamp token: %w", err)
	}
	for i := range records {
		if err := t.write(&records[i]); err != nil {
			return fail(err)
		}
	}
	if err := t.file.Sync(); err != nil {
		t.err = fmt.Errorf("the tokens' file cannot be synced: %w", err)
		return t.err
	}
	batch := idx.db.NewBatch()
	for i := range records {
		_ = batch.Set(records[i].key(), records[i].Token, nil)
	}
	_ = batch.Set(tokenNoteKey, binary.BigEndian.AppendUint64(bytes.Clone(t.id[:]), uint64(t.size)), nil)
	if err := idx.db.Apply(batch, pebble.NoSync); err != nil {
		return fmt.Errorf("storing timestamp tokens: %w", err)
	}
	return nil
}

// page returns records from an offset of the file with this id, and where to go
// on; another id, or an offset that is none, begins at the start.
func (t *tokenFile) page(id tokenFileID, from int64, limit int) (records []tokenRecord, next int64, err error) {
	t.mu.Lock()
	end := t.size
	t.mu.Unlock()
	if id != t.id || from < tokenStart || from > end {
		from = tokenStart
	}
	for size := 0; from < end && len(records) < limit && size < maxTokenPage; {
		r, next, err := t.read(from, end)
		if err != nil {
			return nil, 0, fmt.Errorf("reading the tokens at byte %d: %w", from, err)
		}
		records, from, size = append(records, r), next, size+len(r.Token)
	}
	return records, from, nil
}

func (t *tokenFile) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = fmt.Errorf("the tokens' file is closed: %w", os.ErrClosed)
	}
	return t.file.Close()
}
