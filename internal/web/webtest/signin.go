package webtest

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
	"github.com/zhenglian/zhenglian/internal/web"
)

// Providers are two that never answer: to look at the page that offers them.
type Providers struct{}

// Choices is web.Providers.
func (Providers) Choices() []signin.Choice {
	return []signin.Choice{
		{ID: "gov", NameZH: "国家网络身份认证公共服务", NameEN: "National network identity service"},
		{ID: "demo", NameZH: "演示身份认证", NameEN: "Demonstration identities", Demonstration: true},
	}
}

// Begin is web.Providers.
func (Providers) Begin(_ context.Context, id string, _ signin.Options) (*signin.Begun, error) {
	return nil, &signin.Error{Code: signin.Unreachable, Provider: id, Err: errors.New("this one never answers")}
}

// Finish is web.Providers.
func (Providers) Finish(_ context.Context, id, _ string, _ url.Values) (*signin.Identity, error) {
	return nil, &signin.Error{Code: signin.NotBegun, Provider: id, Err: errors.New("nothing was begun")}
}

// Entrance is web.Entrance in memory, to the people of a portal. Persons get the
// id "p:" and their subject.
type Entrance struct {
	people *People

	mu       sync.Mutex
	Failures map[string]int // attempts that nobody took back, by person and by address
	Most     int            // after which an attempt is refused; 0: never
	Learned  []identity.SignIn
	Refuse   error // what SignIn answers instead
	Locked   bool  // the register knows everybody, and the portal lets nobody in
}

// NewEntrance returns one that lets everybody in.
func NewEntrance(p *People) *Entrance { return &Entrance{people: p, Failures: map[string]int{}} }

// SignIn is web.Entrance.
func (e *Entrance) SignIn(ctx context.Context, s identity.SignIn) (*identity.Person, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Refuse != nil {
		return nil, e.Refuse
	}
	e.Learned = append(e.Learned, s)
	id := "p:" + s.Subject
	if e.Locked {
		return &identity.Person{ID: id}, nil
	}
	if known, err := e.people.Person(ctx, id); err == nil {
		return &identity.Person{ID: id, Generation: known.Generation, Level: known.Level, Name: known.Name}, nil
	}
	p := web.Person{ID: id, Kind: "person", Demo: true}
	for _, f := range s.Facts {
		if f.Name == identity.FactRealName {
			p.Name, p.Level = f.Value, f.Level
		}
	}
	e.people.Set(p)
	return &identity.Person{ID: id, Level: p.Level, Name: p.Name}, nil
}

// Attempt is web.Entrance.
func (e *Entrance) Attempt(_ context.Context, _ identity.Action, person, address string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range []string{person, address} {
		if k != "" && e.Most > 0 && e.Failures[k] >= e.Most {
			return &identity.Locked{Until: time.Now().Add(time.Minute)}
		}
	}
	for _, k := range []string{person, address} {
		if k != "" {
			e.Failures[k]++
		}
	}
	return nil
}

// Passed is web.Entrance.
func (e *Entrance) Passed(_ context.Context, _ identity.Action, person, address string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.Failures, person)
	e.Failures[address]--
	return nil
}

// SignOutEverywhere is web.Entrance.
func (e *Entrance) SignOutEverywhere(ctx context.Context, who identity.Who) (int64, error) {
	p, err := e.people.Person(ctx, who.Person)
	if err != nil {
		return 0, err
	}
	p.Generation++
	e.people.Set(*p)
	return p.Generation, nil
}

// Counted returns the attempts that count against a person or an address.
func (e *Entrance) Counted(key string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Failures[key]
}
