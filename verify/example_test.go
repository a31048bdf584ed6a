package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// A package is checked with the verifier's own policy. A pass needs both the
// verdict and an issuer that is established.
func Example() {
	alliance, err := testalliance.New("example", 4)
	if err != nil {
		log.Fatal(err)
	}
	li, err := alliance.Enrol("m:li", 2, false)
	if err != nil {
		log.Fatal(err)
	}
	trail, err := alliance.Open(li, testalliance.Step{Name: "保存网页", Objects: map[string][]byte{"page.html": []byte("<p>")}})
	if err != nil {
		log.Fatal(err)
	}
	content, err := alliance.Content(trail)
	if err != nil {
		log.Fatal(err)
	}
	pkg, err := content.Encode()
	if err != nil {
		log.Fatal(err)
	}

	report, err := verify.Check(context.Background(), bytes.NewReader(pkg), int64(len(pkg)), verify.Options{Policy: alliance.Policy})
	if err != nil {
		log.Fatal(err) // no readable package
	}
	fmt.Println(report.Verdict, report.IssuerEstablished)
	for _, step := range report.Steps {
		fmt.Println(step.N, step.Name, step.Who.Member, step.Time.NotBefore, step.Time.NotAfter, step.Verdict)
	}
	// Output:
	// matches true
	// 1 保存网页 m:li 2026-03-01T01:30:10Z 2026-03-01T01:30:20Z matches
}
