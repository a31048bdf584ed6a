package capture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zhenglian/zhenglian/evidence"
)

// Chain is where a session's steps go: the party's trail, by the recorder's key.
// Its calls follow each other.
type Chain interface {
	// Add deposits a step and returns when it is final. signed says whether the
	// statement was signed and kept for good: with an error beside it, it will be
	// sent before the next one, and the step is not to be added again.
	Add(ctx context.Context, s Step) (signed bool, err error)
	// Signed returns how many steps of this trail the recorder's key has signed and
	// kept, those that the chain refused left out.
	Signed(ctx context.Context) (int, error)
	// Flush sends what was signed and is not final yet.
	Flush(ctx context.Context) error
}

// Step is what the recorder deposits.
type Step struct {
	Phase evidence.Phase
	Name  string
	Facts map[string]string // of the dimension of Phase
	Files []File
}

// File is an object of a step.
type File struct {
	Name, Media string
	Open        func() (io.ReadCloser, error)
}

// fileIntents is where a session writes down what it is about to sign.
const fileIntents = "deposits.jsonl"

// intent is a line of fileIntents: the recorder's statement number N of the
// trail, if there is one, is this step.
type intent struct {
	N     int    `json:"n"`
	Step  string `json:"step"`
	First int64  `json:"first"`
	Last  int64  `json:"last"` // of a batch
}

// intend writes an intent, durably.
func intend(dir string, i intent) error {
	line, err := json.Marshal(i)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, fileIntents), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("writing down what will be signed: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing down what will be signed: %w", err)
	}
	return syncFolder(dir)
}

// intents reads what was written down; a torn last line counts for nothing.
func intents(dir string) ([]intent, error) {
	f, err := os.Open(filepath.Join(dir, fileIntents))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was to be signed: %w", err)
	}
	defer f.Close()
	var all []intent
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var i intent
		if json.Unmarshal(lines.Bytes(), &i) == nil {
			all = append(all, i)
		}
	}
	return all, lines.Err()
}

// signedOf returns the intents that became statements: of each number the last
// one written down, up to the number that the chain tells.
func signedOf(all []intent, signed int) []intent {
	last := map[int]intent{}
	for _, i := range all {
		last[i.N] = i
	}
	var out []intent
	for n := 1; n <= signed; n++ {
		if i, ok := last[n]; ok {
			out = append(out, i)
		}
	}
	return out
}
