package render

import (
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/verify"
)

// page is a report in words, in the order in which it is read.
type page struct {
	Lang, Title, Verdict, Class, Summary, Footer string

	Conclusion string // of a court: whether there is an evidence chain
	Made       []row  // by whom, when; of a court

	About     []row
	Story     []stepView
	Recorded  []recordingView
	Withheld  []string
	Notices   []string
	Problems  []checkView
	Checks    []checkView
	Counts    string
	NotProven []string
	Unchecked []row

	r *Renderer
}

// Word gives the template the fixed words of the page.
func (p *page) Word(key string) string { return p.r.word(key) }

type row struct{ Label, Value string }

type stepView struct {
	Title, Verdict, Class string
	Rows                  []row
	Objects               []objectView
}

type objectView struct {
	Name, Size, Verdict, Class string
	Withheld                   bool
	Lines                      []row // what identifies the file; twice where it differs
}

type checkView struct{ Verdict, Class, What, Where, Path, Why, Clauses string }

func (r *Renderer) page(rep *verify.Report) *page {
	local := *r
	local.names = rep.Basis.Names
	r = &local
	p := &page{Lang: r.lang, Title: r.word("title"), Verdict: r.verdict(rep.Verdict), Class: string(rep.Verdict),
		Summary: r.say(rep.Summary.Key, rep.Summary.Params), Footer: r.word("footer"), r: r}
	r.head(p, rep)
	p.About = r.about(rep)
	for i := range rep.Steps {
		p.Story = append(p.Story, r.step(&rep.Steps[i]))
	}
	for i := range rep.Recordings {
		p.Recorded = append(p.Recorded, r.recording(i+1, &rep.Recordings[i]))
	}
	for i := range rep.Withheld {
		p.Withheld = append(p.Withheld, r.withheld(&rep.Withheld[i]))
	}
	for _, n := range rep.Notices {
		where, path := r.subject(&n.Subject)
		p.Notices = append(p.Notices, join(r.word("punct.colon"), join(" ", where, path), r.say(n.Reason.Key, n.Reason.Params)))
	}
	for i := range rep.Checks {
		c := r.check(&rep.Checks[i])
		p.Checks = append(p.Checks, c)
		if rep.Checks[i].Verdict != verify.Matches {
			p.Problems = append(p.Problems, c)
		}
	}
	p.Counts = r.with("checks.counts", "total", len(rep.Checks), "matches", rep.Count(verify.Matches), "bad", rep.Count(verify.DoesNotMatch), "open", rep.Count(verify.Undetermined))
	for _, n := range rep.NotProven {
		p.NotProven = append(p.NotProven, r.say(n.Key, n.Params))
	}
	for _, u := range rep.Unchecked {
		p.Unchecked = append(p.Unchecked, row{plain(u.Path), r.say(u.Reason.Key, u.Reason.Params)})
	}
	return p
}

func (r *Renderer) verdict(v verify.Verdict) string { return r.word("verdict." + string(v)) }

func join(sep string, parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, sep)
}

func (r *Renderer) about(rep *verify.Report) []row {
	b := &rep.Basis
	rows := []row{
		{r.word("label.issuer"), r.issuer(rep)},
		{r.word("label.basis"), r.with("basis."+b.Kind, "name", b.Name, "institutions", b.Institutions, "quorum", b.Quorum)},
	}
	if !b.Alliance.IsZero() {
		rows = append(rows, row{r.word("label.alliance"), b.Alliance.String()})
	}
	if c := rep.Court; c != nil {
		rows = append(rows, row{r.word("label.court"), r.with("court.value", "institution", c.Institution, "size", c.Size, "root", c.Root)})
	}
	complete := r.word("completeness.no")
	switch c := &rep.Completeness; {
	case c.OwnLog && c.Count == 0:
		complete = r.with("completeness.no-trail", "institution", c.Institutions[0], "size", c.TreeSize)
	case c.Known:
		complete = r.with("completeness.yes", "size", c.TreeSize, "count", c.Count, "institutions", strings.Join(c.Institutions, ", "))
	}
	rows = append(rows, row{r.word("label.complete"), complete})
	if !rep.Trail.IsZero() {
		rows = append(rows, row{r.word("label.trail"), rep.Trail.String()})
	}
	return append(rows,
		row{r.word("label.package"), r.with("label.package.value", "size", rep.Package.Size, "files", rep.Package.Files)},
		row{r.word("label.package-digest"), rep.Package.SHA256.String()})
}

func (r *Renderer) step(s *verify.Step) stepView {
	phase := ""
	if s.Phase != "" {
		phase = r.word("phase." + s.Phase)
	}
	name := plain(s.Name)
	switch {
	case s.Kind != "deposit":
		name = r.word("step." + s.Kind)
	case name == "":
		name = r.word("step.withheld")
	}
	v := stepView{Title: join(" · ", r.with("step.title", "n", s.N), phase, name), Verdict: r.verdict(s.Verdict), Class: string(s.Verdict)}
	add := func(label, value string) {
		if value != "" {
			v.Rows = append(v.Rows, row{r.word(label), value})
		}
	}
	if s.Kind != "unreadable" {
		add("label.who", r.who(&s.Who))
		add("label.time", r.bracket(&s.Time))
		add("label.token", r.token(s.Time.Token))
		add("label.own-token", r.token(s.Time.OwnToken))
		add("label.clock", r.clock(&s.Time))
		add("label.act", r.act(s.Act))
		add("label.certificate", r.certificate(s.Certificate))
	}
	if a := s.Authorises; a != nil {
		add("label.authorises", r.rights(a))
	}
	add("label.note", plain(s.Note))
	add("label.place-claimed", r.facts(s.Claimed))
	add("label.place-witnessed", r.facts(s.Witnessed))
	add("label.facts", r.facts(s.Facts))
	var witnesses []string
	for _, w := range s.Witnesses {
		witnesses = append(witnesses, r.with("witness", "institution", w.Institution, "time", w.Time))
	}
	add("label.witnesses", join(r.word("punct.semicolon"), witnesses...))
	if len(witnesses) == 0 {
		add("label.witnesses", r.word("section.none"))
	}
	add("label.position", strconv.FormatUint(s.Position, 10))
	add("label.statement", s.Statement.String())
	for i := range s.Objects {
		v.Objects = append(v.Objects, r.object(&s.Objects[i]))
	}
	return v
}

func (r *Renderer) object(o *verify.StepObject) objectView {
	v := objectView{Name: plain(o.Name), Size: r.with("object.size", "size", o.Size, "media", o.Media), Verdict: r.verdict(o.Verdict),
		Class: string(o.Verdict), Withheld: o.Path == ""}
	line := func(what, registered, computed string) {
		if o.Computed == nil || registered == computed {
			v.Lines = append(v.Lines, row{what, registered})
			return
		}
		v.Lines = append(v.Lines, row{r.with("object.registered", "what", what), registered}, row{r.with("object.computed", "what", what), computed})
	}
	var c verify.Computed
	if o.Computed != nil {
		c = *o.Computed
	}
	if o.Computed != nil && c.Size != o.Size {
		line(r.word("object.bytes"), strconv.FormatInt(o.Size, 10), strconv.FormatInt(c.Size, 10))
	}
	line("SHA-256", o.SHA256.String(), c.SHA256.String())
	line("SM3", o.SM3.String(), c.SM3.String())
	return v
}

func (r *Renderer) who(w *verify.Who) string {
	var parts []string
	kind := "kind." + w.Kind
	if _, ok := r.messages[kind]; !ok {
		kind = "kind.unknown"
	}
	switch {
	case !w.Known:
		parts = append(parts, r.with("who.unknown", "member", w.Member))
	case w.Institution:
		parts = append(parts, r.with("who.institution", "institution", w.Member))
	default:
		parts = append(parts, r.with("who.member", "member", w.Member, "kind", r.word(kind), "assurance", w.Assurance))
	}
	if w.Owner {
		parts = append(parts, r.word("who.owner"))
	}
	if w.Demo {
		parts = append(parts, r.word("who.demo"))
	}
	return strings.Join(parts, r.word("punct.semicolon"))
}

func (r *Renderer) bracket(b *verify.Bracket) string {
	switch {
	case b.NotAfter == "":
		return r.word("time.none")
	case b.NotBefore == "":
		return r.with("time.only-upper", "after_time", b.NotAfter)
	}
	return r.with("time.bracket", "before_time", b.NotBefore, "after_time", b.NotAfter)
}

func (r *Renderer) token(t *verify.StepToken) string {
	switch {
	case t == nil:
		return ""
	case t.Demo:
		return r.with("token.demo", "authority", t.Name, "after_time", t.NotAfter)
	case !t.AccuracyStated:
		return r.with("token.no-accuracy", "authority", t.Name, "after_time", t.NotAfter)
	}
	return r.with("token.value", "authority", t.Name, "after_time", t.NotAfter)
}

func (r *Renderer) clock(b *verify.Bracket) string {
	off := b.ClockOffSeconds
	if off < 0 {
		off = -off
	}
	if off > verify.ClockTolerance {
		return r.with("clock.off", "claimed_time", b.Claimed, "off_seconds", off)
	}
	return r.with("clock.value", "claimed_time", b.Claimed)
}

func (r *Renderer) rights(a *verify.Rights) string {
	var parts []string
	if a.Append {
		parts = append(parts, r.with("authorises.append", "kid", a.KID))
	}
	if a.Read {
		parts = append(parts, r.with("authorises.read", "kid", a.KID))
	}
	if len(parts) == 0 {
		return r.with("authorises.nothing", "kid", a.KID)
	}
	return strings.Join(parts, r.word("punct.semicolon"))
}

func (r *Renderer) facts(facts []verify.Fact) string {
	var parts []string
	for _, f := range facts {
		parts = append(parts, plain(f.Name)+r.word("punct.colon")+plain(f.Value))
	}
	return strings.Join(parts, r.word("punct.semicolon"))
}

func (r *Renderer) withheld(w *verify.Withheld) string {
	switch {
	case w.What != "statement":
		return r.with("withheld."+w.What, "step", w.Step, "name", w.Name)
	case w.Position != nil:
		return r.with("withheld.statement", "number", w.Number, "position", *w.Position, "entry", w.Entry)
	case !w.Entry.IsZero():
		return r.with("withheld.statement-last", "number", w.Number, "entry", w.Entry)
	}
	return r.with("withheld.statement-unknown", "number", w.Number)
}

func (r *Renderer) subject(s *verify.Subject) (where, path string) {
	switch {
	case s.Object > 0:
		where = r.with("subject.object", "step", s.Step, "object", s.Object)
	case s.Step > 0:
		where = r.with("subject.step", "step", s.Step)
	}
	if s.Institution != "" {
		where = join(r.word("punct.comma"), where, r.institution(s.Institution))
	}
	if where == "" && s.Path == "" {
		where = r.word("subject.package")
	}
	return where, plain(s.Path)
}

func (r *Renderer) check(c *verify.Line) checkView {
	v := checkView{Verdict: r.verdict(c.Verdict), Class: string(c.Verdict), What: r.word("check." + c.ID), Why: r.say(c.Reason.Key, c.Reason.Params)}
	v.Where, v.Path = r.subject(&c.Subject)
	var clauses []string
	for _, k := range c.Clauses {
		clauses = append(clauses, r.word("clause."+k))
	}
	v.Clauses = strings.Join(clauses, r.word("punct.semicolon"))
	return v
}

// table is what the template of a table of checks needs.
type table struct {
	Page   *page
	Checks []checkView
}

// Table pairs checks with the page's words.
func (p *page) Table(checks []checkView) table { return table{p, checks} }
