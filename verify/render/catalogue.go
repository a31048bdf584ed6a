// Package render turns a verification report into a page that a judge can read,
// in Chinese or English: text for a terminal, or one HTML file that needs no
// other host and prints on A4.
//
//	verify.Report ─┐
//	               ├─► page (words, in order) ─┬─► Text
//	catalogue ─────┘                           └─► HTML
//
// It trusts nothing in the report: every value is escaped or stripped of what a
// terminal or a browser could take for a command.
package render

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

//go:embed messages.*.json
var catalogues embed.FS

// Languages lists the languages a report can be rendered in.
func Languages() []string { return []string{"zh-CN", "en"} }

// Renderer renders reports in one language.
type Renderer struct {
	lang     string
	messages map[string]string
	names    map[string]string // institutions of the report at hand
	court    *Court            // whose finding the report is; nil for none
}

// New returns a renderer for a language of Languages.
func New(lang string) (*Renderer, error) {
	data, err := catalogues.ReadFile("messages." + lang + ".json")
	if err != nil {
		return nil, fmt.Errorf("language %q is not known: use %s", lang, strings.Join(Languages(), " or "))
	}
	r := &Renderer{lang: lang}
	if err := json.Unmarshal(data, &r.messages); err != nil {
		return nil, fmt.Errorf("reading the %s messages: %w", lang, err)
	}
	return r, nil
}

// say returns a message with its values put in, and of {count:check/checks} the
// word for the number. A key that is missing stands
// between angle quotes, so that it is seen; tests see to it that none is.
func (r *Renderer) say(key string, params map[string]string) string {
	text, ok := r.messages[key]
	if !ok {
		return "‹" + key + "›"
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		name, forms, counted := strings.Cut(name, ":")
		if counted { // {count:check/checks}, by the number
			one, many, _ := strings.Cut(forms, "/")
			if params[name] != "1" {
				one = many
			}
			b.WriteString(one)
		} else {
			b.WriteString(r.value(name, params[name]))
		}
		text = after
	}
}

func (r *Renderer) word(key string) string { return r.say(key, nil) }

// with is say with pairs of name and value.
func (r *Renderer) with(key string, pairs ...any) string {
	params := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		params[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	return r.say(key, params)
}

// value renders a value by its name, as verify.Reason defines it.
func (r *Renderer) value(name, v string) string {
	switch {
	case strings.HasSuffix(name, "_time") || name == "time":
		return moment(v)
	case strings.HasSuffix(name, "_seconds"):
		return r.duration(v)
	case name == "assurance", name == "minimum":
		if _, ok := r.messages["assurance."+v]; ok {
			return r.word("assurance." + v)
		}
	case name == "act":
		if _, ok := r.messages["act."+v]; ok {
			return r.word("act." + v)
		}
	case name == "revocation":
		if _, ok := r.messages["revocation."+strings.ToLower(v)]; ok {
			return r.word("revocation." + strings.ToLower(v))
		}
	case name == "part":
		if _, ok := r.messages["part."+v]; ok {
			return r.word("part." + v)
		}
	case name == "first":
		return r.word("check." + v)
	case name == "institution":
		return r.institution(v)
	case name == "institutions":
		ids := strings.Split(v, ", ")
		for i := range ids {
			ids[i] = r.institution(ids[i])
		}
		return strings.Join(ids, r.word("punct.list"))
	}
	return plain(v)
}

// institution returns the name under which the verifier knows an institution,
// with its id, or the id alone.
func (r *Renderer) institution(id string) string {
	name, ok := r.names[id]
	if !ok {
		return plain(id)
	}
	return r.of(name, id)
}

// moment turns RFC 3339 in UTC into Beijing time with its offset.
func moment(v string) string {
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return plain(v)
	}
	return t.In(time.FixedZone("", 8*60*60)).Format("2006-01-02 15:04:05 -07:00")
}

func (r *Renderer) duration(v string) string {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return plain(v)
	}
	var parts []string
	for _, u := range []struct {
		key  string
		secs int64
	}{{"duration.hours", 3600}, {"duration.minutes", 60}, {"duration.seconds", 1}} {
		if k := n / u.secs; k > 0 || u.secs == 1 && len(parts) == 0 {
			parts = append(parts, r.with(u.key, "n", k))
		}
		n %= u.secs
	}
	return strings.Join(parts, " ")
}

// plain removes what could make text read otherwise than it is stored: control
// characters, which a terminal obeys, and bidirectional overrides.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '\uFFFD'
		}
		return c
	}, s)
}

// Unreadable renders the error with which verify.Check refuses a file.
func (r *Renderer) Unreadable(err error) string {
	var p *evidence.PackageError
	if errors.As(err, &p) {
		detail := p.Reason
		if text, ok := r.messages["unreadable."+p.Code]; ok {
			detail = text
		}
		return r.with("unreadable", "code", p.Code, "detail", detail)
	}
	return r.with("unreadable", "code", "read", "detail", err)
}
