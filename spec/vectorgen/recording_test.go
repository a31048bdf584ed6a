package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A second implementation reads the vectors of recordings.
func TestRecordingInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	out, err := exec.Command(node, filepath.Join(specDir, "vectors", "recording.mjs")).CombinedOutput()
	if err != nil || strings.Count(string(out), "recording/") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}
