package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/signing"
)

func newInstitutionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "institution",
		Short: a.t("机构：建立目录与密钥、加入联盟", "An institution: its home, its keys, its alliance"),
		Long: a.t("一个机构在自己的主机上有一个目录，内有其全部私钥。只有公开的机构描述会离开主机。",
			"An institution has one home on its own host, with all its private keys. Only the\npublic descriptor leaves the host."),
	}
	cmd.AddCommand(newInstitutionInit(a), newInstitutionShow(a), newInstitutionJoin(a), newInstitutionTSA(a), newInstitutionCA(a), newInstitutionPortal(a), newInstitutionRotate(a))
	return cmd
}

func newInstitutionInit(a *app) *cobra.Command {
	var home, kind, algorithm string
	var p institution.Params
	var onToken []string
	cmd := &cobra.Command{
		Use:   "init --home DIR --id ID --name NAME --kind KIND --api URL --peer HOST:PORT --p2p HOST:PORT [OPTIONS]",
		Short: a.t("建立机构目录并生成全部密钥", "Make an institution's home with all its keys"),
		Long: a.t("在本机生成机构的全部密钥（每把钥匙一个用途），写出公开的机构描述和节点设置。\n已有的目录绝不覆盖。",
			"Makes all keys of the institution on this host, one for each purpose, and writes\nthe public descriptor and the node's settings. It never replaces a home."),
		Example: "  zhenglian institution init --home /var/lib/zhenglian/court --id court --name 杭州互联网法院 --kind court \\\n" +
			"    --api https://court.example:8443 --peer court.example:7443 --p2p court.example:26656",
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "id", "name", "kind", "api", "peer", "p2p"); err != nil {
				return err
			}
			alg, err := signing.ParseAlgorithm(algorithm)
			if err != nil || alg == evidence.SM2SM3 {
				return usage(a.t("--receipt-algorithm 只能是 ed25519 或 p256，不能是 %q", "--receipt-algorithm is ed25519 or p256, not %q", algorithm),
					a.t("要同时签发国密 SM2 回执，请加 --sm2", "for SM2 receipts beside these, add --sm2"))
			}
			p.ReceiptAlgorithm, p.Kind = alg, evidence.InstitutionKind(kind)
			if p.Keys, err = a.tokenKeys(onToken); err != nil {
				return err
			}
			d, err := institution.Init(home, p)
			if err != nil {
				return err
			}
			a.say("机构“%s”（%s）已建立。", "The institution %q (%s) has its home.", d.Name, d.ID)
			a.fields(
				a.t("机构描述（公开）", "descriptor (public)"), filepath.Join(home, "descriptor.json"),
				a.t("私钥（不得离开本机）", "private keys (stay here)"), filepath.Join(home, "keys"),
				a.t("节点设置", "node settings"), filepath.Join(home, "node.toml"))
			a.say("\n下一步：\n  1. 离线备份 %s：丢失的密钥无法重新生成。\n  2. 把 %s 交给联盟的发起方。\n  3. 收到 alliance.json 后运行：zhenglian institution join --home %s alliance.json",
				"\nNext:\n  1. Back up %s offline: a lost key cannot be made again.\n  2. Send %s to those who found the alliance.\n  3. When alliance.json arrives: zhenglian institution join --home %s alliance.json",
				filepath.Join(home, "keys"), filepath.Join(home, "descriptor.json"), home)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", a.t("机构目录，须不存在或为空：`DIR`", "the home, a `DIR` that is new or empty"))
	f.StringVar(&p.ID, "id", "", a.t("机构代号：小写字母、数字、连字符，至多 32 个：`ID`", "short `ID`: lower-case letters, digits and hyphens, up to 32"))
	f.StringVar(&p.Name, "name", "", a.t("机构名称：`NAME`", "the institution's `NAME`"))
	f.StringVar(&kind, "kind", "", a.t("机构类别 `KIND`：court 法院、notary 公证、ca CA/RA、forensic 鉴定、other 其他", "its `KIND`: court, notary, ca, forensic or other"))
	f.StringVar(&p.Addresses.API, "api", "", a.t("公开接口的网址：`URL`", "`URL` of the public interface"))
	f.StringVar(&p.Addresses.Peer, "peer", "", a.t("机构之间传送批次与见证的地址：`HOST:PORT`", "`HOST:PORT` for batches and witnessing between institutions"))
	f.StringVar(&p.Addresses.P2P, "p2p", "", a.t("共识引擎的地址：`HOST:PORT`", "`HOST:PORT` of the consensus engine"))
	f.StringVar(&algorithm, "receipt-algorithm", "ed25519", a.t("回执密钥的算法 `ALG`：ed25519 或 p256", "`ALG` of the receipt key: ed25519 or p256"))
	f.BoolVar(&p.SM2Receipt, "sm2", false, a.t("另外生成一把 SM2 回执密钥", "make an SM2 receipt key beside it"))
	f.StringArrayVar(&onToken, "token-key", nil, a.t("放在 PKCS#11 令牌上的密钥，可多次给出 `NAME=URI`，如 receipt=pkcs11:token=court;object=receipt", "a key that is on a PKCS#11 token, `NAME=URI`, such as receipt=pkcs11:token=court;object=receipt; may be repeated"))
	f.StringVar(&p.Token.Module, "token-module", "", a.t("PKCS#11 库文件：`FILE`", "the PKCS#11 library `FILE`"))
	f.StringVar(&p.Token.PINFile, "token-pin-file", "", a.t("令牌口令在 `FILE` 的第一行（0600，绝对路径）；默认取环境变量 ZHENGLIAN_TOKEN_PIN", "the token's PIN is the first line of `FILE` (mode 0600, absolute path); ZHENGLIAN_TOKEN_PIN by default"))
	return cmd
}

func newInstitutionShow(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "show --home DIR",
		Short: a.t("检查机构目录并显示其公开信息", "Check a home and show what is public of it"),
		Long: a.t("检查目录的全部内容：权限、私钥与描述是否相符、所属联盟。不显示任何私钥。",
			"Checks all of the home: permissions, that keys and descriptor match, the\nalliance. It shows nothing private."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			h, err := institution.Open(home)
			if err != nil {
				return err
			}
			return a.showInstitution(h)
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	return cmd
}

func (a *app) showInstitution(h *institution.Home) error {
	d := h.Descriptor
	a.say("%s（%s，%s）", "%s (%s, %s)", d.Name, d.ID, d.Kind)
	a.fields(
		a.t("公开接口", "public interface"), d.Addresses.API,
		a.t("机构间接口", "peer interface"), d.Addresses.Peer,
		a.t("共识引擎", "consensus engine"), d.Addresses.P2P,
		a.t("数据目录", "data"), h.DataDir())
	if h.Alliance == nil {
		a.say("\n尚未加入联盟。", "\nIt has not joined an alliance.")
	} else {
		a.say("\n联盟：%s\n  编号 %s", "\nAlliance: %s\n  id %s", h.Alliance.Name, h.Alliance.ID())
	}
	a.say("\n创世时的公钥（用途、算法、kid）：", "\nPublic keys of the founding (use, algorithm, kid):")
	if err := a.showKeys(d); err != nil {
		return err
	}
	return a.showGenerations(h)
}

// showGenerations lists the keys that were put in place since the founding.
func (a *app) showGenerations(h *institution.Home) error {
	all, err := h.Generations()
	if err != nil {
		return err
	}
	var pairs []string
	for _, g := range all {
		if !g.Later {
			continue
		}
		state := a.t("已更换", "replaced")
		if g.Current {
			state = a.t("使用中", "in use")
		}
		pairs = append(pairs, g.Name, a.t("%s  自日志规模 %d 起  %s", "%s  from log size %d  %s", g.KID, g.Position+1, state))
	}
	if len(pairs) == 0 {
		return nil
	}
	a.say("\n此后更换的密钥：", "\nKeys put in place since:")
	a.fields(pairs...)
	return nil
}

// keyUses in the order of the descriptor.
func keyUses() []evidence.KeyUse {
	return []evidence.KeyUse{evidence.UseConsensus, evidence.UseNode, evidence.UseReceipt, evidence.UseCosign, evidence.UseStatement, evidence.UseAttest, evidence.UseTLS}
}

func (a *app) showKeys(d *evidence.Descriptor) error {
	var pairs []string
	for _, use := range keyUses() {
		keys, err := d.PublicKeys(use)
		if err != nil {
			return err
		}
		for _, k := range keys {
			pairs = append(pairs, string(use)+"  "+k.Algorithm().String(), k.KID().String())
		}
	}
	a.fields(pairs...)
	return nil
}

func newInstitutionJoin(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "join --home DIR ALLIANCE_FILE",
		Short: a.t("加入联盟：收下创世文件", "Join an alliance: take its genesis in"),
		Long: a.t("核对创世文件中有本机构原样的描述，再存入机构目录。\n加入前请与其他机构当面或电话核对联盟编号。",
			"Checks that the genesis holds this institution's descriptor unchanged, and keeps\nit in the home. Compare the alliance's id with the other institutions, in person\nor by telephone, before."),
		Args: a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			genesis, err := a.readFile(args[0])
			if err != nil {
				return err
			}
			al, err := institution.Join(home, genesis)
			if err != nil {
				return err
			}
			a.say("已加入联盟“%s”。", "Joined the alliance %q.", al.Name)
			a.fields(a.t("联盟编号", "alliance id"), al.ID().String())
			a.say("\n请与其他机构核对联盟编号，然后运行：zhenglian node --home %s", "\nCompare the alliance id with the other institutions, then run: zhenglian node --home %s", home)
			return nil
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	return cmd
}

// maxInput bounds public files that are read whole.
const maxInput = 4 << 20

// readFile reads a public file of a person's choosing.
func (a *app) readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxInput {
		return nil, fail(a.t("%s 太大，不是这里要的文件", "%s is too large to be what is wanted here", path), "", nil)
	}
	return data, nil
}

// writeNew writes a new public file, or to the results when path is "-": the
// exact bytes, without a line feed, so that what is redirected stays canonical.
func (a *app) writeNew(path string, content []byte) error {
	if path == "-" {
		_, err := a.out.Write(content)
		return err
	}
	err := signing.CreateFile(path, content, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fail(a.t("%s 已存在，没有覆盖", "%s exists and was left as it is", path), a.t("换一个文件名，或先移走它", "choose another name, or move it away"), nil)
	}
	return err
}
