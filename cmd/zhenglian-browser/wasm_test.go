//go:build !js

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/vault"
	"github.com/zhenglian/zhenglian/verify"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// drafted is the module's answer to "draft", as its package comment has it.
type drafted struct {
	Draft     string `json:"draft"`
	Challenge string `json:"challenge,omitempty"`
}

// callError is how the module refused a call.
type callError struct {
	Message string `json:"error"`
	Code    string `json:"code"`
	Field   string `json:"field"`
	Cause   string `json:"cause"`
}

func (e *callError) Error() string { return e.Code + ": " + e.Message }

// page is the module running under Node.
type page struct {
	t     *testing.T
	dir   string // of the store
	in    io.Writer
	lines *bufio.Reader
}

type object = map[string]any

func inBytes(b []byte) object { return object{"$bytes": base64.StdEncoding.EncodeToString(b)} }

// newPage builds the module and starts it.
func newPage(t *testing.T) *page {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the WebAssembly module: left out of -short")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: install Node.js 18 or later to run the WebAssembly module here")
	}
	dir := t.TempDir()
	wasm := filepath.Join(dir, "browser.wasm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", wasm, ".")
	build.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building for WebAssembly: %v\n%s", err, out)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	store := filepath.Join(dir, "store")
	d, err := vault.OpenDir(store)
	must(t, err)
	must(t, d.Close())
	run := exec.Command(node, "testdata/run.mjs", filepath.Join(strings.TrimSpace(string(goroot)), "lib", "wasm", "wasm_exec.js"), wasm, store)
	run.Stderr = os.Stderr
	in, err := run.StdinPipe()
	must(t, err)
	out, err := run.StdoutPipe()
	must(t, err)
	must(t, run.Start())
	t.Cleanup(func() {
		_ = in.Close()
		if err := run.Wait(); err != nil {
			t.Errorf("the module ended: %v", err)
		}
	})
	return &page{t, store, in, bufio.NewReaderSize(out, 1<<20)}
}

func (p *page) try(into any, call string, args ...any) error {
	p.t.Helper()
	if args == nil {
		args = []any{}
	}
	line, err := json.Marshal(object{"call": call, "args": args})
	must(p.t, err)
	_, err = p.in.Write(append(line, '\n'))
	must(p.t, err)
	text, err := p.lines.ReadBytes('\n')
	must(p.t, err)
	var answer struct {
		callError
		Value json.RawMessage `json:"value"`
	}
	must(p.t, json.Unmarshal(text, &answer))
	if answer.Message != "" {
		return &answer.callError
	}
	if into != nil {
		must(p.t, json.Unmarshal(answer.Value, into))
	}
	return nil
}

func (p *page) call(into any, call string, args ...any) {
	p.t.Helper()
	if err := p.try(into, call, args...); err != nil {
		p.t.Fatalf("%s: %v", call, err)
	}
}

// refused wants the call to fail with a code.
func (p *page) refused(code, call string, args ...any) *callError {
	p.t.Helper()
	var e *callError
	if err := p.try(nil, call, args...); !errors.As(err, &e) || e.Code != code {
		p.t.Fatalf("%s: got %v, want code %q", call, err, code)
	}
	return e
}

// wireBytes is a Uint8Array on its way.
type wireBytes struct {
	Base64 []byte `json:"$bytes"`
}

type identity struct{ Identity, Key, Paper, Recipient string }

func (p *page) public(key string) *evidence.PublicKey {
	var spki wireBytes
	p.call(&spki, "public", key)
	k, err := evidence.ParsePublicKey(spki.Base64)
	must(p.t, err)
	return k
}

// publicOnly enrols a key whose private half is elsewhere.
type publicOnly struct{ key *evidence.PublicKey }

func (s publicOnly) Public() *evidence.PublicKey { return s.key }
func (s publicOnly) Sign([]byte) ([]byte, error) { return nil, errors.New("not here") }

const aFile = "photo.jpg"

func writeFile(t *testing.T, dir string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, aFile)
	must(t, os.WriteFile(path, content, 0o600))
	return path
}

// manifestOf describes one sealed file.
func manifestOf(member string, sealed object, act string) string {
	m := object{"phase": "during", "step": "拍照", "created": time.Unix(testalliance.Start, 0).UTC().Format(time.RFC3339),
		"person": object{"member": member, "assurance": 0, "demo": false}, "place": object{"claimed": object{"city": "杭州"}, "witnessed": object{}},
		"dimensions": object{}, "objects": []any{object{"name": "现场照片.jpg", "size": sealed["size"], "media": "image/jpeg",
			"sha256": sealed["sha256"], "sm3": sealed["sm3"], "vault": object{"chunks": sealed["chunks"], "plain_root": sealed["plain_root"], "cipher_root": sealed["cipher_root"]}}}}
	if act != "" {
		m["act"] = object{"kind": act}
	}
	b, _ := json.Marshal(m)
	return string(b)
}

type depositAnswer struct {
	Statement                    wireBytes
	Digest, Trail                string
	Manifest, ManifestDigest, ID string
}

// TestDepositInTheBrowser runs a deposit of two steps from file to package,
// with a key of each kind, against an alliance on loopback, and verifies the
// package that the module wrote with the verifier that courts use.
func TestDepositInTheBrowser(t *testing.T) {
	p := newPage(t)
	for _, alg := range []string{"ed25519", "p256"} {
		t.Run(alg, func(t *testing.T) {
			p.t = t
			net := clienttest.New(t, "browser-"+alg, 4)
			public := p.public(alg)
			const member = "m:li"
			enrolled := net.EnrolKey(t, member, publicOnly{public})
			described := func(sealed object) string {
				person, err := json.Marshal(evidence.Person{Member: member, Commitment: enrolled.Commitment, Assurance: enrolled.Assurance, Demo: enrolled.Demo})
				must(t, err)
				return strings.Replace(manifestOf(member, sealed, ""), `{"assurance":0,"demo":false,"member":"m:li"}`, string(person), 1)
			}
			c := net.Client(t, net.Institutions[0].Statement)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()

			var device, recovery identity
			p.call(&device, "newIdentity")
			p.call(&recovery, "newRecovery")
			to := []string{device.Recipient, recovery.Recipient}
			content := []byte("photo of " + alg)
			store := object{"$store": true}
			var sealed object
			p.call(&sealed, "seal", object{"$file": writeFile(t, t.TempDir(), content)}, object{"recipients": to, "store": store})
			if sealed["sha256"] != evidence.SumSHA256(content).String() || sealed["sm3"] != evidence.SumSM3(content).String() {
				t.Errorf("sealed as %v", sealed)
			}

			step := func(order object) depositAnswer {
				cp, err := c.Checkpoint(ctx)
				must(t, err)
				for name, v := range (object{"member": member, "after": string(cp.Encode()), "issuedAt": net.Now().Unix(),
					"recipients": to, "key": object{"$key": alg}, "store": store}) {
					order[name] = v
				}
				var d depositAnswer
				p.call(&d, "deposit", order)
				final, err := c.Deposit(ctx, d.Statement.Base64)
				must(t, err)
				if final.Entry.String() != d.Digest {
					t.Errorf("the module says %s, the log has %s", d.Digest, final.Entry)
				}
				return d
			}
			var drafted drafted
			p.call(&drafted, "draft", described(sealed))
			opening := step(object{"draft": drafted.Draft})
			p.call(&drafted, "draft", described(sealed))
			second := step(object{"draft": drafted.Draft, "trail": opening.Trail, "prev": opening.Digest})
			if second.Trail != opening.Digest {
				t.Errorf("the second step is of trail %s, want %s", second.Trail, opening.Digest)
			}

			trail, err := evidence.ParseDigest(opening.Trail)
			must(t, err)
			whole, err := c.Trail(ctx, trail)
			must(t, err)
			parts, err := c.Parts(ctx, whole, nil)
			must(t, err)
			text, err := json.Marshal(parts)
			must(t, err)
			out := filepath.Join(t.TempDir(), "package.zip")
			var written struct{ Steps, Size int64 }
			p.call(&written, "package", string(text), object{"identities": []string{device.Identity}, "store": store, "write": object{"$out": out}})
			verifyPackage(t, net, out, 2, content)

			// Somebody else's identity opens nothing: both manifests are withheld.
			var other identity
			p.call(&other, "newIdentity")
			var bare struct{ Withheld []int }
			p.call(&bare, "package", string(text), object{"identities": []string{other.Identity}, "store": store, "write": object{"$out": out}})
			if len(bare.Withheld) != 2 {
				t.Errorf("withheld %v, want both steps", bare.Withheld)
			}
			// The vault of the command line opens what the browser sealed.
			openNatively(t, p.dir, device.Identity, content)
		})
	}
}

func verifyPackage(t *testing.T, net *clienttest.Net, path string, steps int, content []byte) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	rep, err := verify.Check(context.Background(), f, info.Size(), verify.Options{Policy: net.Policy})
	must(t, err)
	if rep.Verdict != verify.Matches || !rep.IssuerEstablished {
		b, _ := json.MarshalIndent(rep.Checks, "", " ")
		t.Errorf("verdict %s, issuer established %v: %s", rep.Verdict, rep.IssuerEstablished, b)
	}
	data, err := os.ReadFile(path)
	must(t, err)
	if n := bytes.Count(data, content); n != steps {
		t.Errorf("the package holds the file %d times, want %d", n, steps)
	}
}

func openNatively(t *testing.T, dir, identity string, content []byte) {
	t.Helper()
	d, err := vault.OpenDir(dir)
	must(t, err)
	defer d.Close()
	id, err := age.ParseX25519Identity(identity)
	must(t, err)
	r, err := vault.New(d).Open(context.Background(), evidence.SumSHA256(content), id)
	must(t, err)
	got, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("the vault opens other content")
	}
}

// TestLargeFile: memory must not grow with the file, and damage is found.
func TestLargeFile(t *testing.T) {
	p := newPage(t)
	var device identity
	p.call(&device, "newIdentity")
	store := object{"$store": true}
	options := object{"recipients": []string{device.Recipient}, "store": store}
	small := writeFile(t, t.TempDir(), []byte("small"))
	p.call(nil, "seal", object{"$file": small}, options)
	var before, after struct{ Bytes, Largest, Arrays int64 }
	p.call(&before, "memory")
	content := make([]byte, 48<<20+7)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(content)
	large := writeFile(t, t.TempDir(), content)
	started := time.Now()
	var sealed object
	p.call(&sealed, "seal", object{"$file": large}, options)
	t.Logf("sealed %d bytes in %v", len(content), time.Since(started))
	p.call(&after, "memory")
	if grown := after.Bytes - before.Bytes; grown > 40<<20 {
		t.Errorf("memory grew by %d bytes for a file of 48 MiB", grown)
	}
	// What went to and came from the page must be let go of too: Go's own small
	// heap is no reason for it to collect garbage.
	t.Logf("arrays of the page: %d bytes before, %d at most", before.Arrays, after.Arrays)
	if grown := after.Arrays - before.Arrays; grown > 64<<20 {
		t.Errorf("arrays of the page grew by %d bytes for a file of 48 MiB", grown)
	}
	if after.Largest > 4<<20 {
		t.Errorf("a piece of %d bytes, at most 4 MiB are promised", after.Largest)
	}
	wanted := object{"name": "video.mp4", "media": "video/mp4", "size": sealed["size"], "sha256": sealed["sha256"], "sm3": sealed["sm3"],
		"vault": object{"chunks": sealed["chunks"], "plain_root": sealed["plain_root"], "cipher_root": sealed["cipher_root"]}}
	out := filepath.Join(t.TempDir(), "out")
	p.call(nil, "openObject", wanted, object{"identities": []string{device.Identity}, "store": store, "write": object{"$out": out}})
	got, err := os.ReadFile(out)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("another file came back")
	}
	var other identity
	p.call(&other, "newIdentity")
	p.refused("not-for-key", "openObject", wanted, object{"identities": []string{other.Identity}, "store": store, "write": object{"$out": out}})
	p.refused("other-recipients", "seal", object{"$file": large}, object{"recipients": []string{other.Recipient}, "store": store})

	blobs, err := filepath.Glob(filepath.Join(p.dir, "data", "*"))
	must(t, err)
	for _, name := range blobs {
		data, err := os.ReadFile(name)
		must(t, err)
		data[len(data)/2] ^= 1
		must(t, os.WriteFile(name, data, 0o600))
	}
	p.refused("damaged", "openObject", wanted, object{"identities": []string{device.Identity}, "store": store, "write": object{"$out": out}})
	wanted["sha256"] = strings.Repeat("0", 63) + "1"
	p.refused("missing", "openObject", wanted, object{"identities": []string{device.Identity}, "store": store, "write": object{"$out": out}})
}

// TestRecovery: a lost device's objects open on a new one with the key from
// paper, or with enough shares; typing errors and too few shares are told.
func TestRecovery(t *testing.T) {
	p := newPage(t)
	var lost, recovery, fresh identity
	p.call(&lost, "newIdentity")
	p.call(&recovery, "newRecovery")
	p.call(&fresh, "newIdentity")
	store := object{"$store": true}
	content := []byte("before the phone was lost")
	var sealed object
	p.call(&sealed, "seal", object{"$file": writeFile(t, t.TempDir(), content)}, object{"recipients": []string{lost.Recipient, recovery.Recipient}, "store": store})
	wanted := object{"name": "a", "media": "text/plain", "size": sealed["size"], "sha256": sealed["sha256"], "sm3": sealed["sm3"],
		"vault": object{"chunks": sealed["chunks"], "plain_root": sealed["plain_root"], "cipher_root": sealed["cipher_root"]}}
	opening := object{"identities": []string{fresh.Identity}, "store": store, "write": object{"$out": filepath.Join(t.TempDir(), "out")}}
	p.refused("not-for-key", "openObject", wanted, opening)

	var read identity
	p.call(&read, "readRecovery", "\n "+strings.ToLower(recovery.Paper)+" ")
	if read.Key != recovery.Key {
		t.Error("another key was read from the paper")
	}
	// Every single wrong character is found.
	for i := len("AGE-SECRET-KEY-1"); i < len(recovery.Key); i += 7 {
		wrong := []byte(recovery.Key)
		wrong[i] = map[bool]byte{true: 'Q', false: 'P'}[wrong[i] != 'Q']
		p.refused("recovery-key", "readRecovery", string(wrong))
	}

	var holders []object
	var names []string
	for range 3 {
		var h identity
		p.call(&h, "newIdentity")
		holders = append(holders, object{"identity": h.Identity})
		names = append(names, h.Recipient)
	}
	var shares []wireBytes
	p.call(&shares, "splitRecovery", recovery.Key, 2, names)
	opened := make([]any, len(shares))
	for i, s := range shares {
		var o struct {
			Share     wireBytes
			Threshold int
		}
		p.call(&o, "openShare", inBytes(s.Base64), holders[i]["identity"])
		if o.Threshold != 2 {
			t.Errorf("threshold %d", o.Threshold)
		}
		opened[i] = inBytes(o.Share.Base64)
	}
	p.refused("shares", "openShare", inBytes(shares[0].Base64), holders[1]["identity"])
	p.refused("shares", "joinRecovery", opened[:1])
	p.refused("shares", "joinRecovery", []any{opened[0], opened[0]})
	var joined identity
	p.call(&joined, "joinRecovery", []any{opened[2], opened[0]})
	if joined.Key != recovery.Key {
		t.Error("the shares gave another key")
	}

	var done struct {
		Done    int
		Missing []string
	}
	absent := evidence.SumSHA256([]byte("absent")).String()
	p.call(&done, "rewrap", []any{sealed["sha256"], absent}, object{"identity": joined.Key, "recipient": fresh.Recipient, "store": store})
	if done.Done != 1 || len(done.Missing) != 1 || done.Missing[0] != absent {
		t.Errorf("rewrapped: %+v", done)
	}
	p.call(nil, "openObject", wanted, opening)
}

// TestActAndRequest: challenge and assertion, refusals, certificate requests.
func TestActAndRequest(t *testing.T) {
	p := newPage(t)
	var device identity
	p.call(&device, "newIdentity")
	store := object{"$store": true}
	var sealed object
	p.call(&sealed, "seal", object{"$file": writeFile(t, t.TempDir(), []byte("x"))}, object{"recipients": []string{device.Recipient}, "store": store})
	var d drafted
	p.call(&d, "draft", manifestOf("m:li", sealed, "record"))
	m, err := evidence.ParseManifest([]byte(d.Draft))
	must(t, err)
	want, err := m.ActDigest()
	must(t, err)
	if d.Challenge != base64.RawURLEncoding.EncodeToString(want[:]) {
		t.Errorf("challenge %s", d.Challenge)
	}
	kid := evidence.SumSHA256([]byte("passkey"))
	order := object{"draft": d.Draft, "member": "m:li", "issuedAt": testalliance.Start, "recipients": []string{device.Recipient}, "store": store, "key": object{"$key": "p256-act"},
		"passkey": object{"kid": kid.String(), "authenticator_data": "AAAA", "client_data": "AAAA", "signature": "AAAA"}}
	var answer depositAnswer
	p.call(&answer, "deposit", order)
	var kids []string
	p.call(&kids, "passkeysOf", []string{answer.Manifest})
	if len(kids) != 1 || kids[0] != kid.String() {
		t.Errorf("passkeys %v", kids)
	}
	var manifest string
	p.call(&manifest, "openManifest", answer.ManifestDigest, object{"identities": []string{device.Identity}, "store": store})
	if manifest != answer.Manifest {
		t.Error("another manifest was sealed than signed")
	}
	// P-256 signatures of WebCrypto have s in either half; all must come out low.
	public := p.public("p256-act")
	for range 12 {
		p.call(&d, "draft", manifestOf("m:li", sealed, ""))
		order["draft"], order["passkey"] = d.Draft, nil
		p.call(&answer, "deposit", order)
		s, err := evidence.ParseStatement(answer.Statement.Base64)
		must(t, err)
		if err := public.Verify(s.ToBeSigned(), s.Signature); err != nil {
			t.Errorf("signature: %v", err)
		}
	}
	order["key"] = object{"$key": "p256-act", "refuse": true}
	if e := p.refused("aborted", "deposit", order); e.Cause != "AbortError" {
		t.Errorf("cause %q", e.Cause)
	}
	bad := p.refused("manifest", "draft", strings.Replace(manifestOf("m:li", sealed, ""), "拍照", "", 1))
	if bad.Field != "$.step" {
		t.Errorf("field %q", bad.Field)
	}
	p.refused("input", "draft", `{"unknown": 1}`)
	p.refused("input", "seal", object{}, object{})

	for _, key := range []string{"ed25519-csr", "p256-csr"} {
		var req struct {
			DER wireBytes
			PEM string
		}
		p.call(&req, "certificateRequest", object{"key": object{"$key": key}, "name": "m:li"})
		r, err := x509.ParseCertificateRequest(req.DER.Base64)
		must(t, err)
		if err := r.CheckSignature(); err != nil || r.Subject.CommonName != "m:li" {
			t.Errorf("%s: %v, name %q", key, err, r.Subject.CommonName)
		}
		if openssl, err := exec.LookPath("openssl"); err == nil {
			judge := exec.Command(openssl, "req", "-verify", "-noout")
			judge.Stdin = strings.NewReader(req.PEM)
			if out, err := judge.CombinedOutput(); err != nil {
				t.Errorf("openssl on %s: %v\n%s", key, err, out)
			}
		}
	}
}
