package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// explain turns an error into one sentence and a hint in the reader's language.
// The errors of the packages are English; where a person meets one, it has its
// Chinese here. What has none is shown as it is.
func (a *app) explain(err error) (what, hint string) {
	switch e := err.(type) { // outermost first: each case explains its own cause
	case *failure:
		what, hint = e.what, e.hint
		if e.err != nil {
			cause, causeHint := a.explain(e.err)
			what += a.t("：", ": ") + cause
			hint = firstOf(hint, causeHint)
		}
		return what, hint
	case *institution.Error:
		return a.explainHome(e)
	case *signing.ExposedError:
		return a.explainExposed(e)
	case *signing.TokenError:
		return a.explainToken(e)
	case *evidence.FieldError:
		return a.explainField(e)
	case *evidence.JSONError:
		return a.t("不是规范的 JSON（%s，字节 %d：%s）", "it is not canonical JSON (%s, byte %d: %s)", e.Path, e.Offset, e.Reason),
			a.t("使用原来的文件，不要用编辑器改存", "use the file as it was written, not one that an editor saved")
	case *badKeyError:
		return a.t("这个公钥不能登记：%s", "this public key cannot be enrolled: %s", a.keyReason(e.err)),
			a.t("请对方用 `zhenglian member init` 重新生成密钥", "let its holder make a new one with `zhenglian member init`")
	case *client.Problem:
		return a.explainProblem(e)
	case *fs.PathError:
		return a.explainPath(e.Path, e.Err)
	case *os.LinkError:
		return a.explainPath(e.New, e.Err)
	}
	for _, known := range []struct {
		err  error
		zh   string
		hint string
	}{
		{signing.ErrNeedsPassphrase, "密钥有口令保护，没有给出口令", a.t("用 --passphrase-file 给出口令，或在终端上运行", "give --passphrase-file, or run it at a terminal")},
		{signing.ErrWrongPassphrase, "口令不对，打不开密钥", ""},
		{errRequestVersion, "登记申请的版本本程序不认识", a.t("换用新版本的程序", "use a newer version of this program")},
		{errRequestKind, "成员类别不是 person、enterprise、platform、service 之一", ""},
		{errRequestVault, "保管库密钥不是 age 接收者", ""},
		{errRequestTime, "申请时间不是 RFC 3339 格式", ""},
		{errRequestProof, "持钥证明不成立：申请被改动过，或提交者没有这把密钥", a.t("请成员重新申请", "let the member make another request")},
		{errRealName, "实名信息须有且只有 name、document、number 三项", ""},
		{context.Canceled, "已中断", ""},
	} {
		if errors.Is(err, known.err) {
			return a.t(strings.ReplaceAll(known.zh, "%", "%%"), known.err.Error()), known.hint
		}
	}
	// errors.Join of one error and what did not fail.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) == 1 {
			return a.explain(all[0])
		}
	}
	// A typed error under a plain wrapper keeps its own words and hint.
	if inner := errors.Unwrap(err); inner != nil && typed(inner) {
		return a.explain(inner)
	}
	return err.Error(), ""
}

func typed(err error) bool {
	var (
		home    *institution.Error
		exposed *signing.ExposedError
		token   *signing.TokenError
		field   *evidence.FieldError
		fail    *failure
	)
	return errors.As(err, &home) || errors.As(err, &exposed) || errors.As(err, &token) || errors.As(err, &field) || errors.As(err, &fail)
}

func (a *app) explainPath(path string, err error) (what, hint string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.t("没有 %s", "there is no %s", path), ""
	case errors.Is(err, fs.ErrExist):
		return a.t("%s 已存在，没有覆盖", "%s exists and was left as it is", path), ""
	case errors.Is(err, fs.ErrPermission):
		return a.t("没有权限访问 %s", "this user may not access %s", path), a.t("换用拥有它的用户运行", "run it as the user who owns it")
	}
	return path + a.t("：", ": ") + err.Error(), ""
}

func (a *app) explainExposed(e *signing.ExposedError) (what, hint string) {
	if e.Dir {
		return a.t("%s 可被他人改动（权限 %04o）", "%s can be changed by others (mode %04o)", e.Path, e.Mode),
			a.t("运行 `chmod 700 %s`；如果这台机器还有别人使用，请更换其中的密钥", "run `chmod 700 %s`, and replace the keys in it if anybody else uses this machine", e.Path)
	}
	return a.t("%s 可被他人读写（权限 %04o），不予使用", "%s can be reached by others (mode %04o) and is not used", e.Path, e.Mode),
		a.t("运行 `chmod 600 %s`；如果这台机器还有别人使用，请更换它", "run `chmod 600 %s`, and replace it if anybody else uses this machine", e.Path)
}

// explainHome says in Chinese what institution.Error says in English.
func (a *app) explainHome(e *institution.Error) (what, hint string) {
	what, hint = e.Path+": "+e.Reason, e.Hint
	if a.lang == chinese {
		if zh, ok := homeSentences()[e.Code]; ok {
			what, hint = e.Path+"："+zh[0], zh[1]
		}
		if e.Subject != "" {
			what += "（" + e.Subject + "）"
		}
	}
	if e.Err != nil {
		cause, causeHint := a.explain(e.Err)
		what += a.t("：", ": ") + cause
		hint = firstOf(causeHint, hint)
	}
	return what, hint
}

// homeSentences: sentence and hint by code.
func homeSentences() map[institution.ErrorCode][2]string {
	return map[institution.ErrorCode][2]string{
		institution.CodeExists:        {"目录已有内容，没有改动", "密钥绝不覆盖：换一个新的或空的目录"},
		institution.CodeInterrupted:   {"上次 `institution init` 在这里中断了", "其中内容从未公开：删除该目录后再运行一次"},
		institution.CodeNoHome:        {"这里没有机构目录", "用 `zhenglian institution init` 建立，或更正 --home"},
		institution.CodeParams:        {"不能建立机构目录", ""},
		institution.CodeDescriptor:    {"机构描述已损坏或被改动", "从备份恢复，或从任一成员的 alliance.json 中取回"},
		institution.CodeKeyMissing:    {"密钥文件不见了", "从本机构的备份恢复；它无法重新生成"},
		institution.CodeKeyMismatch:   {"密钥文件与机构描述不符", "从同一份备份恢复密钥文件或机构描述"},
		institution.CodeKeyUnreadable: {"密钥不能使用", ""},
		institution.CodeAlliance:      {"不是联盟的创世文件，或已被改动", "向联盟的另一机构重新索取"},
		institution.CodeNotInAlliance: {"该联盟中没有本机构", "把 descriptor.json 交给联盟的发起方"},
		institution.CodeOtherSelf:     {"该联盟中本机构的描述与本目录的不同", "创世时用了旧的或他人的描述：请用本目录的描述重新创世"},
		institution.CodeOtherAlliance: {"本目录已属于另一个联盟", "为另一个联盟另建目录"},
		institution.CodeNotJoined:     {"本机构尚未加入联盟", "运行 `zhenglian institution join --home DIR alliance.json`"},
		institution.CodeConfig:        {"设置文件读不懂，或某项的值类型不对", "文字加引号，数字不加；每一项在文件的注释中有说明"},
		institution.CodeConfigUnknown: {"没有这个设置项", "每一项在 node.toml 和 portal.toml 的注释中有说明"},
		institution.CodeConfigValue:   {"设置项的值不对", "每一项在 node.toml 和 portal.toml 的注释中有说明"},
		institution.CodeUnknownPeer:   {"不是联盟中的其他机构", ""},
		institution.CodePortal:        {"portal.toml 写不成，没有改动", "已有的文件请直接编辑"},
		institution.CodeCA:            {"成员证书的签发密钥或根证书不能用", "没有的话用 `zhenglian institution ca` 建立；否则从备份恢复"},
		institution.CodeRotation:      {"更换密钥没有做完", "用同样的命令再运行一次，即可接着做完"},
		institution.CodeNoSM2:         {"本机构没有可更换的 SM2 密钥", "去掉 --sm2"},
		institution.CodeTSA:           {"时间戳机构的密钥、证书或公开文件不能用", "没有的话用 `zhenglian institution tsa` 建立；中断的话用同样的命令再运行一次；否则从备份恢复"},
		institution.CodePeerKey:       {"对方的 TLS 密钥不是它应有的", "核对双方的 alliance.json 和 node.toml 中 [peers] 的地址"},
	}
}

func (a *app) explainField(e *evidence.FieldError) (what, hint string) {
	if a.lang != chinese {
		return e.Field + ": " + e.Reason, e.Hint
	}
	zh, ok := fieldSentences()[e.Code]
	if !ok {
		return e.Field + "：" + e.Reason, e.Hint
	}
	what, hint = e.Field+"："+zh[0], zh[1]
	if e.Code == "key" {
		what += "（" + a.keyReason(e.Unwrap()) + "）"
	}
	return what, hint
}

// fieldSentences: sentence and hint by evidence.FieldError code, for the
// documents that these commands read.
func fieldSentences() map[string][2]string {
	return map[string][2]string{
		"version":       {"版本不认识", "换用新版本的程序"},
		"slug":          {"代号不合规则", "用小写字母、数字、连字符，不以连字符开头，至多 32 个"},
		"kind":          {"没有这种机构类别", "用 court、notary、ca、forensic 或 other"},
		"address":       {"地址不合规则", "公开接口写成 https://court.example:8443，其余写成 court.example:26656"},
		"key":           {"公钥不能使用", "重新导出公钥"},
		"key-algorithm": {"密钥的算法不适合这个用途", "按用途重新生成密钥"},
		"key-reuse":     {"同一把密钥用于两个用途", "每个用途生成一把密钥"},
		"proof":         {"持钥证明不成立：描述在签署后被改动，或由另一把密钥签署", "请该机构重新签署描述"},
		"required":      {"缺少必要内容", ""},
		"too-large":     {"文件太大", ""},
		"duplicate":     {"有重复", ""},
	}
}

// keyReason says why enrolment refuses a public key (evidence.ParsePublicKey).
func (a *app) keyReason(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if a.lang != chinese {
		return text
	}
	for _, r := range []struct{ part, zh string }{
		{"not in canonical encoding", "Ed25519 公钥的编码不规范，同一把密钥会有两个名字"},
		{"small order", "Ed25519 公钥是小阶点，任何人都能替它签名"},
		{"torsion component", "Ed25519 公钥含挠分量，不同的核验程序会得出不同结论"},
		{"not a point of the curve", "Ed25519 公钥不是曲线上的点"},
		{"no PEM block", "没有找到 PUBLIC KEY 块"},
		{"something follows", "PEM 块之后还有别的内容"},
		{"not an Ed25519, P-256 or SM2", "不是规范编码的 Ed25519、P-256 或 SM2 公钥"},
		{"P-256 key", "P-256 公钥不是曲线上的点"},
		{"SM2 key", "SM2 公钥不是曲线上的点"},
	} {
		if strings.Contains(text, r.part) {
			return r.zh
		}
	}
	return text
}
