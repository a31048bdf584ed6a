package capture

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// Config of a session. Dir, Session, Trail, Recorder and Chain are required.
type Config struct {
	Dir      string          // the session's folder, made when missing
	Session  evidence.Digest // 32 random bytes
	Trail    evidence.Digest
	Recorder evidence.Digest // kid of the key that signs the batches
	Software string          // name and version, such as "zhenglian/0.1.0"
	Start    string          // address, may be empty
	Title    string          // of the archive; may be empty
	Chain    Chain
	Now      func() time.Time // nil: time.Now
	// Every is the longest time between two batches: 2 s when zero.
	Every time.Duration
	// Deposit bounds one deposit's wait to be final: 2 minutes when zero.
	Deposit time.Duration
	// Logger hears what no event can say: that the chain is not reached. nil: none.
	Logger *slog.Logger
	// Note is kept with the session, for who resumes it.
	Note map[string]string
}

func (c *Config) fill() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Every == 0 {
		c.Every = 2 * time.Second
	}
	if c.Deposit == 0 {
		c.Deposit = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// fileState says what session a folder holds.
const fileState = "session.json"

// State is what is kept of a session besides its events.
type State struct {
	Session  evidence.Digest   `json:"session"`
	Trail    evidence.Digest   `json:"trail"`
	Recorder evidence.Digest   `json:"recorder"`
	Software string            `json:"software"`
	Title    string            `json:"title,omitempty"`
	Started  time.Time         `json:"started"`
	Note     map[string]string `json:"note,omitempty"`
	// Key signs the archive, for this session alone; session.open names its public
	// half. PKCS#8, on P-384. It goes with the folder.
	Key []byte `json:"key"`
}

// Session is a recording under way. Its methods may be called from several
// goroutines, Seal when the others have returned.
type Session struct {
	config Config
	state  State
	key    *ecdsa.PrivateKey
	blobs  *blobs
	batch  *batcher
	lock   *os.File

	mu     sync.Mutex
	log    *eventLog
	phase  evidence.Phase
	after  int64 // seq of the first event of the phase after; -1 before
	began  time.Time
	offset int64                     // microseconds of runs before this one
	err    error                     // the first failure of the disk
	bodies map[evidence.Digest]int64 // exchanges by their whole payload
	packed map[string]int64          // by address, of payloads under gzip: what is saved has another digest
	status map[string]int            // by address, of the last response
	names  map[string]bool           // of downloads
	film   *film
}

// Open begins a session with its session.open. The folder must hold none.
func Open(c Config) (*Session, error) {
	c.fill()
	if c.Dir == "" || c.Session.IsZero() || c.Trail.IsZero() || c.Recorder.IsZero() || c.Chain == nil {
		return nil, errors.New("opening a session: folder, session, trail, recorder and chain are required")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the archive's key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("making the archive's key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("making the archive's key: %w", err)
	}
	s := newSession(c, State{Session: c.Session, Trail: c.Trail, Recorder: c.Recorder, Software: c.Software, Title: c.Title, Started: c.Now().UTC(), Note: c.Note, Key: private}, key)
	if s.lock, err = lockFolder(c.Dir); err != nil {
		return nil, err
	}
	if err := writeState(c.Dir, s.state); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.blobs, err = openBlobs(c.Dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.log, err = createLog(c.Dir, c.Session); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	data := recording.Data{"trail": c.Trail.String(), "recorder": c.Recorder.String(), "version": c.Software, "wacz-key": evidence.SumSHA256(public).String()}
	if c.Start != "" {
		data["start"] = clip(c.Start)
	}
	if err := s.Event(recording.TypeOpen, data); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.batch = startBatches(s, 0)
	return s, nil
}

func newSession(c Config, state State, key *ecdsa.PrivateKey) *Session {
	return &Session{config: c, state: state, key: key, phase: evidence.PhaseBefore, after: -1, began: time.Now(), bodies: map[evidence.Digest]int64{}, packed: map[string]int64{}, status: map[string]int{}, names: map[string]bool{}}
}

// writeState writes session.json whole; it is never changed.
func writeState(dir string, st State) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, fileState), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the session's state: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the session's state: %w", err)
	}
	return syncFolder(dir)
}

// Phase moves on; the events that follow belong to it.
func (s *Session) Phase(p evidence.Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = p
}

// Event writes an event with its blobs, durably, before it returns. An event
// that its type's rules refuse leaves the session as it was; any other error ends
// it: nothing further can be recorded.
func (s *Session) Event(kind string, data recording.Data, all ...Blob) error {
	named := make([]recording.Blob, 0, len(all))
	for _, b := range all {
		n, err := s.blobs.named(b)
		if err != nil {
			return s.broken(err)
		}
		named = append(named, n)
	}
	return s.event(kind, data, named)
}

func (s *Session) event(kind string, data recording.Data, named []recording.Blob) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eventLocked(kind, data, named)
}

func (s *Session) eventLocked(kind string, data recording.Data, named []recording.Blob) error {
	if s.err != nil {
		return s.err
	}
	mono := max(s.offset+time.Since(s.began).Microseconds(), s.log.chain.Mono)
	e := &recording.Event{Phase: s.phase, Type: kind, At: recording.FormatTime(s.config.Now()), Mono: mono, Data: data, Blobs: named}
	if s.log.chain.Next == 0 {
		e.Mono = 0
	}
	err := s.log.append(e)
	var rule *recording.EventError
	switch {
	case errors.As(err, &rule):
		return fmt.Errorf("recording %s: %w", kind, err)
	case err != nil:
		s.err = err
		return err
	}
	if s.phase == evidence.PhaseAfter && s.after < 0 {
		s.after = e.Seq
	}
	return nil
}

// broken keeps the first failure of the disk.
func (s *Session) broken(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return s.err
}

// Failed returns the error that ended the session, nil while it goes on.
func (s *Session) Failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Step asks for a batch now: a step is over. It does not wait.
func (s *Session) Step() { s.batch.ask() }

// Progress says how far a session is, for who watches it.
type Progress struct {
	Events  int64 // written
	Batched int64 // of them, in a batch that was signed
	Err     error // the last deposit's, nil when it went well
}

// Progress returns how far the session is.
func (s *Session) Progress() Progress {
	s.mu.Lock()
	n := s.log.chain.Next
	s.mu.Unlock()
	batched, err := s.batch.progress()
	return Progress{n, batched, err}
}

// Download records a file that the browser saved: its bytes become an object of
// the last step under the name returned, which no other has. url is what was
// asked for last.
func (s *Session) Download(id, url, name, state string, r io.Reader) (string, error) {
	w, err := s.blobs.begin()
	if err != nil {
		return "", s.broken(err)
	}
	if _, err := io.Copy(w, r); err != nil {
		w.abort()
		return "", fmt.Errorf("reading the download %s: %w", name, err)
	}
	digest, size, err := w.commit()
	if err != nil {
		return "", s.broken(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name = s.freeName(name)
	data := recording.Data{"id": id, "url": clip(url), "name": name, "state": state}
	if exchange, ok := s.bodies[digest]; ok {
		data["exchange"] = exchange
	} else if exchange, ok := s.packed[url]; ok {
		data["exchange"] = exchange
	}
	err = s.eventLocked(recording.TypeDownloaded, data, []recording.Blob{{Role: recording.RoleDownload, SHA256: digest, Size: size, Media: "application/octet-stream"}})
	return name, err
}

// freeName makes a file name of a download that a manifest takes and that no
// other file of the session has.
func (s *Session) freeName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) || r == utf8.RuneError {
			return '_'
		}
		return r
	}, filepath.Base(name))
	name = strings.Trim(name, ". ")
	for len(name) > 200 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	if name == "" {
		name = "download"
	}
	ext := filepath.Ext(name)
	free := name
	for n := 2; s.names[free] || free == recording.FileEvents || free == recording.FileWACZ || free == recording.FileVideo; n++ {
		free = fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext)
	}
	s.names[free] = true
	return free
}

// Close lets go of the folder without ending the session: Resume takes it up.
func (s *Session) Close() error {
	if s.batch != nil {
		s.batch.stop()
	}
	var err error
	if s.blobs != nil {
		err = s.blobs.close()
	}
	if s.log != nil {
		err = errors.Join(err, s.log.close())
	}
	if s.film != nil {
		err = errors.Join(err, s.film.f.Close())
	}
	return errors.Join(err, s.lock.Close())
}

// clip cuts a text to what an event takes.
func clip(text string) string { return clipTo(text, recording.MaxText/2) }

func clipTo(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// deposit adds a step within the time allowed, whatever becomes of ctx.
func (s *Session) deposit(ctx context.Context, n int, i intent, st Step) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Deposit)
	defer cancel()
	i.N = n
	if err := intend(s.config.Dir, i); err != nil {
		return false, err
	}
	return s.config.Chain.Add(ctx, st)
}
