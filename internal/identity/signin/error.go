package signin

import "fmt"

// A Code says what went wrong with a sign-in, so that a page can say it in its
// reader's language. Codes are stable.
type Code string

// What can go wrong.
const (
	UnknownProvider Code = "unknown-provider" // no provider has this id
	Unreachable     Code = "unreachable"      // the provider does not answer, or not as a provider does: try later, or another one
	Cancelled       Code = "cancelled"        // the person said no, at the provider
	Refused         Code = "refused"          // the provider answered with an error
	NotBegun        Code = "not-begun"        // the answer belongs to no sign-in that this browser began: begin again
	Expired         Code = "expired"          // the sign-in was begun more than ten minutes ago: begin again
	Used            Code = "used"             // this answer was used before: begin again
	WrongIssuer     Code = "wrong-issuer"     // the answer names another provider than the one that was asked
	BadToken        Code = "bad-token"        // the provider's token does not hold: wrong signature, audience, nonce, time
	NotFresh        Code = "not-fresh"        // a fresh sign-in was asked for, and this one is older
	NotStrong       Code = "not-strong"       // another way of signing in was asked for
	OtherPerson     Code = "other-person"     // the person who is signed in was asked to sign in again, and somebody else did
)

// Error is a sign-in that did not come about. It holds no token, name or number.
type Error struct {
	Code     Code
	Provider string // the provider's id
	Err      error  // for the log
}

func (e *Error) Error() string {
	return fmt.Sprintf("signing in with %q: %s: %v", e.Provider, e.Code, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

func (p *provider) fail(code Code, format string, args ...any) error {
	return &Error{Code: code, Provider: p.ID, Err: fmt.Errorf(format, args...)}
}
