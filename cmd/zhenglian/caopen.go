package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/store"
)

// portalDatabase is where the portal's rows are: what its settings name, or
// SQLite in its directory.
func portalDatabase(h *institution.Home, c institution.PortalConfig) string {
	if c.Database != "" {
		return c.Database
	}
	return filepath.Join(h.PortalDir(c), "portal.db")
}

// newAuthority makes a CA institution's authority of its home, its portal's
// settings and database, and a client of its own node. The home was opened with
// its statement key.
func newAuthority(h *institution.Home, c institution.PortalConfig, db *store.DB, chain ca.Chain, statement evidence.Signer, now func() time.Time, log *slog.Logger) (*ca.Authority, error) {
	files, err := h.CA()
	if err != nil {
		return nil, err
	}
	cfg := ca.Config{Institution: h.ID(), Register: ca.NewRegister(db, now), Chain: chain, Statement: statement, URL: c.Origin,
		Demonstration: files.Authority.Demonstration, PolicyArc: c.Certificates.Policy, Names: c.Certificates.Names, Now: now, Logger: log}
	if cfg.PolicyArc == "" && !cfg.Demonstration {
		return nil, &institution.Error{Code: institution.CodeCA, Path: filepath.Join(h.Path, "portal.toml"), Subject: "certificates.policy", Reason: "certificates.policy is empty", Hint: "give the object identifier of the institution's own certificate policies"}
	}
	for _, k := range files.Keys {
		i, err := ca.NewIssuer(k.Key, k.Certificate, k.Generation)
		if err != nil {
			return nil, err
		}
		cfg.Issuers = append(cfg.Issuers, i)
	}
	return ca.New(cfg)
}

// openedCA is an authority at the command line.
type openedCA struct {
	*ca.Authority
	home     *institution.Home
	settings institution.PortalConfig
	db       *store.DB
}

func (o *openedCA) Close() error { return errors.Join(o.db.Close(), o.home.Close()) }

// openCA opens the authority of a home and finishes what an interrupted run left.
func (a *app) openCA(ctx context.Context, home, node string, log *slog.Logger) (_ *openedCA, err error) {
	h, err := institution.Open(home, evidence.UseStatement)
	if err != nil {
		return nil, err
	}
	o := &openedCA{home: h}
	defer func() {
		if err != nil && o.db != nil {
			err = errors.Join(err, o.db.Close())
		}
	}()
	if _, err := h.Joined(); err != nil {
		return nil, err
	}
	if o.settings, err = h.Portal(); err != nil {
		return nil, err
	}
	config := client.Config{Alliance: h.Alliance, Prefer: h.ID(), Patience: -1, Language: string(a.lang), Now: a.now, Signer: h.Key(evidence.UseStatement)}
	if node != "" {
		config.URLs = map[string]string{h.ID(): node}
	}
	c, err := client.New(config)
	if err != nil && node != "" {
		return nil, usage(a.t("%q 不是网址", "%q is no URL", node), a.t("写成 https://court.example:8443", "write it like https://court.example:8443"))
	}
	if err != nil {
		return nil, err
	}
	if o.db, err = store.Open(ctx, portalDatabase(h, o.settings)); err != nil {
		return nil, fmt.Errorf("the register of certificates: %w", err)
	}
	o.Authority, err = newAuthority(h, o.settings, o.db, asCA{&deskChain{home: h, signer: h.Key(evidence.UseStatement), client: c, now: a.now}}, h.Key(evidence.UseStatement), a.now, log)
	return o, err
}
