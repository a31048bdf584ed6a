package render

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/zhenglian/zhenglian/verify"
)

//go:embed report.html
var reportHTML string

// HTML writes the report as one page without scripts that needs no other host
// and prints on A4. Every value is escaped.
func (r *Renderer) HTML(w io.Writer, rep *verify.Report) error {
	t, err := template.New("report").Parse(reportHTML)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	if err := t.Execute(w, r.page(rep)); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}
