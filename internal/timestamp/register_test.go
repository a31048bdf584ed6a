package timestamp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openRegister(t testing.TB, path string) *Register {
	t.Helper()
	r, err := OpenRegister(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func entry(n int) Entry {
	d := sha256.Sum256(fmt.Append(nil, n))
	return Entry{
		Time: time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC), Serial: new(big.Int).SetBytes(d[:20]), Policy: "1.2.3", Hash: "SHA-256",
		Imprint: d[:], Accuracy: time.Duration(n) * time.Millisecond, Token: d, Certificate: d,
	}
}

// filled returns the path and the bytes of a closed register of five entries.
func filled(t *testing.T) (string, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "register")
	r := openRegister(t, path)
	for n := range 5 {
		if _, err := r.Append(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

func TestRegister(t *testing.T) {
	path, _ := filled(t)
	var read []Entry
	head, err := ReadRegister(path, func(e Entry) error { read = append(read, e); return nil })
	if err != nil || head.Entries != 5 || len(read) != 5 {
		t.Fatalf("%d entries, head %+v, %v", len(read), head, err)
	}
	for n, e := range read {
		if want := entry(n); e.Number != uint64(n+1) || e.Serial.Cmp(want.Serial) != 0 || !e.Time.Equal(want.Time) || e.Accuracy != want.Accuracy || !bytes.Equal(e.Imprint, want.Imprint) || e.Token != want.Token {
			t.Errorf("entry %d reads %+v", n, e)
		}
	}
	r := openRegister(t, path)
	if r.Head() != head || r.Torn() != 0 || !r.Last().Equal(entry(4).Time) {
		t.Errorf("opened again: %+v, want %+v", r.Head(), head)
	}
	if _, err := OpenRegister(path); !errors.Is(err, ErrRegisterInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := r.Append(entry(3)); !errors.Is(err, ErrTimeWentBack) {
		t.Errorf("an earlier time: %v", err)
	}
	if _, err := r.Append(entry(4)); err != nil {
		t.Errorf("the same second again: %v", err)
	}
}

// A power cut can end the file at any byte of the line being written. The lines
// before it stand, and the register goes on.
func TestRegisterCutShort(t *testing.T) {
	path, data := filled(t)
	start := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	for end := range len(data) {
		if end > len(registerHeader) && end < start {
			continue
		}
		if err := os.WriteFile(path, data[:end], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenRegister(path)
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", end, err)
		}
		want := uint64(4)
		if end <= len(registerHeader) {
			want = 0
		}
		if r.Head().Entries != want {
			t.Errorf("cut to %d bytes: %d entries, want %d", end, r.Head().Entries, want)
		}
		if _, err := r.Append(entry(4)); err != nil {
			t.Errorf("cut to %d bytes: %v", end, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if head, err := ReadRegister(path, nil); err != nil || head.Entries != want+1 {
			t.Errorf("cut to %d bytes and gone on: %+v, %v", end, head, err)
		}
	}
}

func TestRegisterDamage(t *testing.T) {
	path, data := filled(t)
	whole, err := ReadRegister(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	for name, damaged := range map[string][]byte{
		"a line taken out":    join(lines[0], lines[1], lines[3], lines[4], lines[5]),
		"lines exchanged":     join(lines[0], lines[2], lines[1], lines[3], lines[4], lines[5]),
		"a line twice":        join(lines[0], lines[1], lines[1]),
		"an imprint changed":  bytes.Replace(data, fmt.Appendf(nil, "%x", entry(2).Imprint), fmt.Appendf(nil, "%x", entry(3).Imprint), 1),
		"the first taken off": join(lines[0], lines[2], lines[3]),
		"a line without end":  append(bytes.Clone(data), bytes.Repeat([]byte("0"), maxLine+1)...),
		"no register":         []byte("something else\n"),
		"no register, short":  []byte("x"),
		"upper case":          join(lines[0], bytes.ToUpper(lines[1])),
		"an empty line":       append(bytes.Clone(data), '\n'),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			var damage *DamageError
			if r, err := OpenRegister(path); !errors.As(err, &damage) {
				t.Fatalf("opened: %v, %v", r, err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
				t.Error("the damaged file was changed")
			}
			t.Log(damage)
		})
	}
	// What the end loses shows against a head that somebody kept, and only there.
	if err := os.WriteFile(path, join(lines[:5]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if head, err := ReadRegister(path, nil); err != nil || head == whole || head.Entries != 4 {
		t.Errorf("the end taken off: %+v, %v", head, err)
	}
}

func TestRegisterFailedWrite(t *testing.T) {
	path, _ := filled(t)
	r := openRegister(t, path)
	if err := r.file.Close(); err != nil {
		t.Fatal(err)
	}
	_, first := r.Append(entry(5))
	if first == nil {
		t.Fatal("written to a closed file")
	}
	if _, err := r.Append(entry(6)); !errors.Is(err, first) {
		t.Errorf("after a failed write: %v", err)
	}
	r.err = os.ErrClosed // closed above
}

func FuzzRegister(f *testing.F) {
	head := Head{Hash: sha256.Sum256([]byte(registerHeader))}
	e := entry(1)
	e.Number = 1
	line, _ := e.line(head)
	f.Add(line)
	f.Fuzz(func(t *testing.T, line []byte) {
		if e, next, why := parseLine(line, head); why == "" {
			if again, h := e.line(head); !bytes.Equal(again, line) || h != next {
				t.Errorf("%q reads and writes as %q", line, again)
			}
		}
	})
}
