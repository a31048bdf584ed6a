package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	memberhome "github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// meterFrom is the size in bytes from which a file gets a bar: below it, hashing
// and encrypting take less than a person sees.
const meterFrom = 32 << 20

// meter shows how far the files are: bars at a terminal, plain lines elsewhere.
type meter struct {
	a       *app
	sources []memberhome.Source
	bars    *mpb.Progress // nil away from a terminal
	bar     *mpb.Bar      // of the file in hand, if it is large
	ended   bool
}

func (a *app) newMeter(sources []memberhome.Source) *meter {
	m := &meter{a: a, sources: sources}
	if isTerminal(a.err) {
		m.bars = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40))
	}
	return m
}

func (m *meter) progress(i int, done int64) {
	src := m.sources[i]
	if m.bars == nil || src.Size < meterFrom {
		return
	}
	if m.bar == nil {
		m.bar = m.bars.AddBar(src.Size,
			mpb.PrependDecorators(decor.Name(shortenTo(src.Name, 30)+" "), decor.CountersKibiByte("% .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
	}
	m.bar.SetCurrent(done)
}

func (m *meter) kept(i int, o vault.Object) {
	if m.bar != nil {
		m.bar.SetTotal(o.Size, true)
		m.bar.Wait()
		m.bar = nil
	}
	if m.bars == nil {
		m.a.progress("已加密保管 %s（%s）", "Kept, encrypted: %s (%s)", m.sources[i].Name, bytesText(o.Size))
	}
}

// done ends the bars; what was not finished is left as it is.
func (m *meter) done() {
	if m.ended || m.bars == nil {
		return
	}
	m.ended = true
	if m.bar != nil {
		m.bar.Abort(false)
		m.bar = nil
	}
	m.bars.Wait()
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
