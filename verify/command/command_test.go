package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// files writes a package, a policy and a damaged copy to a folder.
func files(t *testing.T) (dir string, a *testalliance.Alliance) {
	t.Helper()
	dir = t.TempDir()
	a, err := testalliance.New("command", 4)
	must(t, err)
	li, err := a.Enrol("m:li", 2, false)
	must(t, err)
	recorder, err := a.Enrol("m:recorder", 1, true)
	must(t, err)
	trail, err := a.Open(li, testalliance.Step{Phase: evidence.PhaseBefore, Name: "开始取证", Note: "<script>alert(1)</script>", Objects: map[string][]byte{"授权书.txt": []byte("同意")}})
	must(t, err)
	_, err = a.Authorise(li, trail, recorder.Signer.Public().KID(), evidence.RightAppend)
	must(t, err)
	_, err = a.Deposit(recorder, trail, testalliance.Step{Clock: -1200, Objects: map[string][]byte{"page.html": []byte("<p>")}})
	must(t, err)
	c, err := a.Content(trail)
	must(t, err)
	c.Timestamps[c.Info.TreeSize] = []byte("token")
	pkg, err := c.Encode()
	must(t, err)
	write := func(name string, data []byte) { must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600)) }
	write("good.zip", pkg)
	i := bytes.Index(pkg, []byte("<p>"))
	bad := bytes.Clone(pkg)
	bad[i]++
	write("bad.zip", bad)
	write("short.zip", pkg[:len(pkg)-500])
	write("text.zip", []byte("no package"))
	c.Steps[2].Objects[0] = nil
	withheld, err := c.Encode()
	must(t, err)
	write("withheld.zip", withheld)
	founding, err := a.Alliance.Encode()
	must(t, err)
	write("alliance.json", founding)
	write("large.zip", bytes.Repeat([]byte("no package "), 1000))
	policy, err := a.Policy.Encode()
	must(t, err)
	write("policy.json", policy)
	return dir, a
}

func chinese(name string) string { return map[string]string{"LANG": "zh_CN.UTF-8"}[name] }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestExitStatus(t *testing.T) {
	dir, a := files(t)
	p := func(name string) string { return filepath.Join(dir, name) }
	for _, tc := range []struct {
		name string
		args []string
		want int
		says string
	}{
		{"policy", []string{p("good.zip"), "--policy", p("policy.json")}, 0, "核验报告：【相符】"},
		{"options first, English", []string{"--policy", p("policy.json"), "--lang", "en", p("good.zip")}, 0, ": 【matches】"},
		{"pinned", []string{p("good.zip"), "--alliance", a.ID().String()}, 0, "【相符】"},
		{"another alliance", []string{p("good.zip"), "--alliance", evidence.SumSHA256(nil).String()}, 1, "另一联盟"},
		{"no policy", []string{p("good.zip")}, 1, "出具机构未经确认"},
		{"no policy, English", []string{p("good.zip"), "--lang", "en"}, 1, "Consistent, issuer not established"},
		{"one byte altered", []string{p("bad.zip"), "--policy", p("policy.json")}, 1, "objects/000003/01-page.html"},
		{"the altered file's digests", []string{p("bad.zip"), "--policy", p("policy.json"), "--lang", "en"}, 1, "registered SHA-256 (as deposited): " + evidence.SumSHA256([]byte("<p>")).String() + "\n      computed SHA-256 (of the file handed in): " + evidence.SumSHA256([]byte("=p>")).String()},
		{"truncated", []string{p("short.zip"), "--policy", p("policy.json")}, 1, "证据包结构损坏，没有读到"},
		{"object withheld", []string{p("withheld.zip"), "--policy", p("policy.json")}, 1, "存在而未提交"},
		{"no package", []string{p("text.zip"), "--policy", p("policy.json")}, 2, ""},
		{"no such file", []string{p("nothing.zip")}, 2, ""},
		{"no such policy", []string{p("good.zip"), "--policy", p("nothing.json")}, 2, ""},
		{"a package as policy", []string{p("good.zip"), "--policy", p("good.zip")}, 2, ""},
		{"no such language", []string{p("good.zip"), "--lang", "fr"}, 2, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			f, err := Parse("zhenglian-verify", tc.args, chinese, &errs)
			must(t, err)
			if got := Run(t.Context(), f, &out, &errs); got != tc.want {
				t.Errorf("exit status %d, want %d\n%s%s", got, tc.want, out.String(), errs.String())
			}
			if !strings.Contains(out.String(), tc.says) || strings.Contains(out.String(), "‹") {
				t.Errorf("want %q in\n%s", tc.says, out.String())
			}
			if tc.want == 2 && (errs.Len() == 0 || out.Len() != 0) {
				t.Errorf("want an error and no report, have %q and %q", errs.String(), out.String())
			}
		})
	}
}

func TestJSONAndPage(t *testing.T) {
	dir, _ := files(t)
	for _, lang := range []string{"zh-CN", "en"} {
		page := filepath.Join(dir, "page."+lang+".html")
		var out, errs bytes.Buffer
		f := Flags{Package: filepath.Join(dir, "good.zip"), Policy: filepath.Join(dir, "policy.json"), Lang: lang, JSON: true, HTML: page}
		if got := Run(t.Context(), f, &out, &errs); got != 0 {
			t.Fatalf("exit status %d: %s", got, errs.String())
		}
		var rep verify.Report
		dec := json.NewDecoder(&out)
		dec.DisallowUnknownFields()
		must(t, dec.Decode(&rep))
		if rep.V != 1 || rep.Verdict != verify.Matches || !rep.IssuerEstablished || len(rep.Steps) != 3 {
			t.Errorf("%+v", rep)
		}
		html, err := os.ReadFile(page)
		must(t, err)
		if bytes.Contains(html, []byte("<script")) || !bytes.Contains(html, []byte("&lt;script&gt;")) {
			t.Error("the note is not escaped")
		}
		for _, outside := range []string{"http://", "https://", "src=", "url("} {
			if bytes.Contains(html, []byte(outside)) {
				t.Errorf("the page holds %q", outside)
			}
		}
		if bytes.Contains(html, []byte("‹")) {
			t.Error("a message is missing in the page")
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{nil, {"--policy", "x"}, {"a.zip", "b.zip"}, {"a.zip", "--what"}} {
		if _, err := Parse("zhenglian-verify", args, chinese, new(bytes.Buffer)); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestLanguage(t *testing.T) {
	dir, _ := files(t)
	pkg, policy := filepath.Join(dir, "good.zip"), filepath.Join(dir, "policy.json")
	for _, tc := range []struct{ name, value, args, says string }{
		{"LANG", "en_US.UTF-8", policy, "Verification report"},
		{"LC_ALL", "zh_CN.UTF-8", policy, "核验报告"},
		{"LC_MESSAGES", "C", policy, "Verification report"},
		{"NONE", "", policy, "核验报告"},
		{"LANG", "en_US.UTF-8", filepath.Join(dir, "alliance.json"), "is an alliance's founding document: make a policy with `zhenglian alliance policy`"},
		{"LANG", "zh_CN.UTF-8", filepath.Join(dir, "alliance.json"), "是联盟的设立文件"},
	} {
		var out bytes.Buffer
		f, err := Parse("zhenglian-verify", []string{pkg, "--policy", tc.args}, func(name string) string { return map[string]string{tc.name: tc.value}[name] }, &out)
		must(t, err)
		Run(t.Context(), f, &out, &out)
		if !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s=%s: no %q in\n%s", tc.name, tc.value, tc.says, out.String())
		}
	}
	// What is no ZIP file is called so in the reader's language, however long it is.
	for _, name := range []string{"text.zip", "large.zip"} {
		var errs bytes.Buffer
		Run(t.Context(), Flags{Package: filepath.Join(dir, name), Lang: "zh-CN"}, &errs, &errs)
		if got, want := errs.String(), "无法作为证据包读取（not-a-container）：不是 ZIP 文件\n"; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
