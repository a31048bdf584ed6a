package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

// caller is who signed a request.
type caller struct {
	kid    evidence.Digest
	member chain.MemberView
}

// authenticate checks the request's signature and that its key is registered
// and in nobody else's hands. Only requests without a body are authenticated.
func (s *Server) authenticate(r *http.Request) (*caller, error) {
	c, err := s.checkSignature(r)
	if err != nil {
		f, _ := failureOf(err)
		s.metrics.denied.WithLabelValues(f.code).Inc()
		return nil, err
	}
	return c, nil
}

func (s *Server) checkSignature(r *http.Request) (*caller, error) {
	if r.ContentLength != 0 {
		return nil, fail(http.StatusBadRequest, "bad-request", "body", "this address takes no body")
	}
	if !httpsig.Signed(r) { // before anything that costs
		return nil, &httpsig.Error{Code: httpsig.CodeMissing, Field: "signature", Reason: "sign with the owner's key, a key authorised in the trail, or an institution's statement key"}
	}
	origin, ok := s.origins[strings.ToLower(r.Host)]
	if !ok {
		return nil, fail(http.StatusUnauthorized, "signature-wrong-host", "host", "this node answers signed requests at %s", strings.Join(s.config.Addresses, ", "))
	}
	c := new(caller)
	var err error
	c.kid, err = s.verifier.Verify(r, origin, nil, func(kid evidence.Digest) (*evidence.PublicKey, error) {
		m, err := s.node.Member(kid)
		if errors.Is(err, chain.ErrNotFound) {
			return nil, fail(http.StatusUnauthorized, "unknown-key", "keyid", "%s is not registered", kid)
		}
		if err != nil {
			return nil, err
		}
		if m.Passkey != nil {
			return nil, fail(http.StatusUnauthorized, "unknown-key", "keyid", "%s is a passkey, which signs no requests", kid)
		}
		// A revoked key registers nothing, but what it registered before is still its
		// owner's to read and to hand to a court, unless somebody else may have it. An
		// institution reads everything, with the key it uses now alone.
		if m.Revoked && (m.Institution || m.Reason == reasonKeyCompromise) {
			return nil, fail(http.StatusUnauthorized, "revoked-key", "keyid", "%s is revoked from position %d on", kid, m.RevokedAt)
		}
		c.member = m
		return evidence.ParsePublicKey(m.DER)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// reasonKeyCompromise is the CRLReason of RFC 5280 §5.3.1.
const reasonKeyCompromise = 1

// forbidden is the one answer for what a key may not see, whether it exists or
// not.
func forbidden(field string) *failure {
	return fail(http.StatusForbidden, "forbidden", field, "the key is neither the owner's, nor authorised to read, nor an institution's")
}

// mayReadTrail authenticates the caller and returns nil when the trail is hers
// to read.
func (s *Server) mayReadTrail(r *http.Request, trail evidence.Digest) error {
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	return s.checkTrail(c, trail, "trail")
}

func (s *Server) checkTrail(c *caller, trail evidence.Digest, field string) error {
	if c.member.Institution {
		return nil
	}
	owner, rights, err := s.node.TrailRights(trail, c.kid)
	if errors.Is(err, chain.ErrNotFound) {
		return forbidden(field)
	}
	if err != nil {
		return err
	}
	if !owner && rights&evidence.RightRead == 0 {
		return forbidden(field)
	}
	return nil
}

// mayReadStatement returns nil when the bytes may be shown to whoever asks:
// registry statements to anybody, others to their signer, to the readers of
// their trail, and to institutions.
func (s *Server) mayReadStatement(r *http.Request, st *evidence.Statement) error {
	if st.Registry() {
		return nil
	}
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	if c.kid == st.KID {
		return nil
	}
	trail, ok := st.Trail()
	if !ok {
		return forbidden("digest")
	}
	return s.checkTrail(c, trail, "digest")
}
