package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const (
	tileWidth = 256
	// immutable: a tile, partial ones too, never changes once it is served.
	immutable = "public, max-age=31536000, immutable"
	// The checkpoint grows with every block; a second spares the node without
	// making anybody wait.
	checkpointAge = "public, max-age=1"
)

func (s *Server) tileRoutes() {
	note := binaryAnswer("text/plain; charset=utf-8", "Signed note: origin, size and root, cosigned by the institutions (cosignature/v1)")
	s.handle(huma.Operation{OperationID: "get-checkpoint", Method: http.MethodGet, Path: "/checkpoint", Tags: []string{tagLog},
		Summary:     "The latest checkpoint of the public log",
		Description: "C2SP tlog-checkpoint over the largest size whose root a quorum of institutions signed. Count the cosignatures against your trust policy.",
		Responses:   note}, s.getCheckpoint)
	s.handle(huma.Operation{OperationID: "get-tile", Method: http.MethodGet, Path: "/tile/{level}/{index}", Tags: []string{tagLog},
		Summary:     "A Merkle tile of the public log",
		Description: "C2SP tlog-tiles: level 0 to 7; index in groups of three digits, all but the last with x before them (x001/234), followed by .p/1 to .p/255 for a partial tile. The slashes in the index are slashes in the address.",
		Parameters:  []*huma.Param{pathParam("level", "Level, without leading zeros"), pathParam("index", "Index, such as 067, x001/067 or 067.p/8")},
		Responses:   binaryAnswer("application/octet-stream", "Up to 256 hashes of 32 bytes"), Metadata: muxAt("/tile/{level}/{index...}")}, s.getTile)
	s.handle(huma.Operation{OperationID: "get-entries", Method: http.MethodGet, Path: "/tile/entries/{index}", Tags: []string{tagLog},
		Summary:     "A bundle of log entries",
		Description: "C2SP tlog-tiles entry bundle. An entry is the SHA-256 of a registered statement: it tells nothing of what was deposited.",
		Parameters:  []*huma.Param{pathParam("index", "Index, such as 067, x001/067 or 067.p/8")},
		Responses:   binaryAnswer("application/octet-stream", "Up to 256 entries, each 0x0020 and 32 bytes"), Metadata: muxAt("/tile/entries/{index...}")}, s.getEntries)
}

func (s *Server) getCheckpoint(w http.ResponseWriter, r *http.Request) error {
	c := s.node.Checkpoint()
	if c.Size == 0 && len(c.Cosignatures) == 0 {
		return fail(http.StatusNotFound, "not-found", "checkpoint", "no root is signed by a quorum yet")
	}
	s.writePublic(w, "text/plain; charset=utf-8", checkpointAge, c.Encode())
	return nil
}

func (s *Server) writePublic(w http.ResponseWriter, contentType, cache string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", cache)
	// For verifiers in a browser; nothing here depends on who asks.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func (s *Server) getTile(w http.ResponseWriter, r *http.Request) error {
	level, ok := parseTileLevel(r.PathValue("level"))
	index, width, okIndex := parseTileIndex(r.PathValue("index"))
	if !ok || !okIndex || !plainPath(r) || !s.hasTile(level, index, width) {
		return noTile()
	}
	tile, err := s.node.Tile(level, index, width)
	if err != nil {
		return err
	}
	s.writePublic(w, "application/octet-stream", immutable, tile)
	return nil
}

func (s *Server) getEntries(w http.ResponseWriter, r *http.Request) error {
	index, width, ok := parseTileIndex(r.PathValue("index"))
	if !ok || !plainPath(r) || !s.hasTile(0, index, width) {
		return noTile()
	}
	bundle, err := s.node.EntryBundle(index, width)
	if err != nil {
		return err
	}
	s.writePublic(w, "application/octet-stream", immutable, bundle)
	return nil
}

// noTile is 404 also for what no client would ask for: clients fall back from
// a partial to the full tile on 404 alone.
func noTile() *failure {
	return fail(http.StatusNotFound, "not-found", "tile", "the log has no such tile")
}

// plainPath refuses percent-encoding, so that a tile has one address in every
// cache.
func plainPath(r *http.Request) bool { return r.URL.EscapedPath() == r.URL.Path }

// hasTile reports whether the witnessed log has that much of the tile. Only a
// width that was or is the tile's own is needed by clients, but any smaller one
// is as true.
func (s *Server) hasTile(level uint, index uint64, width int) bool {
	if level > 7 { // 256^8 entries are more than fit 64 bits
		return false
	}
	count := s.node.Checkpoint().Size >> (8 * level)
	full := count / tileWidth
	return index < full || (index == full && uint64(width) <= count%tileWidth)
}

func parseTileLevel(v string) (uint, bool) {
	if len(v) == 0 || len(v) > 2 || (len(v) == 2 && v[0] == '0') {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, 8)
	return uint(n), err == nil && n <= 63
}

// parseTileIndex reads "x001/x234/067" or "x001/067.p/8"; width is 256 for a
// full tile. Six groups hold any index of a 63-bit tree's leaves.
func parseTileIndex(v string) (index uint64, width int, ok bool) {
	width = tileWidth
	if base, w, partial := strings.Cut(v, ".p/"); partial {
		if len(w) == 0 || len(w) > 3 || w[0] == '0' {
			return 0, 0, false
		}
		n, err := strconv.ParseUint(w, 10, 8) // at most 255
		if err != nil {
			return 0, 0, false
		}
		v, width = base, int(n)
	}
	groups := strings.Split(v, "/")
	if len(groups) > 6 {
		return 0, 0, false
	}
	for i, g := range groups {
		if i < len(groups)-1 {
			if g, ok = strings.CutPrefix(g, "x"); !ok {
				return 0, 0, false
			}
		}
		if len(g) != 3 || (i == 0 && len(groups) > 1 && g == "000") {
			return 0, 0, false
		}
		n, err := strconv.ParseUint(g, 10, 16) // takes digits alone
		if err != nil {
			return 0, 0, false
		}
		index = index*1000 + n
	}
	return index, width, true
}
