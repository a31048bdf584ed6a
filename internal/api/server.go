// Package api is the node's public HTTP face: registration and receipts by
// SCRAPI, the public log as C2SP tlog-tiles, JSON for deposits, batches and
// lookups, and what an operator watches.
//
//	request ─► limits: connections, in flight, rate by client address, sizes, times
//	        ─► route ─► authenticate (RFC 9421, only where something is not public)
//	        ─► the statement's bytes, unchanged ─► Node.Submit ─► outcome, position
//	        ─► Node lookups ─► receipts, tiles, trails
//	errors  ─► RFC 9457 JSON or RFC 9290 CBOR, with code, field and hint, in zh-CN or en
//
// # What is public
//
// Anybody may learn that a digest is in the log, where, since when and
// witnessed by whom, with the receipts that prove it; and everything about the
// registry, which holds no personal data. What was deposited, in which trail
// and by which key, is for the trail's owner, those she authorised, and the
// institutions. Whoever asks for a trail without a right to it gets one and the
// same answer whether it exists or not.
//
// # Trust
//
// The node is trusted. Clients are not: nothing they send is kept in memory
// beyond the limits, logged, or shown to others. The Host field is not trusted:
// a signature must be over an address from the configuration.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

// Server answers the node's HTTP requests. Make it with New.
type Server struct {
	config   Config
	limits   Limits
	node     Node
	log      *slog.Logger
	mux      *http.ServeMux
	huma     huma.API
	handler  http.Handler
	metrics  *metrics
	verifier *httpsig.Verifier
	pending  *pendingSet
	batches  chan struct{} // one slot a batch
	large    chan struct{} // one slot a request with a manifest
	origins  map[string]string
	openapi  []byte

	draining context.Context // done when Run begins to stop
	drain    context.CancelFunc
}

// New sets the routes up. It starts nothing.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, limits: c.Limits, node: c.Node, log: c.Logger, mux: http.NewServeMux(),
		verifier: httpsig.NewVerifier(httpsig.Config{Now: c.Now}), pending: newPendingSet(c.Now),
		batches: make(chan struct{}, c.Limits.MaxBatches), large: make(chan struct{}, c.Limits.MaxManifests),
		origins: map[string]string{}}
	for _, a := range c.Addresses {
		u, err := url.Parse(a)
		if err != nil {
			return nil, fmt.Errorf("setting up the API: %w", err)
		}
		s.origins[strings.ToLower(u.Host)] = a
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	if s.metrics, err = newMetrics(c.Metrics, c.Node, c.TSAStatus); err != nil {
		return nil, fmt.Errorf("setting up the API: %w", err)
	}
	if err := s.routes(); err != nil {
		return nil, fmt.Errorf("setting up the API: %w", err)
	}
	s.handler = s.wrap(http.HandlerFunc(s.route))
	return s, nil
}

// Handler returns all routes with every limit but those on connections.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves on the listener until ctx ends, then stops: no new connections,
// waits for finality are cut short (their answers say so), batches end after
// the slice in hand with code "stopping", and what still runs after
// Limits.StopTimeout is cut off. It closes the listener.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	listener = newLimitedListener(listener, s.limits.MaxConnections)
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.limits.ReadHeaderTimeout,
		ReadTimeout:       s.limits.ReadTimeout,
		// The wait for finality comes out of the time for the answer.
		WriteTimeout:   s.limits.WriteTimeout + s.limits.FinalWait,
		IdleTimeout:    s.limits.IdleTimeout,
		MaxHeaderBytes: s.limits.MaxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.config.TLS != nil {
		c := s.config.TLS.Clone()
		if len(c.NextProtos) == 0 {
			c.NextProtos = []string{"h2", "http/1.1"}
		}
		// Around the limited one, so that net/http sees the TLS connection.
		listener = tls.NewListener(listener, c)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	select {
	case err := <-served:
		s.drain()
		return fmt.Errorf("serving the API: %w", err)
	case <-ctx.Done():
	}
	s.drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.StopTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests were cut off at the stop", "after", s.limits.StopTimeout)
		err = srv.Close()
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("stopping the API: %w", err)
	}
	return nil
}

// waitContext ends with the request, after FinalWait, or when Run stops.
func (s *Server) waitContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.FinalWait)
	unhook := context.AfterFunc(s.draining, cancel)
	return ctx, func() { unhook(); cancel() }
}

// errorHandler is a handler whose error becomes the answer.
type errorHandler func(w http.ResponseWriter, r *http.Request) error

// handle adds a route that huma does not serve, with its place in the OpenAPI
// document.
func (s *Server) handle(op huma.Operation, h errorHandler) {
	s.document(&op)
	s.huma.OpenAPI().AddOperation(&op)
	s.serve(op.Method+" "+muxPath(op), h)
}

func (s *Server) serve(pattern string, h errorHandler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

// route sends the request to its handler, or says that there is none in our
// form of error: the mux's own is plain text.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	_, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	rec := &statusOnly{header: http.Header{}}
	s.mux.ServeHTTP(rec, r)
	switch {
	case rec.status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", rec.header.Get("Allow"))
		s.writeError(w, r, fail(http.StatusMethodNotAllowed, "method-not-allowed", "method", "%s takes %s", r.URL.Path, rec.header.Get("Allow")))
	default:
		s.writeError(w, r, fail(http.StatusNotFound, "no-route", "path", ""))
	}
}

// statusOnly swallows an answer and keeps its status and header.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
