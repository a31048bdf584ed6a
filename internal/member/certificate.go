package member

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// maxCertificateFile is what a package takes as one file.
const maxCertificateFile = 64 << 10

// certificates reads her certificates out of the home: certificate.pem, and
// older ones as certificate*.pem, each the key's own first and those of the
// authorities between it and the root after it. They are found by the digest of
// the key's own in DER. A home need not have any.
func (h *Home) certificates() (map[evidence.Digest][]byte, error) {
	files, err := os.ReadDir(h.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("looking for certificates: %w", err)
	}
	chains := map[evidence.Digest][]byte{}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), "certificate") || !strings.HasSuffix(f.Name(), ".pem") {
			continue
		}
		name := filepath.Join(h.config.Dir, f.Name())
		data, err := readLimited(name, maxCertificateFile)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate of the home: %w", err)
		}
		certs, err := evidence.ParseCertificateChain(data)
		if err != nil {
			return nil, fmt.Errorf("%s is no certificate as the institution issues them, in PEM: %w; fetch it again, or move the file away", name, err)
		}
		chains[evidence.SumSHA256(certs[0].Raw)] = data
	}
	return chains, nil
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, err
}
