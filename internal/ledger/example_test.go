package ledger_test

import (
	"fmt"
	"log"
	"os"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/ledger"
)

// A batch is committed, appended and synced; later someone asks for the proof
// that one of its statements is in the log.
func Example() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := ledger.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	size, root, err := l.Append([]evidence.Digest{
		evidence.SumSHA256([]byte("statement 1")),
		evidence.SumSHA256([]byte("statement 2")),
		evidence.SumSHA256([]byte("statement 3")),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		log.Fatal(err)
	}

	path, err := l.InclusionProof(1, size)
	if err != nil {
		log.Fatal(err)
	}
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	entry := evidence.SumSHA256([]byte("statement 2"))
	leaf := rfc6962.DefaultHasher.HashLeaf(entry[:])
	err = proof.VerifyInclusion(rfc6962.DefaultHasher, 1, size, leaf, hashes, root[:])
	fmt.Println(size, len(path), err)
	// Output: 3 2 <nil>
}
