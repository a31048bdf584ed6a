package httpsig

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// target is where a request goes, as both sides see it.
type target struct {
	scheme, authority string
	path, query       string // as on the wire, percent-encoded
	requestURI        string // path and query as in the request line
}

// uri is the "@target-uri" (RFC 9421 §2.2.2).
func (t target) uri() string {
	return t.scheme + "://" + strings.ToLower(t.authority) + t.requestURI
}

func serverTarget(r *http.Request, origin string) (target, error) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return target{}, refuse(CodeMalformed, "@target-uri", "this server does not know the address it is reached at")
	}
	uri := r.RequestURI
	if uri == "" { // a request that did not come over the wire, in tests
		uri = r.URL.RequestURI()
	}
	if !strings.HasPrefix(uri, "/") {
		return target{}, refuse(CodeMalformed, "@target-uri", "the request line must hold a path, not an absolute address")
	}
	// A proxy in front of the server may have cut the path of its address off.
	uri = strings.TrimSuffix(u.EscapedPath(), "/") + uri
	path, query, _ := strings.Cut(uri, "?")
	return target{scheme: u.Scheme, authority: u.Host, path: path, query: query, requestURI: uri}, nil
}

// signatureBase builds the bytes that are signed (RFC 9421 §2.5).
func signatureBase(r *http.Request, t target, components []string, params string) ([]byte, error) {
	b := make([]byte, 0, 512)
	for _, name := range components {
		var value string
		switch name {
		case "@method":
			value = r.Method
		case "@target-uri":
			value = t.uri()
		case "@authority":
			value = strings.ToLower(t.authority)
		case "@scheme":
			value = strings.ToLower(t.scheme)
		case "@path":
			if value = t.path; value == "" {
				value = "/"
			}
		case "@query":
			value = "?" + t.query
		default:
			if strings.HasPrefix(name, "@") {
				return nil, refuse(CodeMalformed, "signature-input", "the component %q is not supported", name)
			}
			lines := headerValues(r, name)
			if len(lines) == 0 {
				return nil, refuse(CodeMalformed, "signature-input", "the component %q names a header field that is not there", name)
			}
			// RFC 9421 §2.1: values trimmed, lines joined.
			trimmed := make([]string, len(lines))
			for i, l := range lines {
				trimmed[i] = strings.Trim(l, " \t")
			}
			value = strings.Join(trimmed, ", ")
		}
		if strings.ContainsAny(value, "\r\n") {
			return nil, refuse(CodeMalformed, name, "it holds a line break")
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `": `...)
		b = append(b, value...)
		b = append(b, '\n')
	}
	b = append(b, `"@signature-params": `...)
	return append(b, params...), nil
}

// headerValues also finds the two fields that net/http keeps elsewhere.
func headerValues(r *http.Request, name string) []string {
	if name == "host" {
		if r.Host == "" {
			return nil
		}
		return []string{r.Host}
	}
	return r.Header.Values(name)
}

// checkContentDigest compares the sha-256 member of Content-Digest (RFC 9530
// §2) with the body. Other algorithms may stand beside it and are not looked at.
func checkContentDigest(h http.Header, body []byte) error {
	for member := range strings.SplitSeq(strings.Join(h.Values("Content-Digest"), ","), ",") {
		b64, ok := strings.CutPrefix(strings.Trim(member, " \t"), "sha-256=:")
		if !ok {
			continue
		}
		b64, ok = strings.CutSuffix(b64, ":")
		got, err := base64.StdEncoding.Strict().DecodeString(b64)
		if !ok || err != nil || len(got) != sha256.Size {
			return refuse(CodeMalformed, "content-digest", "want sha-256=:<base64 of 32 bytes>:")
		}
		if want := sha256.Sum256(body); subtle.ConstantTimeCompare(want[:], got) != 1 {
			return refuse(CodeInvalid, "content-digest", "it is not the SHA-256 of the body received")
		}
		return nil
	}
	return refuse(CodeMalformed, "content-digest", "there is no sha-256 in it")
}
