package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

func newMemberCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "member",
		Short: a.t("成员：密钥、登记、吊销", "A member: keys, enrolment, revocation"),
		Long: a.t("成员是联盟知道其密钥的个人、企业、平台或设备。密钥由成员自己生成；CA 机构核实身份后登记，链上只有加盐承诺，没有姓名和证件号码。",
			"A member is a person, enterprise, platform or machine whose key the alliance\nknows. Members make their own keys; a CA institution checks who they are and\nenrols them. The chain holds a salted commitment, no name and no number."),
	}
	cmd.AddCommand(newMemberInit(a), newMemberEnrol(a), newMemberRevoke(a), newMemberShow(a), newMemberCSR(a), newMemberCertificate(a))
	return cmd
}

func newMemberInit(a *app) *cobra.Command {
	var home, algorithm, kind, passphraseFile, onToken string
	cmd := &cobra.Command{
		Use:   "init --home DIR [OPTIONS]",
		Short: a.t("生成成员密钥和登记申请", "Make a member's keys and the enrolment request"),
		Long: a.t("在本机生成两把密钥：签署存证的成员密钥，和打开保管库文件的保管库密钥。\n写出可交给 CA 机构的登记申请；申请里没有私钥。",
			"Makes two keys on this host: one signs statements, one opens objects in the\nvault. It writes the enrolment request for a CA institution; nothing private is\nin it."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			alg, err := signing.ParseAlgorithm(algorithm)
			if err != nil {
				return usage(a.t("--algorithm 只能是 ed25519、p256 或 sm2，不能是 %q", "--algorithm is ed25519, p256 or sm2, not %q", algorithm), "")
			}
			k, err := a.memberKind(kind)
			if err != nil {
				return err
			}
			var protect signing.Passphrase
			if passphraseFile != "" {
				if protect, err = a.passphraseFrom(passphraseFile); err != nil {
					return err
				}
			}
			request, err := a.initMember(home, alg, k, onToken, protect)
			if err != nil {
				return err
			}
			a.say("成员密钥已生成。", "The member's keys are made.")
			a.fields(
				a.t("签名密钥（私密）", "signing key (private)"), filepath.Join(home, memberKeyFile),
				a.t("保管库密钥（私密）", "vault key (private)"), filepath.Join(home, memberVaultFile),
				a.t("登记申请（公开）", "enrolment request (public)"), filepath.Join(home, memberRequestFile),
				a.t("算法", "algorithm"), request.public.Algorithm().String(),
				"kid", request.public.KID().String())
			if protect == nil {
				a.say("\n密钥没有口令保护；要保护请在 init 时用 --passphrase-file。", "\nThe keys have no passphrase; to protect them, use --passphrase-file at init.")
			}
			a.say("\n下一步：\n  1. 离线备份 %s：保管库密钥丢失后，加密保管的文件无法打开。\n  2. 把 %s 交给联盟的 CA 机构，并当面核对 kid。\n  3. 把它交回的 enrolment.json 放入 %s",
				"\nNext:\n  1. Back up %s offline: without the vault key, nobody can open what is encrypted to it.\n  2. Hand %s to a CA institution of the alliance, and compare the kid with its officer.\n  3. Place the enrolment.json it returns into %s",
				home, filepath.Join(home, memberRequestFile), home)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", a.t("成员目录，须不存在或为空：`DIR`", "the member's home, a `DIR` that is new or empty"))
	f.StringVar(&algorithm, "algorithm", "ed25519", a.t("签名密钥的算法 `ALG`：ed25519、p256 或 sm2", "`ALG` of the signing key: ed25519, p256 or sm2"))
	f.StringVar(&onToken, "key", "", a.t("签名密钥在 PKCS#11 令牌上：`URI`，如 pkcs11:token=card;object=me?module-path=…&pin-source=file:…", "the signing key is on a PKCS#11 token: `URI`, such as pkcs11:token=card;object=me?module-path=…&pin-source=file:…"))
	f.StringVar(&kind, "kind", "person", a.t("成员类别 `KIND`：person 个人、enterprise 企业、platform 平台、service 设备", "`KIND` of member: person, enterprise, platform or service"))
	f.StringVar(&passphraseFile, "passphrase-file", "", a.t("用 `FILE` 第一行的口令保护两把密钥", "protect both keys with the passphrase in the first line of `FILE`"))
	return cmd
}

func (a *app) memberKind(name string) (evidence.MemberKind, error) {
	k, ok := evidence.ParseMemberKind(name)
	if !ok {
		return 0, usage(a.t("--kind 只能是 person、enterprise、platform 或 service，不能是 %q", "--kind is person, enterprise, platform or service, not %q", name), "")
	}
	return k, nil
}

func newMemberShow(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "show --home DIR",
		Short: a.t("显示成员目录的公开信息和登记情况", "Show a member's public key and enrolment"),
		Args:  a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			m, err := a.openMemberPublic(home)
			if err != nil {
				return err
			}
			a.fields("kid", m.Public.KID().String(),
				a.t("算法", "algorithm"), m.Public.Algorithm().String(),
				a.t("类别", "kind"), m.Request.Kind,
				a.t("保管库密钥", "vault key"), shorten(m.Request.Vault))
			if m.Enrolment == nil {
				a.say("\n尚未登记：把 %s 交给 CA 机构，再把交回的 enrolment.json 放入 %s", "\nNot enrolled: hand %s to a CA institution and place the enrolment.json it returns into %s", filepath.Join(home, memberRequestFile), home)
				return nil
			}
			a.say("\n登记结果：", "\nEnrolment:")
			a.showEnrolment(m.Enrolment)
			return nil
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("成员目录：`DIR`", "the member's home `DIR`"))
	return cmd
}

func (a *app) showEnrolment(e *enrolment) {
	level := [...]string{
		a.t("0（未核实）", "0 (unknown)"), a.t("1（自述）", "1 (self-asserted)"),
		a.t("2（核对证件）", "2 (document checked)"), a.t("3（当面或真人核验）", "3 (in person or live face)"),
	}
	assurance := fmt.Sprint(e.Assurance)
	if e.Assurance >= 0 && e.Assurance < len(level) {
		assurance = level[e.Assurance]
	}
	if e.Demo {
		assurance += a.t("，演示身份，不是真实身份", ", a demonstration's identity and not a real one")
	}
	a.fields(
		a.t("成员编号", "member id"), e.Member,
		"kid", e.KID.String(),
		a.t("登记机构", "enrolled by"), e.Institution,
		a.t("身份保证等级", "assurance"), assurance,
		a.t("日志位置", "log position"), fmt.Sprint(e.Position),
		a.t("联盟编号", "alliance id"), e.Alliance.String())
}

// shorten keeps the first characters: a hybrid recipient has about 2,000.
func shorten(s string) string {
	if len(s) <= 40 {
		return s
	}
	return s[:40] + "…"
}
