package main

import (
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const (
		passes = `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"--- PASS\n"}
{"Action":"pass","Package":"a","Test":"TestX"}
{"Action":"skip","Package":"a","Test":"TestY"}
{"Action":"pass","Package":"a","Elapsed":1.5}
`
		fails = `{"Action":"output","Package":"b","Test":"TestZ","Output":"z.go:1: wrong\n"}
{"Action":"fail","Package":"b","Test":"TestZ"}
{"Action":"fail","Package":"b"}
`
		build = `{"ImportPath":"c","Action":"build-output","Output":"c.go:1: undefined: x\n"}
{"Action":"fail","Package":"c","FailedBuild":"c"}
`
	)
	for _, test := range []struct {
		name, in string
		want     counts
		says     string
	}{
		{"passes", passes, counts{1, 0, 1}, "ok\ta\t1.5s\t1 tests"},
		{"fails", passes + fails, counts{1, 1, 1}, "z.go:1: wrong"},
		{"not built", build, counts{0, 1, 0}, "undefined: x"},
		{"ended early", strings.Join(strings.SplitAfter(passes, "\n")[:3], ""), counts{1, 1, 0}, "ended early"},
		{"the go command's words", "FAIL\tno such package\n", counts{0, 1, 0}, "no such package"},
		{"nothing", "", counts{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			got, err := read(strings.NewReader(test.in), &out)
			if err != nil || got != test.want {
				t.Errorf("counts %+v, %v; want %+v", got, err, test.want)
			}
			if !strings.Contains(out.String(), test.says) {
				t.Errorf("it does not say %q:\n%s", test.says, out.String())
			}
		})
	}
}
