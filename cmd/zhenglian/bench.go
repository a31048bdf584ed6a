package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/bench"
)

func newBenchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: a.t("测量性能", "Measure performance"),
	}
	cmd.AddCommand(newBenchDeposit(a))
	return cmd
}

func newBenchDeposit(a *app) *cobra.Command {
	var c bench.Config
	var algorithm string
	var asJSON, keep bool
	cmd := &cobra.Command{
		Use:   "deposit [--validators N] [--seconds S] [OPTIONS]",
		Short: a.t("测量存证：从提交到最终确认", "Measure deposits, from submission until final"),
		Long: a.t(`在本机以独立进程启动一个联盟，用逐条签名的存证记录施压，报告每秒最终确认的数量、
延迟、每个节点每条的 CPU 与磁盘用量、内存峰值。记录事先签好；施压程序与各节点共用
本机。`,
			`Starts an alliance of processes on this machine, drives it with individually
signed deposits, and reports how many became final a second, the latency, CPU and
disk per deposit per validator, and peak memory. The statements are signed
beforehand; the driver shares the machine with the validators.`),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch algorithm {
			case "ed25519":
				c.Algorithm = evidence.EdDSA
			case "p256":
				c.Algorithm = evidence.ES256
			case "sm2":
				c.Algorithm = evidence.SM2SM3
			default:
				return usage(a.t("--algorithm 是 ed25519、p256 或 sm2，不是 %q", "--algorithm is ed25519, p256 or sm2, not %q", algorithm), "")
			}
			if c.Validators < 1 || c.Keys < 1 || c.Batch < 1 || c.Workers < 1 || c.Seconds <= 0 || c.Rate < 0 {
				return usage(a.t("数量和时间必须大于零", "counts and times must be above zero"), "")
			}
			if c.Binary, err = os.Executable(); err != nil {
				return err
			}
			if c.Dir, err = os.MkdirTemp("", "zhenglian-bench-"); err != nil {
				return err
			}
			if keep {
				a.benchProgress("%s", c.Dir)
			} else {
				defer func() { _ = os.RemoveAll(c.Dir) }()
			}
			c.Progress = a.benchProgress
			r, err := bench.Deposit(cmd.Context(), c)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(a.out)
				enc.SetIndent("", "  ")
				return enc.Encode(r)
			}
			a.benchTable(r)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Validators, "validators", 4, a.t("节点数 `N`", "validators `N`"))
	f.Float64Var(&c.Seconds, "seconds", 10, a.t("测量 `S` 秒", "measure for `S` seconds"))
	f.IntVar(&c.Keys, "keys", 64, a.t("不同的签名密钥数 `N`", "`N` distinct keys"))
	f.IntVar(&c.Batch, "batch", 1000, a.t("每个请求的记录数 `N`", "`N` statements a request"))
	f.IntVar(&c.Workers, "workers", 32, a.t("同时的请求数 `N`", "`N` requests at once"))
	f.Float64Var(&c.Rate, "rate", 0, a.t("开环：每秒 `R` 条；0 为尽快", "open loop, `R` statements a second; 0 is as fast as it goes"))
	f.StringVar(&algorithm, "algorithm", "ed25519", a.t("签名算法：ed25519、p256 或 sm2", "ed25519, p256 or sm2"))
	f.StringVar(&c.Profile, "profile", "", a.t("把第一个节点的 CPU 剖析写到 `FILE`", "write a CPU profile of the first validator to `FILE`"))
	f.BoolVar(&asJSON, "json", false, a.t("输出 JSON", "print JSON"))
	f.BoolVar(&keep, "keep", false, a.t("保留联盟的目录", "keep the alliance's directory"))
	return cmd
}

// progress goes to standard error, so that results can be piped.
func (a *app) benchProgress(format string, args ...any) {
	fmt.Fprintf(a.err, "… "+format+"\n", args...)
}

func (a *app) benchTable(r *bench.Result) {
	c := r.Conditions
	a.fields(
		a.t("最终确认/秒", "final a second"), fmt.Sprintf("%.0f", r.FinalisedPerSecond),
		a.t("延迟 p50 / p99", "latency p50 / p99"), fmt.Sprintf("%.1f / %.1f ms", r.P50ms, r.P99ms),
		a.t("单条延迟 p50 / p99", "lone deposit p50 / p99"), fmt.Sprintf("%.1f / %.1f ms", r.LoneP50ms, r.LoneP99ms),
		a.t("CPU/条/节点", "CPU a deposit a validator"), fmt.Sprintf("%.1f µs", r.CPUMicros),
		a.t("磁盘/条/节点", "disk a deposit a validator"), fmt.Sprintf("%.0f B", r.DiskBytes),
		a.t("内存峰值", "peak memory"), fmt.Sprintf("%.0f MiB", float64(r.PeakRSS)/(1<<20)),
		a.t("最终确认总数", "final in all"), fmt.Sprintf("%d / %.1f s, %d blocks", r.Finalised, r.MeasuredFor, r.Blocks),
		a.t("未被接受", "refused"), fmt.Sprint(r.Refused),
		a.t("施压程序 CPU/条", "driver's CPU a deposit"), fmt.Sprintf("%.1f µs", r.DriverMicros),
		a.t("条件", "conditions"), fmt.Sprintf("%d validators, %d keys, %s, %d B, batch %d, workers %d, rate %g, %d CPUs (%s), %s, load %s",
			c.Validators, c.Keys, c.Algorithm, r.StatementSize, c.Batch, c.Workers, c.Rate, c.CPUs, c.CPU, c.Go, c.LoadBefore),
	)
}
