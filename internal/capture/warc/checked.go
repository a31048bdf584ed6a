package warc

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/zhenglian/zhenglian/evidence"
)

// checked is a blob that ends with an error when its bytes are not those that
// were named.
type checked struct {
	io.Closer
	r    io.Reader
	sum  hash.Hash
	n    int64
	want evidence.Digest
	size int64
}

func newChecked(r io.ReadCloser, want evidence.Digest, size int64) *checked {
	return &checked{Closer: r, r: r, sum: sha256.New(), want: want, size: size}
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	c.n += int64(n)
	if err == io.EOF {
		if got := evidence.Digest(c.sum.Sum(nil)); got != c.want || c.n != c.size {
			return n, fmt.Errorf("blob %s has %d bytes with the digest %s: it was altered on disk, or is not whole", c.want, c.n, got)
		}
	}
	return n, err
}
