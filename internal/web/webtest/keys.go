package webtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"image"
	"image/png"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"github.com/zhenglian/zhenglian/internal/store"
)

// What the register has from the start, for the paths of Examples.
const (
	Application = "a:newcomer" // the newcomer's draft
	Submitted   = "a:member"   // the member's, at the desk
	Paper       = "d:member"   // uploaded with it
	Enterprise  = "m:cdefghijklmnopqrstuvwxyzab"
	issuer      = "https://id.example"
)

// addRegister gives the portal a register of its persons, a real one over a
// database of its own, and a log that takes everything.
func addRegister(t testing.TB, p *Portal) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	db, err := store.Open(ctx, filepath.Join(dir, "portal.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	keys, err := store.OpenKeys(filepath.Join(dir, "store.keys"))
	must(t, err)
	reg, err := identity.New(identity.Config{DB: db, Keys: keys, Chain: &takesAll{}, Origin: p.Origin, Name: "示例认证中心", Demo: true,
		Officers: []identity.Officer{{Issuer: issuer, Subject: Officer, Roles: []identity.Role{identity.RoleRA}}}})
	must(t, err)
	exec := func(query string, args ...any) {
		t.Helper()
		must(t, db.In(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(ctx, query, args...)
			return err
		}))
	}
	for i, id := range []string{Newcomer, Member, Officer, Operator} {
		shown, err := p.People.Person(ctx, id)
		must(t, err)
		in := identity.SignIn{Issuer: issuer, Subject: id, Address: "127.0.0.1"}
		made, err := reg.SignIn(ctx, in)
		must(t, err)
		// The pages know this person by a name that a test can write.
		exec("INSERT INTO persons (id, created) SELECT $1, created FROM persons WHERE id = $2", id, made.ID)
		exec("UPDATE signins SET person = $1 WHERE person = $2", id, made.ID)
		exec("DELETE FROM persons WHERE id = $1", made.ID)
		number := gbtest.IDNumber(1988, 2, 29, i).Number()
		for name, value := range map[identity.FactName]string{identity.FactRealName: shown.Name, identity.FactDocument: identity.DocumentID, identity.FactNumber: number} {
			in.Facts = append(in.Facts, identity.Fact{Name: name, Value: value, Source: issuer, Level: shown.Level, Verified: time.Now()})
		}
		_, err = reg.SignIn(ctx, in)
		must(t, err)
		if shown.Member == "" {
			continue
		}
		salt, err := evidence.NewSalt(rand.Reader)
		must(t, err)
		detail, err := json.Marshal(map[string]any{"Name": shown.Name, "Document": identity.DocumentID, "Number": number, "Salt": salt})
		must(t, err)
		commitment := evidence.Commit(salt, shown.Name, identity.DocumentID, number)
		exec("INSERT INTO members (id, kind, person, detail, commitment, level, demo, created) VALUES ($1, 1, $2, $3, $4, $5, TRUE, $6)",
			shown.Member, id, keys.Seal("members", "detail", shown.Member, detail), commitment[:], shown.Level, time.Now().UnixMilli())
		who := identity.Who{Person: id, Session: "fixture"}
		for j, label := range []string{"办公室笔记本电脑", ""} {
			_, err := reg.EnrolKey(ctx, who, identity.NewKey{Public: exampleKey(id, j), Label: label, Holder: []identity.Holder{identity.HolderBrowser, identity.HolderToken}[j], Recipient: []string{"age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs", ""}[j]})
			must(t, err)
		}
		must(t, reg.Deliver(ctx))
		must(t, reg.Revoke(ctx, who, exampleKey(id, 1).KID(), identity.ReasonSuperseded))
		must(t, reg.Deliver(ctx))
	}
	// The newcomer acts for an enterprise.
	detail, err := json.Marshal(map[string]any{"Name": "示例商贸有限公司", "Document": identity.DocumentUSCC, "Number": gbtest.USCC(7).String(), "Representative": "周正", "Salt": evidence.Salt{1}})
	must(t, err)
	exec("INSERT INTO members (id, kind, detail, commitment, level, demo, created) VALUES ($1, 2, $2, $3, 2, TRUE, $4)", Enterprise, keys.Seal("members", "detail", Enterprise, detail), make([]byte, 32), time.Now().UnixMilli())
	exec("INSERT INTO mandates (id, member, person, powers, starts, ends, application) VALUES ('n:1', $1, $2, 'deposit sign', 0, $3, '')", Enterprise, Newcomer, time.Now().AddDate(0, 6, 0).UnixMilli())
	_, err = reg.EnrolKey(ctx, identity.Who{Person: Newcomer, Session: "fixture"}, identity.NewKey{Member: Enterprise, Public: exampleKey(Newcomer, 0), Label: "X1", Holder: identity.HolderBrowser})
	must(t, err)
	must(t, reg.Deliver(ctx))
	// Applications under names that a path can have.
	apply := func(id, person string, state identity.ApplicationState, b identity.Body) {
		body, err := json.Marshal(b)
		must(t, err)
		exec("INSERT INTO applications (id, person, kind, state, body, created, changed, submitted) VALUES ($1, $2, 'person', $3, $4, $5, $5, $5)", id, person, string(state), keys.Seal("applications", "body", id, body), time.Now().UnixMilli())
	}
	apply(Application, Newcomer, identity.ApplicationDraft, identity.Body{Name: "王小山"})
	apply(Submitted, Member, identity.ApplicationSubmitted, identity.Body{Name: "阿卜杜热合曼·阿卜杜克热木·买买提明", Document: identity.DocumentID, Number: gbtest.IDNumber(1988, 2, 29, 1).Number(), Remark: "换发新证。"})
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 856, 540)))) // an identity card's shape
	content := picture.Bytes()
	exec("INSERT INTO documents (id, application, name, media, size, content, created) VALUES ($1, $2, $3, 'image/png', $4, $5, $6)", Paper, Submitted, keys.Seal("documents", "name", Paper, []byte("身份证正面.png")), len(content), keys.Seal("documents", "content", Paper, content), time.Now().UnixMilli())
	p.Register = reg
	p.config.Parts.Register, p.config.Parts.Certificates = reg, certificates{}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exampleKey is the n-th key of a person, the same each time.
func exampleKey(person string, n int) *evidence.PublicKey {
	seed := sha256.Sum256([]byte{byte(n), person[0]})
	key, err := evidence.NewEd25519Key(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return key
}

// takesAll is a log that takes every statement at once.
type takesAll struct {
	mu   sync.Mutex
	size uint64
}

func (l *takesAll) Prepare(_ context.Context, _ string, content []byte) ([]byte, error) {
	return content, nil
}

func (l *takesAll) Register(context.Context, []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size++
	return l.size - 1, nil
}

// certificates has one for every key, which ends soon.
type certificates struct{}

func (certificates) ByKey(_ context.Context, kid evidence.Digest) ([]*ca.Entry, error) {
	now := time.Now()
	return []*ca.Entry{{Serial: new(big.Int).SetBytes(kid[:16]), State: ca.Issued, NotBefore: now.AddDate(0, -2, 0).Unix(), NotAfter: now.AddDate(0, 0, 20).Unix()}}, nil
}

func (certificates) Sync(context.Context) error { return nil }
