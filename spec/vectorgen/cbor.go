package main

import "encoding/binary"

// A CBOR writer of its own, so that the vectors do not come from the code they
// test. It writes what it is told, also what is forbidden.

func head(major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return []byte{m | byte(n)}
	case n < 1<<8:
		return []byte{m | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{m | 25}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{m | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{m | 27}, n)
}

func num(v int64) []byte {
	if v < 0 {
		return head(1, uint64(-1-v))
	}
	return head(0, uint64(v))
}

func bstr(v []byte) []byte { return cat(head(2, uint64(len(v))), v) }
func tstr(v string) []byte { return cat(head(3, uint64(len(v))), []byte(v)) }

func array(items ...[]byte) []byte {
	return cat(head(4, uint64(len(items))), cat(items...))
}

func cat(parts ...[]byte) []byte {
	out := []byte{}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// pair is one entry of a map; the label is encoded already.
type pair struct{ label, value []byte }

// fields is a map in the order it is written in.
type fields []pair

func (f fields) encode() []byte {
	out := head(5, uint64(len(f)))
	for _, p := range f {
		out = cat(out, p.label, p.value)
	}
	return out
}

func (f fields) find(label int64) int {
	for i, p := range f {
		if string(p.label) == string(num(label)) {
			return i
		}
	}
	panic("the vector has no such label")
}

// with replaces the value of a label.
func (f fields) with(label int64, value []byte) fields {
	out := append(fields{}, f...)
	out[out.find(label)].value = value
	return out
}

// as replaces the encoding of a label.
func (f fields) as(label int64, enc []byte) fields {
	out := append(fields{}, f...)
	out[out.find(label)].label = enc
	return out
}

// without leaves a label out.
func (f fields) without(label int64) fields {
	i := f.find(label)
	return append(append(fields{}, f[:i]...), f[i+1:]...)
}

// add inserts an entry before the given label, or at the end for label 0.
func (f fields) add(before int64, label, value []byte) fields {
	i := len(f)
	if before != 0 {
		i = f.find(before)
	}
	out := append(append(fields{}, f[:i]...), pair{label, value})
	return append(out, f[i:]...)
}

// swap exchanges two entries.
func (f fields) swap(a, b int64) fields {
	out := append(fields{}, f...)
	i, j := out.find(a), out.find(b)
	out[i], out[j] = out[j], out[i]
	return out
}

// sign1 is a tagged COSE_Sign1 with the parts as they are given.
func sign1(protected, unprotected, payload, signature []byte) []byte {
	return cat([]byte{0xd2, 0x84}, bstr(protected), unprotected, payload, bstr(signature))
}

// sigStructure is RFC 9052 §4.4.
func sigStructure(protected, payload []byte) []byte {
	return array(tstr("Signature1"), bstr(protected), bstr(nil), bstr(payload))
}
