package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
	"github.com/zhenglian/zhenglian/verify"
)

// device is a browser of a person at the portal.
type device struct {
	*tour.Visitor
	t   *testing.T
	ctx context.Context
	p   *webtest.Portal
}

func newDevice(t *testing.T, ctx context.Context, b *tour.Browser, p *webtest.Portal, person string, screen tour.Screen) *device {
	t.Helper()
	v, err := b.Visit(screen)
	ok(t, err)
	t.Cleanup(v.Leave)
	ok(t, v.SetCookie(ctx, p.Origin, p.SignIn(t, person)))
	return &device{v, t, ctx, p}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *device) open(path string) { d.t.Helper(); ok(d.t, d.Go(d.ctx, d.p.Origin+path)) }
func (d *device) sees(text string) { d.t.Helper(); ok(d.t, d.WaitText(d.ctx, text)) }
func (d *device) click(role, name string) {
	d.t.Helper()
	ok(d.t, d.Click(d.ctx, role, name))
}

// picture holds the page to axe's rules in the state it is in, and keeps a
// screenshot where PICTURES names a folder, for looking at.
func (d *device) picture(name string) {
	d.t.Helper()
	if axe, err := os.ReadFile("../../test/pages/node_modules/axe-core/axe.min.js"); err == nil {
		found, err := d.Axe(d.ctx, string(axe))
		ok(d.t, err)
		for _, v := range found {
			d.t.Errorf("%s: %s", name, v)
		}
	}
	dir := os.Getenv("PICTURES")
	if dir == "" {
		return
	}
	data, err := d.Screenshot(d.ctx)
	ok(d.t, err)
	ok(d.t, os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600))
}

// paperKey is what the page shows of the recovery key.
func (d *device) paperKey() string {
	d.t.Helper()
	text, err := d.Text(d.ctx)
	ok(d.t, err)
	i := strings.Index(text, "AGE-SECRET-KEY-1 ")
	if i < 0 {
		d.t.Fatalf("there is no recovery key on the page:\n%s", text)
	}
	return strings.TrimSpace(strings.SplitN(text[i:], "\n", 2)[0])
}

// TestDepositInABrowser: a newcomer makes a key, deposits a photo, sees it in
// her records and takes its package, which verifies; on a new device she opens
// all of it with the key from paper.
func TestDepositInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("drives a browser: left out of -short")
	}
	if _, err := os.Stat("wasm/browser.wasm.gz"); err != nil {
		t.Skip("the WebAssembly module is not built: run scripts/wasm.sh")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	b, err := tour.Open(ctx)
	if errors.Is(err, tour.ErrNoBrowser) {
		t.Skip(err)
	}
	ok(t, err)
	t.Cleanup(func() { ok(t, b.Close()) })
	var deposits *webtest.Deposits
	p := webtest.Start(t, webtest.WithDeposits(t, &deposits))

	d := newDevice(t, ctx, b, p, webtest.Newcomer, tour.Screen{Lang: "en"})
	d.open("/en/deposit/key")
	d.sees("Name of this device")
	d.picture("key-new")
	d.click("button", "Make and enrol the key")
	d.sees("Your recovery key")
	d.picture("key-paper")
	paper := d.paperKey()
	d.click("checkbox", "I have it on paper")
	d.click("link", "Continue")
	d.sees("What is it for?")
	d.picture("deposit-empty")

	photo := make([]byte, 5<<20+3)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(photo)
	folder := t.TempDir()
	long := filepath.Join(folder, "一张文件名特别长的手机拍摄现场照片-2026年11月22日-第0001号.jpg")
	ok(t, os.WriteFile(long, photo, 0o600))
	ok(t, os.WriteFile(filepath.Join(folder, "note.txt"), []byte("a note"), 0o600))
	ok(t, d.Upload(ctx, "Choose files", long, filepath.Join(folder, "note.txt")))
	d.sees("note.txt")
	ok(t, d.Fill(ctx, "What is it for?", "Photo of the scene"))
	ok(t, d.Fill(ctx, "Note (optional)", "Taken at the market, stall 12"))
	d.picture("deposit-filled")
	d.click("button", "Deposit")
	d.sees("The deposit is final.")
	d.picture("deposit-done")
	d.click("link", "See the record")
	d.sees("Taken at the market, stall 12")
	d.picture("record")

	path, err := d.Download(ctx, func() error { return d.Click(ctx, "button", "Make the evidence package") })
	ok(t, err)
	wantPackage(t, deposits, path, photo)
	one, err := d.Download(ctx, func() error { return d.Click(ctx, "button", "Download note.txt") })
	ok(t, err)
	if got, err := os.ReadFile(one); err != nil || string(got) != "a note" {
		t.Errorf("downloaded %q, %v", got, err)
	}

	d.click("link", "Add a step")
	d.sees("It continues the trail")
	d.sees("What is it for?")
	ok(t, d.Upload(ctx, "Choose files", filepath.Join(folder, "note.txt")))
	ok(t, d.Fill(ctx, "What is it for?", "Second look"))
	d.click("button", "Deposit")
	d.sees("The deposit is final.")
	d.open("/en/records")
	d.sees("Photo of the scene → Second look")
	d.picture("records")
	wantQuiet(t, d)

	// Another device: the records are there, sealed, until the key from paper.
	phone := newDevice(t, ctx, b, p, webtest.Newcomer, tour.Screen{Lang: "zh-CN", Width: 390, Height: 844, Mobile: true})
	phone.open("/zh-CN/records")
	phone.sees("本浏览器没有能打开记录名称的密钥")
	phone.picture("phone-records-sealed")
	phone.open("/zh-CN/deposit")
	phone.sees("您以前做过存证")
	phone.picture("phone-no-key")
	phone.click("link", "生成密钥")
	phone.sees("恢复密钥")
	ok(t, phone.Fill(ctx, "纸上的恢复密钥", strings.ToLower(paper)))
	phone.picture("phone-key")
	phone.click("button", "生成并登记密钥")
	phone.sees("本浏览器中已有密钥")
	phone.sees("个文件和清单可以在此打开")
	phone.picture("phone-restored")
	phone.open("/zh-CN/records")
	phone.sees("Photo of the scene → Second look")
	phone.picture("phone-records")
	phone.open("/zh-CN/deposit")
	phone.sees("存证事项")
	phone.picture("phone-deposit")
	wantQuiet(t, phone)
}

// wantPackage verifies a package as a stranger would. The alliance of the test
// has a clock of its own, so that the browser's clock is the one thing that does
// not fit.
func wantPackage(t *testing.T, d *webtest.Deposits, path string, photo []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	ok(t, err)
	rep, err := verify.Check(context.Background(), bytes.NewReader(data), int64(len(data)), verify.Options{Policy: d.Net.Policy})
	ok(t, err)
	if !rep.IssuerEstablished {
		t.Error("the issuer is not established")
	}
	for _, c := range rep.Checks {
		if c.Verdict != verify.Matches && c.ID != "clock" {
			b, _ := json.Marshal(c)
			t.Errorf("%s", b)
		}
	}
	if !bytes.Contains(data, photo) {
		t.Error("the photo is not in the package")
	}
}

// wantQuiet: no error in the console, no other host asked.
func wantQuiet(t *testing.T, d *device) {
	t.Helper()
	for _, line := range d.Console() {
		t.Errorf("the console said: %s", line)
	}
	for _, request := range d.Requests() {
		_, address, _ := strings.Cut(request, " ")
		if !strings.HasPrefix(address, d.p.Origin+"/") && !strings.HasPrefix(address, "blob:"+d.p.Origin+"/") {
			t.Errorf("the page asked for %s", address)
		}
	}
}
