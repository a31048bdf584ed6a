//go:build unix

package sigbatch

import (
	stdlib "crypto/ed25519"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

const benchMessage = 350 // bytes, the usual length of a statement

// perSignature runs f, which checks n signatures, and reports the processor
// time of one. Unlike the time on the clock it leaves out what other programs
// took meanwhile.
func perSignature(b *testing.B, n int, f func()) {
	f() // caches and pools filled
	runs := 0
	before := processorTime(b)
	for b.Loop() {
		f()
		runs++
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(runs*n)/1000, "cpu-µs/sig")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkVerify(b *testing.B) {
	zip215 := &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}
	for _, size := range []int{64, 256, 1024, 4096} {
		for _, keys := range []int{64, 1 << 20} {
			name := fmt.Sprintf("n=%d/keys=%d", size, min(size, keys))
			if keys > size && size <= 64 {
				name += "-distinct"
			}
			items := signedItems(b, 1, size, keys, benchMessage)
			v := New(Config{Parallel: 1})
			cold := New(Config{Parallel: 1, KeyCache: -1})
			b.Run(name+"/warm", func(b *testing.B) {
				perSignature(b, size, func() {
					v.Verify(items)
				})
			})
			b.Run(name+"/nocache", func(b *testing.B) {
				perSignature(b, size, func() {
					cold.Verify(items)
				})
			})
			b.Run(name+"/voi-batch", func(b *testing.B) {
				perSignature(b, size, func() {
					bv := ed25519.NewBatchVerifierWithCapacity(size)
					if size > 90 {
						bv.ForceNoPublicKeyExpansion()
					}
					for i := range items {
						bv.AddWithOptions(items[i].Key[:], items[i].Message, items[i].Signature, zip215)
					}
					if !bv.VerifyBatchOnly(nil) {
						b.Fatal("batch refused")
					}
				})
			})
		}
	}
	items := signedItems(b, 1, 256, 64, benchMessage)
	b.Run("single/stdlib", func(b *testing.B) {
		perSignature(b, len(items), func() {
			for i := range items {
				stdlib.Verify(items[i].Key[:], items[i].Message, items[i].Signature)
			}
		})
	})
	b.Run("single/voi", func(b *testing.B) {
		perSignature(b, len(items), func() {
			for i := range items {
				ed25519.VerifyWithOptions(items[i].Key[:], items[i].Message, items[i].Signature, zip215)
			}
		})
	})
	b.Run("single/Single", func(b *testing.B) {
		perSignature(b, len(items), func() {
			for i := range items {
				Single(items[i].Key, items[i].Message, items[i].Signature)
			}
		})
	})
}

// BenchmarkSpoilt is the cost of batches with bad signatures in them, spread
// evenly.
func BenchmarkSpoilt(b *testing.B) {
	for _, keys := range []int{64, 1 << 20} {
		for _, size := range []int{1024, 4096} {
			for _, bad := range []int{0, 1, 4, 16, 64, 256, size} {
				items := signedItems(b, 1, size, keys, benchMessage)
				for i := range bad {
					items[i*size/bad].Message[0] ^= 1
				}
				v := New(Config{Parallel: 1})
				b.Run(fmt.Sprintf("n=%d/keys=%d/bad=%d", size, min(keys, size), bad), func(b *testing.B) {
					perSignature(b, size, func() {
						v.Verify(items)
					})
				})
			}
		}
	}
}
