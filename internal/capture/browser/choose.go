package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// The list of a select box is a window of its own and in no picture. The box is
// found before the press that opens it; the person sees the options as data, and
// her choice goes to the open list as keys, so that the page sees what it would
// see of any visitor. Our own look at the page is from an isolated world, of
// which the page's programs know nothing.

// selectBox is a select box whose list is open.
type selectBox struct {
	tab           *tab
	node          cdp.BackendNodeID
	options       []Option
	x, y          int
	width, height int
}

// hitPatience is how long a press waits for the look at what is below it. A page
// that is busy for longer gets the press without.
const hitPatience = 2 * time.Second

// describe runs with the node as this.
const describe = `function() {
	let e = this.nodeType === 1 ? this : this.parentElement;
	e = e && e.closest('select');
	if (!e || e.disabled || e.multiple || e.size > 1) return null;
	const r = e.getBoundingClientRect();
	const clip = s => String(s).slice(0, 500);
	let x = r.x, y = r.y;
	for (let w = e.ownerDocument.defaultView; w && w !== w.parent && w.frameElement; w = w.parent) {
		const f = w.frameElement.getBoundingClientRect();
		x += f.x + w.frameElement.clientLeft; y += f.y + w.frameElement.clientTop;
	}
	return JSON.stringify({
		x: Math.round(x), y: Math.round(y), width: Math.round(r.width), height: Math.round(r.height),
		options: Array.from(e.options).slice(0, 5000).map((o, i) => ({
			index: i, label: clip(o.label), selected: o.selected, hidden: getComputedStyle(o).display === 'none',
			group: o.parentElement && o.parentElement.tagName === 'OPTGROUP' ? clip(o.parentElement.label) : '',
			disabled: o.disabled || !!(o.parentElement && o.parentElement.tagName === 'OPTGROUP' && o.parentElement.disabled)})),
	});
}`

// findSelect looks whether a press at a place opens a list.
func (b *Browser) findSelect(ctx context.Context, t *tab, x, y int) *selectBox {
	ctx, cancel := context.WithTimeout(ctx, hitPatience)
	defer cancel()
	scroll, err := cdp.Call(ctx, t.s, page.GetLayoutMetrics, cdp.Empty{})
	if err != nil || scroll.CSSVisualViewport == nil {
		return nil
	}
	// The protocol counts from the document's corner.
	at := dom.GetNodeForLocationParams{X: int64(x) + int64(scroll.CSSVisualViewport.PageX), Y: int64(y) + int64(scroll.CSSVisualViewport.PageY)}
	hit, err := cdp.Call(ctx, t.s, dom.GetNodeForLocation, at)
	if err != nil {
		return nil
	}
	s, err := b.describe(ctx, t, hit.FrameID, hit.BackendNodeID)
	if err != nil {
		return nil
	}
	return s
}

// opensSelect: keys that open the list of a focused box.
func (k Key) opensSelect() bool {
	return k.Type == "down" && (k.Key == " " || k.Key == "F4" || k.Modifiers&Alt != 0 && (k.Key == "ArrowDown" || k.Key == "ArrowUp"))
}

func (b *Browser) findFocusedSelect(ctx context.Context, t *tab) *selectBox {
	ctx, cancel := context.WithTimeout(ctx, hitPatience)
	defer cancel()
	world, err := cdp.Call(ctx, t.s, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: cdp.FrameID(t.target), WorldName: "recorder"})
	if err != nil {
		return nil
	}
	focused, err := cdp.Call(ctx, t.s, runtime.Evaluate, runtime.EvaluateParams{Expression: "document.activeElement", ContextID: world.ExecutionContextID})
	if err != nil || focused.Result == nil || focused.Result.ObjectID == "" {
		return nil
	}
	node, err := cdp.Call(ctx, t.s, dom.DescribeNode, dom.DescribeNodeParams{ObjectID: focused.Result.ObjectID})
	if err != nil || node.Node.NodeName != "SELECT" {
		return nil
	}
	s, err := b.describe(ctx, t, cdp.FrameID(t.target), node.Node.BackendNodeID)
	if err != nil {
		return nil
	}
	return s
}

var errNoSelect = errors.New("no select box")

func (b *Browser) describe(ctx context.Context, t *tab, frame cdp.FrameID, node cdp.BackendNodeID) (*selectBox, error) {
	world, err := cdp.Call(ctx, t.s, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: frame, WorldName: "recorder"})
	if err != nil {
		return nil, err
	}
	resolved, err := cdp.Call(ctx, t.s, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: node, ExecutionContextID: world.ExecutionContextID})
	if err != nil {
		return nil, err
	}
	yes := true
	said, err := cdp.Call(ctx, t.s, runtime.CallFunctionOn, runtime.CallFunctionOnParams{FunctionDeclaration: describe, ObjectID: resolved.Object.ObjectID, ReturnByValue: &yes})
	if err != nil {
		return nil, err
	}
	var text string
	if json.Unmarshal(said.Result.Value, &text) != nil || text == "" {
		return nil, errNoSelect
	}
	var box struct {
		X, Y, Width, Height int
		Options             []struct {
			Index                      int
			Label, Group               string
			Disabled, Selected, Hidden bool
		}
	}
	if err := json.Unmarshal([]byte(text), &box); err != nil {
		return nil, fmt.Errorf("reading a select box: %w", err)
	}
	s := &selectBox{tab: t, node: node, x: box.X, y: box.Y, width: box.Width, height: box.Height}
	for _, o := range box.Options {
		s.options = append(s.options, Option{o.Index, clip(o.Label), clip(o.Group), o.Disabled || o.Hidden, o.Selected})
	}
	return s, nil
}

// announce tells of an open list. Only the last one is open.
func (b *Browser) announce(s *selectBox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.selects)
	b.selected++
	b.selects[b.selected] = s
	b.emit(s.tab, SelectOpened{b.selected, s.options, s.x, s.y, s.width, s.height})
}

// choose presses keys in the open list: to its first option, down to the one that
// is meant, and Enter.
func (b *Browser) choose(t *tab, a Choose) (waiting, error) {
	b.mu.Lock()
	s := b.selects[a.Select]
	delete(b.selects, a.Select)
	b.mu.Unlock()
	if s == nil {
		return nil, refuse("select", "list %d is not open", a.Select)
	}
	keys := []string{"Escape"}
	if a.Index >= 0 {
		keys = []string{"Home"}
		for _, o := range s.options[:a.Index] {
			if !o.Disabled {
				keys = append(keys, "ArrowDown")
			}
		}
		keys = append(keys, "Enter")
	}
	var last waiting
	for _, k := range keys {
		for _, kind := range []string{"down", "up"} {
			w, err := b.sendTo(t, input.CommandDispatchKeyEvent, Key{Type: kind, Key: k, Code: k}.params())
			if err != nil {
				return nil, err
			}
			last = w
		}
	}
	return func(ctx context.Context) error {
		if err := last(ctx); err != nil || a.Index < 0 {
			return err
		}
		return b.verifyChoice(ctx, s, a.Index)
	}, nil
}

// verifyChoice looks whether the box shows what was chosen. A page that went on
// to another document meanwhile has taken the choice.
func (b *Browser) verifyChoice(ctx context.Context, s *selectBox, index int) error {
	ctx, cancel := context.WithTimeout(ctx, hitPatience)
	defer cancel()
	now, err := b.describe(ctx, s.tab, cdp.FrameID(s.tab.target), s.node)
	if err != nil || index >= len(now.options) || now.options[index].Selected {
		return nil
	}
	return fmt.Errorf("the select box does not show option %d", index)
}
