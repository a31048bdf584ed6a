package evidence

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A renewal takes over what earlier tokens of a package say before their
// certificates end or their algorithms fall. It is a list of every file, by
// SHA-512, and tokens over that list. spec/timestamp.md, part 5.
const (
	renewalDir    = "timestamps/renewals/"
	renewalList   = ".sha512"
	renewalToken  = ".tsr"
	renewalSHA512 = 2 * sha512.Size // digits
	// MaxRenewals of one package: one a year for a thousand years.
	MaxRenewals = 999
)

// RenewalListPath returns the place of the list of renewal n, 1 to MaxRenewals.
func RenewalListPath(n int) string { return fmt.Sprintf("%s%03d%s", renewalDir, n, renewalList) }

// RenewalTokenPath returns the place of an authority's token over that list.
func RenewalTokenPath(n int, authority string) string {
	return fmt.Sprintf("%s%03d.%s%s", renewalDir, n, authority, renewalToken)
}

// ParseRenewalPath takes such a path apart; authority is empty for a list. ok is
// false for a file of timestamps/renewals that is neither.
func ParseRenewalPath(name string) (n int, authority string, ok bool) {
	base, under := strings.CutPrefix(name, renewalDir)
	if !under || len(base) < 3 {
		return 0, "", false
	}
	n, err := strconv.Atoi(base[:3])
	if err != nil || n < 1 || n > MaxRenewals || fmt.Sprintf("%03d", n) != base[:3] {
		return 0, "", false
	}
	if base[3:] == renewalList {
		return n, "", true
	}
	rest, dotted := strings.CutPrefix(base[3:], ".")
	authority, isToken := strings.CutSuffix(rest, renewalToken)
	return n, authority, dotted && isToken && isSlug(authority)
}

// RenewalEntry is one line of a list.
type RenewalEntry struct {
	SHA512 [sha512.Size]byte
	Path   string
}

// EncodeRenewalList writes the lines as sha512sum does: the digest, two blanks,
// the path, sorted by path.
func EncodeRenewalList(entries []RenewalEntry) []byte {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b RenewalEntry) int { return strings.Compare(a.Path, b.Path) })
	var out bytes.Buffer
	for _, e := range sorted {
		fmt.Fprintf(&out, "%x  %s\n", e.SHA512, e.Path)
	}
	return out.Bytes()
}

// ParseRenewalList reads a list. One list has one byte string: at least one line,
// each as EncodeRenewalList writes it, sorted, no path twice, every path one that
// a package can have, neither README.txt nor index.json, which nothing rests on.
func ParseRenewalList(data []byte) ([]RenewalEntry, error) {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, errors.New("the list of a renewal has no line, or none that ends")
	}
	var out []RenewalEntry
	n := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		n++
		if len(line) < renewalSHA512+3 || line[renewalSHA512:renewalSHA512+2] != "  " {
			return nil, fmt.Errorf("line %d of a renewal's list is not a SHA-512 digest, two blanks and a path", n)
		}
		e := RenewalEntry{Path: line[renewalSHA512+2:]}
		raw, err := hex.DecodeString(line[:renewalSHA512])
		if err != nil || hex.EncodeToString(raw) != line[:renewalSHA512] {
			return nil, fmt.Errorf("line %d of a renewal's list does not begin with a digest in lower-case hexadecimal", n)
		}
		copy(e.SHA512[:], raw)
		if p, ok := parsePackagePath(e.Path); !ok || p.role == RoleReadme {
			return nil, fmt.Errorf("line %d of a renewal's list names %.80q, which is no file of a package that a renewal covers", n, e.Path)
		}
		if len(out) > 0 && e.Path <= out[len(out)-1].Path {
			return nil, fmt.Errorf("line %d of a renewal's list is not in the order of the paths", n)
		}
		out = append(out, e)
	}
	return out, nil
}

// ListForRenewal makes the list of the package's next renewal and its number: all
// files but README.txt and index.json, those of earlier renewals with them.
func (p *Package) ListForRenewal(ctx context.Context) (n int, list []byte, err error) {
	var entries []RenewalEntry
	for _, f := range p.Index.Files {
		if f.Role == RoleReadme {
			continue
		}
		if k, _, ok := ParseRenewalPath(f.Path); ok {
			n = max(n, k)
		}
		sum, err := p.SHA512(ctx, f.Path)
		if err != nil {
			return 0, nil, err
		}
		entries = append(entries, RenewalEntry{sum, f.Path})
	}
	if n++; n > MaxRenewals {
		return 0, nil, fmt.Errorf("the package has %d renewals, and there is no number for another", MaxRenewals)
	}
	if list = EncodeRenewalList(entries); int64(len(list)) > RoleRenewal.maxSize() {
		return 0, nil, fmt.Errorf("the list of the renewal has %d bytes, more than %d", len(list), RoleRenewal.maxSize())
	}
	return n, list, nil
}

// SHA512 digests a file of the package.
func (p *Package) SHA512(ctx context.Context, name string) (sum [sha512.Size]byte, err error) {
	r, err := p.c.Open(name)
	if err != nil {
		return sum, err
	}
	h := sha512.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		k, err := r.Read(buf)
		h.Write(buf[:k])
		if err == io.EOF {
			return [sha512.Size]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, fmt.Errorf("reading %s: %w", name, err)
		}
	}
}

// StatementTimestampPath returns the place of an authority's token over the
// statement of step n, from 1.
func StatementTimestampPath(n int, authority string) string {
	return fmt.Sprintf("timestamps/statements/%06d.%s.tsr", n, authority)
}

// AddTimestamps writes the package again on w with more files under timestamps/,
// each by its path; w is as for NewPackageWriter. No other file is altered, so
// that what was stamped of the package stays as it was.
func (p *Package) AddTimestamps(w io.Writer, files map[string][]byte) error {
	out := &PackageWriter{c: NewContainerWriter(w), index: p.Index, files: map[string]int{}}
	out.index.Files = nil
	for _, f := range p.Index.Files {
		section, err := p.c.Open(f.Path)
		if err != nil {
			return err
		}
		if err := out.c.Add(f.Path, f.Size, section); err != nil {
			return out.fail(f.Path, err)
		}
		out.list(f)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, "timestamps/") {
			return out.fail(name, errors.New("it has no place among the timestamps"))
		}
		if err := out.add(name, files[name]); err != nil {
			return err
		}
	}
	return out.Close()
}
