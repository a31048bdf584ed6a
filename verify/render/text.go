package render

import (
	"bufio"
	"io"
	"strings"

	"github.com/zhenglian/zhenglian/verify"
)

// Text writes the report for a terminal: the verdict in the first line, then
// the story, every check, and what is not proven.
func (r *Renderer) Text(w io.Writer, rep *verify.Report) error {
	p := r.page(rep)
	t := &textWriter{w: bufio.NewWriter(w), p: p}
	if p.Conclusion == "" {
		t.line(p.Title + r.word("punct.colon") + "【" + p.Verdict + "】")
	} else {
		t.line(p.Title)
		t.rows("", p.Made)
		t.line("【" + p.Verdict + "】" + p.Conclusion)
	}
	t.line(p.Summary)
	t.section("section.about")
	t.rows("  ", p.About)
	if len(p.Problems) > 0 {
		t.section("section.problems")
		t.checks(p.Problems)
	}
	if len(p.Withheld) > 0 {
		t.section("section.withheld")
		t.list(p.Withheld)
	}
	if len(p.Notices) > 0 {
		t.section("section.notices")
		t.list(p.Notices)
	}
	t.section("section.story")
	for _, s := range p.Story {
		t.line("")
		t.line("  " + s.Title + "  【" + s.Verdict + "】")
		t.rows("    ", s.Rows)
		for _, o := range s.Objects {
			verdict := o.Verdict
			if o.Withheld {
				verdict += p.Word("punct.comma") + p.Word("object.withheld")
			}
			t.line("    " + p.Word("label.objects") + p.Word("punct.colon") + o.Name + "  【" + verdict + "】  " + o.Size)
			t.rows("      ", o.Lines)
		}
	}
	if len(p.Recorded) > 0 {
		t.section("section.recordings")
	}
	for _, rec := range p.Recorded {
		t.line("")
		t.line("  " + rec.Title + "  【" + rec.Verdict + "】")
		t.rows("    ", rec.Rows)
		for _, m := range rec.Moments {
			t.line("    - " + join("  ", m.Time, m.What, m.Where))
			t.line("      " + m.Proof)
		}
	}
	t.section("section.checks")
	t.line("  " + p.Counts)
	t.checks(p.Checks)
	t.section("section.not-proven")
	t.list(p.NotProven)
	t.section("section.unchecked")
	for _, u := range p.Unchecked {
		t.line("  - " + u.Label + p.Word("punct.colon") + u.Value)
	}
	t.line("")
	t.line(p.Footer)
	return t.flush()
}

type textWriter struct {
	w   *bufio.Writer
	p   *page
	err error
}

func (t *textWriter) line(s string) {
	if t.err == nil {
		_, t.err = t.w.WriteString(s + "\n")
	}
}

func (t *textWriter) flush() error {
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

func (t *textWriter) section(key string) {
	t.line("")
	t.line("== " + t.p.Word(key) + " ==")
}

func (t *textWriter) rows(indent string, rows []row) {
	for _, r := range rows {
		t.line(indent + r.Label + t.p.Word("punct.colon") + strings.ReplaceAll(r.Value, "\n", "\n"+indent+"  "))
	}
}

func (t *textWriter) list(items []string) {
	for _, s := range items {
		t.line("  - " + s)
	}
}

func (t *textWriter) checks(checks []checkView) {
	for _, c := range checks {
		t.line("  【" + c.Verdict + "】" + c.What + "  " + join("  ", c.Where, c.Path))
		t.line("      " + c.Why)
		t.line("      (" + c.Clauses + ")")
	}
}
