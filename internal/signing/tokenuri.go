package signing

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// TokenURI names a key pair on a PKCS#11 token (RFC 7512):
//
//	pkcs11:token=court;object=receipt
//	pkcs11:serial=1f2e;object=receipt;id=%01?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/zhenglian/pin
//
// The token is named by its label or serial number, the key by its label
// (object), its id, or both. A PIN never stands in it.
type TokenURI struct {
	Token  string // label of the token
	Serial string // serial number of the token; one of the two
	Object string // label of the key pair
	ID     []byte // CKA_ID of the key pair
	Module string // file of the PKCS#11 library; empty: by configuration
	PIN    string // file with the PIN in its first line; empty: by configuration
}

const tokenScheme = "pkcs11:"

// IsTokenURI reports whether a text is meant as one.
func IsTokenURI(s string) bool { return strings.HasPrefix(s, tokenScheme) }

// ParseTokenURI reads the attributes that name a key; it refuses those that it
// does not know, since they were meant to exclude something. The error is a
// *TokenError of TokenBadURI and never quotes the text.
func ParseTokenURI(s string) (*TokenURI, error) {
	u, err := parseTokenURI(s)
	if err != nil {
		return nil, &TokenError{Code: TokenBadURI, Reason: err.Error()}
	}
	return u, nil
}

func parseTokenURI(s string) (*TokenURI, error) {
	rest, ok := strings.CutPrefix(s, tokenScheme)
	if !ok {
		return nil, errors.New(`a key on a token is named like "pkcs11:token=LABEL;object=LABEL" (RFC 7512)`)
	}
	path, query, _ := strings.Cut(rest, "?")
	u := new(TokenURI)
	seen := map[string]bool{}
	read := func(part string) (name, value string, err error) {
		name, text, ok := strings.Cut(part, "=")
		if !ok || seen[name] {
			return "", "", fmt.Errorf("the PKCS#11 URI has %q without a value or twice", name)
		}
		seen[name] = true
		if value, err = url.PathUnescape(text); err != nil {
			return "", "", fmt.Errorf("the PKCS#11 URI has a wrong escape in %q", name)
		}
		return name, value, nil
	}
	for part := range strings.SplitSeq(path, ";") {
		name, value, err := read(part)
		if err != nil {
			return nil, err
		}
		switch name {
		case "token":
			u.Token = value
		case "serial":
			u.Serial = value
		case "object":
			u.Object = value
		case "id":
			u.ID = []byte(value)
		case "type":
			if value != "private" {
				return nil, errors.New("the PKCS#11 URI names no private key: leave type out, or write type=private")
			}
		default:
			return nil, fmt.Errorf("the PKCS#11 URI has the attribute %q, which is not supported: use token or serial, object, id", name)
		}
	}
	for part := range strings.SplitSeq(query, "&") {
		if query == "" {
			break
		}
		name, value, err := read(part)
		if err != nil {
			return nil, err
		}
		switch name {
		case "module-path":
			u.Module = value
		case "pin-source":
			file, isFile := strings.CutPrefix(value, "file:")
			if strings.Contains(value, ":") && !isFile || strings.HasPrefix(value, "|") {
				return nil, errors.New("the PKCS#11 URI has a pin-source that is no file: write pin-source=file:/path")
			}
			u.PIN = strings.TrimPrefix(firstNonEmpty(file, value), "//")
		case "pin-value":
			return nil, errors.New("the PKCS#11 URI holds a PIN: put it into a file of mode 0600 and name that by pin-source=file:/path")
		default:
			return nil, fmt.Errorf("the PKCS#11 URI has the attribute %q, which is not supported: use module-path, pin-source", name)
		}
	}
	if (u.Token == "") == (u.Serial == "") {
		return nil, errors.New("the PKCS#11 URI has to name the token by token=LABEL or by serial=NUMBER, and not by both")
	}
	if u.Object == "" && len(u.ID) == 0 {
		return nil, errors.New("the PKCS#11 URI has to name the key by object=LABEL or id=%01…")
	}
	return u, nil
}

func firstNonEmpty(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// String writes the URI without where module and PIN are.
func (u *TokenURI) String() string {
	var parts []string
	for _, a := range []struct{ name, value string }{{"token", u.Token}, {"serial", u.Serial}, {"object", u.Object}} {
		if a.value != "" {
			parts = append(parts, a.name+"="+escape(a.value, unreserved))
		}
	}
	if len(u.ID) > 0 {
		parts = append(parts, "id="+escape(string(u.ID), ""))
	}
	return tokenScheme + strings.Join(parts, ";")
}

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

func escape(s, plain string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(plain, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
