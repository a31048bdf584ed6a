package browser

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// Scripts name elements; people point. A script's step is located here, and then
// done by the same mouse and keys as a person's.

// Element is where a script's element is shown, in CSS pixels of the page's picture.
type Element struct {
	X, Y          int // its middle
	Width, Height int
	Shown         bool // its middle lies in the picture and nothing else lies over it
}

// seek runs in an isolated world.
const seek = `(function(selector, text, reveal) {
	const visible = e => { const r = e.getBoundingClientRect(), s = getComputedStyle(e); return r.width > 0 && r.height > 0 && s.visibility !== 'hidden'; };
	let found;
	try {
		found = Array.from(document.querySelectorAll(selector || 'a,button,input,select,textarea,label,summary,[role],[onclick],h1,h2,h3,li,td,span,p,div')).filter(visible);
	} catch (e) { return JSON.stringify({bad: true}); }
	if (text) {
		const words = e => (e.innerText || e.value || e.getAttribute('aria-label') || '').replace(/\s+/g, ' ').trim();
		const exact = found.filter(e => words(e) === text);
		found = exact.length ? exact : found.filter(e => words(e).includes(text));
		found = found.filter(e => !found.some(o => o !== e && e.contains(o)));
	}
	const e = found[0];
	if (!e) return JSON.stringify({});
	if (reveal) e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
	const r = e.getBoundingClientRect();
	// Of a link over several lines, the first has its middle inside.
	const b = e.getClientRects()[0] || r;
	const x = b.x + b.width / 2, y = b.y + b.height / 2;
	const top = document.elementFromPoint(x, y);
	return JSON.stringify({there: true, x: Math.round(x), y: Math.round(y), width: Math.round(r.width), height: Math.round(r.height),
		shown: !!top && (e.contains(top) || top.contains(e))});
})`

// Locate finds the first visible element that a CSS selector names, or that shows
// a text (exactly, or else among others), or both. Reveal scrolls to it: an act.
// *Refused with code "element" when there is none.
func (b *Browser) Locate(ctx context.Context, selector, text string) (Element, error) {
	t, _, err := b.observed()
	if err != nil {
		return Element{}, err
	}
	return b.seek(ctx, t, selector, text, false)
}

func (b *Browser) seek(ctx context.Context, t *tab, selector, text string, reveal bool) (Element, error) {
	if selector == "" && text == "" {
		return Element{}, refuse("element", "neither a selector nor a text is given")
	}
	args, err := json.Marshal([]any{selector, text, reveal})
	if err != nil {
		return Element{}, fmt.Errorf("writing what to look for: %w", err)
	}
	said, err := b.evaluate(ctx, t, seek+"(..."+string(args)+")")
	if err != nil {
		return Element{}, fmt.Errorf("looking for an element: %w", err)
	}
	var found struct {
		Bad, There, Shown   bool
		X, Y, Width, Height int
	}
	if err := json.Unmarshal([]byte(said), &found); err != nil {
		return Element{}, fmt.Errorf("looking for an element: %w", err)
	}
	switch {
	case found.Bad:
		return Element{}, refuse("element", "%q is no CSS selector", clip(selector))
	case !found.There:
		return Element{}, refuse("element", "no visible element has the selector %q and the text %q", clip(selector), clip(text))
	}
	return Element{found.X, found.Y, found.Width, found.Height, found.Shown}, nil
}

// evaluate runs an expression that gives a text in the page's isolated world.
func (b *Browser) evaluate(ctx context.Context, t *tab, expression string) (string, error) {
	b.mu.Lock()
	held := t.held
	b.mu.Unlock()
	ask := func(method string, params, result any) error {
		r, err := b.wire.send(t.s.id, method, params)
		if err != nil {
			return err
		}
		return r.wait(ctx, held, result)
	}
	var world page.CreateIsolatedWorldResult
	if err := ask(page.CommandCreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: cdp.FrameID(t.target), WorldName: "recorder"}, &world); err != nil {
		return "", err
	}
	yes := true
	var r runtime.EvaluateResult
	if err := ask(runtime.CommandEvaluate, runtime.EvaluateParams{Expression: expression, ContextID: world.ExecutionContextID, ReturnByValue: &yes}, &r); err != nil {
		return "", err
	}
	if r.ExceptionDetails != nil {
		return "", fmt.Errorf("the page's isolated world says %q", clip(r.ExceptionDetails.Text))
	}
	var s string
	if err := json.Unmarshal(r.Result.Value, &s); err != nil {
		return "", fmt.Errorf("reading what the isolated world gave: %w", err)
	}
	return s, nil
}

// VisibleText is the active page's text as a reader sees it, without frames: for
// comparison, not for proof.
func (b *Browser) VisibleText(ctx context.Context) (string, error) {
	return b.ofPage(ctx, "the page's text", "document.body ? document.body.innerText : ''")
}

// HTML is the active page's document as markup, as it stands now: what programs
// made of it, not what was sent.
func (b *Browser) HTML(ctx context.Context) (string, error) {
	return b.ofPage(ctx, "the page's markup", `(document.doctype ? new XMLSerializer().serializeToString(document.doctype) + '\n' : '') + (document.documentElement ? document.documentElement.outerHTML : '')`)
}

func (b *Browser) ofPage(ctx context.Context, what, expression string) (string, error) {
	t, _, err := b.observed()
	if err != nil {
		return "", err
	}
	s, err := b.evaluate(ctx, t, expression)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	return s, nil
}
