package warc_test

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/testrecording"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func whole(t testing.TB, key *ecdsa.PrivateKey) *testrecording.Recording {
	t.Helper()
	c := testrecording.Example()
	c.Key = key
	r, _, err := testrecording.Whole(c)
	must(t, err)
	return r
}

func entries(t testing.TB, wacz []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(wacz), int64(len(wacz)))
	must(t, err)
	out := map[string][]byte{}
	for _, f := range z.File {
		if f.Method != zip.Store {
			t.Errorf("%s is compressed", f.Name)
		}
		r, err := f.Open()
		must(t, err)
		out[f.Name], err = io.ReadAll(r)
		must(t, err)
	}
	return out
}

func records(t testing.TB, data []byte) []*recording.Record {
	t.Helper()
	r := recording.NewWARCReader(bytes.NewReader(data))
	r.Keep = func(*recording.Record) int64 { return 1 << 20 }
	var out []*recording.Record
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return out
		}
		must(t, err)
		for _, f := range rec.Faults {
			t.Errorf("%s %s: %v", rec.Type, rec.URI, f)
		}
		out = append(out, rec)
	}
}

// What the proxy heard is in the records, byte for byte.
func TestRecords(t *testing.T) {
	rec := whole(t, nil)
	got := records(t, entries(t, rec.WACZ)["archive/data.warc.gz"])
	byID := map[string]*recording.Record{}
	kinds := map[string]int{}
	for _, r := range got {
		byID[r.ID] = r
		kinds[r.Type]++
	}
	if kinds["warcinfo"] != 1 || kinds["response"] != 7 || kinds["revisit"] != 1 || kinds["request"] != 9 || kinds["metadata"] != 9 || kinds["resource"] != 4 {
		t.Errorf("records: %v", kinds)
	}
	for _, e := range rec.Exchanges {
		id := func(kind string) *recording.Record {
			return byID[recording.RecordID(testrecording.Example().Session, int64(e.ID), kind)]
		}
		if e.ResponseHead == nil {
			if id("response") != nil {
				t.Errorf("%s has a response record", e.URL)
			}
		} else {
			r := id("response")
			if r == nil {
				t.Fatalf("%s has no response record", e.URL)
			}
			if r.Head.SHA256 != evidence.SumSHA256(e.ResponseHead) {
				t.Errorf("%s: the head is another", e.URL)
			}
			if r.Type == "response" && e.ResponseBody != nil && r.Payload.SHA256 != e.ResponseBody.SHA256 {
				t.Errorf("%s: the payload is another", e.URL)
			}
			if e.ResponseFraming != nil {
				if r.Framing.SHA256 != e.ResponseFraming.SHA256 {
					t.Errorf("%s: the framing is another", e.URL)
				}
				if !bytes.Contains(r.Content, []byte("32\r\n")) {
					t.Errorf("%s: the block is not as it was on the wire: %q", e.URL, r.Content)
				}
			}
			if (e.ResponseBody == nil) != (r.Get("WARC-Payload-Digest") == "") {
				t.Errorf("%s: payload digest %q", e.URL, r.Get("WARC-Payload-Digest"))
			}
		}
		if m := id("metadata"); m == nil {
			t.Errorf("%s has no metadata", e.URL)
		} else if f, err := recording.ParseFields(m.Content); err != nil || e.Conn != nil && f["dns-answer"][0] != "works.example A 203.0.113.7" {
			t.Errorf("%s: %v %v", e.URL, f, err)
		}
	}
}

// The index leads to records that begin where it says.
func TestIndex(t *testing.T) {
	rec := whole(t, nil)
	files := entries(t, rec.WACZ)
	lines := strings.SplitAfter(strings.TrimSuffix(string(files["indexes/index.cdxj"]), "\n"), "\n")
	if !slices.IsSorted(lines) || len(lines) != 12 {
		t.Errorf("%d lines, sorted %v", len(lines), slices.IsSorted(lines))
	}
	for _, line := range lines {
		parts := strings.SplitN(line, " ", 3)
		var e struct {
			URL, Filename, Digest string
			Offset, Length        int64
			Status                int
		}
		must(t, json.Unmarshal([]byte(parts[2]), &e))
		r := recording.NewWARCReader(bytes.NewReader(files["archive/"+e.Filename][e.Offset : e.Offset+e.Length]))
		got, err := r.Next()
		must(t, err)
		if got.URI != e.URL || got.Length != e.Length {
			t.Errorf("%s leads to %s", line, got.URI)
		}
		if want := got.Get("WARC-Payload-Digest"); want != "" && e.Digest != want {
			t.Errorf("%s: digest %s, want %s", e.URL, e.Digest, want)
		}
	}
	if !strings.HasPrefix(lines[0], "example,works)/ 20261122150538 {") {
		t.Errorf("first line %s", lines[0])
	}
}

// Digests of the list, and the signature, by rules written down here again.
func TestPackage(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	files := entries(t, whole(t, key).WACZ)
	var list struct {
		Profile     string
		WaczVersion string `json:"wacz_version"`
		Created     string
		MainPageURL string
		Resources   []struct {
			Path, Hash string
			Bytes      int
		}
	}
	must(t, json.Unmarshal(files["datapackage.json"], &list))
	if list.Profile != "data-package" || list.WaczVersion != "1.1.1" || list.MainPageURL != "https://works.example/" || len(list.Resources) != 3 {
		t.Errorf("%+v", list)
	}
	for _, r := range list.Resources {
		if got := "sha256:" + evidence.SumSHA256(files[r.Path]).String(); got != r.Hash || len(files[r.Path]) != r.Bytes {
			t.Errorf("%s: %s, %s is listed", r.Path, got, r.Hash)
		}
	}
	var d struct {
		Path, Hash string
		SignedData struct{ Hash, Created, Version, Signature, PublicKey string }
	}
	must(t, json.Unmarshal(files["datapackage-digest.json"], &d))
	if d.Hash != "sha256:"+evidence.SumSHA256(files["datapackage.json"]).String() || d.SignedData.Hash != d.Hash || d.SignedData.Created != list.Created || d.SignedData.Version != "0.1.0" {
		t.Errorf("%+v", d)
	}
	sig, err := base64.StdEncoding.DecodeString(d.SignedData.Signature)
	must(t, err)
	spki, err := base64.StdEncoding.DecodeString(d.SignedData.PublicKey)
	must(t, err)
	pub, err := x509.ParsePKIXPublicKey(spki)
	must(t, err)
	sum := sha256.Sum256([]byte(d.Hash))
	if len(sig) != 96 || !ecdsa.Verify(pub.(*ecdsa.PublicKey), sum[:], new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])) {
		t.Error("the signature does not hold")
	}
}

func TestSameInputSameBytes(t *testing.T) {
	if !bytes.Equal(whole(t, nil).WACZ, whole(t, nil).WACZ) {
		t.Error("two archives of the same recording differ")
	}
}

// A blob that was altered on disk is not written.
func TestAlteredBlob(t *testing.T) {
	r := whole(t, nil)
	d := r.Exchanges[1].ResponseBody.SHA256
	r.Blobs[d] = append([]byte("x"), r.Blobs[d][1:]...)
	if _, err := r.Archive(); err == nil || !strings.Contains(err.Error(), "altered") {
		t.Errorf("error %v", err)
	}
}
