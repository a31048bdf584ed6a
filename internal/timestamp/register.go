package timestamp

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// registerHeader is the first line of a register.
const registerHeader = "zhenglian-timestamp-register/1\n"

// maxLine in bytes: an entry over SHA-512 under a policy of 200 has under 800.
const maxLine = 4 << 10

// ErrRegisterInUse says that another process writes this register.
var ErrRegisterInUse = errors.New("another process has this register open; stop it first")

// ErrTimeWentBack says that the clock shows an earlier time than that of a token
// issued before.
var ErrTimeWentBack = errors.New("the clock is behind the last token of the register")

// DamageError says where a register is not what the authority wrote.
type DamageError struct {
	Path string
	Line int // from 1
	Why  string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the register %s is damaged at line %d: %s; keep the file as it is, restore a copy or begin a new register", e.Path, e.Line, e.Why)
}

// Entry is one issued token.
type Entry struct {
	Number      uint64    // from 1, without gaps
	Time        time.Time // genTime, whole seconds, UTC
	Serial      *big.Int
	Policy      string // dotted
	Hash        string // of the imprint: "SHA-256", "SHA-384" or "SHA-512"
	Imprint     []byte
	Accuracy    time.Duration // 0: none stated
	Token       [32]byte      // SHA-256 of the token, DER
	Certificate [32]byte      // SHA-256 of the authority's certificate, DER
}

// Head is the state of a register: how many entries, and the hash that chains
// them. Kept elsewhere, it shows later that nothing was cut off at the end.
type Head struct {
	Entries uint64
	Hash    [32]byte
}

// Register is the account of the tokens that an authority issued: a text file,
// one line an entry, each line with a hash over itself and all before it. Lines
// are added and never changed.
//
// Append returns when the line is on disk, and the token leaves after that. A
// power cut before costs nothing: nobody has the token. One between the two
// leaves a line for a token that nobody received, which is harmless. A line cut
// short was never answered for, and is taken off at the next start.
type Register struct {
	mu   sync.Mutex
	path string
	file *os.File
	size int64
	head Head
	last time.Time // of the newest entry
	torn int
	err  error // after a failed write nobody knows what is on disk
}

// OpenRegister opens the register at path, or begins one, and reads all of it. It
// returns *DamageError when a line is not what follows from those before, and
// ErrRegisterInUse.
func OpenRegister(path string) (*Register, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the register: %w", err)
	}
	r := &Register{path: path, file: f}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *Register) open() error {
	if err := lock(r.file); err != nil {
		return err
	}
	head, last, size, err := readRegister(r.file, r.path, nil)
	if err != nil {
		return err
	}
	end, err := r.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("opening the register: %w", err)
	}
	r.head, r.last, r.size, r.torn = head, last, size, int(end-size)
	if r.torn > 0 {
		if err := r.file.Truncate(size); err != nil {
			return fmt.Errorf("taking a line cut short off the register: %w", err)
		}
	}
	if size == 0 {
		if _, err := r.file.WriteAt([]byte(registerHeader), 0); err != nil {
			return fmt.Errorf("beginning the register: %w", err)
		}
		r.size = int64(len(registerHeader))
		r.head.Hash = sha256.Sum256([]byte(registerHeader))
	}
	if size == 0 || r.torn > 0 {
		if err := r.file.Sync(); err != nil {
			return fmt.Errorf("beginning the register: %w", err)
		}
	}
	return syncDirectory(filepath.Dir(r.path))
}

// ReadRegister reads a register, whoever writes it, and calls each for every
// entry. A line cut short at the end is passed over.
func ReadRegister(path string, each func(Entry) error) (Head, error) {
	f, err := os.Open(path)
	if err != nil {
		return Head{}, fmt.Errorf("reading the register: %w", err)
	}
	defer f.Close()
	head, _, _, err := readRegister(f, path, each)
	return head, err
}

// readRegister returns the head, the time of the last entry, and how many bytes
// are whole lines.
func readRegister(f io.Reader, path string, each func(Entry) error) (head Head, last time.Time, size int64, err error) {
	in := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return head, last, size, &DamageError{path, n, fmt.Sprintf("a line has more than %d bytes", maxLine)}
		}
		if errors.Is(err, io.EOF) {
			if n == 1 && !strings.HasPrefix(registerHeader, string(line)) {
				return head, last, size, &DamageError{path, n, "it is no register of timestamps"}
			}
			return head, last, size, nil
		}
		if err != nil {
			return head, last, size, fmt.Errorf("reading the register %s: %w", path, err)
		}
		if n == 1 {
			if string(line) != registerHeader {
				return head, last, size, &DamageError{path, n, "it is no register of timestamps"}
			}
			head.Hash = sha256.Sum256(line)
		} else {
			e, next, why := parseLine(line, head)
			if why == "" && e.Time.Before(last) {
				why = "its time is before that of the line above"
			}
			if why != "" {
				return head, last, size, &DamageError{path, n, why}
			}
			head, last = next, e.Time
			if each != nil {
				if err := each(e); err != nil {
					return head, last, size, err
				}
			}
		}
		size += int64(len(line))
	}
}

// line returns the entry's line, with the chain hash, and the head after it.
func (e *Entry) line(head Head) ([]byte, Head) {
	accuracy := "-"
	if e.Accuracy != 0 {
		accuracy = strconv.FormatInt(e.Accuracy.Microseconds(), 10)
	}
	text := fmt.Sprintf("%d %s %x %s %s %x %s %x %x ", e.Number, e.Time.UTC().Format(time.RFC3339), e.Serial, e.Policy, e.Hash, e.Imprint, accuracy, e.Token, e.Certificate)
	next := Head{Entries: e.Number, Hash: sha256.Sum256(append(head.Hash[:], text...))}
	return fmt.Appendf([]byte(text), "%x\n", next.Hash), next
}

// parseLine reads a line that must follow head; why says what is wrong with it.
func parseLine(line []byte, head Head) (e Entry, next Head, why string) {
	fields := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
	if len(fields) != 10 {
		return e, head, fmt.Sprintf("it has %d fields, want 10", len(fields))
	}
	var err error
	fail := func(e error) {
		if err == nil {
			err = e
		}
	}
	decode := func(s string, into []byte) {
		b, e := hex.DecodeString(s)
		if e == nil && len(b) != len(into) {
			e = fmt.Errorf("%q has not %d bytes", s, len(into))
		}
		fail(e)
		copy(into, b)
	}
	var fault error
	e.Number, fault = strconv.ParseUint(fields[0], 10, 64)
	fail(fault)
	e.Time, fault = time.Parse(time.RFC3339, fields[1])
	fail(fault)
	serial, ok := new(big.Int).SetString(fields[2], 16)
	if !ok {
		return e, head, "its serial number cannot be read"
	}
	e.Serial, e.Policy, e.Hash = serial, fields[3], fields[4]
	e.Imprint, fault = hex.DecodeString(fields[5])
	fail(fault)
	if fields[6] != "-" {
		micros, fault := strconv.ParseInt(fields[6], 10, 64)
		fail(fault)
		e.Accuracy = time.Duration(micros) * time.Microsecond
	}
	decode(fields[7], e.Token[:])
	decode(fields[8], e.Certificate[:])
	if err != nil {
		return e, head, err.Error()
	}
	if e.Number != head.Entries+1 {
		return e, head, fmt.Sprintf("entry %d follows entry %d", e.Number, head.Entries)
	}
	// Written again, the line must be the same to the byte, chain hash included.
	again, next := e.line(head)
	if !bytes.Equal(again, line) {
		return e, head, "its hash does not follow from the lines above"
	}
	return e, next, ""
}

// Append writes an entry, gives it its number, and returns when it is on disk. It
// returns ErrTimeWentBack, wrapped, for a time before that of the last entry.
// After a failed write the register takes no more until it is opened again.
func (r *Register) Append(e Entry) (Head, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return Head{}, r.err
	}
	if e.Time.Before(r.last) {
		return Head{}, fmt.Errorf("registering a token of %s: %w, of %s", e.Time.Format(time.RFC3339), ErrTimeWentBack, r.last.Format(time.RFC3339))
	}
	e.Number = r.head.Entries + 1
	line, next := e.line(r.head)
	if _, err := r.file.WriteAt(line, r.size); err != nil {
		r.err = fmt.Errorf("writing entry %d of the register; open it again: %w", e.Number, err)
		return Head{}, r.err
	}
	if err := r.file.Sync(); err != nil {
		r.err = fmt.Errorf("syncing entry %d of the register; open it again: %w", e.Number, err)
		return Head{}, r.err
	}
	r.size += int64(len(line))
	r.head, r.last = next, e.Time
	return next, nil
}

// Head returns the register's state.
func (r *Register) Head() Head {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head
}

// Last returns the time of the newest entry, zero when there is none.
func (r *Register) Last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Torn returns how many bytes of a line cut short were taken off at the start.
func (r *Register) Torn() int { return r.torn }

// Close ends writing. Append fails after it.
func (r *Register) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(r.err, os.ErrClosed) {
		return nil
	}
	r.err = fmt.Errorf("the register is closed: %w", os.ErrClosed)
	return r.file.Close()
}
