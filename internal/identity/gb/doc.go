// Package gb reads the two numbers by which a Chinese register knows somebody:
// the citizen identity number (GB 11643-1999) of a natural person and the
// unified social credit code (GB 32100-2015) of an organisation.
//
//	what somebody typed ──► one form: half-width, upper case, no spaces
//	                    ──► length and alphabet
//	                    ──► places with a meaning: region, birth, authority, category
//	                    ──► check characters (ISO 7064 MOD 11-2; mod 31; GB 11714 mod 11)
//	                    ──► IDNumber, USCC: show themselves masked
//
// It is pure: no clock, no network, no list beyond the standards' own tables.
// What it finds is that a number is well formed; it is not trusted for more.
// Whether the number was ever given to anybody, and whether it belongs to who
// says so, only the register knows.
package gb
