package walk

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pages say what the walk looks for: whoever rewords a page learns here, and
// not in a browser, that a walk no longer finds its way.
func TestWordsAreThePages(t *testing.T) {
	elsewhere := map[string]bool{"sign-in-with": true, "as": true} // put together, or of the demonstration's provider
	for _, lang := range []string{Chinese, English} {
		var said []string
		files, err := filepath.Glob(filepath.Join("../../web/text", lang, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("there are no texts of %s (%v)", lang, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var texts map[string]string
			if err := json.Unmarshal(data, &texts); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, text := range texts {
				said = append(said, text)
			}
		}
		all := strings.Join(said, "\n")
		for key, word := range words() {
			text := strings.ReplaceAll(strings.TrimSpace(strings.TrimSuffix(word.in(lang), "…")), "%s", "{name}")
			if text == "" || !elsewhere[key] && !strings.Contains(all, text) {
				t.Errorf("no page says %q (%s, %s)", text, key, lang)
			}
		}
	}
}
