package recording_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// record is one as a writer would write it, with the fields that each case sets.
func record(block string, fields ...string) []byte {
	sum := evidence.SumSHA256([]byte(block))
	m := map[string]string{"WARC-Type": "resource", "WARC-Record-ID": "<urn:x>", "WARC-Date": "2026-11-22T15:05:38Z", "WARC-Target-URI": "http://a/", "WARC-Block-Digest": "sha256:" + sum.String(),
		"Content-Length": fmt.Sprint(len(block))}
	order := []string{"WARC-Type", "WARC-Record-ID", "WARC-Date", "WARC-Target-URI", "WARC-Block-Digest", "Content-Length"}
	for i := 0; i+1 < len(fields); i += 2 {
		if _, known := m[fields[i]]; !known {
			order = append(order, fields[i])
		}
		m[fields[i]] = fields[i+1]
	}
	var b strings.Builder
	b.WriteString("WARC/1.1\r\n")
	for _, name := range order {
		if m[name] != "" {
			b.WriteString(name + ": " + m[name] + "\r\n")
		}
	}
	return []byte(b.String() + "\r\n" + block + "\r\n\r\n")
}

func TestWARCFaults(t *testing.T) {
	good := record("content")
	whole := gzipped(good)
	flip := bytes.Clone(whole)
	flip[len(flip)-3] ^= 1
	for name, tc := range map[string]struct {
		file []byte
		code string // "" for a record that is read
		soft string // fault of one that is read
	}{
		"good":                 {whole, "", ""},
		"base32":               {gzipped(record("", "WARC-Block-Digest", "sha256:4OYMIQUY7QOBJGX36TEJS35ZEQT24QPEMSNZGTFESWMRW6CSXBKQ====")), "", ""},
		"other block":          {gzipped(bytes.Replace(good, []byte("content"), []byte("cOntent"), 1)), "", "block-digest"},
		"other payload":        {gzipped(record("HTTP/1.1 200 OK\r\n\r\nabc", "WARC-Type", "response", "WARC-Payload-Digest", "sha256:"+evidence.SumSHA256([]byte("abd")).String())), "", "payload-digest"},
		"sha1":                 {gzipped(record("x", "WARC-Block-Digest", "sha1:AAAA")), "", "block-digest"},
		"no HTTP":              {gzipped(record("HTTP/1.1", "WARC-Type", "response")), "", "http"},
		"chunks cut":           {gzipped(record("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "WARC-Type", "response")), "", "http"},
		"chunks cut, and said": {gzipped(record("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "WARC-Type", "response", "WARC-Truncated", "disconnect")), "", ""},
		"an answer to HEAD":    {gzipped(record("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "WARC-Type", "response")), "", ""},
		"after the chunks":     {gzipped(record("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", "WARC-Type", "response")), "", "http"},
		"checksum":             {flip, "gzip", ""},
		"cut off":              {whole[:len(whole)-9], "gzip", ""},
		"no gzip":              {good, "gzip", ""},
		"two in one member":    {gzipped(append(bytes.Clone(good), good...)), "end", ""},
		"version 1.0":          {gzipped(bytes.Replace(good, []byte("WARC/1.1"), []byte("WARC/1.0"), 1)), "version", ""},
		"no digest":            {gzipped(record("x", "WARC-Block-Digest", "")), "block-digest", ""},
		"no date":              {gzipped(record("x", "WARC-Date", "")), "date", ""},
		"no target":            {gzipped(record("x", "WARC-Target-URI", "")), "target", ""},
		"no id":                {gzipped(record("x", "WARC-Record-ID", "")), "record-id", ""},
		"another type":         {gzipped(record("x", "WARC-Type", "conversion")), "type", ""},
		"a length of +7":       {gzipped(record("content", "Content-Length", "+7")), "length", ""},
		"a length too large":   {gzipped(record("content", "Content-Length", "4000000")), "length", ""},
		"a length too small":   {gzipped(record("content", "Content-Length", "3")), "end", ""},
		"a field twice":        {gzipped(bytes.Replace(good, []byte("WARC-Date"), []byte("warc-type: resource\r\nWARC-Date"), 1)), "form", ""},
		"bare LF":              {gzipped(bytes.Replace(good, []byte("resource\r\n"), []byte("resource\n"), 1)), "form", ""},
		"a record twice":       {append(bytes.Clone(whole), whole...), "record-id", ""},
		"endless fields":       {gzipped(append([]byte("WARC/1.1\r\nX: "), bytes.Repeat([]byte("x"), 1<<20)...)), "too-large", ""},
	} {
		r := recording.NewWARCReader(bytes.NewReader(tc.file))
		var err error
		soft := ""
		for err == nil {
			var rec *recording.Record
			if rec, err = r.Next(); err == nil && len(rec.Faults) > 0 {
				soft = rec.Faults[0].Code
			}
		}
		var bad *recording.WARCError
		if errors.As(err, &bad) != (tc.code != "") || bad != nil && bad.Code != tc.code || bad == nil && err != io.EOF || soft != tc.soft {
			t.Errorf("%s: %v %q, want %q %q", name, err, soft, tc.code, tc.soft)
		}
	}
}

func TestRecordID(t *testing.T) {
	s := evidence.SumSHA256([]byte("session"))
	a, b, c := recording.RecordID(s, 1, "response"), recording.RecordID(s, 1, "request"), recording.RecordID(s, 12, "response")
	if a == b || a == c || len(a) != len("urn:uuid:")+36 || a[len("urn:uuid:")+14] != '8' || !strings.ContainsRune("89ab", rune(a[len("urn:uuid:")+19])) {
		t.Errorf("%s %s %s", a, b, c)
	}
}

func TestArchiveFaults(t *testing.T) {
	r := whole(t)
	open := func(data []byte) (string, error) {
		a, err := recording.OpenArchive(bytes.NewReader(data), int64(len(data)))
		var bad *recording.ArchiveError
		if errors.As(err, &bad) {
			return bad.Path + " " + bad.Code, nil
		}
		if err != nil {
			return "", err
		}
		faults, err := a.Check(nil)
		if err != nil || len(faults) == 0 {
			return "", err
		}
		return faults[0].Path + " " + faults[0].Code, nil
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"as it is", "", "", ""},
		{"index", "example,works)/ 2026", "example,works)/ 2025", "indexes/index.cdxj crc"},
		{"list", "\"wacz_version\": \"1.1.1\"", "\"wacz_version\": \"1.2.0\"", "datapackage.json crc"},
		{"no zip", "PK\x05\x06", "PK\x05\x07", " zip"},
	} {
		got, err := open(bytes.Replace(r.WACZ, []byte(tc.old), []byte(tc.new), 1))
		if err != nil || got != tc.want {
			t.Errorf("%s: %q %v, want %q", tc.name, got, err, tc.want)
		}
	}
}
