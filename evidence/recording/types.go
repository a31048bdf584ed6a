package recording

import (
	"fmt"
	"strings"
)

// The types of events that a verifier reads. Types lists all.
const (
	TypeOpen        = "session.open"
	TypeEnvReport   = "env.report"
	TypeBrowser     = "browser.started"
	TypeInput       = "input"
	TypeRequest     = "http.request"
	TypeResponse    = "http.response"
	TypeEnd         = "http.end"
	TypeConnection  = "connection"
	TypeDNS         = "dns.answer"
	TypeTLS         = "tls.chain"
	TypeNavStart    = "nav.start"
	TypeNavEnd      = "nav.end"
	TypeStep        = "step.done"
	TypeStepFailed  = "step.failed"
	TypeDownload    = "download.begin"
	TypeDownloaded  = "download.end"
	TypeFrames      = "video.frames"
	TypeVideoSealed = "video.sealed"
	TypeWARCSealed  = "warc.sealed"
	TypeClose       = "session.close"
)

// Roles of blobs that a verifier reads.
const (
	RoleRequestHead     = "request.head"
	RoleRequestBody     = "request.body"    // transfer coding removed
	RoleRequestFraming  = "request.framing" // what "chunked" took
	RoleResponseHead    = "response.head"
	RoleResponseBody    = "response.body" // transfer coding removed, content coding kept
	RoleResponseFraming = "response.framing"
	RoleCertificate     = "certificate" // DER, the leaf first
	RoleScreenshot      = "screenshot"
	RoleDOM             = "dom"
	RoleDownload        = "download"
	RoleReport          = "report" // of the environment
	RoleVideo           = "video"
	RoleWACZ            = "wacz"
)

// Kinds of fields in an event's data.
const (
	kindText   = "text"
	kindInt    = "integer"
	kindBool   = "bool"
	kindTexts  = "texts"
	kindInts   = "integers"
	kindDigest = "digest" // 64 hexadecimal digits
)

// Field is one field of a type's data.
type Field struct {
	Name     string
	Kind     string // text, integer, bool, texts, integers or digest
	Required bool
}

// EventType is what spec/recording.md says of a type. An event may hold fields
// and blobs beyond these; a verifier does not read them.
type EventType struct {
	Name   string
	Phase  string // before, during, after, or "" for any
	Fields []Field
	Blobs  []string // roles that must be there
}

func need(kind string, names ...string) []Field { return fields(kind, true, names) }
func may(kind string, names ...string) []Field  { return fields(kind, false, names) }

func fields(kind string, required bool, names []string) []Field {
	out := make([]Field, len(names))
	for i, n := range names {
		out[i] = Field{n, kind, required}
	}
	return out
}

func all(lists ...[]Field) []Field {
	var out []Field
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// Types returns the types of events, in the order of the specification.
func Types() []EventType {
	return []EventType{
		{TypeOpen, "before", all(need(kindDigest, "trail", "recorder"), need(kindText, "version"), may(kindText, "start", "institution"), may(kindInt, "width", "height")), nil},
		{TypeEnvReport, "before", all(need(kindText, "verdict"), need(kindTexts, "exceptions")), []string{RoleReport}},
		{TypeBrowser, "before", all(need(kindText, "version"), may(kindDigest, "binary")), nil},
		{TypeInput, "during", need(kindText, "kind"), nil},
		{TypeDNS, "", all(need(kindInt, "connection"), need(kindText, "name"), need(kindTexts, "answers"), may(kindText, "resolver", "error"), may(kindBool, "authentic")), nil},
		{TypeTLS, "", all(need(kindInt, "connection"), need(kindText, "name", "verdict"), may(kindText, "version", "cipher", "roots")), nil},
		{TypeConnection, "", all(need(kindInt, "connection"), need(kindText, "name"), may(kindText, "remote", "local", "code", "error", "exception"), may(kindInt, "port")), nil},
		{TypeRequest, "", all(need(kindInt, "exchange"), need(kindText, "method", "url"), may(kindInt, "connection"), may(kindBool, "background"), may(kindTexts, "edits")), []string{RoleRequestHead}},
		{TypeResponse, "", all(need(kindInt, "exchange", "status"), need(kindText, "url"), may(kindInt, "connection")), []string{RoleResponseHead}},
		{TypeEnd, "", all(need(kindInt, "exchange"), need(kindText, "url"), may(kindInt, "status", "connection"), may(kindText, "truncated", "code", "error"), may(kindBool, "background")), nil},
		{TypeNavStart, "during", all(need(kindText, "url"), may(kindInt, "tab")), nil},
		{TypeNavEnd, "during", all(need(kindText, "url"), may(kindText, "title", "error"), may(kindInt, "tab", "status")), nil},
		{"security.state", "during", all(need(kindText, "url", "state"), may(kindText, "reason"), may(kindInt, "tab")), nil},
		{TypeStep, "during", all(need(kindText, "name", "url"), may(kindText, "title", "security"), may(kindInt, "tab", "frame", "status")), []string{RoleScreenshot}},
		{TypeStepFailed, "during", need(kindText, "name", "reason"), nil},
		{TypeDownload, "during", all(need(kindText, "id", "url"), may(kindText, "name")), nil},
		{TypeDownloaded, "during", all(need(kindText, "id", "url", "name", "state"), may(kindInt, "exchange")), nil},
		{"console", "", need(kindText, "level", "text"), nil},
		{"dialog", "during", all(need(kindText, "kind", "text"), may(kindText, "answer")), nil},
		{"tab.opened", "during", all(need(kindInt, "tab"), may(kindText, "url")), nil},
		{"tab.closed", "during", need(kindInt, "tab"), nil},
		{"tab.crashed", "during", all(need(kindInt, "tab"), may(kindText, "reason")), nil},
		{TypeFrames, "", all(need(kindInt, "first"), need(kindTexts, "frames"), need(kindInts, "times")), nil},
		{TypeVideoSealed, "after", need(kindInt, "frames"), []string{RoleVideo}},
		{TypeWARCSealed, "after", need(kindInt, "records"), []string{RoleWACZ}},
		{TypeClose, "after", all(need(kindText, "state"), need(kindInt, "count"), need(kindDigest, "head"), may(kindText, "reason")), nil},
	}
}

// byName is Types by name; nothing writes to it.
var byName = func() map[string]EventType {
	out := map[string]EventType{}
	for _, t := range Types() {
		out[t.Name] = t
	}
	return out
}()

// TypeOf returns the description of a type; any env. type is known.
func TypeOf(name string) (EventType, bool) {
	if t, ok := byName[name]; ok {
		return t, true
	}
	if word, ok := strings.CutPrefix(name, "env."); ok && isWord(word, 32) {
		return EventType{Name: name, Phase: "before"}, true
	}
	return EventType{}, false
}

// checkType holds an event to its type.
func (e *Event) checkType() error {
	fail := func(code, field, reason string, args ...any) error {
		return &EventError{e.Seq, code, field, fmt.Sprintf(reason, args...), nil}
	}
	t, ok := TypeOf(e.Type)
	if !ok {
		return fail("type", "$.type", "%.40q is no type of event", e.Type)
	}
	if t.Phase != "" && t.Phase != string(e.Phase) {
		return fail("phase", "$.phase", "%s belongs to the phase %s", e.Type, t.Phase)
	}
	for _, f := range t.Fields {
		v, there := e.Data[f.Name]
		if !there {
			if f.Required {
				return fail("required", "$.data", "%s has no %s", e.Type, f.Name)
			}
			continue
		}
		if !hasKind(v, f.Kind) {
			return fail("value", "$.data."+f.Name, "it is not of the kind %s", f.Kind)
		}
	}
	for _, role := range t.Blobs {
		if _, ok := e.Blob(role); !ok {
			return fail("required", "$.blobs", "%s has no blob %s", e.Type, role)
		}
	}
	switch e.Type {
	case TypeFrames:
		frames, times := e.Data.Texts("frames"), e.Data.Ints("times")
		if len(frames) != len(times) {
			return fail("value", "$.data.times", "%d frames have %d times", len(frames), len(times))
		}
		for _, f := range frames {
			if !hasKind(f, kindDigest) {
				return fail("value", "$.data.frames", "%.80q is no digest", f)
			}
		}
	case TypeEnvReport:
		if v := e.Data.Text("verdict"); v != EnvClean && v != EnvExceptions && v != EnvUnclean {
			return fail("value", "$.data.verdict", "%.40q is none of clean, exceptions, unclean", v)
		}
	case TypeClose:
		if e.Data.Int("count") != e.Seq {
			return fail("value", "$.data.count", "%d events stand before this one, it counts %d", e.Seq, e.Data.Int("count"))
		}
		if e.Data.Text("head") != e.Prev.String() {
			return fail("value", "$.data.head", "it is not the digest of the event before")
		}
		if s := e.Data.Text("state"); s != StateComplete && s != StatePartial || s == StatePartial && e.Data.Text("reason") == "" {
			return fail("value", "$.data.state", "it is complete, or partial with a reason")
		}
	}
	return nil
}

func hasKind(v any, kind string) bool {
	switch v := v.(type) {
	case string:
		if kind == kindDigest {
			return isDigest(v)
		}
		return kind == kindText
	case int64:
		return kind == kindInt
	case bool:
		return kind == kindBool
	case []string:
		return kind == kindTexts || kind == kindInts && len(v) == 0
	case []int64:
		return kind == kindInts
	}
	return false
}

func isDigest(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(c rune) bool { return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') })
}
