package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// Source is a file to be deposited.
type Source struct {
	Name  string // as it goes into the manifest, without a path
	Media string // by its name and first bytes when empty
	Size  int64  // for the progress; -1 when not known
	Open  func() (io.ReadCloser, error)
}

// FileSource is a file of the file system, under the last part of its path.
func FileSource(path string) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Source{}, err
	}
	if !info.Mode().IsRegular() {
		return Source{}, fmt.Errorf("%s is not a file: put a folder into an archive first", path)
	}
	return Source{Name: filepath.Base(path), Size: info.Size(), Open: func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

// Step is what a member deposits as one step of a trail.
type Step struct {
	Trail      evidence.Digest // zero: the step opens a trail
	Phase      evidence.Phase
	Name       string // of the step, for people
	Note       string
	Claimed    map[string]string // place, as the member says
	Dimensions evidence.Dimensions
	Sources    []Source
	NoWait     bool // return when an institution has it, before it is final
	// Act, when set, may set the manifest's act and have the person confirm it: the
	// manifest is complete but for that.
	Act func(context.Context, *evidence.Manifest) error
}

// Events tell what Deposit is doing; each may be nil.
type Events struct {
	Progress func(source int, done int64) // bytes of Sources[source]
	Kept     func(source int, o vault.Object)
	Waiting  func() // for another process that adds to the same trail
	Signed   func(e *Entry)
}

// Deposit keeps the files, builds and signs the statement, sends it and waits
// until it is final:
//
//  1. each file is hashed and encrypted into the vault, durable;
//  2. the trail's lock is taken, and what an interrupted run left is sent first;
//  3. the manifest is kept in the vault, durable;
//  4. the statement is signed and written to the journal, durable;
//  5. it is sent; 6. its place is written to the journal.
//
// A power cut before 4 leaves objects that no statement names, and nothing was
// sent. After 4 the next run sends the same bytes, which have one place in the
// log however often they are sent. With NoWait it returns after 5 with a nil
// Final. On an error after 4 the entry is returned too.
func (h *Home) Deposit(ctx context.Context, c *client.Client, st Step, ev Events) (*Entry, *client.Final, error) {
	objects, err := h.keepAll(ctx, st.Sources, ev)
	if err != nil {
		return nil, nil, err
	}
	return h.add(ctx, c, st.Trail, st.NoWait, ev, func(s *evidence.Statement, now time.Time) error {
		salt, err := evidence.NewSalt(h.config.Random)
		if err != nil {
			return err
		}
		m := evidence.Manifest{V: 1, Salt: salt, Phase: st.Phase, Step: st.Name, Note: st.Note, Created: now.Truncate(time.Second).Format(time.RFC3339),
			Person: h.config.Person, Place: evidence.Place{Claimed: st.Claimed}, Dimensions: st.Dimensions, Objects: objects}
		if st.Act != nil {
			if err := st.Act(ctx, &m); err != nil {
				return fmt.Errorf("confirming the act: %w", err)
			}
		}
		data, err := m.Encode()
		if err != nil {
			return fmt.Errorf("building the manifest: %w", err)
		}
		if err := h.keepBytes(ctx, data); err != nil {
			return fmt.Errorf("keeping the manifest: %w", err)
		}
		digest := evidence.SumSHA256(data)
		s.ContentType, s.Payload, s.ManifestSM3 = evidence.TypeDeposit, digest[:], evidence.SumSM3(data)
		return nil
	})
}

// Authorise gives another key rights in a trail of this member, or takes them
// back (rights 0).
func (h *Home) Authorise(ctx context.Context, c *client.Client, trail, kid evidence.Digest, rights uint64, ev Events) (*Entry, *client.Final, error) {
	if trail.IsZero() {
		return nil, nil, errors.New("authorising a key: the trail is required")
	}
	return h.add(ctx, c, trail, false, ev, func(s *evidence.Statement, _ time.Time) error {
		s.ContentType = evidence.TypeAuthorisation
		s.Payload = (&evidence.Authorisation{KID: kid, Rights: rights}).Encode()
		return nil
	})
}

// keepAll puts the files into the vault.
func (h *Home) keepAll(ctx context.Context, sources []Source, ev Events) ([]evidence.Object, error) {
	objects := make([]evidence.Object, 0, len(sources))
	for i, src := range sources {
		o, err := h.keepSource(ctx, i, src, ev)
		if err != nil {
			return nil, fmt.Errorf("keeping %s: %w", src.Name, err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func (h *Home) keepSource(ctx context.Context, i int, src Source, ev Events) (evidence.Object, error) {
	r, err := src.Open()
	if err != nil {
		return evidence.Object{}, err
	}
	defer r.Close()
	head := &headReader{r: r}
	var progress func(int64)
	if ev.Progress != nil {
		progress = func(n int64) { ev.Progress(i, n) }
	}
	kept, err := h.keep(ctx, head, progress)
	if err != nil {
		return evidence.Object{}, err
	}
	if ev.Kept != nil {
		ev.Kept(i, kept)
	}
	media := src.Media
	if media == "" {
		media = mediaType(src.Name, head.first)
	}
	return evidence.Object{Name: src.Name, Size: kept.Size, Media: media, SHA256: kept.SHA256, SM3: kept.SM3,
		Vault: &evidence.VaultRef{Chunks: kept.Chunks, PlainRoot: kept.PlaintextRoot, CipherRoot: kept.CiphertextRoot}}, nil
}

// headReader remembers the first 512 bytes, which tell the media type.
type headReader struct {
	r     io.Reader
	first []byte
}

func (h *headReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if room := 512 - len(h.first); room > 0 {
		h.first = append(h.first, p[:min(n, room)]...)
	}
	return n, err
}

func mediaType(name string, first []byte) string {
	for _, t := range []string{mime.TypeByExtension(strings.ToLower(filepath.Ext(name))), http.DetectContentType(first)} {
		if t, _, err := mime.ParseMediaType(t); err == nil && t != "" {
			return t
		}
	}
	return "application/octet-stream"
}

// add signs a statement of the trail and sends it. build sets its kind and
// content.
func (h *Home) add(ctx context.Context, c *client.Client, trail evidence.Digest, noWait bool, ev Events, build func(*evidence.Statement, time.Time) error) (*Entry, *client.Final, error) {
	s := evidence.Statement{Issuer: h.config.Person.Member, Subject: evidence.SubjectNewTrail}
	if !trail.IsZero() {
		unlock, err := h.journal.lock(ctx, trail, ev.Waiting)
		if err != nil {
			return nil, nil, err
		}
		defer unlock()
		if s.Prev, err = h.previous(ctx, c, trail); err != nil {
			return nil, nil, err
		}
		s.Subject = evidence.TrailSubject(trail)
	}
	// After the files are kept, so that the checkpoint is as fresh as it can be.
	checkpoint, err := c.Checkpoint(ctx)
	if err != nil {
		return nil, nil, err
	}
	s.After = checkpoint.Checkpoint
	now := h.config.Now()
	s.IssuedAt = now.Unix()
	if err := build(&s, now); err != nil {
		return nil, nil, err
	}
	signed, err := s.Sign(h.config.Signer)
	if err != nil {
		return nil, nil, err
	}
	e, err := h.journal.add(signed, checkpoint.Encode())
	if err != nil {
		return nil, nil, err
	}
	if err := h.journal.setLast(e.Trail); err != nil {
		return e, nil, err
	}
	if ev.Signed != nil {
		ev.Signed(e)
	}
	if noWait {
		_, err := c.Submit(ctx, signed.Bytes())
		if err != nil {
			err = h.failed(e, err)
		}
		return e, nil, err
	}
	final, err := h.send(ctx, c, e)
	return e, final, err
}

// ForkError says that a trail cannot be continued by this home, because the log
// has it otherwise than the journal.
type ForkError struct {
	Trail  evidence.Digest
	Reason string
}

func (e *ForkError) Error() string { return fmt.Sprintf("trail %s: %s", e.Trail, e.Reason) }

// previous returns the last statement of the trail, after sending what an
// interrupted run left. The caller holds the lock.
func (h *Home) previous(ctx context.Context, c *client.Client, trail evidence.Digest) (evidence.Digest, error) {
	if _, err := h.resend(ctx, c, trail); err != nil {
		return evidence.Digest{}, fmt.Errorf("sending what an interrupted deposit left: %w", err)
	}
	t, err := h.wholeTrail(ctx, c, trail)
	if err != nil {
		return evidence.Digest{}, err
	}
	if owner, rights := t.Rights(h.KID()); !owner && rights&evidence.RightAppend == 0 {
		return evidence.Digest{}, &ForkError{trail, "this key may not add to it; its owner can authorise the key"}
	}
	return t.Last(), nil
}

// wholeTrail fetches the trail and waits until it holds every statement that
// this home knows to be final: an institution may be a moment behind.
func (h *Home) wholeTrail(ctx context.Context, c *client.Client, trail evidence.Digest) (*client.Trail, error) {
	entries, err := h.journal.entries(trail)
	if err != nil {
		return nil, err
	}
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		t, err := c.Trail(ctx, trail)
		if err == nil && holdsAll(t, entries) {
			return t, nil
		}
		var p *client.Problem
		behind := err == nil || errors.Is(err, client.ErrNotFound) || errors.As(err, &p) && p.Code == "forbidden" && hasPlace(entries)
		if !behind {
			return nil, err
		}
		if wait > 5*time.Second { // 10 s in all; an alliance that works takes milliseconds
			if err == nil {
				err = &ForkError{trail, "the institutions that answer do not list a step whose receipts this home has"}
			}
			return nil, err
		}
		t2 := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t2.Stop()
			return nil, ctx.Err()
		case <-t2.C:
		}
	}
}

func holdsAll(t *client.Trail, entries []Entry) bool {
	have := map[evidence.Digest]bool{}
	for _, s := range t.Steps {
		have[s.Digest()] = true
	}
	for _, s := range t.Foreign {
		have[s.Digest()] = true
	}
	for _, e := range entries {
		if e.Place != nil && !have[e.Statement.Digest()] {
			return false
		}
	}
	return true
}

func hasPlace(entries []Entry) bool {
	for _, e := range entries {
		if e.Place != nil {
			return true
		}
	}
	return false
}
