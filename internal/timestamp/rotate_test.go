package timestamp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

// An authority replaces its key: tokens of both generations hold for whoever has
// both roots, with this verifier and with openssl; who has one root alone takes
// that generation's tokens alone.
func TestTokensOfTwoGenerations(t *testing.T) {
	old, next := newStation(t, newP256(t), nil), newStation(t, newP256(t), nil)
	imprint := sha256.Sum256([]byte("a checkpoint"))
	both := rfc3161.Trust{Anchors: []*x509.Certificate{next.root, old.root}}
	for name, s := range map[string]*station{"old": old, "next": next} {
		c := newTestClient(t, Remote{Name: name, URL: s.serve(t), Trust: both, Policy: testPolicy})
		token, err := c.Stamp(t.Context(), imprint)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for anchor, trust := range map[string]rfc3161.Trust{"both": both, "old": old.trust(), "next": next.trust()} {
			_, err := rfc3161.Verify(token.DER, imprint, trust)
			var e *rfc3161.Error
			if anchor == "both" || anchor == name {
				if err != nil {
					t.Errorf("the %s generation's token under %s: %v", name, anchor, err)
				}
			} else if !errors.As(err, &e) || e.Code != rfc3161.CodeUntrusted {
				t.Errorf("the %s generation's token under the root of the %s alone: %v", name, anchor, err)
			}
		}
	}
	// Whose node still has the old public file refuses the new tokens, so that file
	// goes out first.
	if _, err := newTestClient(t, Remote{Name: "late", URL: next.serve(t), Trust: old.trust(), Policy: testPolicy}).Stamp(t.Context(), imprint); err == nil {
		t.Error("a token under an unknown root is taken")
	}

	dir := t.TempDir()
	roots := writePEM(t, filepath.Join(dir, "root.pem"), next.root, old.root)
	data, query, answer := filepath.Join(dir, "data"), filepath.Join(dir, "q.tsq"), filepath.Join(dir, "a.tsr")
	if err := os.WriteFile(data, []byte("a statement"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "ts", "-query", "-data", data, "-cert", "-out", query)
	body, err := os.ReadFile(query)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*station{"old": old, "next": next} {
		resp, err := http.Post(s.serve(t), queryType, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		if err = errors.Join(err, resp.Body.Close(), os.WriteFile(answer, b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if out := openssl(t, "ts", "-verify", "-in", answer, "-queryfile", query, "-CAfile", roots); !strings.Contains(out, "Verification: OK") {
			t.Errorf("%s: %s", name, out)
		}
	}
}
