package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// enrolOptions are the flags of member enrol.
type enrolOptions struct {
	home, request, kind, realName, out, node string
	assurance                                int
	demo                                     bool
	timeout                                  time.Duration
}

func newMemberEnrol(a *app) *cobra.Command {
	var o enrolOptions
	cmd := &cobra.Command{
		Use:   "enrol --home CA_HOME --request FILE --assurance LEVEL [OPTIONS]",
		Short: a.t("登记成员（CA 机构的经办人）", "Enrol a member (a CA institution's officer)"),
		Long: a.t(`用 CA 机构的声明密钥签署登记声明，交给本机构的节点上链（不通时交给其他机构），等它
最终确认，以足够机构的回执核实，再写出交还成员的登记结果（私密：内有承诺的盐）。

身份保证等级：0 未核实，1 自述，2 核对证件，3 当面或真人核验。等级 1 起须用
--real-name-file 给出实名信息，演示身份（--demo）除外。实名信息只用来计算加盐承诺，
不上链、不写入登记结果。文件须为 0600，内容如：
  {"name":"张三","document":"居民身份证","number":"..."}

没有收到答复时，用同样的命令再运行一次：会重发同一份声明，不会登记两次。`,
			`Signs the enrolment with the CA institution's statement key, submits it to its
node (to another institution's when that one does not take it), waits until the
receipts of a quorum prove it final, and writes the result for the member
(private: it holds the commitment's salt).

Assurance: 0 unknown, 1 self-asserted, 2 document checked, 3 in person or live
face. From 1 on, --real-name-file is needed, but for a demonstration (--demo). The
real name goes into a salted commitment and nowhere else: not into the log, not
into the result. The file has mode 0600 and holds, for example:
  {"name":"张三","document":"居民身份证","number":"..."}

When no answer arrives, run the same command again: it sends the same statement,
and nobody is enrolled twice.`),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "request", "assurance"); err != nil {
				return err
			}
			return a.enrol(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.home, "home", "", a.t("CA 机构的目录：`CA_HOME`", "the CA institution's home `CA_HOME`"))
	f.StringVar(&o.request, "request", "", a.t("成员的登记申请：`FILE`", "the member's enrolment request `FILE`"))
	f.IntVar(&o.assurance, "assurance", 0, a.t("身份保证等级 `LEVEL`：0 至 3", "assurance `LEVEL`, 0 to 3"))
	f.StringVar(&o.kind, "kind", "", a.t("成员类别 `KIND`；须与申请一致", "`KIND` of member; must be the request's"))
	f.BoolVar(&o.demo, "demo", false, a.t("演示身份：在每份报告中都注明不是真实身份", "a demonstration's identity; every report names it as such"))
	f.StringVar(&o.realName, "real-name-file", "", a.t("实名信息（JSON，0600）：`FILE`", "the real name (JSON, mode 0600): `FILE`"))
	f.StringVar(&o.out, "out", memberEnrolmentFile, a.t("登记结果写到新文件 `FILE`", "the new `FILE` for the result"))
	f.StringVar(&o.node, "node", "", a.t("节点的网址 `URL`；默认为本机构描述中的公开接口", "the node's `URL`; the descriptor's public interface by default"))
	f.DurationVar(&o.timeout, "timeout", time.Minute, a.t("等待最终确认的时间：`DURATION`", "how long to wait until it is final: `DURATION`"))
	return cmd
}

// enrol: 1 the request is checked, 2 the statement is signed, 3 both the
// statement and the salt are written to OUT.pending, 4 it is submitted, 5 OUT is
// written, 6 OUT.pending is removed. A power cut after 3 costs nothing: the next
// run starts at 4. Before 3 nothing has left this host.
func (a *app) enrol(ctx context.Context, o enrolOptions) error {
	if o.assurance < 0 || o.assurance > 3 {
		return usage(a.t("--assurance 是 0 至 3，不是 %d", "--assurance is 0 to 3, not %d", o.assurance), "")
	}
	if o.assurance == 0 && o.realName != "" {
		return usage(a.t("等级 0 不核实身份，不应给出实名信息", "at assurance 0 nobody's name is checked, so none is given"), a.t("去掉 --real-name-file，或给出真实的等级", "leave --real-name-file out, or give the level that was reached"))
	}
	if o.assurance > 0 && o.realName == "" && !o.demo {
		return usage(a.t("等级 %d 需要 --real-name-file", "assurance %d needs --real-name-file", o.assurance), a.t("演示身份请加 --demo", "for a demonstration add --demo"))
	}
	if _, err := os.Lstat(o.out); !errors.Is(err, fs.ErrNotExist) {
		return fail(a.t("%s 已存在，没有登记", "%s exists; nothing was enrolled", o.out), a.t("用 --out 换一个文件名，或先移走它", "choose another name with --out, or move it away"), nil)
	}
	data, err := a.readFile(o.request)
	if err != nil {
		return err
	}
	request, public, err := parseRequest(data)
	if err != nil {
		return fail(a.t("登记申请 %s 不能接受", "the enrolment request %s is refused", o.request), "", err)
	}
	if o.kind != "" && o.kind != request.Kind {
		return fail(a.t("申请的类别是 %s，不是 %s", "the request is of the kind %s, not %s", request.Kind, o.kind), a.t("请成员重新申请，或更正 --kind", "let the member make another request, or correct --kind"), nil)
	}
	h, err := institution.Open(o.home, evidence.UseStatement)
	if err != nil {
		return err
	}
	if _, err := h.Joined(); err != nil {
		return err
	}
	if h.Descriptor.Kind != evidence.KindCA {
		return fail(a.t("%s 的类别是 %s，只有 CA 机构（ca）能登记成员", "%s is of the kind %s, and only a ca enrols members", h.ID(), h.Descriptor.Kind), a.t("请联盟的 CA 机构登记", "ask the alliance's CA institution"), nil)
	}
	p, err := a.pending(o, h, request, public)
	if err != nil {
		return err
	}
	final, err := a.register(ctx, h, o.node, p.Statement, o.timeout)
	if err != nil {
		var refused *client.Problem
		if errors.As(err, &refused) && refused.Rule() {
			// The log refused it for good: the next run makes another.
			_ = os.Remove(pendingPath(o.out))
		}
		return err
	}
	p.Enrolment.Statement, p.Enrolment.Position = final.Entry, final.Position
	if data, err = evidence.MarshalCanonical(&p.Enrolment); err != nil {
		return err
	}
	if err := signing.WriteSecret(o.out, data, nil); err != nil {
		return err
	}
	if err := os.Remove(pendingPath(o.out)); err != nil {
		return err
	}
	a.say("成员已登记。", "The member is enrolled.")
	a.showEnrolment(&p.Enrolment)
	a.say("\n下一步：用安全的方式把 %s 交给成员，由其放入成员目录，随后删除此处的副本。", "\nNext: hand %s to the member over a private channel, to be placed into the member's home; then delete this copy.", o.out)
	return nil
}

func pendingPath(out string) string { return out + ".pending" }

// pending returns the statement of an interrupted run, or signs a new one.
func (a *app) pending(o enrolOptions, h *institution.Home, request *enrolmentRequest, public *evidence.PublicKey) (*pendingEnrolment, error) {
	path := pendingPath(o.out)
	name, err := a.readRealName(o.realName)
	if err != nil {
		return nil, err
	}
	data, err := signing.ReadSecret(path, nil)
	if err == nil {
		p := new(pendingEnrolment)
		if err := evidence.UnmarshalCanonical(data, p); err != nil {
			return nil, fail(a.t("%s 不能用", "%s cannot be used", path), a.t("删除它，再运行一次", "delete it and run this again"), err)
		}
		e := &p.Enrolment
		if e.KID != public.KID() || e.Alliance != h.Alliance.ID() || e.Assurance != o.assurance || e.Demo != o.demo ||
			e.Salt != nil && e.Commitment != commitTo(name, *e.Salt) {
			return nil, fail(a.t("%s 是另一次登记，尚未完成", "%s is another enrolment that is not finished", path), a.t("先用原来的参数完成它，或用 --out 换一个文件名", "finish it with its own options, or choose another name with --out"), nil)
		}
		a.progress("继续上次未完成的登记，重发同一份声明。", "Going on with the enrolment that was interrupted; the same statement is sent again.")
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p := &pendingEnrolment{Enrolment: enrolment{V: 1, Alliance: h.Alliance.ID(), Institution: h.ID(), Member: newMemberID(),
		KID: public.KID(), Kind: request.Kind, Assurance: o.assurance, Demo: o.demo}}
	e := &p.Enrolment
	if o.assurance > 0 {
		salt, err := evidence.NewSalt(rand.Reader)
		if err != nil {
			return nil, err
		}
		e.Salt, e.Commitment = &salt, commitTo(name, salt)
	}
	kind, _ := evidence.ParseMemberKind(request.Kind)
	content := evidence.Enrolment{Member: e.Member, Key: public, Kind: kind, Assurance: uint64(o.assurance), Commitment: e.Commitment, Demo: o.demo}
	s, err := a.registryStatement(h, evidence.TypeEnrolment, content.Encode())
	if err != nil {
		return nil, err
	}
	e.Statement, p.Statement = s.Digest(), s.Bytes()
	if data, err = evidence.MarshalCanonical(p); err != nil {
		return nil, err
	}
	return p, signing.WriteSecret(path, data, nil)
}

// readRealName reads the private file; an empty path gives nil.
func (a *app) readRealName(path string) (*realName, error) {
	if path == "" {
		return nil, nil
	}
	data, err := signing.ReadSecret(path, nil)
	if err != nil {
		return nil, err
	}
	r := new(realName)
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	// The cause is left out: it could quote the content.
	if err := decoder.Decode(r); err != nil || decoder.More() || r.Name == "" || r.Document == "" || r.Number == "" {
		return nil, fail(a.t("%s 不能用", "%s cannot be used", path), "", errRealName)
	}
	return r, nil
}

func (a *app) progress(zh, en string, args ...any) {
	_, _ = a.err.Write([]byte(a.t(zh, en, args...) + "\n"))
}

// registryStatement signs a statement that changes the registry of members.
func (a *app) registryStatement(h *institution.Home, contentType string, content []byte) (*evidence.Statement, error) {
	return evidence.Statement{
		Issuer: h.ID(), Subject: evidence.SubjectRegistry, IssuedAt: a.now().Unix(),
		ContentType: contentType, Payload: content,
	}.Sign(h.Key(evidence.UseStatement))
}

// revocationReasons are CRLReasons (RFC 5280 §5.3.1) that fit a member key. A
// revocation is for good, so there is no certificateHold.
func revocationReasons() map[string]uint64 {
	return map[string]uint64{"unspecified": 0, "keyCompromise": 1, "affiliationChanged": 3, "superseded": 4, "cessationOfOperation": 5, "privilegeWithdrawn": 9}
}

func newMemberRevoke(a *app) *cobra.Command {
	var home, kidText, reason, node string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "revoke --home CA_HOME --kid HEX --reason REASON [OPTIONS]",
		Short: a.t("吊销成员密钥（CA 机构的经办人）", "Revoke a member's key (a CA institution's officer)"),
		Long: a.t("从吊销声明在日志中的位置起，该密钥不能再登记任何内容；此前登记的不受影响。吊销不可撤回。",
			"From the revocation's place in the log on, the key registers nothing; what it\nregistered before stands. A revocation cannot be taken back."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "kid", "reason"); err != nil {
				return err
			}
			kid, err := evidence.ParseDigest(kidText)
			if err != nil {
				return usage(a.t("--kid 应为 64 位小写十六进制数字", "--kid has 64 lower-case hexadecimal digits"), a.t("成员的 kid 见 `zhenglian member show`", "`zhenglian member show` prints a member's"))
			}
			number, ok := revocationReasons()[reason]
			if !ok {
				return usage(a.t("没有 %q 这个吊销原因", "there is no reason %q", reason), a.t("可用：", "use one of: ")+"keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn, unspecified")
			}
			h, err := institution.Open(home, evidence.UseStatement)
			if err != nil {
				return err
			}
			if _, err := h.Joined(); err != nil {
				return err
			}
			content := evidence.Revocation{KID: kid, Reason: number}
			s, err := a.registryStatement(h, evidence.TypeRevocation, content.Encode())
			if err != nil {
				return err
			}
			final, err := a.register(cmd.Context(), h, node, s.Bytes(), timeout)
			if err != nil {
				return err
			}
			a.say("密钥 %s 已吊销，自日志位置 %d 起生效。", "The key %s is revoked from log position %d on.", kid, final.Position)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", a.t("CA 机构的目录：`CA_HOME`", "the CA institution's home `CA_HOME`"))
	f.StringVar(&kidText, "kid", "", a.t("要吊销的密钥：`HEX`", "the key to revoke: `HEX`"))
	f.StringVar(&reason, "reason", "", a.t("原因 `REASON`：keyCompromise、affiliationChanged、superseded、cessationOfOperation、privilegeWithdrawn、unspecified", "`REASON`: keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn or unspecified"))
	f.StringVar(&node, "node", "", a.t("节点的网址 `URL`；默认为本机构描述中的公开接口", "the node's `URL`; the descriptor's public interface by default"))
	f.DurationVar(&timeout, "timeout", time.Minute, a.t("等待最终确认的时间：`DURATION`", "how long to wait until it is final: `DURATION`"))
	return cmd
}

func nodeURL(h *institution.Home, given string) string {
	if given == "" {
		given = h.Descriptor.Addresses.API
	}
	return strings.TrimRight(given, "/")
}
