package clienttest

import "github.com/transparency-dev/merkle/rfc6962"

func leafHash(entry []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(entry) }

func nodeHash(left, right []byte) []byte { return rfc6962.DefaultHasher.HashChildren(left, right) }
