package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// A platform deposits what it recorded. The founding document is pinned: its id
// came from the institution that enrolled the platform, on paper or by another
// channel than the network.
func Example() {
	data, err := os.ReadFile("alliance.json")
	if err != nil {
		return // the example needs an alliance to talk to
	}
	alliance, err := evidence.ParseAlliance(data)
	if err != nil {
		log.Fatal(err)
	}
	key, err := signing.Load("key.pem", nil)
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Config{Alliance: alliance, Signer: key})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	seen, err := c.Checkpoint(ctx) // the statement cannot be older than this
	if err != nil {
		log.Fatal(err)
	}
	manifest := []byte(`…`) // evidence.Manifest.Encode
	digest := evidence.SumSHA256(manifest)
	statement, err := evidence.Statement{
		Issuer: "m:platform", Subject: evidence.SubjectNewTrail, IssuedAt: time.Now().Unix(), ContentType: evidence.TypeDeposit,
		Payload: digest[:], ManifestSM3: evidence.SumSM3(manifest), After: seen.Checkpoint,
	}.Sign(key)
	if err != nil {
		log.Fatal(err)
	}
	// Keep statement.Bytes() before this: sending the same bytes again after a
	// crash gives the same position.
	final, err := c.Deposit(ctx, statement.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("position", final.Position, "witnessed by", len(final.Receipts))
}
