package capture

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// Result is how a session ended.
type Result struct {
	Session evidence.Digest `json:"session"`
	Trail   evidence.Digest `json:"trail"`
	State   string          `json:"state"` // complete or partial
	Reason  string          `json:"reason,omitempty"`
	Events  int64           `json:"events"`
	Head    evidence.Digest `json:"head"`
	Records int64           `json:"records"` // of the archive
	Frames  int64           `json:"frames"`
	Steps   int             `json:"steps"`  // done
	Failed  int             `json:"failed"` // steps
	Files   []string        `json:"files"`  // objects of the last step
}

// Seal ends the session: complete without a reason, partial with one. Nothing
// else may use it any more. In this order, each durable before the next:
//
//  1. the events are brought to the chain in a last batch;
//  2. exchanges under way get their end, the video and the archive are written and named in
//     events, session.close ends the log;
//  3. a batch of what 1 could not bring, then the step "seal" with the files.
//
// What was done already is not done again: a session that was killed while it was
// sealed is sealed by the same call after Resume. When the chain is not reached,
// the session is whole on disk, the error is that of the chain, and Resume goes
// on from there.
func (s *Session) Seal(ctx context.Context, reason string) (*Result, error) {
	s.batch.stop()
	if err := s.Failed(); err != nil {
		return nil, fmt.Errorf("sealing the session: %w", err)
	}
	if err := s.batch.flush(ctx); err != nil {
		s.config.Logger.Warn("the last batch of events is not on the chain yet", "err", err)
	}
	found, err := s.survey()
	if err != nil {
		return nil, err
	}
	if found.close == nil {
		if err := s.closeLog(found, reason); err != nil {
			return nil, fmt.Errorf("sealing the session: %w", err)
		}
		if found, err = s.survey(); err != nil {
			return nil, err
		}
	}
	if err := s.depositSeal(ctx, found); err != nil {
		return nil, errors.Join(errNotFinal, err)
	}
	return s.result(found), nil
}

// survey is what the log says that sealing must know.
type survey struct {
	open      map[int64]*recording.Logged // exchanges without end, by their last event
	frames    []evidence.Digest
	downloads []*recording.Logged
	video     *recording.Logged
	archive   *recording.Logged
	close     *recording.Logged
	steps     int
	failed    int
}

func (s *Session) survey() (*survey, error) {
	f := &survey{open: map[int64]*recording.Logged{}}
	return f, s.log.read(func(e *recording.Logged) error {
		switch e.Type {
		case recording.TypeRequest, recording.TypeResponse:
			f.open[e.Data.Int("exchange")] = e
		case recording.TypeEnd:
			delete(f.open, e.Data.Int("exchange"))
		case recording.TypeFrames:
			for _, text := range e.Data.Texts("frames") {
				d, err := evidence.ParseDigest(text)
				if err != nil {
					return fmt.Errorf("event %d: %w", e.Seq, err)
				}
				f.frames = append(f.frames, d)
			}
		case recording.TypeDownloaded:
			f.downloads = append(f.downloads, e)
		case recording.TypeStep:
			f.steps++
		case recording.TypeStepFailed:
			f.failed++
		case recording.TypeVideoSealed:
			f.video = e
		case recording.TypeWARCSealed:
			f.archive = e
		case recording.TypeClose:
			f.close = e
		}
		return nil
	})
}

// closeLog writes what stands between the last event and session.close.
func (s *Session) closeLog(f *survey, reason string) error {
	s.mu.Lock()
	err := s.nameFrames(s.config.Now())
	s.mu.Unlock()
	if err != nil {
		return err
	}
	again, err := s.survey() // the frames just named
	if err != nil {
		return err
	}
	s.Phase(evidence.PhaseAfter)
	for _, id := range sortedKeys(f.open) {
		e := f.open[id]
		data := recording.Data{"exchange": id, "url": e.Data.Text("url"), "truncated": "session-ended", "code": "session-ended", "error": "the recording ended first"}
		for _, name := range []string{"connection", "status", "background"} {
			if v, ok := e.Data[name]; ok {
				data[name] = v
			}
		}
		if err := s.Event(recording.TypeEnd, data); err != nil {
			return err
		}
	}
	if f.video == nil {
		n, err := cutVideo(s.config.Dir, again.frames)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := s.sealed(recording.TypeVideoSealed, recording.RoleVideo, recording.FileVideo, "video/matroska", recording.Data{"frames": int64(n)}); err != nil {
				return err
			}
		}
	}
	if f.archive == nil {
		n, err := s.archive(s.config.Now())
		if err != nil {
			return err
		}
		if err := s.sealed(recording.TypeWARCSealed, recording.RoleWACZ, recording.FileWACZ, "application/wacz", recording.Data{"records": int64(n)}); err != nil {
			return err
		}
	}
	state := recording.StateComplete
	if reason != "" {
		state = recording.StatePartial
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eventLocked(recording.TypeClose, s.log.chain.Close(state, clip(reason)), nil)
}

// sealed names a finished file in an event.
func (s *Session) sealed(kind, role, name, media string, data recording.Data) error {
	f, err := os.Open(filepath.Join(s.config.Dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return s.event(kind, data, []recording.Blob{{Role: role, SHA256: evidence.Digest(h.Sum(nil)), Size: n, Media: media}})
}

// depositSeal brings what is left to the chain.
func (s *Session) depositSeal(ctx context.Context, f *survey) error {
	if err := s.batch.flush(ctx); err != nil {
		return err
	}
	signed, err := s.config.Chain.Signed(ctx)
	if err != nil {
		return err
	}
	all, err := intents(s.config.Dir)
	if err != nil {
		return err
	}
	for _, i := range signedOf(all, signed) {
		if i.Step == recording.StepSeal {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Deposit)
			defer cancel()
			return s.config.Chain.Flush(ctx)
		}
	}
	sum := recording.Summary{Session: s.config.Session, Count: f.close.Seq + 1, Head: f.close.Digest, State: f.close.Data.Text("state"), Reason: f.close.Data.Text("reason")}
	_, err = s.deposit(ctx, signed+1, intent{Step: recording.StepSeal}, Step{Phase: evidence.PhaseAfter, Name: recording.StepSeal, Facts: sum.Facts(), Files: s.files(f)})
	return err
}

// files are the objects of the last step.
func (s *Session) files(f *survey) []File {
	own := func(name, media string) File {
		return File{name, media, func() (io.ReadCloser, error) { return os.Open(filepath.Join(s.config.Dir, name)) }}
	}
	out := []File{own(recording.FileEvents, "application/jsonl"), own(recording.FileWACZ, "application/wacz")}
	if f.video != nil {
		out = append(out, own(recording.FileVideo, "video/matroska"))
	}
	for _, d := range f.downloads {
		if b, ok := d.Blob(recording.RoleDownload); ok {
			out = append(out, File{d.Data.Text("name"), "", func() (io.ReadCloser, error) { return s.blobs.open(b.SHA256) }})
		}
	}
	return out
}

func (s *Session) result(f *survey) *Result {
	r := &Result{Session: s.config.Session, Trail: s.config.Trail, State: f.close.Data.Text("state"), Reason: f.close.Data.Text("reason"), Events: f.close.Seq + 1, Head: f.close.Digest,
		Records: f.archive.Data.Int("records"), Frames: int64(len(f.frames)), Steps: f.steps, Failed: f.failed}
	for _, file := range s.files(f) {
		r.Files = append(r.Files, file.Name)
	}
	return r
}

// Destroy removes the session's folder, plaintext and all, after Close. What the
// owner keeps is in her vault by then.
func Destroy(dir string) error {
	// The state goes first: a folder without it is no session that could be resumed.
	if err := os.Remove(filepath.Join(dir, fileState)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the session's folder: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the session's folder: %w", err)
	}
	return nil
}
