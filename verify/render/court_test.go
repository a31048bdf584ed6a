package render

import (
	"html"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/verify"
)

// A court's report says whose it is, when it was made and what it finds.
func TestCourt(t *testing.T) {
	c := Court{Institution: "court", Name: "示范法院", Made: "2026-03-01T01:30:00Z", Document: "evidence-chain.json", Signature: "evidence-chain.jws.json"}
	for _, tc := range []struct {
		lang    string
		verdict verify.Verdict
		want    []string
		not     string
	}{
		{"zh-CN", verify.Matches, []string{"证据链\n", "示范法院（court）", "2026-03-01 09:30:00 +08:00", "证据链成立。", "evidence-chain.jws.json"}, "不成立"},
		{"zh-CN", verify.DoesNotMatch, []string{"证据核验报告：证据链不成立\n", "证据链不成立。"}, "离线"},
		{"en", verify.Matches, []string{"Evidence chain\n", "The evidence chain stands.", "own log"}, "offline"},
		{"en", verify.Undetermined, []string{"Verification report: no evidence chain\n", "cannot be determined."}, "stands"},
	} {
		r, err := New(tc.lang)
		if err != nil {
			t.Fatal(err)
		}
		rep := &verify.Report{Verdict: tc.verdict, Basis: verify.Basis{Kind: "policy"}, Summary: verify.Reason{Key: "summary-undetermined"}}
		var text, page strings.Builder
		if err := r.ForCourt(c).Text(&text, rep); err != nil {
			t.Fatal(err)
		}
		if err := r.ForCourt(c).HTML(&page, rep); err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(text.String(), want) || !strings.Contains(html.UnescapeString(page.String()), strings.TrimSpace(want)) {
				t.Errorf("%s %s: no %q in\n%s", tc.lang, tc.verdict, want, text.String())
			}
		}
		if strings.Contains(text.String(), tc.not) {
			t.Errorf("%s %s: %q in\n%s", tc.lang, tc.verdict, tc.not, text.String())
		}
	}
}
