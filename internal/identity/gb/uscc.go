package gb

import (
	"log/slog"
	"strings"
)

// USCC is a well-formed unified social credit code. Codes of organisations are
// public; it prints itself whole.
type USCC struct{ s string }

// alphabet of GB 32100-2015: no I, O, S, V, Z. A character's place is its value.
const alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"

// ParseUSCC reads a unified social credit code, GB 32100-2015: one character for
// the registering authority, one for the category, six digits region, the nine
// characters of the organisation code with its own check (GB 11714), and a check
// character mod 31. Errors are *Error.
func ParseUSCC(s string) (USCC, error) {
	const again = "copy the 18 characters from the business licence or registration certificate again"
	in := normal(s)
	switch n := len(in); {
	case n == 0:
		return USCC{}, bad(Empty, 0, "give the 18 characters from the business licence or registration certificate", "there is no unified social credit code")
	case n == 9 || n == 15:
		return USCC{}, bad(OldNumber, 0, "give the unified code of 18 characters, which replaced it", "a code of %d characters is an organisation code or registration number of before 2015", n)
	case n != 18:
		return USCC{}, bad(Length, 0, again, "a unified social credit code has 18 characters, not %d", n)
	}
	for i, c := range in {
		switch {
		case c > 0x7F || !strings.ContainsRune(alphabet, c):
			hint := again
			if strings.ContainsRune("IOSVZ", c) {
				hint += "; the code has no I, O, S, V or Z, look for 1, 0, 5, U or 2"
			}
			return USCC{}, bad(Character, i+1, hint, "place %d of a unified social credit code cannot be %s", i+1, show(c))
		case i >= 2 && i < 8 && c > '9':
			return USCC{}, bad(Character, i+1, again, "place %d of a unified social credit code is a digit of the region, not %s", i+1, show(c))
		}
	}
	u := USCC{string(in)}
	cats := categories(u.s[0])
	if cats == "" {
		return USCC{}, bad(Authority, 1, again, "no registering authority has the code %c", u.s[0])
	}
	if strings.IndexByte(cats, u.s[1]) < 0 {
		return USCC{}, bad(Category, 2, again, "the registering authority %c has no category %c", u.s[0], u.s[1])
	}
	// The outer check first: a mistyped character upsets both, and is then told
	// as what it is.
	if usccCheck(u.s) != u.s[17] {
		return USCC{}, bad(CheckCharacter, 18, again, "the last character of the unified social credit code does not go with the others")
	}
	if orgCheck(u.s[8:16]) != u.s[16] {
		return USCC{}, bad(Organisation, 17, again, "the organisation code inside, places 9 to 17, is inconsistent")
	}
	return u, nil
}

// categories of table 1 of GB 32100-2015 by registering authority: 1 public
// sector reform, 2 foreign affairs, 3 justice, 4 culture, 5 civil affairs,
// 6 tourism, 7 religion, 8 unions, 9 market regulation, A military, N agriculture,
// Y all others.
func categories(authority byte) string {
	switch authority {
	case '1':
		return "1239"
	case '2':
		return "19"
	case '3':
		return "123459"
	case '4':
		return "19"
	case '5':
		return "1239"
	case '6':
		return "129"
	case '7':
		return "129"
	case '8':
		return "19"
	case '9':
		return "123"
	case 'A':
		return "19"
	case 'N':
		return "1239"
	case 'Y':
		return "1"
	}
	return ""
}

// usccCheck: the weight of place i is 3^(i-1) mod 31.
func usccCheck(s string) byte {
	sum, weight := 0, 1
	for i := range 17 {
		sum += strings.IndexByte(alphabet, s[i]) * weight
		weight = weight * 3 % 31
	}
	return alphabet[(31-sum%31)%31]
}

// orgCheck is the check character of eight characters, GB 11714: letters count
// from A = 10 without gaps.
func orgCheck(s string) byte {
	sum := 0
	for i, weight := range [8]int{3, 7, 9, 10, 5, 8, 4, 2} {
		v := int(s[i] - '0')
		if s[i] >= 'A' {
			v = int(s[i]-'A') + 10
		}
		sum += v * weight
	}
	return "0123456789X"[(11-sum%11)%11]
}

// String is the code, 18 characters.
func (u USCC) String() string { return u.s }

// LogValue is the code.
func (u USCC) LogValue() slog.Value { return slog.StringValue(u.s) }

// Authority is the code of the registering authority, Category what it registered
// there: 9 and 1 are an enterprise at market regulation. 0 of the zero USCC.
func (u USCC) Authority() byte { return u.at(0) }

// Category is the second character.
func (u USCC) Category() byte { return u.at(1) }

// Organisation is the nine characters of the organisation code.
func (u USCC) Organisation() string {
	if len(u.s) != 18 {
		return ""
	}
	return u.s[8:17]
}

func (u USCC) at(i int) byte {
	if len(u.s) != 18 {
		return 0
	}
	return u.s[i]
}
