package render

import (
	"bytes"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

func TestRecording(t *testing.T) {
	whole := verify.Recording{Session: evidence.SumSHA256([]byte("s")), Verdict: verify.Matches, Purpose: "固定侵权网页", State: "complete", Events: 40, Batches: 4, From: "2026-11-22T15:05:38.123Z", To: "2026-11-22T15:06:38.123Z",
		Exchanges: 9, Failed: 1, Records: 31, Frames: 8, VideoMillis: 280, Timeline: []verify.Moment{
			{Seq: 30, Kind: "step", Name: "打开作品页", URL: "https://works.example/?a=<b>", Status: 404, At: "2026-11-22T15:05:40.123Z", Batch: 4, NotAfter: "2026-11-22T15:05:45Z", Screenshot: evidence.SumSHA256([]byte("p")), Record: "urn:uuid:1"},
			{Seq: 31, Kind: "failed", Name: "点击", Why: "页面崩溃", At: "2026-11-22T15:05:41.123Z"},
			{Seq: 35, Kind: "download", Name: "novel.txt", Why: "completed", At: "2026-11-22T15:05:42.123Z", SHA256: evidence.SumSHA256([]byte("n"))}}}
	partial, open := whole, whole
	partial.State, partial.Reason, partial.Timeline = "partial", "浏览器崩溃", nil
	open.State, open.From, open.Timeline, open.Verdict = "unsealed", "", nil, verify.Undetermined
	rep := &verify.Report{V: 1, Verdict: verify.Matches, Summary: verify.Reason{Key: "summary-undetermined", Params: map[string]string{"count": "1"}}, Basis: verify.Basis{Kind: "none"}, Recordings: []verify.Recording{whole, partial, open}}
	for _, lang := range Languages() {
		r, err := New(lang)
		if err != nil {
			t.Fatal(err)
		}
		var text, html bytes.Buffer
		if err := r.Text(&text, rep); err != nil {
			t.Fatal(err)
		}
		if err := r.HTML(&html, rep); err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{text.String(), html.String()} {
			for _, want := range []string{"固定侵权网页", "打开作品页", "2026-11-22 23:05:40", "HTTP 404", "浏览器崩溃", "页面崩溃", "novel.txt", evidence.SumSHA256([]byte("p")).String(), r.word("section.recordings")} {
				if !strings.Contains(out, want) {
					t.Errorf("%s: %q is not in the report", lang, want)
				}
			}
			if strings.Contains(out, "‹") {
				t.Errorf("%s: a message is missing: %s", lang, out)
			}
		}
		if strings.Contains(html.String(), "?a=<b>") {
			t.Errorf("%s: an address is not escaped", lang)
		}
	}
}
