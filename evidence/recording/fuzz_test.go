package recording_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// What is read as an event is written again as the same bytes.
func FuzzEvent(f *testing.F) {
	for line := range bytes.Lines(whole(f).Log.Bytes()) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := recording.ParseEvent(data)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is written as %q: %v", data, again, err)
		}
	})
}

// A log ends, with an error of the two sorts or without, and counts its events.
func FuzzLog(f *testing.F) {
	log := whole(f).Log.Bytes()
	f.Add(log)
	f.Add(log[:len(log)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		events, chain, err := readAll(data)
		var bad *recording.EventError
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("%v", err)
		}
		if int64(len(events)) != chain.Next {
			t.Errorf("%d events, the chain has %d", len(events), chain.Next)
		}
	})
}

func warcOf(t testing.TB, wacz []byte) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(wacz), int64(len(wacz)))
	must(t, err)
	r, err := z.Open("archive/data.warc.gz")
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, err)
	return data
}

func FuzzWARC(f *testing.F) {
	data := warcOf(f, whole(f).WACZ)
	f.Add(data)
	f.Add(gzipped([]byte("WARC/1.1\r\nWARC-Type: response\r\n\r\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := recording.NewWARCReader(bytes.NewReader(data))
		r.Keep = func(*recording.Record) int64 { return 1 << 16 }
		for {
			rec, err := r.Next()
			if err != nil {
				var bad *recording.WARCError
				if err != io.EOF && !errors.As(err, &bad) {
					t.Errorf("%v", err)
				}
				return
			}
			if rec.Content != nil && evidence.SumSHA256(rec.Content) != rec.Block {
				t.Errorf("record %d: the block has another digest than the record", rec.Number)
			}
		}
	})
}

// FuzzRecord is FuzzWARC below the compression.
func FuzzRecord(f *testing.F) {
	z, err := gzip.NewReader(bytes.NewReader(warcOf(f, whole(f).WACZ)))
	must(f, err)
	for {
		z.Multistream(false)
		data, err := io.ReadAll(z)
		must(f, err)
		f.Add(data)
		break
	}
	f.Add([]byte("WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <a>\r\nWARC-Date: 2026-11-22T15:05:38Z\r\nWARC-Target-URI: http://a/\r\nWARC-Block-Digest: sha256:x\r\n" +
		"Content-Length: 58\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := recording.NewWARCReader(bytes.NewReader(gzipped(data)))
		for {
			rec, err := r.Next()
			if err != nil {
				return
			}
			if rec.HTTP != nil && rec.Head.Size+rec.Payload.Size+rec.Framing.Size > rec.Size {
				t.Errorf("head %d, payload %d and framing %d of a block of %d bytes", rec.Head.Size, rec.Payload.Size, rec.Framing.Size, rec.Size)
			}
		}
	})
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func FuzzVideo(f *testing.F) {
	f.Add(written(f, pictures(f, 2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := frames(data)
		var bad *recording.VideoError
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("%v", err)
		}
		n := 0
		for _, f := range got {
			n += len(f)
		}
		if n > len(data) {
			t.Errorf("%d bytes of frames in a file of %d", n, len(data))
		}
	})
}

func FuzzArchive(f *testing.F) {
	f.Add(whole(f).WACZ)
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := recording.OpenArchive(bytes.NewReader(data), int64(len(data)))
		var bad *recording.ArchiveError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Errorf("%v", err)
			}
			return
		}
		if _, err := a.Check(nil); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func FuzzReassemble(f *testing.F) {
	f.Add([]byte("abc"), []byte("3\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, body, framing []byte) {
		var out bytes.Buffer
		if err := recording.Reassemble(&out, bytes.NewReader(body), bytes.NewReader(framing)); err == nil && out.Len() > len(body)+len(framing) {
			t.Errorf("%d bytes of %d and %d", out.Len(), len(body), len(framing))
		}
	})
}

func FuzzHTTPHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := recording.ParseHTTPHead(data); err == nil && h.Status != 0 && (h.Status < 100 || h.Status > 999) {
			t.Errorf("status %d", h.Status)
		}
	})
}
