// Package gbtest makes identity numbers and social credit codes for tests. They
// are well formed and belong to nobody: their region is 119999, a code that
// GB/T 2260 does not give to any place.
package gbtest

import (
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity/gb"
)

// Region is the place of every number made here. There is no such place.
const Region = "119999"

// IDNumber makes a number with this birth date, 1900-01-01 to today, and a
// sequence of 0 to 999 (odd: male). The same arguments make the same number.
func IDNumber(year int, month time.Month, day, sequence int) gb.IDNumber {
	head := fmt.Sprintf("%s%04d%02d%02d%03d", Region, year, month, day, sequence%1000)
	// The check character is asked of the parser: its arithmetic is tested
	// against the standard's own examples.
	for _, c := range "0123456789X" {
		if id, err := gb.ParseIDNumber(head+string(c), time.Now()); err == nil {
			return id
		}
	}
	panic("gbtest: no number has this birth date")
}

// USCC makes the code of an enterprise at market regulation; sequence is 0 to
// 9999999.
func USCC(sequence int) gb.USCC {
	const alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
	for _, c := range "0123456789X" {
		head := fmt.Sprintf("91%sT%07d%c", Region, sequence%10000000, c)
		for _, d := range alphabet {
			if u, err := gb.ParseUSCC(head + string(d)); err == nil {
				return u
			}
		}
	}
	panic("gbtest: no check characters: the parser is wrong")
}
