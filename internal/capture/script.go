package capture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// MaxScript is the number of steps of one script or list: at ten seconds a page
// these are close to three hours.
const MaxScript = 1000

// maxWait is the longest wait of one step.
const maxWait = 10 * time.Minute

// Action is a step of a script. Do is goto, click, type, wait, scroll,
// screenshot or download.
type Action struct {
	Do       string `json:"do"`
	Name     string `json:"name,omitempty"`     // of the step, for people; by what it does when empty
	URL      string `json:"url,omitempty"`      // goto
	Selector string `json:"selector,omitempty"` // CSS: click, type, wait, download
	Text     string `json:"text,omitempty"`     // type: what; click, download: the text shown, instead of a selector
	Seconds  int    `json:"seconds,omitempty"`  // wait: so long; download: at most so long
	Pixels   int    `json:"pixels,omitempty"`   // scroll: down, or up when negative
}

// ScriptError says which step of a script breaks which rule.
type ScriptError struct {
	Step   int // from 1; a line of a list
	Reason string
}

func (e *ScriptError) Error() string { return fmt.Sprintf("step %d: %s", e.Step, e.Reason) }

// ReadScript reads steps.json: a list of actions. Errors are *ScriptError, or
// those of JSON.
func ReadScript(data []byte) ([]Action, error) {
	var all []Action
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the script: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("reading the script: something follows the list of steps")
	}
	if len(all) == 0 || len(all) > MaxScript {
		return nil, fmt.Errorf("reading the script: it has %d steps, and not 1 to %d", len(all), MaxScript)
	}
	for i := range all {
		if err := all[i].check(); err != nil {
			return nil, &ScriptError{i + 1, err.Error()}
		}
	}
	return all, nil
}

// ReadList reads addresses, one a line; empty lines and those that begin with #
// are skipped. Each becomes a goto. Errors are *ScriptError with the line.
func ReadList(r io.Reader) ([]Action, error) {
	var all []Action
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<10)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if len(all) == MaxScript {
			return nil, &ScriptError{n, fmt.Sprintf("a list has at most %d addresses", MaxScript)}
		}
		a := Action{Do: "goto", URL: text}
		if err := a.check(); err != nil {
			return nil, &ScriptError{n, err.Error()}
		}
		all = append(all, a)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the list: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("reading the list: it names no address")
	}
	return all, nil
}

// CheckURL says whether an address may be opened: http and https alone.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("%.200q is no address: %w", text, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%.200q is not an address with http:// or https://, and no other is opened", text)
	case u.Host == "":
		return fmt.Errorf("%.200q names no host", text)
	case u.User != nil:
		return fmt.Errorf("%.200q holds a name or password, which would stand in the record", u.Redacted())
	}
	return nil
}

func (a *Action) check() error {
	only := func(allowed ...string) error {
		set := map[string]bool{"url": a.URL != "", "selector": a.Selector != "", "text": a.Text != "", "seconds": a.Seconds != 0, "pixels": a.Pixels != 0}
		for _, name := range allowed {
			delete(set, name)
		}
		for name, there := range set {
			if there {
				return fmt.Errorf("%s takes no %q", a.Do, name)
			}
		}
		return nil
	}
	if a.Seconds < 0 || time.Duration(a.Seconds)*time.Second > maxWait {
		return fmt.Errorf("%d seconds are not 0 to %d", a.Seconds, int(maxWait.Seconds()))
	}
	if len([]rune(a.Name)) > 80 {
		return errors.New("its name has more than 80 characters")
	}
	switch a.Do {
	case "goto":
		return errors.Join(CheckURL(a.URL), only("url"))
	case "click":
		return errors.Join(a.oneTarget(), only("selector", "text"))
	case "download":
		return errors.Join(a.oneTarget(), only("selector", "text", "seconds"))
	case "type":
		if a.Selector == "" || a.Text == "" {
			return errors.New(`type needs a "selector" and a "text"`)
		}
		return only("selector", "text")
	case "wait":
		if (a.Selector == "") == (a.Seconds == 0) {
			return errors.New(`wait needs "seconds" or a "selector"`)
		}
		return only("selector", "seconds")
	case "scroll":
		if a.Pixels == 0 {
			return errors.New(`scroll needs "pixels"`)
		}
		return only("pixels")
	case "screenshot":
		return only()
	}
	return fmt.Errorf("%.40q is none of goto, click, type, wait, scroll, screenshot, download", a.Do)
}

func (a *Action) oneTarget() error {
	if (a.Selector == "") == (a.Text == "") {
		return fmt.Errorf(`%s needs a "selector" or a "text"`, a.Do)
	}
	return nil
}

// title is the step's name for people.
func (a *Action) title() string {
	if a.Name != "" {
		return a.Name
	}
	what := a.URL
	switch {
	case a.Do == "type":
		what = a.Selector
	case a.Do == "wait" && a.Seconds != 0:
		what = fmt.Sprintf("%d s", a.Seconds)
	case a.Do == "scroll":
		what = fmt.Sprintf("%d px", a.Pixels)
	case a.Selector != "":
		what = a.Selector
	case a.Text != "":
		what = a.Text
	}
	name := strings.TrimSpace(a.Do + " " + what)
	if r := []rune(name); len(r) > 80 {
		name = string(r[:79]) + "…"
	}
	return name
}
