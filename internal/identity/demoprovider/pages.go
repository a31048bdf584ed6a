package demoprovider

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
)

//go:embed page/page.html
var pageSource string

//go:embed page/style.css
var styleSource []byte

// pages draws the login page and the problem pages. No script, and the
// demonstration's banner on every one.
type pages struct {
	base string // the issuer's path
	tmpl *template.Template
	tag  string // of the style sheet
}

func newPages(base string) (*pages, error) {
	tmpl, err := template.New("page").Parse(pageSource)
	if err != nil {
		return nil, fmt.Errorf("reading the demonstration provider's page: %w", err)
	}
	sum := sha256.Sum256(styleSource)
	return &pages{base: base, tmpl: tmpl, tag: hex.EncodeToString(sum[:6])}, nil
}

type pageData struct {
	Lang, Base, Tag string
	T               texts
	Other           string // the same page in the other language
	OtherLang       string
	ID              string
	Client          string // host of the portal that asks
	People          []shownPerson
	Problem         string
}

type shownPerson struct {
	Subject, Name, OtherName, Role, Organisation, Level string
	LevelNumber                                         int
}

func (p *pages) people(w http.ResponseWriter, r *http.Request, waiting *request, all []Person) {
	lang := language(r, &waiting.asked)
	back, _ := url.Parse(waiting.asked.RedirectURI) // parsed when the clients were read
	d := p.data(lang)
	d.ID, d.Client = waiting.id, back.Host
	d.Other = p.base + "/login?" + url.Values{"id": {waiting.id}, "lang": {d.OtherLang}}.Encode()
	for _, person := range all {
		s := shownPerson{Subject: person.Subject, Name: person.NameZH, OtherName: person.NameEN, Role: person.RoleZH, Level: d.T.Levels[person.Level-1], LevelNumber: person.Level}
		if lang == "en" {
			s.Name, s.OtherName, s.Role = person.NameEN, person.NameZH, person.RoleEN
		}
		if o := person.Organisation; o != nil {
			s.Organisation = o.NameZH
			if lang == "en" {
				s.Organisation = o.NameEN
			}
		}
		d.People = append(d.People, s)
	}
	// Browsers hold redirects after a form to form-action: the portal must be in it.
	p.write(w, http.StatusOK, "'self' "+back.Scheme+"://"+back.Host, d)
}

func (p *pages) problem(w http.ResponseWriter, r *http.Request, status int, code string) {
	d := p.data(language(r, nil))
	d.Problem = d.T.Problems[code]
	p.write(w, status, "'none'", d)
}

func (p *pages) data(lang string) *pageData {
	d := &pageData{Lang: lang, Base: p.base, Tag: p.tag, T: chinese(), OtherLang: "en"}
	if lang == "en" {
		d.T, d.OtherLang = english(), "zh-CN"
	}
	return d
}

func (p *pages) write(w http.ResponseWriter, status int, formAction string, d *pageData) {
	var page bytes.Buffer
	if err := p.tmpl.Execute(&page, d); err != nil {
		http.Error(w, "the page cannot be drawn", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", d.Lang)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action "+formAction+"; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the reader went away: nothing is left to do
}

func (p *pages) style(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(styleSource)
}

// texts of the pages in one language.
type texts struct {
	Title, Banner, BannerMore, Asks, Choose, Continue, Cancel, Organisation, OtherLanguage, ProblemTitle string
	Levels                                                                                               [3]string
	Problems                                                                                             map[string]string
}

func chinese() texts {
	return texts{
		Title:         "演示身份登录",
		Banner:        "演示身份，并无真人",
		BannerMore:    "以下人物均属虚构，任何人都可以不用密码以其身份登录。请勿在此输入真实个人信息。",
		Asks:          "请求登录的网站：",
		Choose:        "请选择登录身份",
		Continue:      "以此身份登录",
		Cancel:        "取消，返回网站",
		Organisation:  "所属单位：",
		OtherLanguage: "English",
		ProblemTitle:  "无法继续登录",
		Levels:        [3]string{"自述，未经核验", "二要素核验", "活体人脸核验"},
		Problems: map[string]string{
			"bad-request":    "请求不完整或已损坏。请返回网站，重新开始登录。",
			"unknown-client": "该网站未在此登记，或其返回地址与登记的不一致。请联系该网站的管理员核对配置。",
			"gone":           "本次登录已完成、已取消或已超过十分钟。请返回网站，重新开始登录。",
			"not-found":      "没有这个页面。请返回网站，重新开始登录。",
		},
	}
}

func english() texts {
	return texts{
		Title:         "Demonstration sign-in",
		Banner:        "Demonstration identities, no real persons",
		BannerMore:    "The people below are invented, and anybody can sign in as any of them without a password. Enter no real personal data here.",
		Asks:          "Site that asks for the sign-in:",
		Choose:        "Choose who to sign in as",
		Continue:      "Sign in as this person",
		Cancel:        "Cancel and go back",
		Organisation:  "Organisation:",
		OtherLanguage: "中文",
		ProblemTitle:  "The sign-in cannot go on",
		Levels:        [3]string{"self-asserted, not verified", "name and number checked", "live face checked"},
		Problems: map[string]string{
			"bad-request":    "The request is incomplete or damaged. Go back to the site and begin again.",
			"unknown-client": "This site is not registered here, or asks to be answered at another address than the registered one. Ask its administrator to check the settings.",
			"gone":           "This sign-in is finished, was cancelled, or is older than ten minutes. Go back to the site and begin again.",
			"not-found":      "There is no such page. Go back to the site and begin again.",
		},
	}
}
