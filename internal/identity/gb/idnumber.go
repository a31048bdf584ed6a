package gb

import (
	"log/slog"
	"strings"
	"time"
)

// IDNumber is a well-formed citizen identity number. Printed or logged it shows
// itself masked; Number gives it whole.
type IDNumber struct{ s string }

// Sex as place 17 of an identity number has it: odd is male, even female.
type Sex int

// The two of GB/T 2261.1 that an identity number can say.
const (
	Male   Sex = 1
	Female Sex = 2
)

// ParseIDNumber reads a citizen identity number, GB 11643-1999: six digits
// region, eight birth date, three sequence, of which the last tells the sex, and
// a check character (ISO 7064 MOD 11-2) that may be X. now decides what a future
// birth date is, by the date in Beijing. Errors are *Error.
func ParseIDNumber(s string, now time.Time) (IDNumber, error) {
	const again = "copy the 18 characters of the identity card again"
	in := normal(s)
	switch n := len(in); {
	case n == 0:
		return IDNumber{}, bad(Empty, 0, "give the 18 characters of the identity card", "there is no identity number")
	case n == 15 && digitsOnly(in):
		return IDNumber{}, bad(OldNumber, 0, "give the 18 characters of the present identity card", "an identity number of 15 digits is of the first generation, not valid since 2013")
	case n != 18:
		return IDNumber{}, bad(Length, 0, again, "an identity number has 18 characters, not %d", n)
	}
	for i, c := range in {
		if c >= '0' && c <= '9' || i == 17 && c == 'X' {
			continue
		}
		if i == 17 {
			return IDNumber{}, bad(Character, 18, again, "place 18 of an identity number is a digit or X, not %s", show(c))
		}
		return IDNumber{}, bad(Character, i+1, again, "place %d of an identity number is a digit, not %s", i+1, show(c))
	}
	id := IDNumber{string(in)}
	if !strings.Contains(provinces, " "+id.s[:2]+" ") {
		return IDNumber{}, bad(Region, 1, again+"; a foreigner's permanent residence card is another document", "no province has the code that the identity number begins with")
	}
	birth, err := time.Parse("20060102", id.s[6:14])
	if err != nil {
		return IDNumber{}, bad(BirthDate, 7, again, "places 7 to 14 of the identity number are no date")
	}
	y, m, d := now.In(beijing()).Date()
	today := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	if birth.After(today) {
		return IDNumber{}, bad(BirthFuture, 7, again, "the birth date in the identity number is in the future")
	}
	// Nobody known has lived longer than 122 years; the standard's own example
	// is of 1880.
	if birth.Before(today.AddDate(-150, 0, 0)) {
		return IDNumber{}, bad(BirthTooOld, 7, again, "the birth date in the identity number is more than 150 years ago")
	}
	if want := idCheck(id.s); id.s[17] != want {
		return IDNumber{}, bad(CheckCharacter, 18, again, "the last character of the identity number does not go with the others")
	}
	return id, nil
}

// provinces are the first two digits of GB/T 2260, and 81, 82 and 83, with which
// the residence permits of people from Hong Kong, Macao and Taiwan begin: these
// permits are numbered by GB 11643 too.
const provinces = " 11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83 "

func beijing() *time.Location { return time.FixedZone("CST", 8*3600) }

func digitsOnly(s []rune) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// idCheck computes the check character of the first 17 places: ISO 7064
// MOD 11-2, with the weights 2^(18-place) mod 11.
func idCheck(s string) byte {
	sum := 0
	for _, c := range []byte(s[:17]) {
		sum = (sum + int(c-'0')) * 2 % 11
	}
	return "0123456789X"[(12-sum)%11]
}

// Number is the number whole, 18 characters with X in upper case: personal data.
func (id IDNumber) Number() string { return id.s }

// String is the number masked, fit to be shown: 119***********0014.
func (id IDNumber) String() string { return masked(id.s) }

// GoString is the number masked.
func (id IDNumber) GoString() string { return "gb.IDNumber(" + masked(id.s) + ")" }

// LogValue is the number masked.
func (id IDNumber) LogValue() slog.Value { return slog.StringValue(id.String()) }

// Region is the six digits of the place where the number was first given. Places
// are renamed and merged; a number keeps what it had.
func (id IDNumber) Region() string { return id.part(0, 6) }

// Birth is the birth date, midnight UTC; of the zero IDNumber, the zero time.
func (id IDNumber) Birth() time.Time {
	t, err := time.Parse("20060102", id.part(6, 14))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Sex is what place 17 says; 0 of the zero IDNumber.
func (id IDNumber) Sex() Sex {
	switch p := id.part(16, 17); {
	case p == "":
		return 0
	case (p[0]-'0')%2 == 1:
		return Male
	default:
		return Female
	}
}

func (id IDNumber) part(from, to int) string {
	if len(id.s) != 18 {
		return ""
	}
	return id.s[from:to]
}
