package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// eventLog is events.jsonl of a session on disk. Its caller holds a lock.
type eventLog struct {
	f     *os.File
	chain recording.Chain
	// digests of the events; the batches are made of them. 32 MB for the largest
	// session.
	digests []evidence.Digest
}

// createLog begins a log in a folder that has none.
func createLog(dir string, session evidence.Digest) (*eventLog, error) {
	f, err := os.OpenFile(filepath.Join(dir, recording.FileEvents), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("beginning the event log: %w", err)
	}
	if err := syncFolder(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &eventLog{f: f, chain: recording.Chain{Session: session}}, nil
}

// openLog takes up a log that an interrupted run left. A last line that was not
// written whole is cut off: its event had not happened yet. Any other fault is an
// error, and nothing is changed.
func openLog(dir string) (l *eventLog, err error) {
	f, err := os.OpenFile(filepath.Join(dir, recording.FileEvents), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the event log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	whole, err := lastLine(f)
	if err != nil {
		return nil, fmt.Errorf("reading the event log: %w", err)
	}
	l = &eventLog{f: f}
	r := recording.NewLogReader(io.NewSectionReader(f, 0, whole))
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the event log: %w", err)
		}
		l.digests = append(l.digests, e.Digest)
	}
	l.chain = r.Chain()
	if err := f.Truncate(whole); err != nil {
		return nil, fmt.Errorf("cutting the event log's torn end off: %w", err)
	}
	_, err = f.Seek(whole, io.SeekStart)
	return l, err
}

// lastLine returns the offset behind the last whole line.
func lastLine(f *os.File) (int64, error) {
	var end, at int64
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 1<<20)
	for {
		line, err := r.ReadSlice('\n')
		at += int64(len(line))
		if bytes.HasSuffix(line, []byte("\n")) {
			end = at
		}
		if err == io.EOF {
			return end, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, err
		}
	}
}

// append links e and writes it, durably. After an error the log takes no more:
// what is on disk is not known.
func (l *eventLog) append(e *recording.Event) error {
	line, digest, err := l.chain.Link(e)
	if err != nil {
		return err
	}
	if _, err := l.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing event %d: %w", e.Seq, err)
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("writing event %d: %w", e.Seq, err)
	}
	l.chain.Advance(e, digest)
	l.digests = append(l.digests, digest)
	return nil
}

// read calls each with every event of the log.
func (l *eventLog) read(each func(*recording.Logged) error) error {
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	r := recording.NewLogReader(io.NewSectionReader(l.f, 0, info.Size()))
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the event log: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

func (l *eventLog) close() error { return l.f.Close() }
