package walk

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/internal/tour"
)

// Person is somebody of the demonstration's identity provider, by her subject
// there.
type Person string

// The demonstration's people, as internal/identity/demoprovider has them.
const (
	Lin  Person = "demo-lin"  // right holder, level 3
	Chen Person = "demo-chen" // photographer, level 2
	Wu   Person = "demo-wu"   // student, level 1
	Zhao Person = "demo-zhao" // legal representative of Company
	He   Person = "demo-he"   // its agent
	Sun  Person = "demo-sun"  // officer of the registration desk
	Ma   Person = "demo-ma"   // operator of the node
	Gao  Person = "demo-gao"  // attacker
)

// Name returns what pages in that language call her.
func (p Person) Name(lang string) string {
	return map[Person]pair{Lin: {"林若溪", "Lin Ruoxi"}, Chen: {"陈一鸣", "Chen Yiming"}, Wu: {"吴小满", "Wu Xiaoman"}, Zhao: {"赵启明", "Zhao Qiming"},
		He: {"何静文", "He Jingwen"}, Sun: {"孙慧", "Sun Hui"}, Ma: {"马立群", "Ma Liqun"}, Gao: {"高仿", "Gao Fang"}}[p].in(lang)
}

// Company is the demonstration's enterprise.
const (
	Company     = "青枫演示科技有限公司"
	CompanyCode = "91119999T90000012T"
)

// Walker is a visitor at a portal, in one language.
type Walker struct {
	*tour.Visitor
	Origin string // of the portal
	Lang   string // Chinese or English
	words  map[string]pair
}

// At takes a visitor to a portal. Nothing is opened yet.
func At(v *tour.Visitor, origin, lang string) *Walker {
	return &Walker{Visitor: v, Origin: origin, Lang: lang, words: words()}
}

// Open opens a page by its path without the language.
func (w *Walker) Open(ctx context.Context, path string) error {
	return w.Go(ctx, w.Origin+"/"+w.Lang+path)
}

// Path returns the path of the page that is open, without the language.
func (w *Walker) Path(ctx context.Context) (string, error) {
	where, err := w.Where(ctx)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(where)
	if err != nil {
		return "", fmt.Errorf("reading the page's address: %w", err)
	}
	return strings.TrimPrefix(u.Path, "/"+w.Lang), nil
}

// steps does one thing after the other.
func steps(all ...func() error) error {
	for _, do := range all {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func (w *Walker) open(ctx context.Context, path string) func() error {
	return func() error { return w.Open(ctx, path) }
}

func (w *Walker) click(ctx context.Context, role, word string, args ...any) func() error {
	return func() error { return w.Click(ctx, role, w.word(word, args...)) }
}

func (w *Walker) fill(ctx context.Context, word, text string) func() error {
	return func() error {
		if text == "" {
			return nil
		}
		return w.Fill(ctx, w.word(word), text)
	}
}

func (w *Walker) sees(ctx context.Context, word string) func() error {
	return func() error { return w.WaitText(ctx, w.word(word)) }
}

// SignIn signs her in through the demonstration's provider.
func (w *Walker) SignIn(ctx context.Context, p Person) error {
	err := w.SignInAgain(ctx, p)
	if err == nil {
		err = w.WaitText(ctx, w.word("signed-in"))
	}
	if err != nil {
		return fmt.Errorf("signing in as %s: %w", p.Name(English), err)
	}
	return nil
}

// SignInAgain goes the same way and does not look where it leads: to a page that
// refuses her, for one.
func (w *Walker) SignInAgain(ctx context.Context, p Person) error {
	return steps(w.open(ctx, "/signin"), w.click(ctx, "link", "sign-in-with"), w.click(ctx, "button", "as", p.Name(w.Lang)))
}

// SignOut ends this session.
func (w *Walker) SignOut(ctx context.Context) error {
	if err := steps(w.open(ctx, "/session"), w.click(ctx, "button", "sign-out"), w.sees(ctx, "signed-out")); err != nil {
		return fmt.Errorf("signing out: %w", err)
	}
	return nil
}

// SignOutEverywhere ends all her sessions.
func (w *Walker) SignOutEverywhere(ctx context.Context) error {
	if err := steps(w.open(ctx, "/signout/everywhere"), w.click(ctx, "button", "everywhere"), w.sees(ctx, "everywhere-out")); err != nil {
		return fmt.Errorf("signing out everywhere: %w", err)
	}
	return nil
}

// ActFor makes an enterprise that gave her a mandate the one for which she acts.
func (w *Walker) ActFor(ctx context.Context, enterprise string) error {
	if err := steps(w.open(ctx, "/keys"), w.click(ctx, "button", "act-for", enterprise), func() error { return w.WaitText(ctx, w.word("acting", enterprise)) }); err != nil {
		return fmt.Errorf("acting for %s: %w", enterprise, err)
	}
	return nil
}

// ActForSelf takes that back.
func (w *Walker) ActForSelf(ctx context.Context) error {
	if err := steps(w.click(ctx, "button", "acting-back"), w.sees(ctx, "acting-self")); err != nil {
		return fmt.Errorf("acting for herself again: %w", err)
	}
	return nil
}

// MakeKey makes this browser's key, has it enrolled and certified, and returns
// the recovery key that is to be kept on paper.
func (w *Walker) MakeKey(ctx context.Context, device string) (paper string, err error) {
	if err := steps(w.open(ctx, "/deposit/key"), w.fill(ctx, "device", device), w.click(ctx, "button", "make-key"), w.sees(ctx, "paper")); err != nil {
		return "", fmt.Errorf("making a key: %w", err)
	}
	return tour.Eval[string](ctx, w.Visitor, `document.getElementById("paper-key").textContent`)
}

// KeepPaper says that the recovery key is on paper, and goes on.
func (w *Walker) KeepPaper(ctx context.Context) error {
	if err := steps(w.click(ctx, "checkbox", "paper-kept"), w.click(ctx, "link", "go-on"), w.sees(ctx, "step")); err != nil {
		return fmt.Errorf("keeping the recovery key: %w", err)
	}
	return nil
}

// RestoreKey makes this browser's key on another device, with the recovery key
// from paper.
func (w *Walker) RestoreKey(ctx context.Context, device, paper string) error {
	if err := steps(w.open(ctx, "/deposit/key"), w.fill(ctx, "device", device), w.fill(ctx, "paper-field", paper), w.click(ctx, "button", "make-key"), w.sees(ctx, "have-key"), w.sees(ctx, "restored")); err != nil {
		return fmt.Errorf("making a key with the one from paper: %w", err)
	}
	return nil
}

// AddPasskey binds a passkey of her device to a member; to herself when member
// is empty.
func (w *Walker) AddPasskey(ctx context.Context, member, label string) error {
	begin := []func() error{w.open(ctx, "/keys/passkey/"+member)}
	if member == "" {
		begin = []func() error{w.open(ctx, "/keys"), w.click(ctx, "link", "add-passkey")}
	}
	if err := steps(append(begin, w.fill(ctx, "label", label), w.click(ctx, "button", "begin"), w.sees(ctx, "passkey-done"))...); err != nil {
		return fmt.Errorf("adding a passkey: %w", err)
	}
	return nil
}

// Deposit is what she deposits. Phase is before, during (the default) or after.
type Deposit struct {
	Trail                    string // continues it; empty: opens one
	Files                    []string
	Step, Phase, Note, Place string
	Confirm                  bool // with her passkey
}

// FillDeposit fills the page in and does not send it.
func (w *Walker) FillDeposit(ctx context.Context, d Deposit) error {
	path := "/deposit"
	if d.Trail != "" {
		path += "?trail=" + d.Trail
	}
	if d.Phase == "" {
		d.Phase = "during"
	}
	return steps(w.open(ctx, path), w.fill(ctx, "step", d.Step),
		func() error { return w.Upload(ctx, w.word("choose"), d.Files...) },
		func() error { return w.Choose(ctx, w.word("phase"), w.word("phase-"+d.Phase)) },
		w.fill(ctx, "note", d.Note), w.fill(ctx, "place", d.Place),
		func() error {
			confirms, err := tour.Eval[bool](ctx, w.Visitor, `document.getElementById("confirm")?.checked ?? false`)
			if err != nil || confirms == d.Confirm {
				return err
			}
			return w.Click(ctx, "checkbox", w.word("confirm"))
		})
}

// Deposit deposits, waits until it is final, and returns the trail's name.
func (w *Walker) Deposit(ctx context.Context, d Deposit) (trail string, err error) {
	err = steps(func() error { return w.FillDeposit(ctx, d) }, w.click(ctx, "button", "deposit"), w.sees(ctx, "deposit-done"))
	if err != nil {
		return "", fmt.Errorf("depositing: %w", err)
	}
	if err := steps(w.click(ctx, "link", "to-record"), w.sees(ctx, "proven")); err != nil {
		return "", fmt.Errorf("going to the record: %w", err)
	}
	path, err := w.Path(ctx)
	return strings.TrimPrefix(path, "/records/"), err
}

// Press presses the button that deposits, on a page that FillDeposit filled in.
func (w *Walker) Press(ctx context.Context) error { return w.click(ctx, "button", "deposit")() }

// Record opens a record and waits until this browser has opened its manifests.
func (w *Walker) Record(ctx context.Context, trail, step string) error {
	if err := steps(w.open(ctx, "/records/"+trail), func() error { return w.WaitText(ctx, step) }); err != nil {
		return fmt.Errorf("opening a record: %w", err)
	}
	return nil
}

// Package makes the evidence package of the record that is open, and returns the
// file.
func (w *Walker) Package(ctx context.Context) (file string, err error) {
	file, err = w.Download(ctx, w.click(ctx, "button", "package"))
	if err != nil {
		return "", fmt.Errorf("making the evidence package: %w", err)
	}
	return file, nil
}

// File downloads a file of the record that is open, opened in this browser.
func (w *Walker) File(ctx context.Context, name string) (file string, err error) {
	return w.Download(ctx, func() error { return w.Click(ctx, "button", w.word("download")+name) })
}

// Verify verifies a package on the public page and returns what the finding says.
func (w *Walker) Verify(ctx context.Context, file string) (finding string, err error) {
	if err := steps(w.open(ctx, "/verify"), func() error { return w.Upload(ctx, w.word("choose-packet"), file) }); err != nil {
		return "", fmt.Errorf("verifying: %w", err)
	}
	deadline := time.Now().Add(w.Patience)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		finding, err = tour.Eval[string](ctx, w.Visitor, `document.querySelector("#result:not([hidden]) .verdict-block")?.innerText ?? document.querySelector("#verify-error:not([hidden])")?.innerText ?? ""`)
		if err != nil || finding != "" {
			return finding, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", errors.New("verifying: no finding was shown")
}
