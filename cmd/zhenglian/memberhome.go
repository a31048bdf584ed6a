package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"golang.org/x/term"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// A member's home holds two private keys, each for one purpose:
//
//	key.pem             signs statements: PKCS#8, an age file around it, or a PKCS#11 URI
//	vault-identity.txt  opens her objects in the vault: an age identity, likewise
//	request.json        public: what she hands to a CA to be enrolled
//	enrolment.json      private: what the CA gives back; its salt opens the commitment
//
// Trusted: the two key files. enrolment.json is checked against key.pem; whoever
// alters the rest of it can only make her next deposit be refused.
const (
	memberKeyFile       = "key.pem"
	memberVaultFile     = "vault-identity.txt"
	memberRequestFile   = "request.json"
	memberEnrolmentFile = "enrolment.json"
)

// member is an opened member home.
type member struct {
	Home      string
	Request   *enrolmentRequest
	Public    *evidence.PublicKey
	Key       *signing.Key // nil from openMemberPublic
	Enrolment *enrolment   // nil before the CA's answer was placed in the home

	ask signing.Passphrase
}

// openMember opens a home with its signing key. A protected key needs the first
// line of passphraseFile, or a person at the terminal.
func (a *app) openMember(home, passphraseFile string) (*member, error) {
	m, err := a.openMemberPublic(home)
	if err != nil {
		return nil, err
	}
	if m.ask, err = a.passphraseFrom(passphraseFile); err != nil {
		return nil, err
	}
	m.ask = remember(m.ask)
	path := filepath.Join(home, memberKeyFile)
	if m.Key, err = signing.NewTokens(signing.TokenConfig{}).Open(path, m.ask); err != nil {
		return nil, err
	}
	if !m.Key.Public().Equal(m.Public) {
		return nil, fail(a.t("%s 与 %s 不是同一把密钥", "%s and %s are not the same key", path, memberRequestFile), a.t("从同一份备份恢复这两个文件", "restore both from the same backup"), nil)
	}
	return m, nil
}

// openMemberPublic is openMember without any private key.
func (a *app) openMemberPublic(home string) (*member, error) {
	data, err := a.readFile(filepath.Join(home, memberRequestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(a.t("%s 不是成员目录", "%s is no member's home", home), a.t("用 `zhenglian member init` 建立，或更正 --home", "make one with `zhenglian member init`, or correct --home"), nil)
	}
	if err != nil {
		return nil, err
	}
	m := &member{Home: home}
	if m.Request, m.Public, err = parseRequest(data); err != nil {
		return nil, fail(a.t("%s 不能用", "%s cannot be used", filepath.Join(home, memberRequestFile)), "", err)
	}
	path := filepath.Join(home, memberEnrolmentFile)
	data, err = signing.ReadSecret(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	if m.Enrolment, err = parseEnrolment(data); err != nil {
		return nil, fail(a.t("%s 不能用", "%s cannot be used", path), a.t("向登记机构重新索取", "get it again from the institution that enrolled you"), err)
	}
	if m.Enrolment.KID != m.Public.KID() {
		return nil, fail(a.t("%s 是另一把密钥（%s）的登记结果", "%s is the enrolment of another key (%s)", path, m.Enrolment.KID), a.t("放入属于本目录密钥的登记结果", "place the one of this home's key there"), nil)
	}
	return m, nil
}

// enrolled returns the enrolment, or says how to get one.
func (m *member) enrolled(a *app) (*enrolment, error) {
	if m.Enrolment == nil {
		return nil, fail(a.t("成员尚未登记", "this member is not enrolled"),
			a.t("把 %s 交给联盟的 CA 机构，再把它交回的 enrolment.json 放入 %s", "hand %s to a CA institution of the alliance, and place the enrolment.json it returns into %s", filepath.Join(m.Home, memberRequestFile), m.Home), nil)
	}
	return m.Enrolment, nil
}

// vaultIdentity returns the key that opens the member's objects in the vault.
func (m *member) vaultIdentity() (age.Identity, error) {
	path := filepath.Join(m.Home, memberVaultFile)
	text, err := signing.ReadSecret(path, m.ask)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(ids) != 1 {
		return nil, fmt.Errorf("%s does not hold one age identity", path)
	}
	return ids[0], nil
}

// initMember makes a home. The request is written last: a home without it is
// none, and nothing of it was published.
func (a *app) initMember(home string, alg evidence.Algorithm, kind evidence.MemberKind, onToken string, protect signing.Passphrase) (*enrolmentRequest, error) {
	entries, err := os.ReadDir(home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fail(a.t("%s 不是空目录，没有改动", "%s is not empty and was left as it is", home), a.t("密钥绝不覆盖：换一个新的或空的目录", "keys are never replaced: choose a new or an empty directory"), nil)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	key, err := newMemberKey(alg, onToken)
	if err != nil {
		return nil, err
	}
	// Post-quantum hybrid: what is encrypted to it now may be kept for decades.
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("making the vault key: %w", err)
	}
	request, err := newRequest(key, kind, identity.Recipient().String(), a.now())
	if err != nil {
		return nil, err
	}
	data, err := evidence.MarshalCanonical(request)
	if err != nil {
		return nil, err
	}
	if onToken != "" {
		err = signing.SaveURI(filepath.Join(home, memberKeyFile), onToken)
	} else {
		err = key.Save(filepath.Join(home, memberKeyFile), protect)
	}
	if err != nil {
		return nil, err
	}
	if err := signing.WriteSecret(filepath.Join(home, memberVaultFile), []byte(identity.String()+"\n"), protect); err != nil {
		return nil, err
	}
	return request, signing.CreateFile(filepath.Join(home, memberRequestFile), data, 0o644)
}

// passphraseFrom returns the passphrase in the first line of a file; without a
// file, a prompt when a person is there, else nil.
func (a *app) passphraseFrom(path string) (signing.Passphrase, error) {
	if path == "" {
		f, ok := a.in.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) {
			return nil, nil
		}
		return func(file string) (string, error) {
			fmt.Fprint(a.err, a.t("%s 的口令：", "Passphrase of %s: ", file))
			phrase, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(a.err)
			return string(phrase), err
		}, nil
	}
	// Not ReadSecret: it may be a pipe.
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, &signing.ExposedError{Path: path, Mode: info.Mode().Perm()}
	}
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, err
	}
	phrase, _, _ := strings.Cut(string(data), "\n")
	phrase = strings.TrimSuffix(phrase, "\r")
	if phrase == "" {
		return nil, usage(a.t("口令文件 %s 的第一行是空的", "the first line of the passphrase file %s is empty", path), "")
	}
	return signing.Fixed(phrase), nil
}

// remember asks once for all files of one home.
func remember(ask signing.Passphrase) signing.Passphrase {
	if ask == nil {
		return nil
	}
	var phrase string
	return func(path string) (_ string, err error) {
		if phrase == "" {
			phrase, err = ask(path)
		}
		return phrase, err
	}
}

// newMemberID returns "m:" and 16 random hexadecimal digits: 64 bits, so that
// two members of one alliance share an id by chance only among billions, and
// then the chain refuses the second.
func newMemberID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return fmt.Sprintf("m:%x", b)
}
