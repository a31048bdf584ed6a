package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
	"github.com/zhenglian/zhenglian/internal/api"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/timestamp"
)

// stamper lets the chain ask the authorities of node.toml.
type stamper struct {
	client *timestamp.Client
	ids    []string
	trust  map[string]rfc3161.Trust
}

// Stamp implements chain.Stamper.
func (s *stamper) Stamp(ctx context.Context, imprint [32]byte) (string, []byte, error) {
	t, err := s.client.Stamp(ctx, imprint)
	return t.Authority, t.DER, err
}

// Check implements chain.Stamper.
func (s *stamper) Check(authority string, imprint [32]byte, token []byte) (time.Time, error) {
	trust, known := s.trust[authority]
	if !known {
		return time.Time{}, fmt.Errorf("this node does not know the timestamp authority %q", authority)
	}
	info, err := rfc3161.Verify(token, imprint, trust)
	return info.Time, err
}

// Authorities implements chain.Stamper.
func (s *stamper) Authorities() []string { return s.ids }

// newStamper returns the client of the authorities that this node asks, nil
// when it asks none.
func newStamper(h *institution.Home) (chain.Stamper, error) {
	authorities, err := h.Authorities()
	if err != nil || len(authorities) == 0 {
		return nil, err
	}
	s := &stamper{trust: map[string]rfc3161.Trust{}}
	var cfg timestamp.ClientConfig
	for _, a := range authorities {
		s.ids = append(s.ids, a.ID)
		s.trust[a.ID] = rfc3161.Trust{Anchors: a.Anchors()}
		r := timestamp.Remote{Name: a.ID, URL: a.URL, Trust: s.trust[a.ID]}
		if a.Demonstration {
			r.Policy = rfc3161.DemonstrationPolicy
		}
		cfg.Authorities = append(cfg.Authorities, r)
	}
	if s.client, err = timestamp.NewClient(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// tsa is the timestamp authority that this node runs.
type tsa struct {
	*timestamp.Authority                  // nil while its register is damaged
	clock                *timestamp.Clock // nil in a demonstration without time sources
	register             *timestamp.Register
	demonstration        bool
	damaged              string // what is wrong with the register and what to do
}

// handler answers queries: with the reason, while the authority cannot run.
func (t *tsa) handler() http.Handler {
	if t.Authority == nil {
		return timestamp.Closed("the register of this authority is damaged, and its operator has to look; it does not issue")
	}
	return t.Authority
}

// status is for the node's status and metrics.
func (t *tsa) status() api.AuthorityStatus {
	if t.Authority == nil {
		return api.AuthorityStatus{Demonstration: t.demonstration, Reason: t.damaged}
	}
	s := t.Authority.Status()
	out := api.AuthorityStatus{Ready: s.Ready, Demonstration: s.Demonstration, Entries: s.Entries, Reason: s.Reason}
	if !s.Last.IsZero() {
		out.Last = &s.Last
	}
	if s.ClockError >= 0 {
		seconds := s.ClockError.Seconds()
		out.ClockErrorSeconds = &seconds
	}
	return out
}

// close ends the register.
func (t *tsa) close() error {
	if t.register == nil {
		return nil
	}
	return t.register.Close()
}

// newTSA opens the authority of a home, nil when node.toml does not enable it.
func newTSA(h *institution.Home, log *slog.Logger) (*tsa, error) {
	c := h.Config.TSA
	if !c.Enabled {
		return nil, nil
	}
	files, err := h.TSA()
	if err != nil {
		return nil, err
	}
	if files.Authority.Demonstration && !c.Demonstration {
		return nil, &institution.Error{Code: institution.CodeTSA, Path: h.Path, Subject: "tsa.demonstration",
			Reason: "the timestamp authority was made for a demonstration, and node.toml does not say so", Hint: "set demonstration = true in [tsa]"}
	}
	t := &tsa{demonstration: c.Demonstration}
	if len(c.Sources) > 0 {
		if t.clock, err = timestamp.NewClock(timestamp.ClockConfig{Sources: c.Sources}); err != nil {
			return nil, err
		}
	}
	var damage *timestamp.DamageError
	if t.register, err = timestamp.OpenRegister(files.Register); errors.As(err, &damage) {
		// The institution's node does not stand still for it: deposits are final
		// without tokens, and other authorities may be asked.
		t.damaged = fmt.Sprintf("%v; look at it with `zhenglian institution tsa register --home %s`, begin again with --restart, and start the node anew", damage, h.Path)
		log.Error("the timestamp authority is off: its register is damaged", "error", damage, "next", "zhenglian institution tsa register --restart --home "+h.Path)
		return t, nil
	} else if err != nil {
		return nil, err
	}
	t.Authority, err = timestamp.New(timestamp.Config{Key: files.Key.Private(), Chain: files.Chain, Policy: c.Policy, Clock: t.clock,
		MaxError: time.Duration(c.MaxErrorSeconds) * time.Second, Register: t.register, Demonstration: c.Demonstration, Log: log})
	if err != nil {
		_ = t.register.Close()
		return nil, err
	}
	if n := t.register.Torn(); n > 0 {
		log.Warn("a line of the timestamp register was cut short by a crash and taken off", "bytes", n)
	}
	head := t.register.Head()
	log.Info("the timestamp authority runs", "demonstration", c.Demonstration, "entries", head.Entries, "hash", head.Hash[:8])
	return t, nil
}

// run keeps the clock's error known until ctx ends.
func (t *tsa) run(ctx context.Context) error {
	if t.clock == nil || t.Authority == nil {
		return nil
	}
	if err := t.clock.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}
