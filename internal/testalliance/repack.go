package testalliance

import (
	"bytes"
	"io"

	"github.com/zhenglian/zhenglian/evidence"
)

// Repack opens a package, lets alter change files and index as it likes, brings
// sizes and digests in the index up to date, and packs again: what somebody who
// knows the format would hand in. alter may set a file to nil to drop it.
func Repack(pkg []byte, alter func(ix *evidence.Index, files map[string][]byte)) ([]byte, error) {
	p, err := evidence.OpenPackage(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return nil, err
	}
	ix := p.Index
	files := map[string][]byte{}
	for _, f := range ix.Files {
		r, err := p.File(f.Path)
		if err != nil {
			return nil, err
		}
		if files[f.Path], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
	alter(&ix, files)
	out := &evidence.MemoryFile{}
	w := evidence.NewContainerWriter(out)
	kept := ix.Files[:0:0]
	for _, f := range ix.Files {
		data := files[f.Path]
		if data == nil {
			continue
		}
		f.Size, f.SHA256, f.SM3 = int64(len(data)), evidence.SumSHA256(data), evidence.SumSM3(data)
		kept = append(kept, f)
		if err := w.AddBytes(f.Path, data); err != nil {
			return nil, err
		}
	}
	ix.Files = kept
	byPath := map[string]evidence.Digest{}
	for _, f := range kept {
		byPath[f.Path] = f.SHA256
	}
	for i := range ix.Steps {
		for j := range ix.Steps[i].Objects {
			o := &ix.Steps[i].Objects[j]
			if d, ok := byPath[o.Path]; ok {
				o.SHA256 = d
			}
		}
	}
	data, err := evidence.MarshalCanonical(&ix)
	if err != nil {
		return nil, err
	}
	if err := w.AddBytes("index.json", data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
