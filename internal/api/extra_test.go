package api

import (
	"bytes"
	"mime/multipart"
	"testing"

	"github.com/zhenglian/zhenglian/internal/chain"
)

var errDiskFull, errStopping = chain.ErrDiskFull, chain.ErrStopping

func multipartBody(t *testing.T, nameAndBytes ...any) ([]byte, string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i := 0; i < len(nameAndBytes); i += 2 {
		p, err := m.CreateFormField(nameAndBytes[i].(string))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write(nameAndBytes[i+1].([]byte)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), m.FormDataContentType()
}
