package gb

import "fmt"

// A Code names what is wrong with a number, so that a page can say it in its
// reader's language. Codes are stable.
type Code string

// What can be wrong with a number.
const (
	Empty          Code = "empty"           // nothing was given
	Length         Code = "length"          // not 18 characters
	OldNumber      Code = "old-number"      // 15 digits: the form before 1999, not valid since 2013
	Character      Code = "character"       // a character that does not stand there
	Region         Code = "region"          // the first two digits of an identity number are no province's
	BirthDate      Code = "birth-date"      // no day of the calendar
	BirthFuture    Code = "birth-future"    // later than today in Beijing
	BirthTooOld    Code = "birth-too-old"   // more than 150 years ago
	CheckCharacter Code = "check-character" // the last character does not go with the others
	Authority      Code = "authority"       // no registering authority has this code
	Category       Code = "category"        // the authority registers no such category
	Organisation   Code = "organisation"    // the organisation code inside, places 9 to 17, is inconsistent
)

// Error says what is wrong with a number and what to do. It never holds the
// number itself, so it may be logged.
type Error struct {
	Code  Code
	Place int    // 1-based place of the character in question, 0 when there is none
	What  string // what is wrong, English
	Hint  string // what to do, English
}

func (e *Error) Error() string { return e.What + ": " + e.Hint }

func bad(code Code, place int, hint, format string, args ...any) error {
	return &Error{Code: code, Place: place, What: fmt.Sprintf(format, args...), Hint: hint}
}

// normal gives one form to what people type: full-width letters and digits, as
// Chinese input methods make them, become half-width; letters become upper case;
// spaces, with which people group long numbers, fall away. Everything else stays
// and is refused by its place.
func normal(s string) []rune {
	out := make([]rune, 0, len(s))
	for _, c := range s {
		switch {
		case c >= 0xFF01 && c <= 0xFF5E: // the full-width forms of U+0021 to U+007E
			c -= 0xFF01 - 0x21
		case c == ' ', c == '\t', c == '\n', c == '\r', c == 0x00A0, c == 0x3000:
			continue
		}
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		out = append(out, c)
	}
	return out
}

// show names a character that a message can hold as it is or by its code point.
func show(c rune) string {
	if c > 0x20 && c < 0x7F {
		return fmt.Sprintf("%q", c)
	}
	return fmt.Sprintf("U+%04X", c)
}

func masked(s string) string {
	if len(s) != 18 {
		return "—"
	}
	return s[:3] + "***********" + s[14:]
}
