package tour

import (
	"context"
	"fmt"
	"strings"

	"github.com/chromedp/chromedp"
)

// Violation is a rule of axe-core that a page breaks.
type Violation struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"`
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"` // selector and what is wrong
}

func (v Violation) String() string {
	return fmt.Sprintf("%s (%s): %s\n  %s", v.ID, v.Impact, v.Help, strings.Join(v.Nodes, "\n  "))
}

// Axe runs axe-core, whose source is given, on the page by the rules of WCAG 2.0
// to 2.2, levels A and AA, and best practice.
func (v *Visitor) Axe(ctx context.Context, source string) ([]Violation, error) {
	step, done := v.step(ctx)
	defer done()
	there, err := chromedp.Run(step, chromedp.Evaluate[bool](`typeof axe === "object"`))
	if err != nil {
		return nil, fmt.Errorf("looking for axe: %w", err)
	}
	if !there {
		// The protocol's evaluation is not bound by the page's content policy.
		if _, err := chromedp.Run(step, chromedp.Evaluate[bool](source+"\n;true")); err != nil {
			return nil, fmt.Errorf("loading axe: %w", err)
		}
	}
	out, err := chromedp.Run(step, chromedp.Evaluate[[]Violation](`axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"],
	}).then((r) => r.violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help,
		nodes: v.nodes.map((n) => n.target.join(" ") + ": " + n.failureSummary.replaceAll("\n", " ")) })))`, chromedp.EvalAwaitPromise))
	if err != nil {
		return nil, fmt.Errorf("running axe: %w", err)
	}
	return out, nil
}
