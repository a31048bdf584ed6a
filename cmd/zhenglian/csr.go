package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/emmansun/gmsm/smx509"
	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/signing"
)

func newMemberCSR(a *app) *cobra.Command {
	var home, out, passphraseFile string
	cmd := &cobra.Command{
		Use:   "csr --home DIR --out FILE [--passphrase-file FILE]",
		Short: a.t("生成成员密钥的证书申请（PKCS #10）", "Make a certification request (PKCS #10) for the member's key"),
		Long: a.t("用成员密钥签署证书申请，交给登记本成员的 CA 机构。每次生成的申请都不同，续期时请重新生成。\n申请里没有姓名：证书的主体由 CA 机构按登记填写。",
			"Signs a request with the member's key, for the CA institution that enrolled her.\nNo two requests are alike: make a new one to renew. There is no name in it: the CA\nfills in the subject by the enrolment."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "out"); err != nil {
				return err
			}
			m, err := a.openMember(home, passphraseFile)
			if err != nil {
				return err
			}
			common := "m:unknown"
			if m.Enrolment != nil {
				common = m.Enrolment.Member
			}
			der, err := ca.NewRequest(m.Key, common)
			if err != nil {
				return err
			}
			if err := a.writeNew(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})); err != nil || out == "-" {
				return err
			}
			a.say("证书申请已写到 %s。", "The request is in %s.", out)
			a.fields("kid", m.Public.KID().String(), a.t("算法", "algorithm"), m.Public.Algorithm().String())
			a.say("\n下一步：把它交给登记你的 CA 机构，再运行 zhenglian member certificate --home %s CERTIFICATE_FILE", "\nNext: hand it to the CA institution that enrolled you, then run: zhenglian member certificate --home %s CERTIFICATE_FILE", home)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", a.t("成员目录：`DIR`", "the member's home `DIR`"))
	f.StringVar(&out, "out", "", a.t("申请写到新文件 `FILE`（PEM）；- 为标准输出", "the new `FILE` (PEM) for it; - is the standard output"))
	f.StringVar(&passphraseFile, "passphrase-file", "", a.t("密钥的口令在 `FILE` 的第一行", "the key's passphrase is the first line of `FILE`"))
	return cmd
}

// certificateFile is where a member's home keeps a certificate. Evidence packages
// take those that begin with certificate; they have no place for SM2 ones, whose
// registration alone is in them.
func certificateFile(home string, c *smx509.Certificate, alg evidence.Algorithm) string {
	name := "certificate-" + ca.SerialHex(c.SerialNumber) + ".pem"
	if alg == evidence.SM2SM3 {
		name = "sm2-" + name
	}
	return filepath.Join(home, name)
}

func newMemberCertificate(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "certificate --home DIR [CERTIFICATE_FILE]",
		Short: a.t("收下 CA 机构签发的证书，或显示已有的证书", "Keep a certificate that the CA issued, or show those there are"),
		Args:  a.arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			m, err := a.openMemberPublic(home)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.keepCertificate(m, args[0])
			}
			return a.showCertificates(m)
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("成员目录：`DIR`", "the member's home `DIR`"))
	return cmd
}

// parseCertificate reads the first certificate of a PEM text.
func parseCertificate(text []byte) (*smx509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it does not begin with a CERTIFICATE block of PEM")
	}
	return smx509.ParseCertificate(block.Bytes)
}

func (a *app) keepCertificate(m *member, file string) error {
	text, err := a.readFile(file)
	if err != nil {
		return err
	}
	c, err := parseCertificate(text)
	if err != nil {
		return fail(a.t("%s 不是证书", "%s is no certificate", file), a.t("应为 CA 机构交回的 PEM 文件", "it should be the PEM file that the CA institution returned"), err)
	}
	pub, err := evidence.ParsePublicKey(c.RawSubjectPublicKeyInfo)
	if err != nil || !pub.Equal(m.Public) {
		return fail(a.t("%s 不是本成员密钥的证书", "%s is not of this member's key", file), a.t("放入属于本目录密钥的证书", "take the one of this home's key"), nil)
	}
	if m.Enrolment != nil && c.Subject.CommonName != m.Enrolment.Member {
		return fail(a.t("%s 是成员 %s 的证书，本成员是 %s", "%s is of member %s, and this is %s", file, c.Subject.CommonName, m.Enrolment.Member), a.t("向 CA 机构查询", "ask the CA institution"), nil)
	}
	path := certificateFile(m.Home, c, pub.Algorithm())
	if err := signing.CreateFile(path, text, 0o644); errors.Is(err, fs.ErrExist) {
		if old, readErr := os.ReadFile(path); readErr != nil || !bytes.Equal(old, text) {
			return err
		}
	} else if err != nil {
		return err
	}
	a.say("证书已放入成员目录。", "The certificate is in the member's home.")
	a.showCertificate(c)
	return nil
}

func (a *app) showCertificates(m *member) error {
	paths, err := filepath.Glob(filepath.Join(m.Home, "*certificate*.pem"))
	if err != nil {
		return err
	}
	var all []*smx509.Certificate
	for _, path := range paths {
		text, err := a.readFile(path)
		if err != nil {
			return err
		}
		c, err := parseCertificate(text)
		if err != nil {
			return fail(a.t("%s 不能用", "%s cannot be used", path), a.t("向 CA 机构重新索取", "get it again from the CA institution"), err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		a.say("还没有证书：用 `zhenglian member csr` 申请。", "There are no certificates: ask for one with `zhenglian member csr`.")
		return nil
	}
	sort.Slice(all, func(i, j int) bool { return all[i].NotAfter.After(all[j].NotAfter) })
	for i, c := range all {
		if i > 0 {
			a.say("", "")
		}
		a.showCertificate(c)
	}
	return nil
}

func (a *app) showCertificate(c *smx509.Certificate) {
	until := a.clock(c.NotAfter.Unix())
	if c.NotAfter.Before(a.now()) {
		until += a.t("（已过期）", " (expired)")
	}
	policies := make([]string, len(c.Policies))
	for i, p := range c.Policies {
		policies[i] = p.String()
		if policies[i] == ca.DemonstrationPolicy {
			policies[i] += a.t("（演示）", " (demonstration)")
		}
	}
	a.fields(
		a.t("序列号", "serial"), ca.SerialHex(c.SerialNumber),
		a.t("主体", "subject"), c.Subject.String(),
		a.t("签发者", "issuer"), c.Issuer.String(),
		a.t("有效期", "valid"), a.clock(c.NotBefore.Unix())+" – "+until,
		a.t("证书策略", "policies"), strings.Join(policies, ", "))
}
