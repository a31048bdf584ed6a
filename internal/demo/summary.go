package demo

import (
	"encoding/json"
	"os"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

// Summary is summary.json: what a program wants of a demonstration.
type Summary struct {
	Alliance     evidence.Digest `json:"alliance"` // id
	Trail        evidence.Digest `json:"trail"`
	Packages     []Package       `json:"packages"`
	Institutions []Institution   `json:"institutions"`
	Portal       *Portal         `json:"portal,omitempty"`
	Timings      []Timing        `json:"timings"` // in the order of the scenes
	Seconds      float64         `json:"seconds"` // all together
}

// Package is one evidence package and what the court's node said of it.
type Package struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Verdict string   `json:"verdict"`          // "matches", "does not match", "cannot be determined"
	Objects []string `json:"objects"`          // evidence files in it, in order
	Faults  []string `json:"faults,omitempty"` // files of it that do not match
	Report  string   `json:"report,omitempty"` // where the report is
}

// Institution is the public side of one of the four.
type Institution struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Address string `json:"address"` // base URL of its public interface
	Keys    []Key  `json:"keys"`
}

// Key is a public key.
type Key struct {
	Use       string          `json:"use"`
	Algorithm string          `json:"algorithm"`
	KID       evidence.Digest `json:"kid"`
	Public    []byte          `json:"public"` // SubjectPublicKeyInfo (RFC 5280), base64
}

// Timing is how long a scene took.
type Timing struct {
	Scene   string  `json:"scene"`
	Seconds float64 `json:"seconds"`
}

func institutionOf(d *evidence.Descriptor) (Institution, error) {
	of := Institution{ID: d.ID, Name: d.Name, Kind: string(d.Kind), Address: d.Addresses.API}
	for _, use := range []evidence.KeyUse{evidence.UseConsensus, evidence.UseNode, evidence.UseReceipt, evidence.UseCosign, evidence.UseStatement, evidence.UseAttest, evidence.UseTLS} {
		keys, err := d.PublicKeys(use)
		if err != nil {
			return of, err
		}
		for _, k := range keys {
			of.Keys = append(of.Keys, Key{Use: string(use), Algorithm: k.Algorithm().String(), KID: k.KID(), Public: k.DER()})
		}
	}
	return of, nil
}

// words is a verdict as people write it.
func words(v verify.Verdict) string {
	switch v {
	case verify.Matches:
		return "matches"
	case verify.DoesNotMatch:
		return "does not match"
	}
	return "cannot be determined"
}

func (s *Summary) write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
