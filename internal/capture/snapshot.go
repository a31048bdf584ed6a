package capture

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// snapshot is a page as the browser's DOMSnapshot.captureSnapshot has it: where a
// script's elements are is looked up here, so that nothing runs in the page for it.
type snapshot struct {
	elements         []element // in document order
	scrollX, scrollY float64
}

// element is a visible element with its box in the document, in CSS pixels.
type element struct {
	name  string // lower case
	attrs map[string]string
	text  string // of all within, white space folded
	depth int
	box   box
}

type box struct{ X, Y, W, H float64 }

// readSnapshot reads the first document of a snapshot.
func readSnapshot(data []byte) (*snapshot, error) {
	var raw struct {
		Documents []struct {
			ScrollX float64 `json:"scrollOffsetX"`
			ScrollY float64 `json:"scrollOffsetY"`
			Nodes   struct {
				Parent []int   `json:"parentIndex"`
				Type   []int   `json:"nodeType"`
				Name   []int   `json:"nodeName"`
				Value  []int   `json:"nodeValue"`
				Attrs  [][]int `json:"attributes"`
			} `json:"nodes"`
			Layout struct {
				Node   []int       `json:"nodeIndex"`
				Styles [][]int     `json:"styles"` // display, visibility, opacity
				Bounds [][]float64 `json:"bounds"`
			} `json:"layout"`
		} `json:"documents"`
		Strings []string `json:"strings"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("reading the page's document: %w", err)
	}
	if len(raw.Documents) == 0 {
		return nil, fmt.Errorf("the page has no document")
	}
	d := raw.Documents[0]
	n := len(d.Nodes.Parent)
	text := func(i int) string {
		if i < 0 || i >= len(raw.Strings) {
			return ""
		}
		return raw.Strings[i]
	}
	at := func(list []int, i int) int {
		if i < len(list) {
			return list[i]
		}
		return -1
	}
	words := make([][]string, n)
	depth := make([]int, n)
	for i := range n {
		p := d.Nodes.Parent[i]
		if p >= 0 && p < i {
			depth[i] = depth[p] + 1
		}
		if at(d.Nodes.Type, i) != 3 { // text
			continue
		}
		w := strings.Fields(text(at(d.Nodes.Value, i)))
		for ; p >= 0 && p < n && len(w) > 0; p = d.Nodes.Parent[p] {
			if d.Nodes.Parent[p] >= p {
				break // a tree ascends
			}
			words[p] = append(words[p], w...)
		}
	}
	s := &snapshot{scrollX: d.ScrollX, scrollY: d.ScrollY}
	for i, node := range d.Layout.Node {
		if node < 0 || node >= n || at(d.Nodes.Type, node) != 1 || i >= len(d.Layout.Bounds) || len(d.Layout.Bounds[i]) != 4 {
			continue
		}
		b := box{d.Layout.Bounds[i][0], d.Layout.Bounds[i][1], d.Layout.Bounds[i][2], d.Layout.Bounds[i][3]}
		if i < len(d.Layout.Styles) && len(d.Layout.Styles[i]) == 3 && (text(d.Layout.Styles[i][1]) == "hidden" || text(d.Layout.Styles[i][2]) == "0") {
			continue
		}
		if b.W <= 0 || b.H <= 0 {
			continue
		}
		e := element{name: strings.ToLower(text(at(d.Nodes.Name, node))), attrs: map[string]string{}, text: strings.Join(words[node], " "), depth: depth[node], box: b}
		if node < len(d.Nodes.Attrs) {
			for a := d.Nodes.Attrs[node]; len(a) > 1; a = a[2:] {
				e.attrs[strings.ToLower(text(a[0]))] = text(a[1])
			}
		}
		s.elements = append(s.elements, e)
	}
	return s, nil
}

// find returns the first visible element of a selector, or the innermost one
// that shows the text: exactly, or else within.
func (s *snapshot) find(selector, text string) (box, bool) {
	if selector != "" {
		match, err := parseSelector(selector)
		if err != nil {
			return box{}, false
		}
		for _, e := range s.elements {
			if match(&e) {
				return e.box, true
			}
		}
		return box{}, false
	}
	want := strings.Join(strings.Fields(text), " ")
	var best *element
	exact := false
	for i := range s.elements {
		e := &s.elements[i]
		is := e.text == want || e.name == "input" && (e.attrs["type"] == "submit" || e.attrs["type"] == "button") && e.attrs["value"] == want
		if !is && (exact || !strings.Contains(e.text, want)) {
			continue
		}
		if best == nil || is && !exact || e.depth > best.depth && strings.HasPrefix(best.text, e.text) {
			best, exact = e, exact || is
		}
	}
	if best == nil || want == "" {
		return box{}, false
	}
	return best.box, true
}

// parseSelector reads one compound selector: a type, #id, .class, [name],
// [name=value], in any number. Combinators are not known.
func parseSelector(text string) (func(*element) bool, error) {
	part := regexp.MustCompile(`^(?:([a-zA-Z][a-zA-Z0-9-]*|\*)|#([^\s#.\[\]:>+~,]+)|\.([^\s#.\[\]:>+~,]+)|\[([a-zA-Z-]+)(?:=(?:"([^"]*)"|'([^']*)'|([^\]"']*)))?\])`)
	var all []func(*element) bool
	rest := strings.TrimSpace(text)
	for first := true; rest != ""; first = false {
		m := part.FindStringSubmatch(rest)
		if m == nil || m[1] != "" && !first {
			return nil, fmt.Errorf("the selector %.100q is not known: it is a type, #id, .class and [name=value], joined without spaces", text)
		}
		rest = rest[len(m[0]):]
		switch value := m[5] + m[6] + m[7]; {
		case m[1] == "*":
			all = append(all, func(*element) bool { return true })
		case m[1] != "":
			all = append(all, func(e *element) bool { return e.name == strings.ToLower(m[1]) })
		case m[2] != "":
			all = append(all, func(e *element) bool { return e.attrs["id"] == m[2] })
		case m[3] != "":
			all = append(all, func(e *element) bool { return slices.Contains(strings.Fields(e.attrs["class"]), m[3]) })
		default:
			named, valued := strings.ToLower(m[4]), strings.Contains(m[0], "=")
			all = append(all, func(e *element) bool { v, ok := e.attrs[named]; return ok && (!valued || v == value) })
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the selector is empty")
	}
	return func(e *element) bool {
		for _, is := range all {
			if !is(e) {
				return false
			}
		}
		return true
	}, nil
}
