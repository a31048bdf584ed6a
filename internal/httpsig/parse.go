package httpsig

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Bounds of what is read at all: far above what the profile needs, far below
// what would cost anything.
const (
	maxInput      = 2048
	maxComponents = 16
	maxNonce      = 64
)

// input is one parsed signature.
type input struct {
	components []string
	params     string // the member's value as received: what "@signature-params" says
	created    time.Time
	expires    time.Time
	hasExpires bool
	kid        evidence.Digest
	nonce      string
	alg        string
	signature  []byte
}

func (in *input) covers(component string) bool { return slices.Contains(in.components, component) }

// parseInput reads Signature-Input and Signature. It accepts only the canonical
// serialization (RFC 8941 §4.1), so that the text received is the text signed.
func parseInput(h http.Header) (*input, error) {
	inputs, sigs := h.Values("Signature-Input"), h.Values("Signature")
	if len(inputs) == 0 || len(sigs) == 0 {
		return nil, refuse(CodeMissing, "signature-input", "the request is not signed: sign it with the member key or the institution's statement key (RFC 9421)")
	}
	if len(inputs) > 1 || len(sigs) > 1 {
		return nil, refuse(CodeMalformed, "signature-input", "there must be exactly one signature")
	}
	if len(inputs[0]) > maxInput || len(sigs[0]) > maxInput {
		return nil, refuse(CodeMalformed, "signature-input", "longer than %d bytes", maxInput)
	}
	label, params, ok := strings.Cut(inputs[0], "=")
	if !ok || !isKey(label) {
		return nil, refuse(CodeMalformed, "signature-input", `want label=("@method" "@target-uri");created=…;keyid="…";nonce="…"`)
	}
	in := &input{params: params}
	if err := in.parseParams(params); err != nil {
		return nil, err
	}
	b64, ok := strings.CutPrefix(sigs[0], label+"=:")
	if !ok {
		return nil, refuse(CodeMalformed, "signature", "want the same label as in Signature-Input, %q", label)
	}
	b64, ok = strings.CutSuffix(b64, ":")
	var err error
	in.signature, err = base64.StdEncoding.Strict().DecodeString(b64)
	if !ok || err != nil || len(in.signature) != evidence.SignatureSize {
		return nil, refuse(CodeMalformed, "signature", "want the base64 of %d bytes between colons", evidence.SignatureSize)
	}
	return in, nil
}

func (in *input) parseParams(s string) error {
	p := &sfText{rest: s}
	if !p.take("(") {
		return refuse(CodeMalformed, "signature-input", "the covered components must stand in parentheses")
	}
	for !p.take(")") {
		if len(in.components) > 0 && !p.take(" ") {
			return refuse(CodeMalformed, "signature-input", "the covered components must be separated by one space")
		}
		name, ok := p.str()
		if !ok || name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, `"\ `) {
			return refuse(CodeMalformed, "signature-input", "a covered component must be a lower-case name in quotes, without parameters")
		}
		if in.covers(name) {
			return refuse(CodeMalformed, "signature-input", "the component %q is covered twice", name)
		}
		if in.components = append(in.components, name); len(in.components) > maxComponents {
			return refuse(CodeMalformed, "signature-input", "more than %d components", maxComponents)
		}
	}
	seen := map[string]bool{}
	for p.take(";") {
		key := p.key()
		if key == "" || !p.take("=") || seen[key] {
			return refuse(CodeMalformed, "signature-input", "a parameter is not key=value, or stands twice")
		}
		seen[key] = true
		if err := in.setParam(key, p); err != nil {
			return err
		}
	}
	if p.rest != "" {
		return refuse(CodeMalformed, "signature-input", "there must be exactly one signature, in canonical form")
	}
	for _, need := range [...]string{"created", "keyid", "nonce"} {
		if !seen[need] {
			return refuse(CodeMalformed, need, "the parameter is missing")
		}
	}
	return nil
}

func (in *input) setParam(key string, p *sfText) (err error) {
	ok := false
	switch key {
	case "created":
		in.created, ok = p.time()
	case "expires":
		in.expires, ok = p.time()
		in.hasExpires = ok
	case "keyid":
		var id string
		if id, ok = p.str(); ok {
			if in.kid, err = evidence.ParseDigest(id); err != nil {
				return refuse(CodeMalformed, "keyid", "want the SHA-256 of the key's SubjectPublicKeyInfo, 64 lower-case hexadecimal digits")
			}
		}
	case "nonce":
		in.nonce, ok = p.str()
		ok = ok && in.nonce != "" && len(in.nonce) <= maxNonce
	case "alg":
		in.alg, ok = p.str()
	case "tag":
		_, ok = p.str()
	default:
		return refuse(CodeMalformed, "signature-input", "the parameter %q is not known", key)
	}
	if !ok {
		return refuse(CodeMalformed, key, "the parameter's value is not of its type or length")
	}
	return nil
}

// sfText reads the few forms of RFC 8941 that the profile has.
type sfText struct{ rest string }

func (p *sfText) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

// str reads an sf-string without escapes, which nothing in the profile needs.
func (p *sfText) str() (string, bool) {
	if !p.take(`"`) {
		return "", false
	}
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			s := p.rest[:i]
			p.rest = p.rest[i+1:]
			return s, true
		case c < 0x20 || c > 0x7e || c == '\\':
			return "", false
		}
	}
	return "", false
}

func (p *sfText) key() string {
	n := 0
	for n < len(p.rest) && isKeyByte(p.rest[n], n == 0) {
		n++
	}
	k := p.rest[:n]
	p.rest = p.rest[n:]
	return k
}

// time reads seconds since 1970, up to the year 9999.
func (p *sfText) time() (time.Time, bool) {
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	s := p.rest[:n]
	p.rest = p.rest[n:]
	if n == 0 || n > 12 || (n > 1 && s[0] == '0') {
		return time.Time{}, false
	}
	v, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(v, 0), err == nil && v <= 253402300799
}

func isKey(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isKeyByte(s[i], i == 0) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func isKeyByte(c byte, first bool) bool {
	if c >= 'a' && c <= 'z' || c == '*' {
		return true
	}
	return !first && (c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')
}
