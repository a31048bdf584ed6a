package client

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/evidence"
)

// tileHeight is that of the public log's tiles (C2SP tlog-tiles).
const tileHeight = 8

// RootAt computes the root that the log had at a size from the tiles of the
// tree given, which the caller trusts: every tile is proven to belong to it.
func (c *Client) RootAt(ctx context.Context, tree evidence.Checkpoint, size uint64) (evidence.Digest, error) {
	switch {
	case size > tree.Size:
		return evidence.Digest{}, fmt.Errorf("the log has %d entries, its root at %d is not known yet", tree.Size, size)
	case size == tree.Size:
		return tree.Root, nil
	case size == 0:
		return sha256.Sum256(nil), nil // RFC 9162 §2.1.1
	}
	hashes := tlog.TileHashReader(tlog.Tree{N: int64(tree.Size), Hash: tlog.Hash(tree.Root)}, &tileReader{ctx, c})
	root, err := tlog.TreeHash(int64(size), hashes)
	if err != nil {
		return evidence.Digest{}, fmt.Errorf("computing the root of size %d: %w", size, err)
	}
	return evidence.Digest(root), nil
}

// tileReader fetches tiles from any institution; tlog proves them.
type tileReader struct {
	ctx context.Context
	c   *Client
}

func (r *tileReader) Height() int { return tileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, t := range tiles {
		want := t.W * tlog.HashSize
		// tlog names the height, tlog-tiles has only one.
		path := "/" + strings.Replace(t.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
		a, err := r.c.anyNode(r.ctx, request{method: http.MethodGet, path: path, accept: "application/octet-stream"}, func(a *answer) error {
			if len(a.body) != want {
				return fmt.Errorf("tile %s has %d bytes, want %d", path, len(a.body), want)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("fetching tile %s: %w", path, err)
		}
		all[i] = a.body
	}
	return all, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
