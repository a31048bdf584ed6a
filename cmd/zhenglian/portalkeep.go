package main

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/store"
)

// portalKeys is where the keys of the portal's sealed columns lie.
func portalKeys(h *institution.Home) string { return filepath.Join(h.Path, "keys", "portal.keys") }

// portalLock is held by the one process that writes sealed columns: the portal
// while it runs, or rekey. The file stays; only who holds it matters.
func portalLock(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errPortalRuns, f.Close())
	}
	return f.Close, nil
}

var errPortalRuns = errors.New("another process holds the portal's lock")

func (a *app) portalRuns(err error) error {
	if errors.Is(err, errPortalRuns) {
		return fail(a.t("这个机构的门户正在运行", "this institution's portal is running"), a.t("先停止它", "stop it first"), nil)
	}
	return err
}

// kept is a portal's database, opened for its upkeep.
type kept struct {
	dir      string
	db       *store.DB
	keys     *store.Keys
	keyFile  string
	register *identity.Register
}

func openKept(ctx context.Context, home string) (*kept, error) {
	h, err := institution.OpenPublic(home)
	if err != nil {
		return nil, err
	}
	c, err := h.Portal()
	if err != nil {
		return nil, err
	}
	k := &kept{dir: h.PortalDir(c), keyFile: portalKeys(h)}
	if k.keys, err = store.OpenKeys(k.keyFile); err != nil {
		return nil, err
	}
	if k.db, err = store.Open(ctx, portalDatabase(h, c)); err != nil {
		return nil, err
	}
	if k.register, err = identity.New(identity.Config{DB: k.db, Keys: k.keys, Origin: c.Origin, Name: h.Descriptor.Name, Demo: c.Demonstration}); err != nil {
		return nil, errors.Join(err, k.db.Close())
	}
	return k, nil
}

func newPortalAudit(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "audit --home DIR",
		Short: a.t("核对谁看过谁的资料：访问记录是否完整", "Check the log of who looked at whose data"),
		Long: a.t("逐条核对访问记录的链接，缺一条、改一条都会发现，并打印其条数和末端摘要。把末端摘要存证或抄在纸上，\n以后再核对，就能发现整个数据库被换回旧的。",
			"Checks every link of the access log: a line that is missing or altered is found. It\nprints how many there are and the digest at the end. Deposit that, or write it\ndown: compared later, it shows whether the whole database was put back."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			k, err := openKept(cmd.Context(), home)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, k.db.Close()) }()
			if err := k.register.CheckAccesses(cmd.Context()); err != nil {
				var broken *identity.BrokenLog
				if errors.As(err, &broken) {
					return fail(a.t("访问记录不完整", "the access log is not whole"), a.t("从备份恢复数据库，查清是谁动过它", "restore the database from a backup, and find out who touched it"), err)
				}
				return err
			}
			n, head, err := k.register.AccessHead(cmd.Context())
			if err != nil {
				return err
			}
			a.say("访问记录完整。", "The access log is whole.")
			a.fields(a.t("条数", "entries"), strconv.FormatInt(n, 10), a.t("末端摘要", "digest at the end"), firstOf(hex.EncodeToString(head), "–"))
			return nil
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	return cmd
}

func newPortalRekey(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "rekey --home DIR",
		Short: a.t("更换个人资料的加密密钥", "Replace the key that personal data is sealed with"),
		Long: a.t("在 keys/portal.keys 中生成新密钥，把每一项个人资料换用新密钥加密，最后丢弃旧密钥。先停止门户；中断后再运行一次\n即可，不会丢失资料。旧备份仍要用旧的密钥文件打开。",
			"Makes a new key in keys/portal.keys, seals every piece of personal data with it,\nand at last forgets the old one. Stop the portal before. When it is interrupted,\nrun it again: nothing is lost. An old backup still needs its old key file."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			k, err := openKept(cmd.Context(), home)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, k.db.Close()) }()
			release, err := portalLock(k.dir)
			if err != nil {
				return a.portalRuns(err)
			}
			defer func() { err = errors.Join(err, release()) }()
			next, err := k.keys.Rotate(k.keyFile)
			if err != nil {
				return err
			}
			n, err := next.Reseal(cmd.Context(), k.db, identity.SealedColumns())
			if err != nil {
				return fail(a.t("没有全部换完，旧密钥还在，资料都能打开", "not everything was sealed again; the old key is still there, and all can be opened"), a.t("再运行一次", "run it again"), err)
			}
			if _, err := next.Retire(k.keyFile); err != nil {
				return err
			}
			a.say("已用新密钥加密 %d 项，旧密钥已丢弃。请备份 %s。", "%d values are sealed with the new key, and the old one is gone. Back up %s.", n, k.keyFile)
			return nil
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	return cmd
}
