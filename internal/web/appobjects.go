package web

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/identity"
)

func (r *request) objectName() string { return r.PathValue("folder") + "/" + r.PathValue("name") }

func (s *Site) appListObjects(r *request) error {
	names, err := s.config.Parts.Custody.List(r.Context(), r.person.Member, r.URL.Query().Get("prefix"))
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, map[string]any{"names": append([]string{}, names...)})
}

// appObject gives ciphertext out, whole or a range (RFC 9110 §14). With
// ?state it says how much of a blob is here instead, which is no error when that
// is nothing.
func (s *Site) appObject(r *request) error {
	if r.URL.Query().Has("state") {
		size, err := s.config.Parts.Custody.Size(r.Context(), r.person.Member, r.objectName())
		if err == nil {
			return r.json(http.StatusOK, map[string]any{"size": size, "whole": true})
		}
		if !errors.Is(err, custody.ErrNotFound) {
			return r.refused(err)
		}
		pending, err := s.config.Parts.Custody.Pending(r.Context(), r.person.Member, r.objectName())
		if err != nil {
			return r.refused(err)
		}
		return r.json(http.StatusOK, map[string]any{"size": pending, "whole": false})
	}
	f, err := s.config.Parts.Custody.Open(r.Context(), r.person.Member, r.objectName())
	if err != nil {
		return r.refused(err)
	}
	defer f.Close()
	r.w.Header().Set("Content-Type", "application/octet-stream")
	r.w.Header().Set("Content-Disposition", "attachment")
	http.ServeContent(r.w, r.Request, "", time.Time{}, f)
	return nil
}

// appPutObject takes a piece of a blob: query offset, and last for the last one;
// header Content-Digest (RFC 9530) with its SHA-256.
func (s *Site) appPutObject(r *request) error {
	if err := r.power(identity.PowerDeposit); err != nil {
		return err
	}
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	digest, ok := contentDigest(r.Header.Get("Content-Digest"))
	if err != nil || !ok {
		return fail(http.StatusBadRequest, "problem.bad-request")
	}
	piece, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, custody.MaxPiece))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return fail(http.StatusRequestEntityTooLarge, "deposit.too-large", "code", custody.RefuseLarge)
		}
		return fail(http.StatusBadRequest, "problem.bad-request").because(err)
	}
	have, err := s.config.Parts.Custody.PutPiece(r.Context(), r.person.Member, r.objectName(), offset, piece, digest, r.URL.Query().Has("last"))
	if off, ok := errors.AsType[*custody.OffsetError](err); ok {
		return r.json(http.StatusConflict, map[string]any{"have": off.Have, "whole": false})
	}
	if errors.Is(err, custody.ErrExist) {
		return r.json(http.StatusConflict, map[string]any{"have": have, "whole": true})
	}
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, map[string]any{"have": have})
}

// contentDigest reads sha-256=:…: alone.
func contentDigest(header string) (d evidence.Digest, ok bool) {
	text, begins := strings.CutPrefix(strings.TrimSpace(header), "sha-256=:")
	text, ends := strings.CutSuffix(text, ":")
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if !begins || !ends || err != nil || len(raw) != sha256.Size {
		return d, false
	}
	return evidence.Digest(raw), true
}
