// Command vectorgen writes the test vectors of the statement, the receipt, the
// trail head, the checkpoint, the keys and the registry, and the worked examples
// in the text of the specification. From the root of the source:
//
//	go run ./spec/vectorgen
//
//	fixed keys, from their names ─► deterministic signatures
//	a CBOR writer of its own     ─► valid vectors ─► spec/vectors/*/valid.json …
//	one change each              ─► invalid vectors, with code and field by hand
//	the same bytes, annotated    ─► the examples between markers in spec/*.md
//	test                         ─► what is committed is what this writes
//
// It encodes with its own code, not with package evidence, which the vectors
// test; only the founding document in the registry's story comes from there.
// Trusted by nobody: the secrets in the vectors are public.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	dir := flag.String("spec", "spec", "the folder of the specification")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "vectorgen:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	files, err := generate(dir)
	if err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the content of every generated file, by its path below dir.
func generate(dir string) (map[string][]byte, error) {
	c := newCast()
	var statements []statementValid
	for _, s := range c.statements() {
		statements = append(statements, s.vector())
	}
	heads, badHeads := trailHeads(c)
	notes, badNotes := checkpoints()
	registry, err := registryStory(c)
	if err != nil {
		return nil, fmt.Errorf("the registry's story: %w", err)
	}
	logs, badLogs, recordIDs := recordingVectors()
	files := map[string][]byte{}
	for name, v := range map[string]any{
		"recording/valid.json":      logs,
		"recording/invalid.json":    badLogs,
		"recording/ids.json":        recordIDs,
		"key/valid.json":            validKeys(c),
		"key/invalid.json":          invalidKeys(c),
		"key/signatures.json":       messageSignatures(c),
		"statement/valid.json":      statements,
		"statement/invalid.json":    c.invalidStatements(),
		"statement/signatures.json": c.signatureCases(),
		"receipt/valid.json":        validReceipts(),
		"receipt/invalid.json":      invalidReceipts(),
		"receipt/refused.json":      refusedReceipts(),
		"receipt/transparent.json":  transparentStatements(c),
		"trailhead/valid.json":      heads,
		"trailhead/invalid.json":    badHeads,
		"checkpoint/valid.json":     notes,
		"checkpoint/invalid.json":   badNotes,
		"registry/contents.json":    contents(c),
		"registry/story.json":       registry,
	} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(v); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", name, err)
		}
		files["vectors/"+name] = b.Bytes()
	}
	for doc, examples := range map[string]map[string]string{
		"statement.md": {
			"deposit":       annotateStatement(c.opening.bytes(), true),
			"to-be-signed":  annotate(sigStructure(c.opening.protected().encode(), c.opening.payload), map[string]string{"[0]": "context", "[1]": "body_protected", "[2]": "external_aad", "[3]": "payload"}, nil),
			"digests":       fmt.Sprintf("digest  %x\nID      %s\n", c.opening.digest(), c.opening.vector().ID),
			"authorisation": annotateStatement(c.authorise.bytes(), false),
		},
		"receipt.md": {
			"receipt": annotateReceipt(newReceipt(receiptKeys()[0], 7, 3).bytes()),
			"root":    fmt.Sprintf("entry  %x\nroot   %x\n", newReceipt(receiptKeys()[0], 7, 3).entries[3], newReceipt(receiptKeys()[0], 7, 3).root()),
		},
		"log.md": {"checkpoint": notes[1].Text, "message": notes[1].Cosignatures[0].Message, "vkey": notes[1].Cosignatures[0].VKey + "\n"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, doc))
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(examples)) {
			if text, err = replaceExample(text, name, examples[name]); err != nil {
				return nil, fmt.Errorf("%s: %w", doc, err)
			}
		}
		files[doc] = text
	}
	return files, nil
}

// replaceExample puts an example between its markers.
func replaceExample(text []byte, name, example string) ([]byte, error) {
	begin, end := "<!-- example: "+name+" -->\n", "<!-- end -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	if !ok {
		return nil, fmt.Errorf("there is no marker %q", strings.TrimSpace(begin))
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return nil, fmt.Errorf("the example %q has no end marker", name)
	}
	return []byte(before + begin + "```\n" + example + "```\n" + end + after), nil
}

// exampleBytes reads the hexadecimal column of an example back.
func exampleBytes(text []byte, name string) ([]byte, error) {
	_, rest, ok := strings.Cut(string(text), "<!-- example: "+name+" -->\n```\n")
	if !ok {
		return nil, fmt.Errorf("there is no example %q", name)
	}
	body, _, _ := strings.Cut(rest, "```\n")
	var digits strings.Builder
	for line := range strings.Lines(body) {
		column, _, _ := strings.Cut(line, "#")
		digits.WriteString(strings.TrimSpace(column))
	}
	return hex.DecodeString(digits.String())
}
