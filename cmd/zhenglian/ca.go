package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/institution"
)

func newInstitutionCA(a *app) *cobra.Command {
	var home string
	var demonstration, sm2 bool
	cmd := &cobra.Command{
		Use:   "ca --home CA_HOME [--demonstration] [--sm2]",
		Short: a.t("给 CA 机构建立成员证书的签发密钥与根证书", "Make the key and root certificate that certify members"),
		Long: a.t("在本机（或 node.toml 的 [keys] 所指的令牌上）生成 P-256 签发密钥和自签根证书，写出公开的\nca/authority.json，供核验策略使用。--sm2 另建一个 SM2 签发密钥，给持 SM2 密钥的成员。",
			"Makes a P-256 key on this host (or on the token that [keys] of node.toml names)\nwith its self-signed root, and writes the public ca/authority.json for policies.\nWith --sm2 there is a second key, for members with SM2 keys."),
		Example: "  zhenglian institution ca --home /var/lib/zhenglian/ca --sm2",
		Args:    a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			authority, err := institution.MakeCA(home, demonstration, sm2, a.now(), ca.SelfIssue)
			if err != nil {
				return err
			}
			a.say("“%s”（%s）可以签发成员证书了。", "%q (%s) can certify members.", authority.Name, authority.ID)
			pairs := []string{
				a.t("根证书（openssl -CAfile）", "root (openssl -CAfile)"), filepath.Join(home, "ca", "certificate.pem"),
				a.t("公开文件", "public file"), filepath.Join(home, "ca", "authority.json")}
			if sm2 {
				pairs = append(pairs, a.t("SM2 根证书", "SM2 root"), filepath.Join(home, "ca", "certificate-sm2.pem"))
			}
			a.fields(pairs...)
			if demonstration {
				a.say("\n这是演示用的 CA：根证书和证书策略都注明演示。", "\nIt is a demonstration's: its root and its certificates' policies say so.")
			}
			a.say("\n下一步：\n  1. 备份 %s 下的 ca 密钥。\n  2. 在 portal.toml 中设置 origin（写入证书的网址）和 [certificates]。\n  3. 把 ca/authority.json 交给制定核验策略的人。",
				"\nNext:\n  1. Back up the ca keys in %s.\n  2. Set origin, the address that stands in certificates, and [certificates] in portal.toml.\n  3. Hand ca/authority.json to those who write policies.", filepath.Join(home, "keys"))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", a.t("CA 机构的目录：`CA_HOME`", "the CA institution's home `CA_HOME`"))
	f.BoolVar(&demonstration, "demonstration", false, a.t("演示用：根证书注明演示", "for a demonstration: its root says so"))
	f.BoolVar(&sm2, "sm2", false, a.t("另建 SM2 签发密钥", "make an SM2 key beside it"))
	return cmd
}

func newCACommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: a.t("成员证书：签发、续期、吊销、吊销列表（CA 机构的经办人）", "Members' certificates: issue, renew, revoke, lists (a CA institution's officer)"),
		Long: a.t("证书给已登记的成员密钥。签发和吊销先上链、再交付。记录与门户共用一个数据库。\n先用 `zhenglian institution ca` 建立签发密钥。",
			"Certificates are for keys that the institution enrolled. Issuing and revoking go\nto the chain first. The register is the portal's database. `zhenglian institution\nca` makes the keys."),
	}
	cmd.AddCommand(newCAIssue(a), newCARenew(a), newCARevoke(a), newCAList(a), newCAStatus(a), newCAServe(a))
	return cmd
}

// caFlags are what every one of these commands has.
type caFlags struct {
	home, node string
	timeout    time.Duration
}

func (o *caFlags) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.home, "home", "", a.t("CA 机构的目录：`CA_HOME`", "the CA institution's home `CA_HOME`"))
	f.StringVar(&o.node, "node", "", a.t("节点的网址 `URL`；默认为本机构描述中的公开接口", "the node's `URL`; the descriptor's public interface by default"))
	f.DurationVar(&o.timeout, "timeout", time.Minute, a.t("等待最终确认的时间：`DURATION`", "how long to wait until it is final: `DURATION`"))
}

// with opens the authority for one command, which ends within the timeout.
func (o *caFlags) with(a *app, ctx context.Context, do func(context.Context, *openedCA) error) (err error) {
	opened, err := a.openCA(ctx, o.home, o.node, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return a.caError(do(ctx, opened), o.timeout)
}

func newCAIssue(a *app) *cobra.Command {
	var o caFlags
	var request, out, organization string
	var validity time.Duration
	cmd := &cobra.Command{
		Use:   "issue --home CA_HOME --request FILE --out FILE [OPTIONS]",
		Short: a.t("给已登记的成员密钥签发证书", "Certify a key that is enrolled"),
		Long: a.t("核对证书申请（PKCS #10）的持钥证明和链上的登记，签发证书，上链后写出 PEM（后附根证书）。\n没有收到答复时用同样的命令再运行一次：同一份申请得到同一张证书。",
			"Checks the request's (PKCS #10) proof of possession and the enrolment on the\nchain, signs, registers, and then writes PEM with the root after it. When no\nanswer arrives, run the same command again: one request gives one certificate."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "request", "out"); err != nil {
				return err
			}
			return a.certify(cmd.Context(), &o, request, out, func(ctx context.Context, c *openedCA, csr []byte) (*ca.Entry, error) {
				return c.IssueEnrolled(ctx, csr, organization, c.validity(validity))
			})
		},
	}
	o.add(a, cmd)
	f := cmd.Flags()
	f.StringVar(&request, "request", "", a.t("证书申请，PEM 或 DER：`FILE`", "the request, PEM or DER: `FILE`"))
	f.StringVar(&out, "out", "", a.t("证书写到新文件 `FILE`；- 为标准输出", "the new `FILE` for the certificate; - is the standard output"))
	f.DurationVar(&validity, "validity", 0, a.t("有效期 `DURATION`；默认按 portal.toml", "valid for `DURATION`; by portal.toml by default"))
	f.StringVar(&organization, "organization", "", a.t("企业名称 `NAME`；仅当 portal.toml 的 names 开启", "an enterprise's `NAME`; only where names is set in portal.toml"))
	return cmd
}

// validity is the given one, or that of portal.toml.
func (o *openedCA) validity(given time.Duration) time.Duration {
	if given != 0 {
		return given
	}
	return time.Duration(o.settings.Certificates.ValidityHours) * time.Hour
}

func newCARenew(a *app) *cobra.Command {
	var o caFlags
	var request, out, old string
	var validity time.Duration
	cmd := &cobra.Command{
		Use:   "renew --home CA_HOME --request FILE --out FILE [--replaces KID] [OPTIONS]",
		Short: a.t("续期证书，或为成员的新密钥换发", "Renew a certificate, or replace it for a member's new key"),
		Long: a.t("同一密钥凭新的证书申请续期。成员换了密钥时，先登记新密钥，再用 --replaces 指明旧密钥：\n新证书签发后，旧密钥以 superseded 吊销。",
			"A key is certified again by a new request that it signed. When a member has a new\nkey, enrol it first and name the old one with --replaces: once the new certificate\nis issued, the old key is revoked as superseded."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "request", "out"); err != nil {
				return err
			}
			var replaced evidence.Digest
			if old != "" {
				var err error
				if replaced, err = a.kid("--replaces", old); err != nil {
					return err
				}
			}
			return a.certify(cmd.Context(), &o, request, out, func(ctx context.Context, c *openedCA, csr []byte) (*ca.Entry, error) {
				if old != "" {
					return c.Rekey(ctx, csr, replaced, c.validity(validity))
				}
				return c.Renew(ctx, csr, c.validity(validity))
			})
		},
	}
	o.add(a, cmd)
	f := cmd.Flags()
	f.StringVar(&request, "request", "", a.t("新的证书申请，PEM 或 DER：`FILE`", "the new request, PEM or DER: `FILE`"))
	f.StringVar(&out, "out", "", a.t("证书写到新文件 `FILE`；- 为标准输出", "the new `FILE` for the certificate; - is the standard output"))
	f.StringVar(&old, "replaces", "", a.t("被替换的旧密钥：`KID`", "the old key's `KID`"))
	f.DurationVar(&validity, "validity", 0, a.t("有效期 `DURATION`；默认按 portal.toml", "valid for `DURATION`; by portal.toml by default"))
	return cmd
}

func (a *app) kid(flag, text string) (evidence.Digest, error) {
	kid, err := evidence.ParseDigest(text)
	if err != nil {
		return kid, usage(a.t("%s 应为 64 位小写十六进制数字", "%s has 64 lower-case hexadecimal digits", flag), a.t("成员的 kid 见 `zhenglian member show`", "`zhenglian member show` prints a member's"))
	}
	return kid, nil
}

func (a *app) certify(ctx context.Context, o *caFlags, request, out string, do func(context.Context, *openedCA, []byte) (*ca.Entry, error)) error {
	csr, err := a.readFile(request)
	if err != nil {
		return err
	}
	return o.with(a, ctx, func(ctx context.Context, c *openedCA) error {
		e, err := do(ctx, c, csr)
		if e == nil {
			return err
		}
		text, pemErr := c.CertificatePEM(e)
		if pemErr != nil {
			return errors.Join(err, pemErr)
		}
		if writeErr := a.writeNew(out, text); writeErr != nil || out == "-" {
			return errors.Join(err, writeErr)
		}
		a.say("证书已签发，已上链。", "The certificate is issued and on the chain.")
		a.showEntry(e)
		a.say("\n下一步：把 %s 交给成员：zhenglian member certificate --home DIR %s", "\nNext: hand %s to the member: zhenglian member certificate --home DIR %s", out, out)
		return err
	})
}

func (a *app) showEntry(e *ca.Entry) {
	a.fields(
		a.t("序列号", "serial"), ca.SerialHex(e.Serial),
		a.t("成员编号", "member id"), e.Subject.Member,
		"kid", e.Key.KID().String(),
		a.t("有效期", "valid"), a.clock(e.NotBefore)+" – "+a.clock(e.NotAfter),
		a.t("日志位置", "log position"), fmt.Sprint(e.Position))
}

// clock writes a time as Beijing's, with its offset.
func (a *app) clock(seconds int64) string {
	return time.Unix(seconds, 0).In(time.FixedZone("", 8*60*60)).Format("2006-01-02 15:04:05 -07:00")
}

func newCARevoke(a *app) *cobra.Command {
	var o caFlags
	var kidText, serialText, reason string
	cmd := &cobra.Command{
		Use:   "revoke --home CA_HOME {--kid KID | --serial HEX} --reason REASON [OPTIONS]",
		Short: a.t("吊销一把密钥及其全部证书", "Revoke a key and all of its certificates"),
		Long: a.t("吊销声明先上链，随后新的吊销列表和 OCSP 立即反映。吊销不可撤回。",
			"The revocation goes to the chain first; lists and OCSP show it at once after. It\ncannot be taken back."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "reason"); err != nil {
				return err
			}
			number, ok := revocationReasons()[reason]
			if !ok {
				return usage(a.t("没有 %q 这个吊销原因", "there is no reason %q", reason), a.t("可用：", "use one of: ")+"keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn, unspecified")
			}
			if (kidText == "") == (serialText == "") {
				return usage(a.t("--kid 与 --serial 要给且只给一个", "give --kid or --serial, and not both"), "")
			}
			return o.with(a, cmd.Context(), func(ctx context.Context, c *openedCA) error {
				kid, err := a.keyToRevoke(ctx, c, kidText, serialText)
				if err != nil {
					return err
				}
				v, err := c.Revoke(ctx, kid, int(number))
				if err != nil {
					return err
				}
				a.say("密钥 %s 及其全部证书已吊销，自日志位置 %d 起生效。", "The key %s is revoked with all of its certificates, from log position %d on.", kid, v.Position)
				return nil
			})
		},
	}
	o.add(a, cmd)
	f := cmd.Flags()
	f.StringVar(&kidText, "kid", "", a.t("要吊销的密钥：`KID`", "the key's `KID`"))
	f.StringVar(&serialText, "serial", "", a.t("其任一证书的序列号：`HEX`", "serial number of a certificate of it: `HEX`"))
	f.StringVar(&reason, "reason", "", a.t("原因 `REASON`：keyCompromise、affiliationChanged、superseded、cessationOfOperation、privilegeWithdrawn、unspecified", "`REASON`: keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn or unspecified"))
	return cmd
}

func (a *app) keyToRevoke(ctx context.Context, c *openedCA, kidText, serialText string) (evidence.Digest, error) {
	if kidText != "" {
		return a.kid("--kid", kidText)
	}
	e, err := a.bySerial(ctx, c, serialText)
	if err != nil {
		return evidence.Digest{}, err
	}
	return e.Key.KID(), nil
}

func (a *app) bySerial(ctx context.Context, c *openedCA, text string) (*ca.Entry, error) {
	serial, ok := new(big.Int).SetString(strings.ReplaceAll(text, ":", ""), 16)
	if !ok || serial.Sign() <= 0 {
		return nil, usage(a.t("序列号 %q 不是十六进制数字", "the serial number %q is not hexadecimal", text), "")
	}
	return c.Register().BySerial(ctx, serial)
}

func newCAList(a *app) *cobra.Command {
	var o caFlags
	var out, name string
	cmd := &cobra.Command{
		Use:   "crl --home CA_HOME --out FILE [--key NAME] [OPTIONS]",
		Short: a.t("按链上现状签发吊销列表并写出", "Sign a revocation list by what the chain says, and write it"),
		Args:  a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "out"); err != nil {
				return err
			}
			return o.with(a, cmd.Context(), func(ctx context.Context, c *openedCA) error {
				if err := errors.Join(c.Resume(ctx), c.Sync(ctx)); err != nil {
					return err
				}
				if i := c.Present(evidence.ES256); name == "" && i != nil {
					name = i.Name()
				}
				der, next, err := c.List(ctx, name)
				if errors.Is(err, ca.ErrUnknown) {
					var names []string
					for _, i := range c.Issuers() {
						names = append(names, i.Name())
					}
					return usage(a.t("本机构没有 %q 签发密钥，或它没有要签的吊销列表", "this institution has no CA key %q, or no list of it is needed", name), a.t("可用：", "use one of: ")+strings.Join(names, ", "))
				}
				if err != nil {
					return err
				}
				if err := a.writeNew(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})); err != nil || out == "-" {
					return err
				}
				a.say("吊销列表已写到 %s，下次更新不晚于 %s。", "The revocation list is in %s; the next one comes by %s.", out, a.clock(next.Unix()))
				return nil
			})
		},
	}
	o.add(a, cmd)
	cmd.Flags().StringVar(&out, "out", "", a.t("写到新文件 `FILE`（PEM）；- 为标准输出", "the new `FILE` (PEM); - is the standard output"))
	cmd.Flags().StringVar(&name, "key", "", a.t("哪个签发密钥 `NAME`：p256、sm2，更换之后为 p256-2 等；默认为现用的 P-256 密钥", "which CA key, `NAME`: p256, sm2, or p256-2 and so on after a replacement; the present P-256 key by default"))
	return cmd
}

func newCAStatus(a *app) *cobra.Command {
	var o caFlags
	var serial, kidText, memberID string
	cmd := &cobra.Command{
		Use:   "status --home CA_HOME [--serial HEX | --kid KID | --member ID]",
		Short: a.t("查看登记簿中的证书", "Show certificates in the register"),
		Args:  a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			return o.with(a, cmd.Context(), func(ctx context.Context, c *openedCA) error {
				entries, err := a.findEntries(ctx, c, serial, kidText, memberID)
				if err != nil {
					return err
				}
				if len(entries) == 0 {
					a.say("没有证书。", "There are no certificates.")
				}
				for i, e := range entries {
					if i > 0 {
						a.say("", "")
					}
					if err := a.showStatus(ctx, c, e); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	o.add(a, cmd)
	f := cmd.Flags()
	f.StringVar(&serial, "serial", "", a.t("序列号：`HEX`", "serial number: `HEX`"))
	f.StringVar(&kidText, "kid", "", a.t("密钥：`KID`", "a key's `KID`"))
	f.StringVar(&memberID, "member", "", a.t("成员编号：`ID`", "a member's `ID`"))
	return cmd
}

// maxShown bounds how many certificates one command prints.
const maxShown = 100

func (a *app) findEntries(ctx context.Context, c *openedCA, serial, kidText, memberID string) ([]*ca.Entry, error) {
	switch {
	case serial != "":
		e, err := a.bySerial(ctx, c, serial)
		if err != nil {
			return nil, err
		}
		return []*ca.Entry{e}, nil
	case kidText != "":
		kid, err := a.kid("--kid", kidText)
		if err != nil {
			return nil, err
		}
		return c.Register().ByKey(ctx, kid)
	case memberID != "":
		return c.Register().ByMember(ctx, memberID)
	}
	return c.Register().All(ctx, maxShown)
}

func (a *app) showStatus(ctx context.Context, c *openedCA, e *ca.Entry) error {
	state := map[ca.State]string{
		ca.Intended: a.t("待签发", "recorded, not signed"), ca.Signed: a.t("已签名，尚未上链", "signed, not on the chain"),
		ca.Issued: a.t("有效", "good"), ca.Refused: a.t("链上规则拒绝，作废", "refused by the chain, void"),
	}[e.State]
	v, err := c.Register().Revocation(ctx, e.Key.KID())
	switch {
	case err == nil && v.State == ca.Revoked:
		name := fmt.Sprint(v.Reason)
		for text, number := range revocationReasons() {
			if int(number) == v.Reason {
				name = text
			}
		}
		state = a.t("已吊销（%s，%s）", "revoked (%s, %s)", name, a.clock(v.At.Unix()))
	case err != nil && !errors.Is(err, ca.ErrUnknown):
		return err
	case e.State == ca.Issued && e.NotAfter < a.now().Unix():
		state = a.t("已过期", "expired")
	}
	a.showEntry(e)
	a.fields(a.t("状态", "status"), state)
	return nil
}

func newCAServe(a *app) *cobra.Command {
	var o caFlags
	var listen string
	cmd := &cobra.Command{
		Use:   "serve --home CA_HOME --listen HOST:PORT",
		Short: a.t("不带门户，单独提供吊销列表与 OCSP", "Serve revocation lists and OCSP without a portal"),
		Long: a.t("提供 /ca/ 下的根证书、吊销列表和 OCSP（RFC 6960），并定期向节点核对吊销。\n门户已含此功能；没有门户的 CA 机构用本命令。",
			"Serves the roots, revocation lists and OCSP (RFC 6960) under /ca/, and asks the\nnode about revocations from time to time. A portal does this itself; this is for\nCA institutions without one."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "listen"); err != nil {
				return err
			}
			return a.serveCA(cmd.Context(), o.home, o.node, listen)
		},
	}
	o.add(a, cmd)
	cmd.Flags().StringVar(&listen, "listen", "", a.t("监听地址：`HOST:PORT`", "where to listen: `HOST:PORT`"))
	return cmd
}

func (a *app) serveCA(ctx context.Context, home, node, listen string) (err error) {
	c, err := a.openCA(ctx, home, node, slog.New(slog.NewTextHandler(a.err, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listening for OCSP: %w", err)
	}
	server := &http.Server{Handler: c.Handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Run(ctx) })
	g.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(last)
	})
	a.progress("吊销列表与 OCSP：http://%s/ca/", "Revocation lists and OCSP: http://%s/ca/", listener.Addr())
	return g.Wait()
}

// caError says in the reader's language what the authority answered.
func (a *app) caError(err error, timeout time.Duration) error {
	var (
		request *ca.RequestError
		subject *ca.SubjectError
		refused *ca.RefusedError
		pending *ca.PendingError
		gone    *ca.KeyGoneError
	)
	again := a.t("稍后用同样的命令再运行一次", "run the same command again later")
	switch {
	case err == nil:
		return nil
	case errors.As(err, &request):
		what := map[ca.RequestCode]string{
			ca.RequestMalformed: a.t("它不是一份 PKCS #10 证书申请", "it is not one PKCS #10 request"),
			ca.RequestBadKey:    a.t("其中的公钥不能签发证书", "its key cannot be certified"),
			ca.RequestBadProof:  a.t("持钥证明不成立：申请被改动过，或提交者没有这把密钥", "the proof does not verify: it was changed, or its maker does not hold the key"),
		}[request.Code]
		return fail(a.t("证书申请不能接受：%s", "the certification request is refused: %s", what), a.t("用 `zhenglian member csr` 重新生成", "make one with `zhenglian member csr`"), nil)
	case errors.As(err, &subject):
		return a.subjectError(subject)
	case errors.As(err, &refused):
		return fail(a.t("链上规则拒绝了它（%s：%s），证书作废", "the rules of the chain refuse it (%s: %s), and the certificate is void", refused.Code, refused.Reason), "", nil)
	case errors.As(err, &gone):
		return fail(a.t("CA 密钥 %s 不见了", "the CA key %s is not there", gone.Name), a.t("从本机构的备份恢复；其最后一张证书到期七天之后才可销毁", "restore it from the institution's backup: it is needed until seven days after the last certificate under it has ended"), nil)
	case errors.As(err, &pending):
		return fail(a.t("已记录，但 %s 内没有最终确认", "it is recorded, and was not final within %s", timeout), again, nil)
	case errors.Is(err, ca.ErrUnknown):
		return fail(a.t("登记簿中没有这张证书", "the register has no such certificate"), "", nil)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(a.t("节点在 %s 内没有答复", "the node did not answer within %s", timeout), again, nil)
	}
	return err
}

func (a *app) subjectError(e *ca.SubjectError) error {
	var what, hint string
	switch e.Code {
	case ca.SubjectNotEnrolled:
		what, hint = a.t("本机构没有登记过这把密钥", "this institution has enrolled no such key"), a.t("先用 `zhenglian member enrol` 登记", "enrol it first with `zhenglian member enrol`")
	case ca.SubjectDiffers:
		what = a.t("与链上的登记不符，或演示身份不能由正式的 CA 签发", "it differs from the enrolment on the chain, or a demonstration's identity asks a real CA")
	case ca.SubjectRevoked:
		what, hint = a.t("这把密钥已吊销", "this key is revoked"), a.t("请成员换一把密钥重新登记", "let the member make and enrol another key")
	case ca.SubjectNoCA:
		what, hint = a.t("本机构没有给这种算法的密钥签发证书的 CA", "this institution has no CA for keys of this algorithm"), a.t("SM2 需要 `zhenglian institution ca --sm2`", "SM2 needs `zhenglian institution ca --sm2`")
	case ca.SubjectValidity:
		what, hint = a.t("有效期须在 1 小时至 400 天之间，且不晚于根证书", "a certificate is valid for one hour to 400 days, and not beyond its root"), ""
	case ca.SubjectUsed:
		what, hint = a.t("这份申请已经用过", "this request was used already"), a.t("用 `zhenglian member csr` 重新生成；openssl 的申请须有所不同", "make another with `zhenglian member csr`; one of openssl has to differ")
	case ca.SubjectNone:
		what, hint = a.t("这把密钥还没有证书可续", "this key has no certificate to renew"), a.t("用 `zhenglian ca issue`", "use `zhenglian ca issue`")
	default:
		what = e.Reason
	}
	return fail(what, hint, nil)
}

// trustIssuers adds certification authorities for members to a policy, by their
// public files.
func (a *app) trustIssuers(p *evidence.Policy, files []string) error {
	for _, path := range files {
		authority, err := institution.ReadCertificateAuthority(path)
		if err == nil {
			for _, c := range authority.ForPolicy() {
				if err = p.AddCertificateAuthority(c); err != nil {
					break
				}
			}
		}
		if err != nil {
			return fail(a.t("%s 不能作为受信任的 CA", "%s cannot be trusted as a certification authority", path),
				a.t("它应是 CA 机构给出的 ca/authority.json", "it is the ca/authority.json of the CA institution"), err)
		}
	}
	return nil
}
