package gb_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"pgregory.net/rapid"
)

func now() time.Time { return time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC) }

func ExampleParseIDNumber() {
	id, err := gb.ParseIDNumber("１１０１０５ 19491231 002x", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	fmt.Println(id, id.Birth().Format("2006-01-02"), id.Sex() == gb.Female, err)
	_, err = gb.ParseIDNumber("110105194912310021", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	fmt.Println(err)
	// Output:
	// 110***********002X 1949-12-31 true <nil>
	// the last character of the identity number does not go with the others: copy the 18 characters of the identity card again
}

// The first two are the examples of GB 11643-1999 itself.
func TestIDNumber(t *testing.T) {
	for _, c := range []struct {
		in    string
		code  gb.Code
		place int
	}{
		{"11010519491231002X", "", 0},
		{"440524188001010014", "", 0},
		{"11010519491231002x", "", 0},
		{" 110105 1949 1231 002X\n", "", 0},
		{"１１０１０５１９４９１２３１００２Ｘ", "", 0},
		{"　１１０１０５１９４９１２３１００２ｘ　", "", 0},
		{"", gb.Empty, 0},
		{"   ", gb.Empty, 0},
		{"1101051949123100", gb.Length, 0},
		{"11010519491231002XX", gb.Length, 0},
		{"110105491231002", gb.OldNumber, 0},
		{"11010519491231X02X", gb.Character, 15},
		{"11010519491231002Y", gb.Character, 18},
		{"1101051949123100\u200b2", gb.Character, 17},
		{"11010519491231００一X", gb.Character, 17},
		{"110105194912310020", gb.CheckCharacter, 18},
		{"110105194912310O2X", gb.Character, 16},
		{"990105194912310021", gb.Region, 1},
		{"000000000000000000", gb.Region, 1},
		{"110105194902310028", gb.BirthDate, 7},
		{"110105194900310028", gb.BirthDate, 7},
		{"110105202702280028", gb.BirthFuture, 7},
		{"110105187502280028", gb.BirthTooOld, 7},
		{"101105194912310028", gb.Region, 1},
	} {
		id, err := gb.ParseIDNumber(c.in, now())
		if c.code == "" {
			if err != nil {
				t.Errorf("%q: %v", c.in, err)
			} else if len(id.Number()) != 18 || id.Number() != strings.ToUpper(id.Number()) {
				t.Errorf("%q becomes %q", c.in, id.Number())
			}
			continue
		}
		var e *gb.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Place != c.place || e.Hint == "" {
			t.Errorf("%q: %#v, want %s at %d", c.in, err, c.code, c.place)
		}
		if id != (gb.IDNumber{}) {
			t.Errorf("%q: a number beside the error", c.in)
		}
	}
}

// Born today in Beijing is allowed, although it is yesterday in UTC.
func TestIDNumberToday(t *testing.T) {
	late := time.Date(2026, 2, 28, 17, 0, 0, 0, time.UTC) // 1 March, 01:00 in Beijing
	found := 0
	for _, c := range "0123456789X" {
		if _, err := gb.ParseIDNumber("11999920260301001"+string(c), late); err == nil {
			found++
		}
		var e *gb.Error
		if _, err := gb.ParseIDNumber("11999920260302001"+string(c), late); !errors.As(err, &e) || e.Code != gb.BirthFuture {
			t.Errorf("born tomorrow: %v", err)
		}
	}
	if found != 1 {
		t.Errorf("%d of 11 check characters are right, want 1", found)
	}
}

func TestNumberIsNotPrinted(t *testing.T) {
	id := gbtest.IDNumber(1990, 1, 2, 7)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "id", id)
	for _, s := range []string{fmt.Sprint(id), fmt.Sprintf("%+v", id), fmt.Sprintf("%#v", id), log.String(), fmt.Sprintf("%v", struct{ A gb.IDNumber }{id})} {
		if strings.Contains(s, id.Number()) || strings.Contains(s, "19900102") {
			t.Errorf("the number shows in %q", s)
		}
	}
	if id.Birth() != time.Date(1990, 1, 2, 0, 0, 0, 0, time.UTC) || id.Sex() != gb.Male || id.Region() != gbtest.Region {
		t.Errorf("%v %v %v", id.Birth(), id.Sex(), id.Region())
	}
	var zero gb.IDNumber
	if !zero.Birth().IsZero() || zero.Sex() != 0 || zero.Region() != "" || zero.String() != "—" {
		t.Error("the zero number says something")
	}
}

// Every single wrong digit and every swap of neighbours is noticed: that is
// what MOD 11-2 is for. So it is mod 31 in a credit code.
func TestMistakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := gbtest.IDNumber(rapid.IntRange(1900, 2020).Draw(t, "year"), time.Month(rapid.IntRange(1, 12).Draw(t, "month")), rapid.IntRange(1, 28).Draw(t, "day"), rapid.IntRange(0, 999).Draw(t, "sequence")).Number()
		code := gbtest.USCC(rapid.IntRange(0, 9999999).Draw(t, "organisation")).String()
		for i := range 18 {
			for _, c := range "0123456789X" {
				if m := id[:i] + string(c) + id[i+1:]; m != id {
					if _, err := gb.ParseIDNumber(m, now()); err == nil {
						t.Fatalf("%s passes for %s", m, id)
					}
				}
			}
			for _, c := range "0123456789ABCDEFGHJKLMNPQRTUWXY" {
				if m := code[:i] + string(c) + code[i+1:]; m != code {
					if _, err := gb.ParseUSCC(m); err == nil {
						t.Fatalf("%s passes for %s", m, code)
					}
				}
			}
			if i < 17 {
				if m := id[:i] + string(id[i+1]) + string(id[i]) + id[i+2:]; m != id {
					if _, err := gb.ParseIDNumber(m, now()); err == nil {
						t.Fatalf("%s passes for %s", m, id)
					}
				}
			}
		}
	})
}

func TestUSCC(t *testing.T) {
	for _, c := range []struct {
		in    string
		code  gb.Code
		place int
	}{
		{"91350100M000100Y43", "", 0},
		{"91350100m000100y43", "", 0},
		{"９１３５０１００Ｍ０００１００Ｙ４３", "", 0},
		{"91 350100 M000100Y4 3", "", 0},
		{"", gb.Empty, 0},
		{"M000100Y4", gb.OldNumber, 0},
		{"91350100M000100Y4", gb.Length, 0},
		{"9135010OM000100Y43", gb.Character, 8},
		{"91350100I000100Y43", gb.Character, 9},
		{"9135A100M000100Y43", gb.Character, 5},
		{"91350100M000100Y4三", gb.Character, 18},
		{"91350100M000100Y44", gb.CheckCharacter, 18},
		{"B1350100M000100Y43", gb.Authority, 1},
		{"94350100M000100Y43", gb.Category, 2},
		{"Y2350100M000100Y43", gb.Category, 2},
		{"99350100M000100Y43", gb.Category, 2},
	} {
		u, err := gb.ParseUSCC(c.in)
		if c.code == "" {
			if err != nil || u.String() != "91350100M000100Y43" || u.Organisation() != "M000100Y4" || u.Authority() != '9' || u.Category() != '1' {
				t.Errorf("%q: %v %v", c.in, u, err)
			}
			continue
		}
		var e *gb.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Place != c.place || e.Hint == "" {
			t.Errorf("%q: %#v, want %s at %d", c.in, err, c.code, c.place)
		}
	}
	// Both checks are made: the outer one right, the inner one wrong.
	inner := 0
	for _, c := range "0123456789ABCDEFGHJKLMNPQRTUWXY" {
		var e *gb.Error
		if _, err := gb.ParseUSCC("91350100M000100Y5" + string(c)); errors.As(err, &e) && e.Code == gb.Organisation {
			inner++
		}
	}
	if inner != 1 {
		t.Errorf("%d codes with a wrong organisation code get past the outer check, want 1", inner)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("11010519491231002X")
	f.Add("91350100M000100Y43")
	f.Add("１１０ x\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := gb.ParseIDNumber(s, now()); err == nil {
			again, err := gb.ParseIDNumber(id.Number(), now())
			if err != nil || again != id || id.Birth().IsZero() {
				t.Errorf("%q: %v", s, err)
			}
		}
		if u, err := gb.ParseUSCC(s); err == nil {
			if again, err := gb.ParseUSCC(u.String()); err != nil || again != u {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
