//go:build !cgo

package main

import (
	"errors"

	"github.com/zhenglian/zhenglian/internal/signing"
)

func openToken(*signing.TokenRequest) (token, error) {
	return nil, &codedError{signing.TokenNoProgram, errors.New("zhenglian-token was built without cgo and can load no PKCS#11 library: build it with CGO_ENABLED=1 and a C compiler")}
}
