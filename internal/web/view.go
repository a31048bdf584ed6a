package web

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"text/template/parse"
	"time"
)

//go:embed template
var templateFiles embed.FS

// view is the dot of every template.
type view struct {
	Lang        string
	Languages   []languageLink
	Name        string // of the template
	Origin      string
	Institution Institution
	Alliance    Alliance
	Demo        bool
	Person      *Person // nil: nobody is signed in
	SignIn      bool    // signing in is offered
	Here        string  // this page's path and query, in its language
	Nav         []navItem
	Notice      *notice
	Data        any // the page's own
}

type languageLink struct {
	Lang, Path string
	Current    bool
}

type navItem struct {
	Path, Text string
	Current    bool
}

type notice struct{ Tone, Text string }

func (r *request) view(name string, data any) *view {
	s := r.site
	v := &view{Lang: r.lang, Name: name, Origin: s.config.Origin, Institution: s.config.Institution, Alliance: s.config.Alliance, Demo: s.config.Demo,
		Person: r.person, SignIn: s.offers("/signin"), Here: r.URL.RequestURI(), Data: data}
	bare := r.URL.Path // without the language
	for _, lang := range languages {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/"+lang); ok && (rest == "" || rest[0] == '/') {
			bare = rest
		}
	}
	// What answers a form has no address of its own: the other language leads to
	// the front page.
	target := bare
	if r.kind != kindPage || r.Method != http.MethodGet && !s.offers(bare) {
		target = "/"
	}
	if r.URL.RawQuery != "" && target == bare {
		target += "?" + r.URL.RawQuery
	}
	for _, lang := range languages {
		v.Languages = append(v.Languages, languageLink{lang, "/" + lang + target, lang == r.lang})
	}
	for _, n := range s.nav {
		if n.who >= officer && !n.who.admits(r.person) {
			continue
		}
		current := bare == n.path || strings.HasPrefix(bare, n.path+"/")
		v.Nav = append(v.Nav, navItem{r.path(n.path), r.T(n.key), current})
	}
	if !r.sessionless && r.kind != kindApp {
		if tone, text, ok := strings.Cut(r.session().Take(sessionNotice), "\n"); ok {
			v.Notice = &notice{tone, text}
		}
	}
	return v
}

// loadTemplates parses every page's set once a language: layout, components and
// the page, with the functions of that language. A text key without text fails.
func loadTemplates(files fs.FS, s *Site) (map[string]map[string]*template.Template, error) {
	names, err := fs.Glob(files, "template/*.html")
	if err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	sets := map[string]map[string]*template.Template{}
	for _, lang := range languages {
		sets[lang] = map[string]*template.Template{}
		shared, err := template.New("").Funcs(s.functions(lang)).ParseFS(files, "template/shared/*.html")
		if err != nil {
			return nil, fmt.Errorf("reading the shared templates: %w", err)
		}
		for _, name := range names {
			set, err := shared.Clone()
			if err == nil {
				set, err = set.ParseFS(files, name)
			}
			if err != nil {
				return nil, fmt.Errorf("reading the template %s: %w", name, err)
			}
			for _, t := range set.Templates() {
				if t.Tree == nil {
					continue
				}
				for _, key := range textKeys(t.Tree.Root) {
					if !s.texts.has(key) {
						return nil, fmt.Errorf("reading the template %s: there is no text %q", name, key)
					}
				}
			}
			sets[lang][strings.TrimSuffix(path.Base(name), ".html")] = set
		}
	}
	return sets, nil
}

// textKeys lists the literal keys that a template asks `t` for.
func textKeys(node parse.Node) []string {
	var keys []string
	var walk func(n parse.Node)
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				walk(n)
			}
		}
	}
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			list(n)
		case *parse.ActionNode:
			walk(n.Pipe)
		case *parse.PipeNode:
			if n != nil {
				for _, c := range n.Cmds {
					walk(c)
				}
			}
		case *parse.CommandNode:
			if id, ok := n.Args[0].(*parse.IdentifierNode); ok && id.Ident == "t" && len(n.Args) > 1 {
				if text, ok := n.Args[1].(*parse.StringNode); ok {
					keys = append(keys, text.Text)
				}
			}
			for _, a := range n.Args {
				walk(a)
			}
		case *parse.IfNode:
			walk(n.Pipe)
			list(n.List)
			list(n.ElseList)
		case *parse.RangeNode:
			walk(n.Pipe)
			list(n.List)
			list(n.ElseList)
		case *parse.WithNode:
			walk(n.Pipe)
			list(n.List)
			list(n.ElseList)
		case *parse.TemplateNode:
			walk(n.Pipe)
		}
	}
	walk(node)
	return keys
}

// functions of the templates in one language.
func (s *Site) functions(lang string) template.FuncMap {
	return template.FuncMap{
		// t "key" "name" value…: a text.
		"t": func(key string, pairs ...any) (string, error) { return s.texts.say(lang, key, pairs...) },
		// has "key": whether there is such a text.
		"has": s.texts.has,
		// path "/keys": a page's address in this language.
		"path": func(p string) string { return "/" + lang + p },
		// offers "/keys": whether the page is offered here.
		"offers": s.offers,
		// static "site.css": a file's fingerprinted address.
		"static": s.statics.url,
		// time t: Beijing time with its offset; date t: its day.
		"time": beijing,
		"date": func(t time.Time) string { return t.In(beijingZone()).Format(time.DateOnly) },
		// iso t: RFC 3339, for the datetime attribute.
		"iso": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		// count n: digits in groups of three. For amounts, not for numbers that name something.
		"count": grouped,
		// bytes n: a size with its unit.
		"bytes":    size,
		"diskfree": func(n *uint64) string { return size(int64(min(*n, 1<<62))) },
		// chartheight: a chart's bars with room above for its scale and below for its days.
		"chartheight": func(bars int) int { return bars + 18 + 28 },
		// short digest: the first and last digits.
		"short": short,
		// dict "name" value…: what a component takes.
		"dict": dict,
		// list a b c: a slice.
		"list": func(items ...any) []any { return items },
		"join": strings.Join,
	}
}

func beijingZone() *time.Location { return time.FixedZone("", 8*60*60) }

// beijing writes a time as a court writes it, with its offset; nothing for no time.
func beijing(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(beijingZone()).Format("2006-01-02 15:04:05 -07:00")
}

func grouped(n any) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func size(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, u := float64(n)/1024, 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[u]
}

func short(v any) string {
	text := fmt.Sprint(v)
	if len(text) <= 20 {
		return text
	}
	return text[:8] + "…" + text[len(text)-6:]
}

func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict wants pairs of name and value")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, errors.New("dict wants names that are strings")
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}
