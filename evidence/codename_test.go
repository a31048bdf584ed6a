package evidence

import (
	"strings"
	"testing"
)

func TestCodeByName(t *testing.T) {
	n := 0
	for c := CodeEmpty; !strings.HasPrefix(c.String(), "code-"); c++ {
		if got, ok := CodeByName(c.String()); !ok || got != c {
			t.Errorf("CodeByName(%q) = %v, %v", c, got, ok)
		}
		n++
	}
	if n < int(CodeExpiredKey) {
		t.Errorf("%d codes have names", n)
	}
	for _, name := range []string{"", "ok", "code-99", "nonsense"} {
		if c, ok := CodeByName(name); ok {
			t.Errorf("CodeByName(%q) = %v", name, c)
		}
	}
}
