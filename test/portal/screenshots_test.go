package portal

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
)

var update = flag.Bool("update", false, "TestScreenshots: take the pictures of all pages anew (make screenshots)")

// pictures is where they lie: PAGE.LANG.SCREEN.png.
const pictures = "../../docs/images/pages"

// pages is every page of the portal that a person can come to.
var pages = strings.Fields(`home home-member signin provider session signin-confirm signout-everywhere problem verify verify-finding
	key key-paper deposit deposit-done records record keys key-one key-passkey key-request access-log my-data
	apply application application-correction lost desk desk-purpose desk-application desk-code console`)

// There is a picture of every page, in both languages, narrow and wide, and none
// of a page that is no more.
func TestPicturesAreComplete(t *testing.T) {
	have := map[string]bool{}
	entries, err := os.ReadDir(pictures)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		have[e.Name()] = true
	}
	for _, page := range pages {
		for _, lang := range []string{walk.Chinese, walk.English} {
			for _, screen := range []string{"narrow", "wide"} {
				name := page + "." + lang + "." + screen + ".png"
				if !have[name] {
					t.Errorf("there is no picture %s: run `make screenshots`", name)
				}
				delete(have, name)
			}
		}
	}
	for name := range have {
		t.Errorf("%s is of no page", name)
	}
}

// camera takes pictures of one person's pages.
type camera struct {
	*story
	*walk.Walker
	taken map[string]bool
}

// both takes the page that is open, narrow and wide, without opening it anew.
func (c *camera) both(page string) {
	c.Helper()
	for _, s := range []struct {
		name   string
		screen tour.Screen
	}{{"narrow", tour.Screen{Width: 360, Height: 740, Mobile: true, Lang: c.Lang, Still: true}}, {"wide", tour.Screen{Width: 1280, Height: 800, Lang: c.Lang, Still: true}}} {
		c.must(c.Look(s.screen))
		_, err := tour.Eval[bool](c.ctx, c.Visitor, `document.fonts.ready.then(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true)))))`)
		c.must(err)
		raw, err := c.Screenshot(c.ctx)
		c.must(err)
		name := page + "." + c.Lang + "." + s.name + ".png"
		c.must(os.WriteFile(filepath.Join(pictures, name), c.smaller(raw), 0o644))
		c.taken[name] = true
	}
}

// shoot opens a page and takes it; what the page is to show first is waited for.
func (c *camera) shoot(page, path string, shows ...string) {
	c.Helper()
	c.must(c.Open(c.ctx, path))
	for _, s := range shows {
		c.must(c.WaitText(c.ctx, s))
	}
	c.both(page)
}

// TestScreenshots walks through all pages of a running alliance, with what a
// person would have there, and keeps pictures of them.
func TestScreenshots(t *testing.T) {
	if !*update {
		t.Skip("takes pictures with -update alone: make screenshots")
	}
	s := tell(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	s.ctx = ctx
	s.must(os.MkdirAll(pictures, 0o755))
	taken := map[string]bool{}
	at := func(lang string) *camera { return &camera{s, s.visitor(wide(lang)), taken} }
	officer, operator := at(walk.Chinese), at(walk.Chinese)
	s.must(officer.SignIn(ctx, walk.Sun))
	s.must(operator.SignIn(ctx, walk.Ma))

	for _, told := range []struct {
		lang                         string
		person, applicant            walk.Person
		photo, paper                 string
		device, step, second         string
		note, place                  string
		purpose, reply, again, story string
	}{
		{walk.Chinese, walk.Lin, walk.Zhao, "侵权商品页面.jpg", "插画底稿与授权书.pdf", "工作室电脑", "网店盗用插画的页面", "原创底稿与授权书", "在“山海文创”店铺商品页看到，商品编号 20261122。", "杭州市西湖区",
			"初审企业材料", "授权书缺少法定代表人签字页，请补交。", "复核补交的材料与到场证件", "昨天傍晚在地铁二号线上丢失了手机，已挂失电话卡。"},
		{walk.English, walk.Chen, walk.He, "shop-page-with-the-photo.jpg", "contract-and-negatives.pdf", "studio laptop", "Shop page that sells my photo", "Contract and negatives", "Seen in the shop's listing 20261122; the watermark was cut off.", "Hangzhou, West Lake",
			"first check of the papers", "The mandate lacks the page with the representative's signature.", "the corrected papers, and her card shown at the desk", "Lost my phone on line 2 last night; the SIM card is blocked."},
	} {
		c := at(told.lang)
		_, err := c.AddAuthenticator(ctx)
		s.must(err)
		photo, paper := s.sample("photograph.jpg", told.photo), s.sample("document.pdf", told.paper)

		c.shoot("home", "/")
		c.shoot("signin", "/signin")
		c.shoot("verify", "/verify")
		c.shoot("problem", "/no-such-page")
		s.must(c.Open(ctx, "/signin"))
		s.must(c.Click(ctx, "link", map[string]string{walk.Chinese: "通过演示身份（虚构人物）登录", walk.English: "Sign in with Demonstration identities (made up)"}[told.lang]))
		s.must(c.WaitText(ctx, told.person.Name(told.lang)))
		c.both("provider")
		s.must(c.SignIn(ctx, told.person))
		c.shoot("session", "/session")
		c.shoot("signin-confirm", "/signin/confirm")
		c.shoot("signout-everywhere", "/signout/everywhere")
		c.shoot("key", "/deposit/key", map[string]string{walk.Chinese: "本设备的名称", walk.English: "Name of this device"}[told.lang])
		text(s)(c.MakeKey(ctx, told.device))
		c.both("key-paper")
		s.must(c.KeepPaper(ctx))
		s.must(c.AddPasskey(ctx, "", told.device))

		first := walk.Deposit{Files: []string{photo}, Step: told.step, Note: told.note, Place: told.place, Confirm: true}
		trail := text(s)(c.Deposit(ctx, first))
		next := walk.Deposit{Trail: trail, Files: []string{paper}, Step: told.second, Phase: "before", Confirm: true}
		s.must(c.FillDeposit(ctx, next))
		c.both("deposit")
		s.must(c.Press(ctx))
		s.must(c.WaitText(ctx, map[string]string{walk.Chinese: "完成，存证已最终确定。", walk.English: "Done. The deposit is final."}[told.lang]))
		c.both("deposit-done")
		c.shoot("records", "/records", told.second)
		s.must(c.Record(ctx, trail, told.second))
		c.both("record")
		packet := text(s)(c.Package(ctx))
		stranger := at(told.lang)
		stranger.must(stranger.rename(packet, func(path string) error { _, err := stranger.Verify(ctx, path); return err }))
		stranger.both("verify-finding")

		c.shoot("home-member", "/")
		c.shoot("keys", "/keys")
		m := s.member(c.Walker)
		c.shoot("key-one", "/keys/"+m.Keys[0].KID)
		c.shoot("key-passkey", "/keys/passkey/"+m.Member)
		c.shoot("key-request", "/keys/request")
		c.shoot("my-data", "/keys/data")
		c.shoot("apply", "/apply")
		c.shoot("lost", "/lost")

		applicant := at(told.lang)
		s.must(applicant.SignIn(ctx, told.applicant))
		a := company(s, applicant.Walker, "deposit", "sign")
		a.Papers = []string{s.sample("document.pdf", "营业执照.pdf"), s.sample("document.pdf", "授权书.pdf")}
		id := text(s)(applicant.Apply(ctx, a))
		applicant.shoot("application", "/apply/"+id)
		lost := text(s)(c.Lose(ctx, told.story, false))

		officer.Lang, operator.Lang = told.lang, told.lang
		officer.shoot("desk", "/desk")
		officer.shoot("desk-purpose", "/desk/"+id)
		s.must(officer.Examine(ctx, id, told.purpose))
		officer.both("desk-application")
		text(s)(officer.Walker.Decide(ctx, walk.Decision{Outcome: "correct", Reason: told.reply}))
		applicant.shoot("application-correction", "/apply/"+id, told.reply)
		s.must(applicant.Amend(ctx, id, walk.Application{}))
		s.must(officer.Examine(ctx, id, told.again))
		text(s)(officer.Walker.Decide(ctx, walk.Decision{Outcome: "approved"}))
		s.must(officer.Examine(ctx, lost, told.again))
		text(s)(officer.Walker.Decide(ctx, walk.Decision{Outcome: "approved"}))
		officer.both("desk-code")
		s.must(c.SignIn(ctx, told.person)) // approving ended her sessions
		c.shoot("access-log", "/keys/log")
		operator.shoot("console", "/console")
	}
	old, err := filepath.Glob(filepath.Join(pictures, "*.png"))
	s.must(err)
	total := int64(0)
	for _, path := range old {
		if !taken[filepath.Base(path)] {
			s.must(os.Remove(path))
			continue
		}
		info, err := os.Stat(path)
		s.must(err)
		total += info.Size()
	}
	t.Logf("%d pictures, %d KiB", len(taken), total>>10)
}

// sample copies one of the demonstration's real files under another name.
func (s *story) sample(file, name string) string {
	s.Helper()
	data, err := os.ReadFile(filepath.Join("../../out/samples", file))
	if err != nil {
		s.Fatalf("%v: run `sh scripts/samples.sh out/samples`", err)
	}
	path := filepath.Join(s.TempDir(), name)
	s.must(os.WriteFile(path, data, 0o600))
	return path
}

// rename gives a downloaded package the name that a person would see.
func (c *camera) rename(path string, use func(path string) error) error {
	named := filepath.Join(c.TempDir(), map[string]string{walk.Chinese: "证据包.zip", walk.English: "evidence.zip"}[c.Lang])
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(named, data, 0o600)
	}
	if err != nil {
		return err
	}
	return use(named)
}

// smaller writes a picture with the 256 colours it has most of: pages are flat,
// and nobody sees the rest.
func (s *story) smaller(raw []byte) []byte {
	s.Helper()
	img, err := png.Decode(bytes.NewReader(raw))
	s.must(err)
	size := img.Bounds()
	count := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA {
		r, g, b, _ := img.At(x, y).RGBA()
		return color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}
	}
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return cmp.Compare(count[b], count[a]) })
	palette := color.Palette{}
	for _, c := range most[:min(256, len(most))] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for c := range count {
		index[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(size, palette)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			small.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	var out bytes.Buffer
	s.must((&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small))
	return out.Bytes()
}
