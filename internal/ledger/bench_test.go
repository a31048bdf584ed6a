package ledger

import (
	"testing"
)

func BenchmarkAppend1000(b *testing.B) {
	l := mustOpen(b, b.TempDir())
	batch := digests(0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := l.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}

func BenchmarkAppend1000Sync(b *testing.B) {
	l := mustOpen(b, b.TempDir())
	batch := digests(0, 1000)
	for b.Loop() {
		if _, _, err := l.Append(batch); err != nil {
			b.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}

func benchmarkProof(b *testing.B, next func(i uint64) uint64) {
	const size = 1_000_100
	l := mustOpen(b, b.TempDir())
	mustAppend(b, l, digests(0, size))
	var i uint64
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.InclusionProof(next(i)%size, size); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// Entry after entry, as receipts for a batch are made.
func BenchmarkInclusionProofInOrder(b *testing.B) {
	benchmarkProof(b, func(i uint64) uint64 { return 900_000 + i%60_000 })
}

// Anywhere: nearly every proof reads a tile that is not in the cache.
func BenchmarkInclusionProofAnywhere(b *testing.B) {
	benchmarkProof(b, func(i uint64) uint64 { return i * 7_368_787 })
}

func BenchmarkCheck(b *testing.B) {
	const size = 500_000
	l := mustOpen(b, b.TempDir())
	mustAppend(b, l, digests(0, size))
	for b.Loop() {
		if err := l.Check(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/entry")
}
