// Package webtest runs the portal on loopback with parts that live in memory,
// for tests of the pages and for looking at them.
//
//	Start ─► web.New with fakes ─► http://localhost:PORT
//	SignIn ─► a session's row for a person, as the sign-in pages would make it ─► its cookie
//
// Nothing here is trusted by anything: it is for tests alone.
package webtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"github.com/zhenglian/zhenglian/evidence"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/web"
)

// Portal is a running portal.
type Portal struct {
	Site     *web.Site
	Origin   string
	Sessions *memstore.MemStore
	People   *People
	Alliance *testalliance.Alliance // whose policy the portal has
	Register *identity.Register     // of the same persons
	Console  *Console

	config web.Config
}

// Start runs a portal until the test ends. Each change is applied to the
// configuration before.
func Start(t testing.TB, changes ...func(*web.Config)) *Portal {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Portal{Sessions: memstore.NewWithCleanupInterval(0), People: NewPeople(), Console: &Console{node: BusyNode()}}
	p.Origin = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	if p.Alliance, err = testalliance.New("portal", 4); err != nil {
		t.Fatal(err)
	}
	p.config = Config(p)
	p.config.Alliance = web.Alliance{ID: p.Alliance.ID(), Name: p.Alliance.Policy.Name, Policy: func() *evidence.Policy { return p.Alliance.Policy }}
	addRegister(t, p)
	for _, change := range changes {
		change(&p.config)
	}
	if p.Site, err = web.New(p.config); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p.Site.Handler(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return p
}

// Config is what Start begins with: an institution of a demonstration, and every
// part there is.
func Config(p *Portal) web.Config {
	return web.Config{
		Origin:      p.Origin,
		Institution: web.Institution{ID: "ca", Kind: "ca", Name: "示例认证中心"},
		Demo:        true,
		Sessions:    p.Sessions,
		Limits:      web.Limits{PagesPerMinute: -1, ActsPerMinute: -1},
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Parts:       parts(p),
	}
}

// SignIn returns the cookie of a new session of the person, who acts for the
// enterprise named, if one is.
func (p *Portal) SignIn(t testing.TB, person string, acting ...string) *http.Cookie {
	t.Helper()
	token := rand.Text()
	deadline := time.Now().Add(time.Hour)
	row, err := scs.GobCodec{}.Encode(deadline, map[string]any{"person": person, "since": time.Now().UnixMilli(), "acting": strings.Join(acting, "")})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(token))
	if err := p.Sessions.Commit(base64.RawURLEncoding.EncodeToString(sum[:]), row, deadline); err != nil {
		t.Fatal(err)
	}
	return &http.Cookie{Name: "zhenglian", Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// People is web.People in memory.
type People struct {
	mu      sync.Mutex
	persons map[string]web.Person
}

// The persons that NewPeople knows.
const (
	Newcomer = "newcomer" // signed in, not enrolled
	Member   = "member"   // enrolled
	Officer  = "officer"  // of the registration desk, enrolled
	Operator = "operator" // of the node, not enrolled
)

// NewPeople returns one person of each kind; one of them has a long name.
func NewPeople() *People {
	return &People{persons: map[string]web.Person{
		Newcomer: {ID: Newcomer, Name: "王小山", Kind: "person", Level: 1, Demo: true},
		Member:   {ID: Member, Name: "阿卜杜热合曼·阿卜杜克热木·买买提明", Member: "m:abcdefghijklmnopqrstuvwxyz", Kind: "person", Level: 3, Demo: true},
		Officer:  {ID: Officer, Name: "李尚", Member: "m:bcdefghijklmnopqrstuvwxyza", Kind: "person", Level: 2, Demo: true, Roles: []web.Role{web.RoleOfficer}},
		Operator: {ID: Operator, Name: "赵局", Kind: "person", Level: 2, Demo: true, Roles: []web.Role{web.RoleOperator}},
	}}
}

// Set adds or replaces a person.
func (p *People) Set(person web.Person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.persons[person.ID] = person
}

// Person is web.People.
func (p *People) Person(_ context.Context, id string) (*web.Person, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	person, ok := p.persons[id]
	if !ok {
		return nil, web.ErrNoPerson
	}
	return &person, nil
}
