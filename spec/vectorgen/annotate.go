package main

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// annotate writes CBOR as one line an item, hexadecimal first and its meaning
// in diagnostic notation (RFC 8949 §8) after "#". names explains map labels,
// by their path. Byte strings named in inner hold CBOR themselves.
type annotator struct {
	data  []byte
	pos   int
	out   strings.Builder
	names map[string]string
	inner map[string]bool
}

func annotate(data []byte, names map[string]string, inner map[string]bool) string {
	a := &annotator{data: data, names: names, inner: inner}
	a.item(0, "", "")
	return a.out.String()
}

func (a *annotator) head() (major byte, n uint64, raw []byte) {
	start := a.pos
	b := a.data[a.pos]
	a.pos++
	if info := b & 31; info < 24 {
		n = uint64(info)
	} else {
		for range 1 << (info - 24) {
			n = n<<8 | uint64(a.data[a.pos])
			a.pos++
		}
	}
	return b >> 5, n, a.data[start:a.pos]
}

func (a *annotator) line(depth int, raw []byte, text string) {
	const width = 24
	for i := 0; ; i += width {
		end := min(i+width, len(raw))
		h := strings.Repeat("  ", depth) + hex.EncodeToString(raw[i:end])
		if i == 0 {
			fmt.Fprintf(&a.out, "%-64s # %s\n", h, text)
		} else {
			fmt.Fprintln(&a.out, h)
		}
		if end == len(raw) {
			return
		}
	}
}

// item writes one item; label is what stands before it in a map.
func (a *annotator) item(depth int, path, label string) {
	major, n, raw := a.head()
	switch major {
	case 0:
		a.line(depth, raw, label+fmt.Sprint(n))
	case 1:
		a.line(depth, raw, label+fmt.Sprint(-1-int64(n)))
	case 2, 3:
		body := a.data[a.pos : a.pos+int(n)]
		if a.inner[path] {
			a.line(depth, raw, fmt.Sprintf("%sbstr of %d bytes, in it:", label, n))
			end := a.pos + int(n)
			a.item(depth+1, path, "")
			if a.pos != end {
				panic("the inner item has another length")
			}
			return
		}
		a.pos += int(n)
		if major == 3 {
			a.line(depth, raw, fmt.Sprintf("%stext of %d bytes", label, n))
			a.line(depth+1, body, fmt.Sprintf("%q", body))
			return
		}
		a.line(depth, raw, fmt.Sprintf("%sbstr of %d bytes", label, n))
		if n > 0 {
			a.line(depth+1, body, "h'"+hex.EncodeToString(body[:min(4, len(body))])+"…'")
		}
	case 4:
		a.line(depth, raw, fmt.Sprintf("%sarray of %d", label, n))
		for i := range n {
			sub := fmt.Sprintf("%s[%d]", path, i)
			label := ""
			if name := a.names[sub]; name != "" {
				label = name + ": "
			}
			a.item(depth+1, sub, label)
		}
	case 5:
		a.line(depth, raw, fmt.Sprintf("%smap of %d", label, n))
		for range n {
			km, kn, kraw := a.head()
			k := int64(kn)
			if km == 1 {
				k = -1 - k
			}
			sub := fmt.Sprintf("%s.%d", path, k)
			a.line(depth+1, kraw, fmt.Sprintf("%d (%s):", k, a.names[sub]))
			a.item(depth+2, sub, "")
		}
	case 6:
		a.line(depth, raw, fmt.Sprintf("tag %d", n))
		a.item(depth+1, path, label)
	default:
		a.line(depth, raw, label+"null")
	}
}

func statementNames() map[string]string {
	return map[string]string{"[0]": "protected", "[1]": "unprotected", "[2]": "payload", "[3]": "signature",
		"[0].1": "alg", "[0].3": "content type", "[0].4": "kid", "[0].15": "CWT claims", "[0].15.1": "iss", "[0].15.2": "sub", "[0].15.6": "iat",
		"[0].258": "payload hash", "[0].259": "preimage content type", "[0].-70001": "prev", "[0].-70002": "after", "[0].-70002[0]": "size", "[0].-70002[1]": "root", "[0].-70003": "sm3",
		"[0].395": "vds", "[0].-70004": "tree-size", "[1].396": "vdp", "[1].396.-1": "inclusion", "[1].396.-1[0][0]": "tree size", "[1].396.-1[0][1]": "leaf index", "[1].396.-1[0][2]": "path",
		"[2].1": "kid", "[2].2": "rights"}
}

func annotateStatement(data []byte, envelope bool) string {
	return annotate(data, statementNames(), map[string]bool{"[0]": true, "[2]": !envelope})
}

func annotateReceipt(data []byte) string {
	return annotate(data, statementNames(), map[string]bool{"[0]": true, "[1].396.-1[0]": true})
}
