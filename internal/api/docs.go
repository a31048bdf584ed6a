package api

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// docsPage lists the operations of the OpenAPI document: one page, no script,
// nothing from another host.
const docsPage = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Info.Title}}</title>
<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}code{background:#eee;padding:0 .2em}section{border-top:1px solid #ccc}h3{margin-bottom:.2em}p{margin:.3em 0;white-space:pre-line}</style></head>
<body>
<h1>{{.Info.Title}}</h1>
<p>{{.Info.Description}}</p>
<p><a href="openapi.json">OpenAPI 3.1</a></p>
{{range .Groups}}<section><h2>{{.Tag.Description}}</h2>
{{range .Operations}}<h3 id="{{.OperationID}}"><code>{{.Method}} {{.Path}}</code></h3>
<p><strong>{{.Summary}}</strong></p>
{{with .Description}}<p>{{.}}</p>
{{end}}{{if .Security}}<p>Signed request.</p>
{{end}}{{with .Parameters}}<ul>
{{range .}}<li><code>{{.Name}}</code> ({{.In}}) {{.Description}}</li>
{{end}}</ul>
{{end}}{{end}}</section>
{{end}}</body>
</html>
`

type docsGroup struct {
	Tag        *huma.Tag
	Operations []*huma.Operation
}

func (s *Server) docs(w http.ResponseWriter, _ *http.Request) error {
	page, err := template.New("docs").Parse(docsPage)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	doc := s.huma.OpenAPI()
	var groups []docsGroup
	for _, tag := range doc.Tags {
		g := docsGroup{Tag: tag}
		for _, path := range sortedKeys(doc.Paths) {
			for _, op := range []*huma.Operation{doc.Paths[path].Get, doc.Paths[path].Post} {
				if op != nil && len(op.Tags) == 1 && op.Tags[0] == tag.Name {
					g.Operations = append(g.Operations, op)
				}
			}
		}
		groups = append(groups, g)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, struct {
		*huma.OpenAPI
		Groups []docsGroup
	}{doc, groups}); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	// Only the one style in the page, and nothing else at all.
	w.Header().Set("Content-Security-Policy", strings.Join([]string{"default-src 'none'", "style-src 'unsafe-inline'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"}, "; "))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
	return nil
}
