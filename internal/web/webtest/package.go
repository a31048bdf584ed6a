package webtest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// Package writes an evidence package of the portal's alliance into the test's
// folder and returns its path: three steps, a file with a long name, a
// demonstration identity. With damage, one byte of a file in it is another.
func (p *Portal) Package(t testing.TB, damage bool) string {
	t.Helper()
	m, err := p.Alliance.Enrol("m:abcdefghijklmnopqrstuvwxyz", 3, true)
	check(t, err)
	page := []byte("<p>商品页面：限量款手袋，售价 128.00 元</p>")
	trail, err := p.Alliance.Open(m, testalliance.Step{Phase: evidence.PhaseBefore, Name: "权利声明", Objects: map[string][]byte{"作品登记证书（正本扫描件）.pdf": []byte("%PDF-1.7 certificate")}})
	check(t, err)
	for _, step := range []testalliance.Step{
		{Phase: evidence.PhaseDuring, Name: "网页取证", Objects: map[string][]byte{"page.html": page, "一张文件名特别特别特别长的手机拍摄现场照片-2026年11月22日-第0001号.jpg": bytes.Repeat([]byte("photo"), 9000)}},
		{Phase: evidence.PhaseAfter, Name: "和解协议", Objects: map[string][]byte{"settlement.txt": []byte("agreed")}},
	} {
		_, err := p.Alliance.Deposit(m, trail, step)
		check(t, err)
	}
	content, err := p.Alliance.Content(trail)
	check(t, err)
	data, err := content.Encode()
	check(t, err)
	name := filepath.Join(t.TempDir(), "evidence.zip")
	if damage {
		data[bytes.Index(data, page)+3] ^= 1
		name = filepath.Join(t.TempDir(), "damaged.zip")
	}
	check(t, os.WriteFile(name, data, 0o600))
	return name
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
