package ca

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxOCSP bounds a request; one for a certificate has about 120 bytes.
const maxOCSP = 4 << 10

// Handler answers what the public asks, without a session:
//
//	GET  /ca/NAME.crt        the CA certificate in DER; NAME is p256 or sm2, p256-2 in the second generation
//	GET  /ca/NAME.crl        the revocation list in DER
//	POST /ca/ocsp            OCSP (RFC 6960 appendix A)
//	GET  /ca/ocsp/REQUEST    the same, base64 in the path
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ca/{file}", a.serveFile)
	mux.HandleFunc("POST /ca/ocsp", a.servePost)
	mux.HandleFunc("GET /ca/ocsp/{request...}", a.serveGet)
	return mux
}

func (a *Authority) serveFile(w http.ResponseWriter, r *http.Request) {
	name, isList := strings.CutSuffix(r.PathValue("file"), ".crl")
	if !isList {
		name = strings.TrimSuffix(name, ".crt")
		for _, i := range a.cfg.Issuers {
			if i.Name() == name && strings.HasSuffix(r.PathValue("file"), ".crt") {
				w.Header().Set("Content-Type", "application/pkix-cert")
				w.Header().Set("Cache-Control", "public, max-age=86400")
				_, _ = w.Write(i.Certificate.Raw)
				return
			}
		}
		http.NotFound(w, r)
		return
	}
	der, next, err := a.List(r.Context(), name)
	switch {
	case errors.Is(err, ErrUnknown):
		http.NotFound(w, r)
	case err != nil:
		a.cfg.Logger.Error("reading a revocation list", "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/pkix-crl")
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", maxAge(next.Sub(a.cfg.Now()))))
		_, _ = w.Write(der)
	}
}

// maxAge in seconds: a minute at most, so that a revocation is soon seen.
func maxAge(left time.Duration) int { return int(max(0, min(left, time.Minute)).Seconds()) }

func (a *Authority) servePost(w http.ResponseWriter, r *http.Request) {
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSP))
	if err != nil {
		http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
		return
	}
	a.serveOCSP(w, r, request)
}

func (a *Authority) serveGet(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("request")
	// Some clients escape twice.
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	request, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(text) > maxOCSP {
		request = nil // answered as malformed
	}
	a.serveOCSP(w, r, request)
}

func (a *Authority) serveOCSP(w http.ResponseWriter, r *http.Request, request []byte) {
	answer, keep, err := a.Status(r.Context(), request)
	if err != nil {
		a.cfg.Logger.Error("answering an OCSP request", "error", err)
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	if keep > 0 {
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", maxAge(keep)))
	} else {
		w.Header().Set("Cache-Control", "no-store")
	}
	_, _ = w.Write(answer)
}
