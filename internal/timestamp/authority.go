package timestamp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	tsp "github.com/digitorus/timestamp"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

const (
	defaultMaxError = time.Second

	// cut is what genTime loses: it is encoded in whole seconds, rounded down.
	cut = time.Second
)

// Config is an authority's configuration.
type Config struct {
	Key   crypto.Signer       // RSA of 3072 bits or more, or ECDSA P-256
	Chain []*x509.Certificate // the authority's certificate, then those up to the root, which may be left out
	// Policy is the object identifier, dotted, under which it issues. A
	// demonstration's is rfc3161.DemonstrationPolicy, which is the default there;
	// a real one's is the institution's own and lies outside 2.999.
	Policy string
	// MaxError is the largest error of the clock with which it signs; 0: one
	// second. The accuracy in a token is the error at that moment and the second
	// that the time is cut to.
	MaxError time.Duration
	Clock    *Clock // may be nil in a demonstration alone
	Register *Register
	// Demonstration marks every token, by its policy, as worth nothing. Without a
	// Clock it takes the host's time as it is and states no accuracy.
	Demonstration bool
	Log           *slog.Logger // faults of the authority itself; nil: nowhere

	now func() time.Time // tests alone: the clock of a demonstration without sources
}

// Authority is a timestamp authority (RFC 3161). Its methods may be called at the
// same time; it issues one token after the other.
type Authority struct {
	cfg    Config
	policy asn1.ObjectIdentifier
	trust  rfc3161.Trust
	cert   [32]byte // SHA-256 of the certificate

	mu sync.Mutex // from the reading of the clock until the line is on disk
}

// New checks the configuration: that key and certificate belong together and are
// fit for tokens, and that a demonstration and a real authority cannot be taken
// for each other.
func New(cfg Config) (*Authority, error) {
	if cfg.Key == nil || len(cfg.Chain) == 0 || cfg.Register == nil {
		return nil, errors.New("a timestamp authority needs a key, its certificate and a register")
	}
	if cfg.MaxError == 0 {
		cfg.MaxError = defaultMaxError
	}
	if cfg.MaxError < 0 || cfg.MaxError > time.Hour {
		return nil, fmt.Errorf("a largest error of %s makes no sense; take up to an hour", cfg.MaxError)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.Demonstration && cfg.Policy == "" {
		cfg.Policy = rfc3161.DemonstrationPolicy
	}
	policy, err := parseOID(cfg.Policy)
	if err != nil {
		return nil, err
	}
	switch demo := rfc3161.IsDemonstration(cfg.Policy); {
	case cfg.Demonstration && !demo:
		return nil, fmt.Errorf("a demonstration issues under policy %s, not %s, so that everybody knows its tokens", rfc3161.DemonstrationPolicy, cfg.Policy)
	case !cfg.Demonstration && demo:
		return nil, fmt.Errorf("policy %s is a demonstration's: set the institution's own, or the flag that says this is one", cfg.Policy)
	case !cfg.Demonstration && cfg.Clock == nil:
		return nil, errors.New("without NTP servers an authority cannot know its clock's error: name some, or set the flag that makes it a demonstration")
	}
	cert := cfg.Chain[0]
	if err := rfc3161.CheckCertificate(cert); err != nil {
		return nil, fmt.Errorf("the authority's certificate: %w", err)
	}
	if err := checkKey(cfg.Key.Public(), cert); err != nil {
		return nil, err
	}
	for i, c := range cfg.Chain[1:] {
		if err := cfg.Chain[i].CheckSignatureFrom(c); err != nil {
			return nil, fmt.Errorf("the authority's chain: certificate %d does not issue certificate %d: %w", i+2, i+1, err)
		}
	}
	cfg.Chain = slices.Clone(cfg.Chain)
	return &Authority{cfg: cfg, policy: policy, trust: rfc3161.Trust{Keys: [][32]byte{rfc3161.KeyID(cert)}, Anchors: []*x509.Certificate{cert}}, cert: sha256.Sum256(cert.Raw)}, nil
}

func checkKey(key crypto.PublicKey, cert *x509.Certificate) error {
	equal := false
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 3072 {
			return fmt.Errorf("the authority's RSA key has %d bits, fewer than 3072: its tokens must hold for many years", key.N.BitLen())
		}
		equal = key.Equal(cert.PublicKey)
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return fmt.Errorf("the authority's key is on curve %s; use P-256 or RSA", key.Curve.Params().Name)
		}
		equal = key.Equal(cert.PublicKey)
	default:
		return errors.New("the authority's key is neither RSA nor ECDSA: common tools could not check its tokens")
	}
	if !equal {
		return fmt.Errorf("the key is not that of the certificate of %s", cert.Subject)
	}
	return nil
}

// parseOID reads an object identifier whose parts fit an int32, as the encoder
// of tokens needs.
func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseInt(part, 10, 32)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != part {
			return nil, fmt.Errorf("policy %q is not an object identifier like 1.3.6.1.4.1.99999.1", s)
		}
		oid = append(oid, int(n))
	}
	if _, err := asn1.Marshal(oid); err != nil {
		return nil, fmt.Errorf("policy %q is not an object identifier: %w", s, err)
	}
	return oid, nil
}

// Chain returns the authority's certificate and those above it.
func (a *Authority) Chain() []*x509.Certificate { return slices.Clone(a.cfg.Chain) }

// Respond answers a query (TimeStampReq, DER) with a TimeStampResp, DER: a token
// or a refusal with its reason (RFC 3161 §2.4.2). The token is in the register,
// on disk, when Respond returns. The error is for answers that cannot be written
// at all.
func (a *Authority) Respond(query []byte) ([]byte, error) {
	q, refused := parseQuery(query)
	if refused == nil && q.Policy != nil && !q.Policy.Equal(a.policy) {
		refused = refusal(UnacceptedPolicy, "policy %s is not offered, %s is", q.Policy, a.cfg.Policy)
	}
	if refused != nil {
		return refused.encode()
	}
	response, err := a.issue(q)
	if err == nil {
		return response, nil
	}
	if errors.As(err, &refused) {
		a.cfg.Log.Warn("timestamp refused", "reason", refused.Text)
		return refused.encode()
	}
	a.cfg.Log.Error("timestamp not issued", "error", err)
	return refusal(SystemFailure, "the authority has a fault and does not issue; its operator has to look").encode()
}

// issue makes one token. Order, and what a power cut after each step leaves:
//
//  1. sign: nothing, the token was in memory alone
//  2. check it as every verifier will: the same
//  3. line in the register, synced: a line for a token that nobody has
//  4. the answer leaves: all
func (a *Authority) issue(q *query) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, err := a.readClock()
	if err != nil {
		return nil, err
	}
	hash := q.hash()
	stamp := tsp.Timestamp{
		HashAlgorithm: hash, HashedMessage: q.Imprint.Digest,
		Time: now.Time.UTC().Truncate(time.Second), Policy: a.policy, Nonce: q.Nonce,
		AddTSACertificate: q.Certificates, Certificates: a.cfg.Chain[1:],
	}
	if now.Error >= 0 {
		stamp.Accuracy = now.Error.Truncate(time.Millisecond) + time.Millisecond + cut
	}
	// Who asks over SHA-512 wants a token that outlives SHA-256.
	response, err := stamp.CreateResponseWithOpts(a.cfg.Chain[0], a.cfg.Key, hash)
	if err != nil {
		return nil, fmt.Errorf("signing a token: %w", err)
	}
	token, err := parseReply(response)
	if err != nil {
		return nil, fmt.Errorf("reading the token just made: %w", err)
	}
	info, err := rfc3161.VerifyDigest(token, hash, q.Imprint.Digest, a.trust)
	if err != nil {
		return nil, fmt.Errorf("checking the token just made: %w", err)
	}
	if !info.Time.Equal(stamp.Time) || info.Accuracy != stamp.Accuracy || info.Policy != a.cfg.Policy {
		return nil, fmt.Errorf("the token just made says %s ± %s under %s, not what was asked for", info.Time, info.Accuracy, info.Policy)
	}
	_, err = a.cfg.Register.Append(Entry{
		Time: info.Time, Serial: info.Serial, Policy: info.Policy, Hash: hash.String(), Imprint: q.Imprint.Digest,
		Accuracy: info.Accuracy, Token: sha256.Sum256(token), Certificate: a.cert,
	})
	if errors.Is(err, ErrTimeWentBack) {
		return nil, refusal(TimeNotAvailable, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return response, nil
}

// readClock returns the time to sign with; an Error below zero is none to state.
func (a *Authority) readClock() (Reading, error) {
	now := Reading{Time: a.cfg.now(), Error: -1}
	if a.cfg.Clock != nil {
		var err error
		if now, err = a.cfg.Clock.Now(); err != nil {
			return Reading{}, refusal(TimeNotAvailable, "%v", err)
		}
		if now.Error > a.cfg.MaxError {
			return Reading{}, refusal(TimeNotAvailable, "the clock can be wrong by %s, more than the %s that this authority signs with", now.Error.Round(time.Millisecond), a.cfg.MaxError)
		}
	}
	if last := a.cfg.Register.Last(); now.Time.Before(last) {
		return Reading{}, refusal(TimeNotAvailable, "%v, of %s", ErrTimeWentBack, last.Format(time.RFC3339))
	}
	if cert := a.cfg.Chain[0]; now.Time.Truncate(time.Second).Before(cert.NotBefore) || now.Time.After(cert.NotAfter) {
		return Reading{}, fmt.Errorf("the authority's certificate is valid from %s to %s, and it is %s: install a new one",
			cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339), now.Time.UTC().Format(time.RFC3339))
	}
	return now, nil
}

// Ready reports why the authority would refuse every query now; nil when it
// would not.
func (a *Authority) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.readClock()
	return err
}

// Status is how an authority stands.
type Status struct {
	Ready         bool
	Reason        string // why it would refuse every query; empty when Ready
	Demonstration bool
	Entries       uint64        // of the register
	Last          time.Time     // of the register's newest entry; zero when there is none
	ClockError    time.Duration // the most that the clock can be wrong by; below zero when not known
}

// Status returns how the authority stands now, for its operator.
func (a *Authority) Status() Status {
	s := Status{Demonstration: a.cfg.Demonstration, ClockError: -1, Entries: a.cfg.Register.Head().Entries, Last: a.cfg.Register.Last()}
	if a.cfg.Clock != nil {
		if r, err := a.cfg.Clock.Now(); err == nil {
			s.ClockError = r.Error
		}
	}
	if err := a.Ready(); err != nil {
		s.Reason = err.Error()
		return s
	}
	s.Ready = true
	return s
}

// ServeHTTP is RFC 3161 §3.4: POST of application/timestamp-query, answered with
// application/timestamp-reply. A refusal is an answer, with status 200.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve(w, r, a.Respond, a.cfg.Log)
}

// Closed answers every query with the refusal systemFailure and a text, for an
// institution whose authority cannot run now.
func Closed(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, func([]byte) ([]byte, error) { return refusal(SystemFailure, "%s", text).encode() }, slog.New(slog.DiscardHandler))
	})
}

func serve(w http.ResponseWriter, r *http.Request, respond func([]byte) ([]byte, error), log *slog.Logger) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "send a timestamp query with POST", http.StatusMethodNotAllowed)
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != queryType {
		http.Error(w, "the content type of a timestamp query is "+queryType, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, fmt.Sprintf("a timestamp query has at most %d bytes", maxQuery), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the query did not arrive whole", http.StatusBadRequest)
		return
	}
	response, err := respond(body)
	if err != nil {
		log.Error("timestamp answer not written", "error", err)
		http.Error(w, "the authority has a fault", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", replyType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(response)))
	// A client that has gone away loses its answer and may ask again.
	_, _ = w.Write(response)
}
