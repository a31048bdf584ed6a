package tour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// pause between two looks for what is not there yet.
const pause = 50 * time.Millisecond

// Go opens an address and waits until it is loaded.
func (v *Visitor) Go(ctx context.Context, address string) error {
	step, done := v.step(ctx)
	defer done()
	if err := chromedp.Do(step, chromedp.Navigate(address)); err != nil {
		return fmt.Errorf("opening %s: %w", address, err)
	}
	return nil
}

// find returns the element of a role and an accessible name, waiting for it. A
// name that ends in "…" is the beginning of one.
func (v *Visitor) find(step context.Context, role, name string) (cdp.BackendNodeID, error) {
	for {
		id, err := v.look(step, role, name)
		if err != nil || id != 0 {
			return id, err
		}
		select {
		case <-step.Done():
			return 0, fmt.Errorf("there is no %s named %q on the page, which says:\n%s", role, name, v.excerpt())
		case <-time.After(pause):
		}
	}
}

func (v *Visitor) look(step context.Context, role, name string) (cdp.BackendNodeID, error) {
	root, err := chromedp.Run(step, chromedp.Evaluate[*runtime.RemoteObject](`document`))
	if err != nil {
		if step.Err() != nil {
			return 0, nil
		}
		return 0, fmt.Errorf("reading the page: %w", err)
	}
	query := accessibility.QueryAXTreeParams{ObjectID: root.ObjectID, Role: role, AccessibleName: name}
	start, prefix := strings.CutSuffix(name, "…")
	if prefix {
		query.AccessibleName = ""
	}
	found, err := chromedp.Call(step, accessibility.QueryAXTree, query)
	if err != nil {
		return 0, nil // the page is changing under us, or time is up: the caller looks again
	}
	for _, n := range found.Nodes {
		if n.Ignored || n.BackendDOMNodeID == 0 {
			continue
		}
		if prefix {
			var text string
			if n.Name == nil || json.Unmarshal(n.Name.Value, &text) != nil || !strings.HasPrefix(text, start) {
				continue
			}
		}
		return n.BackendDOMNodeID, nil
	}
	return 0, nil
}

// Has reports whether the page now has an element of that role and name.
func (v *Visitor) Has(ctx context.Context, role, name string) (bool, error) {
	step, done := v.step(ctx)
	defer done()
	id, err := v.look(step, role, name)
	return id != 0, err
}

// Click clicks the element of a role (link, button, checkbox, radio, tab…) and
// name, with the mouse.
func (v *Visitor) Click(ctx context.Context, role, name string) error {
	step, done := v.step(ctx)
	defer done()
	id, err := v.find(step, role, name)
	if err != nil {
		return err
	}
	if _, err := chromedp.Call(step, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: id}); err != nil {
		return fmt.Errorf("scrolling to %s %q: %w", role, name, err)
	}
	quads, err := chromedp.Call(step, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: id})
	if err != nil || len(quads.Quads) == 0 || len(quads.Quads[0]) != 8 {
		return fmt.Errorf("%s %q has no place on the screen (%w)", role, name, errors.Join(err))
	}
	q := quads.Quads[0]
	x, y := (q[0]+q[2]+q[4]+q[6])/4, (q[1]+q[3]+q[5]+q[7])/4
	if err := chromedp.Do(step, chromedp.MouseClickXY(x, y)); err != nil {
		return fmt.Errorf("clicking %s %q: %w", role, name, err)
	}
	return nil
}

// Fill replaces what a text field holds, by its label, as typing does.
func (v *Visitor) Fill(ctx context.Context, label, text string) error {
	step, done := v.step(ctx)
	defer done()
	id, err := v.find(step, "textbox", label)
	if err != nil {
		return err
	}
	if _, err := chromedp.Call(step, dom.Focus, dom.FocusParams{BackendNodeID: id}); err != nil {
		return fmt.Errorf("going to %q: %w", label, err)
	}
	if _, err := chromedp.Run(step, chromedp.Evaluate[bool](`document.activeElement.select?.() ?? true`)); err != nil && !errors.Is(err, chromedp.ErrJSUndefined) {
		return fmt.Errorf("selecting what %q holds: %w", label, err)
	}
	if err := chromedp.Do(step, chromedp.KeyEvent(text)); err != nil {
		return fmt.Errorf("typing into %q: %w", label, err)
	}
	return nil
}

// Choose picks an option of a list by the texts of its label and the option.
func (v *Visitor) Choose(ctx context.Context, label, option string) error {
	return v.control(ctx, label, `function (option) {
		const found = [...this.options].find((o) => o.text.trim() === option);
		if (!found) throw new Error("there is no option " + option);
		this.value = found.value;
		this.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	}`, option)
}

// Upload puts files of this machine into a file field, by the beginning of its
// label's text.
func (v *Visitor) Upload(ctx context.Context, label string, files ...string) error {
	step, done := v.step(ctx)
	defer done()
	selector, err := v.labelled(step, label)
	if err != nil {
		return err
	}
	// The browser has another working directory, and takes a file that it does not
	// find for an empty one.
	whole := make([]string, len(files))
	for i, file := range files {
		if whole[i], err = filepath.Abs(file); err != nil {
			return fmt.Errorf("uploading: %w", err)
		}
		if _, err := os.Stat(whole[i]); err != nil {
			return fmt.Errorf("uploading: %w", err)
		}
	}
	quoted, err := json.Marshal(selector)
	if err != nil {
		return err
	}
	field, err := chromedp.Run(step, chromedp.Evaluate[*runtime.RemoteObject](`document.querySelector(`+string(quoted)+`)`))
	if err != nil {
		return fmt.Errorf("looking for the field %q: %w", label, err)
	}
	if _, err := chromedp.Call(step, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: whole, ObjectID: field.ObjectID}); err != nil {
		return fmt.Errorf("putting files into %q: %w", label, err)
	}
	return nil
}

// labelled returns a selector of the field whose label begins with a text.
func (v *Visitor) labelled(step context.Context, label string) (string, error) {
	quoted, err := json.Marshal(label)
	if err != nil {
		return "", err
	}
	id, err := chromedp.Run(step, chromedp.Evaluate[string](`(() => {
		const label = [...document.querySelectorAll("label")].find((l) => l.innerText.trim().startsWith(`+string(quoted)+`));
		return label?.control?.id ?? "";
	})()`))
	if err != nil {
		return "", fmt.Errorf("looking for the field %q: %w", label, err)
	}
	if id == "" {
		return "", fmt.Errorf("there is no field labelled %q on the page, which says:\n%s", label, v.excerpt())
	}
	return `[id="` + id + `"]`, nil
}

func (v *Visitor) control(ctx context.Context, label, function string, args ...any) error {
	step, done := v.step(ctx)
	defer done()
	selector, err := v.labelled(step, label)
	if err != nil {
		return err
	}
	words, err := json.Marshal(args)
	if err != nil {
		return err
	}
	quoted, err := json.Marshal(selector)
	if err != nil {
		return err
	}
	if _, err := chromedp.Run(step, chromedp.Evaluate[bool](`(`+function+`).apply(document.querySelector(`+string(quoted)+`), `+string(words)+`)`)); err != nil {
		return fmt.Errorf("using the field %q: %w", label, err)
	}
	return nil
}

// WaitText waits until the page shows a text.
func (v *Visitor) WaitText(ctx context.Context, text string) error {
	step, done := v.step(ctx)
	defer done()
	for {
		shown, err := chromedp.Run(step, chromedp.Evaluate[string](`document.body?.innerText ?? ""`))
		if err == nil && strings.Contains(shown, text) {
			return nil
		}
		select {
		case <-step.Done():
			return fmt.Errorf("the page does not show %q; it says:\n%s", text, v.excerpt())
		case <-time.After(pause):
		}
	}
}

// Text returns what the page shows.
func (v *Visitor) Text(ctx context.Context) (string, error) {
	return Eval[string](ctx, v, `document.body?.innerText ?? ""`)
}

// Where returns the page's address.
func (v *Visitor) Where(ctx context.Context) (string, error) {
	return Eval[string](ctx, v, `location.href`)
}

// excerpt is the beginning of what the page shows, for errors.
func (v *Visitor) excerpt() string {
	step, cancel := context.WithTimeout(v.ctx, 2*time.Second)
	defer cancel()
	text, err := chromedp.Run(step, chromedp.Evaluate[string](`location.href + "\n" + (document.body?.innerText ?? "")`))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	if len(text) > 1500 {
		text = text[:1500] + "…"
	}
	return text
}

// Eval evaluates an expression on the visitor's page and waits for it when it is
// a promise.
func Eval[T any](ctx context.Context, v *Visitor, expression string) (T, error) {
	step, done := v.step(ctx)
	defer done()
	out, err := chromedp.Run(step, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		return out, fmt.Errorf("evaluating on the page: %w", err)
	}
	return out, nil
}

// Screenshot returns the whole page as PNG, at the width of the screen.
func (v *Visitor) Screenshot(ctx context.Context) ([]byte, error) {
	step, done := v.step(ctx)
	defer done()
	png, err := chromedp.Run(step, chromedp.FullScreenshot(100))
	if err != nil {
		return nil, fmt.Errorf("taking a screenshot: %w", err)
	}
	return png, nil
}

// PDF prints the page on A4.
func (v *Visitor) PDF(ctx context.Context) ([]byte, error) {
	step, done := v.step(ctx)
	defer done()
	yes := true
	out, err := chromedp.Call(step, page.PrintToPDF, page.PrintToPDFParams{PreferCSSPageSize: &yes})
	if err != nil {
		return nil, fmt.Errorf("printing the page: %w", err)
	}
	return out.Data, nil
}

// Download does what starts a download and returns the path of the file, once it
// is whole. The file is gone with the browser.
func (v *Visitor) Download(ctx context.Context, start func() error) (string, error) {
	v.mu.Lock()
	clear(v.finished)
	v.mu.Unlock()
	if err := start(); err != nil {
		return "", err
	}
	step, done := v.step(ctx)
	defer done()
	for {
		v.mu.Lock()
		for _, path := range v.finished {
			v.mu.Unlock()
			return path, nil
		}
		v.mu.Unlock()
		select {
		case <-step.Done():
			return "", fmt.Errorf("no file was downloaded; the page says:\n%s", v.excerpt())
		case <-time.After(pause):
		}
	}
}

// SetCookie gives the visitor a cookie for an origin.
func (v *Visitor) SetCookie(ctx context.Context, origin string, c *http.Cookie) error {
	step, done := v.step(ctx)
	defer done()
	yes := true
	p := network.SetCookieParams{Name: c.Name, Value: c.Value, URL: origin, Path: "/", HTTPOnly: &yes, SameSite: network.CookieSameSiteLax}
	if _, err := chromedp.Call(step, network.SetCookie, p); err != nil {
		return fmt.Errorf("setting a cookie: %w", err)
	}
	return nil
}

// Cookies returns the cookies that the visitor has for an address.
func (v *Visitor) Cookies(ctx context.Context, address string) ([]*http.Cookie, error) {
	step, done := v.step(ctx)
	defer done()
	found, err := chromedp.Call(step, network.GetCookies, network.GetCookiesParams{URLs: []string{address}})
	if err != nil {
		return nil, fmt.Errorf("reading the cookies: %w", err)
	}
	var out []*http.Cookie
	for _, c := range found.Cookies {
		out = append(out, &http.Cookie{Name: c.Name, Value: c.Value, Path: c.Path, HttpOnly: c.HTTPOnly, Secure: c.Secure})
	}
	return out, nil
}

// EvalInWorker evaluates an expression in the page's dedicated worker, which must
// be running, and waits for it when it is a promise.
func EvalInWorker[T any](ctx context.Context, v *Visitor, expression string) (T, error) {
	var zero T
	step, done := v.step(ctx)
	defer done()
	everything := target.Filter{{}}
	found, err := chromedp.CallBrowser(step, target.GetTargets, target.GetTargetsParams{Filter: everything})
	if err != nil {
		return zero, fmt.Errorf("listing what the browser runs: %w", err)
	}
	own := chromedp.FromContext(v.ctx).BrowserContextID
	for _, info := range found.TargetInfos {
		if info.Type != "worker" || info.BrowserContextID != own {
			continue
		}
		inside, leave := chromedp.NewContext(v.ctx, chromedp.WithTargetID(info.TargetID), chromedp.WithDetachOnCancel())
		defer leave()
		if err := chromedp.Do(inside); err != nil {
			return zero, fmt.Errorf("entering the worker: %w", err)
		}
		out, err := chromedp.Run(inside, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		if err != nil {
			return out, fmt.Errorf("evaluating in the worker: %w", err)
		}
		return out, nil
	}
	return zero, errors.New("the page has no worker running")
}
