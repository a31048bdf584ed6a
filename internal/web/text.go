package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

//go:embed text
var textFiles embed.FS

// languages as they stand in addresses; the first is the default.
var languages = []string{"zh-CN", "en"}

// catalogues hold the texts: language → key → text.
type catalogues struct {
	texts map[string]map[string]string
}

var placeholder = regexp.MustCompile(`\{([a-z_]+)(:[^{}]*)?\}`)

// loadTexts reads text/LANGUAGE/AREA.json and holds the languages against each
// other: the same keys, with the same values to put in.
func loadTexts(files fs.FS) (*catalogues, error) {
	c := &catalogues{texts: map[string]map[string]string{}}
	for _, lang := range languages {
		c.texts[lang] = map[string]string{}
		names, err := fs.Glob(files, "text/"+lang+"/*.json")
		if err != nil || len(names) == 0 {
			return nil, fmt.Errorf("reading the texts: there are none in text/%s", lang)
		}
		for _, name := range names {
			if err := c.read(files, lang, name); err != nil {
				return nil, err
			}
		}
	}
	for _, lang := range languages[1:] {
		if err := compare(languages[0], c.texts[languages[0]], lang, c.texts[lang]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *catalogues) read(files fs.FS, lang, name string) error {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("reading the texts: %w", err)
	}
	var texts map[string]string
	if err := json.Unmarshal(data, &texts); err != nil {
		return fmt.Errorf("reading the texts of %s: %w", name, err)
	}
	area := strings.TrimSuffix(path.Base(name), ".json")
	for key, text := range texts {
		switch {
		case !strings.HasPrefix(key, area+"."):
			return fmt.Errorf("reading the texts of %s: key %q does not begin with %q", name, key, area+".")
		case strings.TrimSpace(text) == "":
			return fmt.Errorf("reading the texts of %s: %q is empty", name, key)
		}
		c.texts[lang][key] = text
	}
	return nil
}

func compare(langA string, a map[string]string, langB string, b map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[key]; !ok {
			return fmt.Errorf("comparing the texts: %q is missing in %s", key, langB)
		}
		if va, vb := values(a[key]), values(b[key]); !slices.Equal(va, vb) {
			return fmt.Errorf("comparing the texts: %q takes %v in %s and %v in %s", key, va, langA, vb, langB)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[key]; !ok {
			return fmt.Errorf("comparing the texts: %q is missing in %s", key, langA)
		}
	}
	return nil
}

// values names what a text takes, but for the words that follow a number.
func values(text string) []string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		if m[2] == "" {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (c *catalogues) has(key string) bool {
	_, ok := c.texts[languages[0]][key]
	return ok
}

// say returns a text with its values put in. {name} is the value of that name;
// {name:one/many} the word for its number. A key that is missing comes back
// between angle quotes, with an error.
func (c *catalogues) say(lang, key string, pairs ...any) (string, error) {
	text, ok := c.texts[lang][key]
	if !ok {
		return "‹" + key + "›", fmt.Errorf("there is no text %q in %s", key, lang)
	}
	params := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		params[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	var missing error
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		part := placeholder.FindStringSubmatch(m)
		v, ok := params[part[1]]
		if !ok {
			missing = fmt.Errorf("the text %q needs %q", key, part[1])
			return m
		}
		if part[2] == "" {
			return v
		}
		one, many, _ := strings.Cut(part[2][1:], "/")
		if v == "1" {
			return one
		}
		return many
	})
	return out, missing
}

// language of a request: the address names it, or the browser asks for it.
func (s *Site) language(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if slices.Contains(languages, first) {
		return first
	}
	accept := r.Header.Get("Accept-Language")
	if accept == "" {
		return languages[0]
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return languages[0]
	}
	// The first language asked for that is one of ours, whatever the region or
	// script: a reader of zh-TW is served Chinese before her second choice.
	for _, tag := range tags {
		base, _ := tag.Base()
		for _, lang := range languages {
			if own, _, _ := strings.Cut(lang, "-"); base.String() == own {
				return lang
			}
		}
	}
	return languages[0]
}
