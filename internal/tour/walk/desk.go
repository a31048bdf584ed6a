package walk

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/zhenglian/zhenglian/internal/tour"
)

// Application is what somebody asks of the registration desk.
type Application struct {
	Name, Number string // of a person; both empty: an enterprise is meant

	Enterprise, Code             string
	Representative, RepresNumber string
	Powers                       []string // deposit, sign, file, keys
	From, To                     string   // days, 2006-01-02, To included

	Papers []string // files
}

// Apply begins an application, fills it in and submits it. It returns its id.
func (w *Walker) Apply(ctx context.Context, a Application) (id string, err error) {
	kind := "kind-person"
	if a.Enterprise != "" {
		kind = "kind-enterprise"
	}
	if err := steps(w.open(ctx, "/apply"), w.click(ctx, "button", kind), w.sees(ctx, "papers")); err != nil {
		return "", fmt.Errorf("beginning an application: %w", err)
	}
	path, err := w.Path(ctx)
	if err != nil {
		return "", err
	}
	id = strings.TrimPrefix(path, "/apply/")
	return id, w.Amend(ctx, id, a)
}

// Amend fills in what is not empty, and submits.
func (w *Walker) Amend(ctx context.Context, id string, a Application) error {
	do := []func() error{w.open(ctx, "/apply/"+id), w.fill(ctx, "name", a.Name), w.fill(ctx, "number", a.Number), w.fill(ctx, "enterprise", a.Enterprise), w.fill(ctx, "uscc", a.Code),
		w.fill(ctx, "representative", a.Representative), w.fill(ctx, "rep-number", a.RepresNumber)}
	for _, p := range a.Powers {
		do = append(do, w.click(ctx, "checkbox", "power-"+p))
	}
	do = append(do, w.day(ctx, "from", a.From), w.day(ctx, "to", a.To), func() error {
		if len(a.Papers) == 0 {
			return nil
		}
		return w.Upload(ctx, w.word("papers"), a.Papers...)
	}, w.click(ctx, "button", "submit"), w.sees(ctx, "submitted"))
	if err := steps(do...); err != nil {
		return fmt.Errorf("applying: %w", err)
	}
	return nil
}

// day puts a day into a date field, which has no text of its own.
func (w *Walker) day(ctx context.Context, field, day string) func() error {
	return func() error {
		if day == "" {
			return nil
		}
		args, err := json.Marshal([]string{w.word(field), day})
		if err != nil {
			return err
		}
		_, err = tour.Eval[bool](ctx, w.Visitor, `(([label, day]) => {
			const field = [...document.querySelectorAll("label")].find((l) => l.innerText.trim().startsWith(label)).control;
			field.value = day;
			return field.value === day;
		})(`+string(args)+`)`)
		if err != nil {
			return fmt.Errorf("choosing a day for %q: %w", w.word(field), err)
		}
		return nil
	}
}

// Examine opens an application at the desk, as an officer, for a purpose that the
// applicant can read.
func (w *Walker) Examine(ctx context.Context, id, purpose string) error {
	if err := steps(w.open(ctx, "/desk/"+id), w.fill(ctx, "purpose", purpose), w.click(ctx, "button", "open"), func() error { return w.WaitText(ctx, purpose) }); err != nil {
		return fmt.Errorf("opening an application: %w", err)
	}
	return nil
}

// Decision of an officer. Outcome is approved, correct or refused.
type Decision struct {
	Outcome, Reason string
	Level           int // of a person that is approved: 2 or 3
}

// Decide decides about the application that is open. For a recovery that is
// approved it returns the code to be handed over.
func (w *Walker) Decide(ctx context.Context, d Decision) (code string, err error) {
	// The answer may have this page's address: what is of this page is marked.
	mark := func() error {
		_, err := tour.Eval[bool](ctx, w.Visitor, `globalThis.walked = true`)
		return err
	}
	do := []func() error{mark, w.click(ctx, "radio", "outcome-"+d.Outcome)}
	if d.Level > 0 {
		do = append(do, w.click(ctx, "radio", fmt.Sprintf("level-%d", d.Level)))
	}
	do = append(do, w.fill(ctx, "reason", d.Reason), w.click(ctx, "button", "decide"))
	if err := steps(do...); err != nil {
		return "", fmt.Errorf("deciding: %w", err)
	}
	for {
		// One look: what the page says belongs to where it is.
		page, err := tour.Eval[[2]string](ctx, w.Visitor, `[document.readyState === "complete" && !globalThis.walked ? location.pathname : "", document.body?.innerText ?? ""]`)
		if err != nil {
			return "", err
		}
		at, text := page[0], page[1]
		switch {
		case strings.HasSuffix(at, "/desk") && strings.Contains(text, w.word("decided")):
			return "", nil
		case strings.HasSuffix(at, "/decide") && strings.Contains(text, w.word("code-once")):
			return tour.Eval[string](ctx, w.Visitor, `document.querySelector("main .lead code").textContent`)
		case strings.HasSuffix(at, "/decide"):
			return "", fmt.Errorf("deciding: the page says:\n%s", text)
		case ctx.Err() != nil:
			return "", fmt.Errorf("deciding: %w; the page says:\n%s", ctx.Err(), text)
		}
	}
}

// Revoke revokes a key or a passkey by its id, with the reason that is chosen
// already.
func (w *Walker) Revoke(ctx context.Context, kid string) error {
	if err := steps(w.open(ctx, "/keys/"+kid), w.click(ctx, "checkbox", "sure"), w.click(ctx, "button", "revoke"), w.sees(ctx, "revoked")); err != nil {
		return fmt.Errorf("revoking: %w", err)
	}
	return nil
}

// Lose applies for recovery of the member that the page offers first.
func (w *Walker) Lose(ctx context.Context, story string, stolen bool) (id string, err error) {
	how := "how-lost"
	if stolen {
		how = "stolen"
	}
	if err := steps(w.open(ctx, "/lost"), w.click(ctx, "radio", how), w.fill(ctx, "lost-how", story), w.click(ctx, "button", "lost"), w.sees(ctx, "submitted")); err != nil {
		return "", fmt.Errorf("applying for recovery: %w", err)
	}
	id, err = tour.Eval[string](ctx, w.Visitor, `document.querySelector('main a[href*="/apply/"]').pathname.split("/").pop()`)
	if err != nil {
		return "", fmt.Errorf("looking for the application: %w", err)
	}
	return id, nil
}

// Recover uses the code of an approved recovery.
func (w *Walker) Recover(ctx context.Context, code string) error {
	if err := steps(w.open(ctx, "/lost"), w.fill(ctx, "code", code), w.click(ctx, "button", "use-code"), w.sees(ctx, "recovered")); err != nil {
		return fmt.Errorf("using the recovery code: %w", err)
	}
	return nil
}
