package signing

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Names of the environment variables that say where tokens are when neither the
// URI nor the settings do.
const (
	EnvTokenModule  = "ZHENGLIAN_TOKEN_MODULE"
	EnvTokenPIN     = "ZHENGLIAN_TOKEN_PIN"
	EnvTokenProgram = "ZHENGLIAN_TOKEN_PROGRAM"
)

// tokenProgram signs with tokens, in a process of its own: a PKCS#11 library is
// foreign C code, which shall see neither this process's memory nor take it down.
const tokenProgram = "zhenglian-token"

// TokenConfig says where tokens are. The zero value leaves it to the URIs and
// the environment.
type TokenConfig struct {
	Program string // path of zhenglian-token; empty: beside this program, then on the PATH
	Module  string // file of the PKCS#11 library
	PINFile string // mode 0600; the PIN is its first line
	// Env looks environment variables up; os.Getenv when nil.
	Env func(string) string
	// Timeout bounds one operation of a token, 30 s when zero: one that hangs
	// must not hang its node.
	Timeout time.Duration
}

// Tokens are the tokens that this process uses, each behind a process of
// zhenglian-token that is started when it is first needed and ends with this one
// or by Close. It is safe for concurrent use; one token signs one thing at a time.
type Tokens struct {
	cfg TokenConfig

	mu    sync.Mutex
	lines map[string]*tokenLine // by module and token
}

// NewTokens starts nothing.
func NewTokens(cfg TokenConfig) *Tokens {
	if cfg.Env == nil {
		cfg.Env = os.Getenv
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	return &Tokens{cfg: cfg, lines: map[string]*tokenLine{}}
}

// TokenError is what a token, or the way to it, answered.
type TokenError struct {
	Code   TokenCode
	Reason string
	Hint   string
}

// TokenCode names a reason, for translation.
type TokenCode string

// The reasons. TokenNoKey is fs.ErrNotExist, TokenKeyExists fs.ErrExist.
const (
	TokenBadURI    TokenCode = "bad-uri"
	TokenNoProgram TokenCode = "no-program" // zhenglian-token is not there, or was built without cgo
	TokenNoModule  TokenCode = "no-module"  // the PKCS#11 library is not named, or does not load
	TokenNoToken   TokenCode = "no-token"   // no such token in any slot
	TokenNoPIN     TokenCode = "no-pin"
	TokenWrongPIN  TokenCode = "wrong-pin" // not tried again by this process: tokens count
	TokenNoKey     TokenCode = "no-key"
	TokenKeyExists TokenCode = "key-exists"
	TokenBadKey    TokenCode = "bad-key" // neither P-256 nor Ed25519
	TokenFailed    TokenCode = "failed"  // it answered something else, or nothing in time
)

func (e *TokenError) Error() string {
	if e.Hint == "" {
		return e.Reason
	}
	return e.Reason + " (" + e.Hint + ")"
}

// Is makes a missing key fs.ErrNotExist and one that is there fs.ErrExist, as
// KeyStore asks.
func (e *TokenError) Is(target error) bool {
	return target == fs.ErrNotExist && e.Code == TokenNoKey || target == fs.ErrExist && e.Code == TokenKeyExists
}

// TokenRequest and TokenAnswer are one line of JSON each, on the standard input
// and output of zhenglian-token. The first request opens the token; its answer
// decides whether there are more.
type (
	TokenRequest struct {
		Op        string // open, find, generate, sign
		Module    string `json:",omitempty"` // open
		Token     string `json:",omitempty"` // open: label
		Serial    string `json:",omitempty"` // open
		PIN       string `json:",omitempty"` // open
		Object    string `json:",omitempty"` // the others: label of the key pair
		ID        []byte `json:",omitempty"`
		Algorithm string `json:",omitempty"` // generate: p256, ed25519
		Message   []byte `json:",omitempty"` // sign: SHA-256 digest for P-256, the message for Ed25519
	}
	TokenAnswer struct {
		Code      TokenCode `json:",omitempty"` // empty: done
		Reason    string    `json:",omitempty"`
		Public    []byte    `json:",omitempty"` // find, generate: SubjectPublicKeyInfo
		Signature []byte    `json:",omitempty"` // DER for P-256, 64 bytes for Ed25519
	}
)

// Key returns the key that a URI names; TokenNoKey when the token has none.
func (t *Tokens) Key(uri string) (*Key, error) {
	u, line, err := t.line(uri)
	if err != nil {
		return nil, err
	}
	answer, err := line.ask(TokenRequest{Op: "find", Object: u.Object, ID: u.ID})
	if err != nil {
		return nil, fmt.Errorf("finding the key %s: %w", u, err)
	}
	return newTokenKey(u, line, answer.Public)
}

// Generate makes the key that a URI names on the token, not extractable;
// TokenKeyExists when there is one. Algorithms are P-256 and, where the token
// has it, Ed25519.
func (t *Tokens) Generate(uri string, alg evidence.Algorithm) (*Key, error) {
	if alg != evidence.ES256 && alg != evidence.EdDSA {
		return nil, &TokenError{TokenBadKey, fmt.Sprintf("a key on a token cannot be %s", alg), "use p256, or ed25519 where the token has it"}
	}
	u, line, err := t.line(uri)
	if err != nil {
		return nil, err
	}
	answer, err := line.ask(TokenRequest{Op: "generate", Object: u.Object, ID: u.ID, Algorithm: AlgorithmName(alg)})
	if err != nil {
		return nil, fmt.Errorf("making the key %s: %w", u, err)
	}
	return newTokenKey(u, line, answer.Public)
}

// Close ends all signing processes and waits for them.
func (t *Tokens) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, l := range t.lines {
		l.mu.Lock()
		errs = append(errs, l.end())
		l.mu.Unlock()
	}
	return errors.Join(errs...)
}

// line finds or makes the way to a URI's token.
func (t *Tokens) line(uri string) (*TokenURI, *tokenLine, error) {
	u, err := ParseTokenURI(uri)
	if err != nil {
		return nil, nil, err
	}
	open := TokenRequest{Op: "open", Module: firstNonEmpty(u.Module, t.cfg.Module, t.cfg.Env(EnvTokenModule)), Token: u.Token, Serial: u.Serial}
	if open.Module == "" {
		return nil, nil, &TokenError{TokenNoModule, "the PKCS#11 library is not named", "set module in [token] of node.toml, module-path in the URI, or " + EnvTokenModule}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := strings.Join([]string{open.Module, u.Token, u.Serial}, "\x00")
	if l, ok := t.lines[name]; ok {
		return u, l, nil
	}
	if open.PIN, err = t.pin(u); err != nil {
		return nil, nil, err
	}
	program, err := t.program()
	if err != nil {
		return nil, nil, err
	}
	l := &tokenLine{program: program, open: open, timeout: t.cfg.Timeout}
	t.lines[name] = l
	return u, l, nil
}

func (t *Tokens) pin(u *TokenURI) (string, error) {
	path := firstNonEmpty(u.PIN, t.cfg.PINFile)
	if path == "" {
		if pin := t.cfg.Env(EnvTokenPIN); pin != "" {
			return pin, nil
		}
		return "", &TokenError{TokenNoPIN, "the token's PIN is not given", "name a file of mode 0600 by pin_file in [token] of node.toml or pin-source in the URI, or set " + EnvTokenPIN}
	}
	text, err := ReadSecret(path, nil)
	if err != nil {
		return "", fmt.Errorf("reading the token's PIN: %w", err)
	}
	pin, _, _ := strings.Cut(string(text), "\n")
	if pin = strings.TrimSuffix(pin, "\r"); pin == "" {
		return "", &TokenError{TokenNoPIN, "the first line of " + path + " is empty", "write the PIN into it"}
	}
	return pin, nil
}

func (t *Tokens) program() (string, error) {
	if given := firstNonEmpty(t.cfg.Program, t.cfg.Env(EnvTokenProgram)); given != "" {
		return given, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), tokenProgram)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(tokenProgram)
	if err != nil {
		return "", &TokenError{TokenNoProgram, "the program " + tokenProgram + ", which signs with tokens, is not installed", "put it beside zhenglian, or name it by program in [token] of node.toml or " + EnvTokenProgram}
	}
	return path, nil
}

// tokenLine is the way to one token.
type tokenLine struct {
	program string
	open    TokenRequest
	timeout time.Duration

	mu      sync.Mutex
	cmd     *exec.Cmd
	in, out *os.File
	answers *bufio.Reader
	final   error // TokenWrongPIN: never again
}

// maxAnswer bounds a line of the signing process.
const maxAnswer = 64 << 10

// ask sends one request and reads its answer, and starts the process before
// when none runs. After anything but a clean answer the process is ended; the
// next request starts another.
func (l *tokenLine) ask(q TokenRequest) (*TokenAnswer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.final != nil {
		return nil, l.final
	}
	if l.cmd == nil {
		if err := l.start(); err != nil {
			return nil, err
		}
	}
	answer, err := l.exchange(q)
	if err != nil {
		_ = l.end()
		return nil, err
	}
	if answer.Code == TokenFailed {
		_ = l.end() // a token that was pulled out needs a new session
	}
	return answer, refused(answer)
}

func refused(a *TokenAnswer) error {
	switch a.Code {
	case "":
		return nil
	case TokenWrongPIN:
		return &TokenError{a.Code, "the token refuses the PIN; it is not tried again, since tokens lock themselves after a few", "correct the PIN and start again"}
	}
	return &TokenError{Code: a.Code, Reason: a.Reason}
}

// start runs the program and opens the token. The PIN goes through the pipe: an
// argument or a variable would be there to read for others.
func (l *tokenLine) start() error {
	childIn, in, err := os.Pipe()
	if err != nil {
		return err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return errors.Join(err, childIn.Close(), in.Close())
	}
	cmd := exec.Command(l.program)
	cmd.Stdin, cmd.Stdout = childIn, childOut
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, EnvTokenPIN+"=") })
	err = cmd.Start()
	_, _ = childIn.Close(), childOut.Close()
	if err != nil {
		_, _ = in.Close(), out.Close()
		return &TokenError{TokenNoProgram, fmt.Sprintf("%s does not start: %v", l.program, err), ""}
	}
	l.cmd, l.in, l.out, l.answers = cmd, in, out, bufio.NewReader(io.LimitReader(out, 1<<62))
	answer, err := l.exchange(l.open)
	if err == nil {
		err = refused(answer)
	}
	if err != nil {
		_ = l.end()
		var e *TokenError
		if errors.As(err, &e) && e.Code == TokenWrongPIN {
			l.final = err
		}
		return err
	}
	return nil
}

func (l *tokenLine) exchange(q TokenRequest) (*TokenAnswer, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(l.timeout)
	if err := errors.Join(l.in.SetWriteDeadline(deadline), l.out.SetReadDeadline(deadline)); err != nil {
		return nil, err
	}
	lost := func(err error) (*TokenAnswer, error) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, &TokenError{TokenFailed, fmt.Sprintf("the token did not answer within %s", l.timeout), "see whether it is plugged in and reachable"}
		}
		return nil, &TokenError{TokenFailed, "the program " + tokenProgram + " ended without an answer", "run it by hand to see why; the PKCS#11 library may have failed in it"}
	}
	if _, err := l.in.Write(append(line, '\n')); err != nil {
		return lost(err)
	}
	text, err := readLine(l.answers, maxAnswer)
	if err != nil {
		return lost(err)
	}
	var answer TokenAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, &TokenError{TokenFailed, "the program " + tokenProgram + " answered something else than an answer", "see that it is the one of this version"}
	}
	return &answer, nil
}

func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > limit {
			return nil, err
		}
	}
}

// end closes the pipes and waits for the process, which ends by itself when
// nobody can ask it any more; one that does not is killed.
func (l *tokenLine) end() error {
	if l.cmd == nil {
		return nil
	}
	_, _ = l.in.Close(), l.out.Close()
	stop := time.AfterFunc(2*time.Second, func() { _ = l.cmd.Process.Kill() })
	err := l.cmd.Wait()
	stop.Stop()
	l.cmd = nil
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // what it had to say, it said in its answers
	}
	return err
}

// tokenKey is a key on a token.
type tokenKey struct {
	uri    *TokenURI
	line   *tokenLine
	pub    *evidence.PublicKey
	public crypto.PublicKey
}

func newTokenKey(u *TokenURI, line *tokenLine, spki []byte) (*Key, error) {
	pub, err := evidence.ParsePublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the key %s: %w", u, err)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the key %s: %w", u, err)
	}
	k := &tokenKey{u, line, pub, public}
	return &Key{Signer: (*tokenSigner)(k), private: k}, nil
}

// Public implements crypto.Signer.
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer: digest is a SHA-256 digest for P-256, the
// message itself for Ed25519, and opts says so. What the token gives is checked
// before it leaves: a faulty signature can betray a key.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch hash := opts.HashFunc(); {
	case k.pub.Algorithm() == evidence.ES256 && (hash != crypto.SHA256 || len(digest) != sha256.Size):
		return nil, fmt.Errorf("the key %s signs SHA-256 digests", k.uri)
	case k.pub.Algorithm() == evidence.EdDSA && hash != 0:
		return nil, fmt.Errorf("the key %s signs messages, not digests", k.uri)
	}
	answer, err := k.line.ask(TokenRequest{Op: "sign", Object: k.uri.Object, ID: k.uri.ID, Message: digest})
	if err != nil {
		return nil, fmt.Errorf("signing with the key %s: %w", k.uri, err)
	}
	good := false
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(pub, digest, answer.Signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(pub, digest, answer.Signature)
	}
	if !good {
		return nil, &TokenError{TokenFailed, fmt.Sprintf("the token's signature with the key %s does not verify", k.uri), "stop using this token until its maker has explained it"}
	}
	return answer.Signature, nil
}

// tokenSigner is evidence.Signer of a tokenKey.
type tokenSigner tokenKey

// Public implements evidence.Signer.
func (s *tokenSigner) Public() *evidence.PublicKey { return s.pub }

// Sign implements evidence.Signer: 64 bytes, ES256 with s in the lower half.
func (s *tokenSigner) Sign(message []byte) ([]byte, error) {
	k := (*tokenKey)(s)
	if s.pub.Algorithm() == evidence.EdDSA {
		return k.Sign(nil, message, crypto.Hash(0))
	}
	hash := sha256.Sum256(message)
	der, err := k.Sign(nil, hash[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("reading the signature of the key %s: %w", s.uri, err)
	}
	order := s.public.(*ecdsa.PublicKey).Params().N
	if sig.S.Cmp(new(big.Int).Rsh(order, 1)) > 0 {
		sig.S.Sub(order, sig.S)
	}
	return append(sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))...), nil
}
