package institution

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/v2"
)

// settingsFile is a file of settings in an institution's home: what is left out
// of it has the default, and the environment wins over it.
type settingsFile struct {
	path     string
	defaults []byte                // TOML with every setting
	prefix   string                // of the environment's variables
	open     func(key string) bool // settings that have no default; nil when all have one
	alone    []string              // the sections of those, which the file alone sets
}

// load reads the settings into a struct with koanf tags, and has them checked:
// check returns which setting is wrong, why and what to do, or nothing. A file
// that is missing means the defaults. Errors are *Error.
func (f *settingsFile) load(environ []string, into any, check func() (setting, reason, hint string)) error {
	fail := func(code ErrorCode, setting, reason, hint string, err error) error {
		return &Error{Code: code, Path: f.path, Subject: setting, Reason: reason, Hint: hint, Err: err}
	}
	k := koanf.New(".")
	if err := k.Load(tomlBytes(f.defaults), toml.Parser()); err != nil {
		return fail(CodeConfig, "", "the built-in settings cannot be read", "", err)
	}
	known := k.All()

	text, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(CodeConfig, "", "the settings cannot be read", "", err)
	}
	file := koanf.New(".")
	if err := file.Load(tomlBytes(text), toml.Parser()); err != nil {
		return fail(CodeConfig, "", "the settings are not valid TOML", "correct the line that is named", err)
	}
	for key, value := range file.All() {
		if section, empty := value.(map[string]any); empty && len(section) == 0 && f.isSection(known, key) {
			file.Delete(key) // a section whose settings are all commented out
			continue
		}
		if _, ok := known[key]; !ok && (f.open == nil || !f.open(key)) {
			return fail(CodeConfigUnknown, key, fmt.Sprintf("there is no setting %q", key), f.hintKeys(known, key), nil)
		}
	}
	if err := k.Merge(file); err != nil {
		return fail(CodeConfig, "", "the settings contradict each other", "", err)
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, f.prefix) {
			continue
		}
		key, ok := f.keyOfVariable(known, name)
		if !ok {
			return fail(CodeConfigUnknown, name, fmt.Sprintf("the environment variable %s names no setting", name), f.hintKeys(known, strings.ToLower(strings.TrimPrefix(name, f.prefix))), nil)
		}
		if err := setFromText(k, key, value, known[key]); err != nil {
			return fail(CodeConfigValue, name, fmt.Sprintf("the environment variable %s has a wrong value", name), "", err)
		}
	}
	if err := k.UnmarshalWithConf("", into, koanf.UnmarshalConf{
		Tag:           "koanf",
		DecoderConfig: &mapstructure.DecoderConfig{Result: into, TagName: "koanf", ErrorUnused: true},
	}); err != nil {
		return fail(CodeConfig, "", "a setting has a value of the wrong type", "texts stand in quotes, numbers do not; a setting that belongs to no section stands above all of them", err)
	}
	if setting, reason, hint := check(); setting != "" {
		return fail(CodeConfigValue, setting, setting+" "+reason, hint, nil)
	}
	return nil
}

func (f *settingsFile) isSection(known map[string]any, key string) bool {
	if slices.Contains(f.alone, key) {
		return true
	}
	if parent, _, ok := strings.Cut(key, "."); ok && parent == "peers" && slices.Contains(f.alone, parent) && strings.Count(key, ".") == 1 {
		return true
	}
	for k := range known {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// hintKeys lists the settings of the same section, or all of them.
func (f *settingsFile) hintKeys(known map[string]any, key string) string {
	section, _, _ := strings.Cut(strings.Replace(key, "_", ".", 1), ".")
	if slices.Contains(f.alone, section) {
		if section == "peers" {
			return "a section [peers.ID] has peer and p2p, in node.toml alone"
		}
		return "[keys] has receipt, cosign, statement, attest, tsa and ca, in node.toml alone; the other keys are always files"
	}
	var all, same []string
	for k := range known {
		all = append(all, k)
		if strings.HasPrefix(k, section+".") {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		all = same
	}
	slices.Sort(all)
	return "the settings are: " + strings.Join(all, ", ")
}

func (f *settingsFile) keyOfVariable(known map[string]any, name string) (string, bool) {
	for key := range known {
		if name == f.prefix+strings.ToUpper(strings.ReplaceAll(key, ".", "_")) {
			return key, true
		}
	}
	return "", false
}

// setFromText gives a setting a value of its default's type.
func setFromText(k *koanf.Koanf, key, value string, like any) error {
	switch like.(type) {
	case bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		return k.Set(key, b)
	case []any:
		return k.Set(key, listFromText(key, value))
	case int64:
	default:
		return k.Set(key, value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no whole number", value)
	}
	return k.Set(key, n)
}

// listFromText reads a list that is written with commas. An authority is its
// URL, a space and its file.
func listFromText(key, value string) []any {
	list := []any{}
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		switch address, file, _ := strings.Cut(part, " "); {
		case part == "":
		case key == "timestamps.authorities":
			list = append(list, map[string]any{"url": address, "file": strings.TrimSpace(file)})
		default:
			list = append(list, part)
		}
	}
	return list
}

// tomlBytes is a koanf.Provider of a text in memory.
type tomlBytes []byte

// ReadBytes implements koanf.Provider.
func (b tomlBytes) ReadBytes() ([]byte, error) { return b, nil }

// Read implements koanf.Provider, which never calls it when there is a parser.
func (b tomlBytes) Read() (map[string]any, error) {
	return nil, errors.New("a text needs a parser")
}
