package verify

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// step is a statement of the package while it is being judged.
type step struct {
	n        int
	index    evidence.IndexStep
	stmt     *evidence.Statement // nil when unreadable
	manifest *evidence.Manifest  // nil when withheld or unreadable
	digest   evidence.Digest
	reg      registered
	signer   *member // nil when not known
}

func (s *step) at() Subject { return Subject{Step: s.n, Path: s.index.Statement} }

// readSteps parses every statement and verifies its receipts, so that its place
// in the log is known before anything else is asked.
func (r *run) readSteps() {
	for _, is := range r.pkg.Steps() {
		s := &step{n: is.N, index: is}
		r.steps = append(r.steps, s)
		r.rep.Steps = append(r.rep.Steps, Step{N: is.N, Kind: "unreadable", Position: is.Position, Verdict: Matches, Witnesses: []Witness{}})
		data := r.readFile(is.Statement)
		r.judged[is.Statement] = true
		s.digest = evidence.SumSHA256(data)
		r.rep.Steps[s.n-1].Statement = s.digest
		stmt, err := evidence.ParseStatement(data)
		if err != nil {
			code, field, offset, detail := formatParts(err)
			r.check("statement", s.at(), DoesNotMatch, because("statement-malformed", "code", code, "field", field, "offset", offset, "detail", detail), ClauseUnaltered, ClauseEncoding)
		} else {
			s.stmt = stmt
			r.check("statement", s.at(), Matches, because("statement-form", "statement", s.digest), ClauseUnaltered, ClauseEncoding)
		}
		position := is.Position
		s.reg = r.checkReceipts(Subject{Step: s.n}, s.digest, &position, r.receiptFiles(is.Receipts))
		if s.reg.seen {
			r.rep.Steps[s.n-1].Position = s.reg.position
		}
		r.rep.Steps[s.n-1].Witnesses = append(r.rep.Steps[s.n-1].Witnesses, s.reg.witnesses...)
	}
}

// checkStatements verifies signature, key status, manifest and objects of each.
func (r *run) checkStatements() {
	for _, s := range r.steps {
		if s.stmt == nil {
			continue
		}
		st := &r.rep.Steps[s.n-1]
		st.Kind = "deposit"
		st.Who = Who{Member: s.stmt.Issuer, KID: s.stmt.KID}
		st.Time.Claimed = clockText(s.stmt.IssuedAt)
		st.Time.NotBeforeSize = s.stmt.After.Size
		r.checkSigner(s)
		if s.stmt.Envelope() {
			r.checkManifest(s)
			continue
		}
		switch s.stmt.ContentType {
		case evidence.TypeAuthorisation:
			st.Kind = "authorisation"
			if a, err := evidence.ParseAuthorisation(s.stmt.Payload); err == nil {
				st.Authorises = &Rights{KID: a.KID, Append: a.Rights&evidence.RightAppend != 0, Read: a.Rights&evidence.RightRead != 0}
			}
		default:
			r.check("link", s.at(), DoesNotMatch, because("link-registry"), ClauseBefore)
		}
		if s.index.Manifest != "" || len(s.index.Objects) > 0 {
			r.check("manifest", Subject{Step: s.n, Path: s.index.Manifest}, DoesNotMatch, because("manifest-not-expected"), ClauseUnaltered)
		}
	}
}

// checkSigner verifies a step's signature and that the key was a member's, or
// an institution's, at the step's place in the log.
func (r *run) checkSigner(s *step) {
	at := s.at()
	at.Key = s.stmt.KID.String()
	s.signer = r.memberOf(s.stmt.KID, s.reg.position)
	m := s.signer
	if m == nil || m.key == nil {
		r.check("signature", at, Undetermined, because("signer-key-unknown"), ClauseUnaltered, ClauseCOSE)
		r.check("key-status", at, Undetermined, because("key-not-shown"), ClausePlatform)
		return
	}
	st := &r.rep.Steps[s.n-1]
	st.Who.Kind, st.Who.Institution, st.Who.Assurance, st.Who.Demo, st.Who.Known = m.kind, m.institution, m.assurance, m.demo, m.holds
	switch err := m.key.Verify(s.stmt.ToBeSigned(), s.stmt.Signature); {
	case s.stmt.Algorithm != m.key.Algorithm():
		r.check("signature", at, DoesNotMatch, because("signature-algorithm", "signed", s.stmt.Algorithm, "key", m.key.Algorithm()), ClauseUnaltered, ClauseCOSE)
	case err != nil:
		r.check("signature", at, DoesNotMatch, because("signature-wrong", "member", s.stmt.Issuer), ClauseUnaltered, ClauseCOSE)
	default:
		r.check("signature", at, Matches, because("signature-holds", "member", s.stmt.Issuer, "algorithm", m.key.Algorithm()), ClauseUnaltered, ClauseCOSE)
		// Only the signer can make a signature on which the chain's rule and
		// the strict one differ. Other people's software may refuse it, so what
		// it is worth cannot be told.
		if err := m.key.VerifyStrict(s.stmt.ToBeSigned(), s.stmt.Signature); err != nil {
			r.check("signature-strict", at, Undetermined, because("strict-fails"), ClauseCOSE)
		}
	}
	r.checkKeyStatus(s, at)
}

// checkManifest compares the manifest with the statement that commits to it.
func (r *run) checkManifest(s *step) {
	at := Subject{Step: s.n, Path: s.index.Manifest}
	if s.index.Manifest == "" {
		r.check("manifest", at, Undetermined, because("manifest-withheld"), ClauseUnaltered, ClauseEnvelope)
		r.rep.Withheld = append(r.rep.Withheld, r.withheldPart("manifest", s, ""))
		return
	}
	data := r.readFile(s.index.Manifest)
	r.judged[s.index.Manifest] = true
	sum, sm3 := evidence.SumSHA256(data), evidence.SumSM3(data)
	switch {
	case sum != evidence.Digest(s.stmt.Payload):
		r.check("manifest", at, DoesNotMatch, because("manifest-digest", "algorithm", "SHA-256", "found", sum, "signed", evidence.Digest(s.stmt.Payload)), ClauseUnaltered, ClauseEnvelope)
		return
	case sm3 != s.stmt.ManifestSM3:
		r.check("manifest", at, DoesNotMatch, because("manifest-digest", "algorithm", "SM3", "found", sm3, "signed", s.stmt.ManifestSM3), ClauseUnaltered, ClauseEnvelope)
		return
	}
	m, err := evidence.ParseManifest(data)
	if err != nil {
		code, field, _, detail := formatParts(err)
		r.check("manifest", at, DoesNotMatch, because("manifest-malformed", "code", code, "field", field, "detail", detail), ClauseUnaltered, ClauseJSON)
		return
	}
	r.check("manifest", at, Matches, because("manifest-holds", "objects", len(m.Objects)), ClauseUnaltered, ClauseEnvelope, ClauseJSON)
	s.manifest = m
	st := &r.rep.Steps[s.n-1]
	st.Phase, st.Name, st.Note = string(m.Phase), m.Step, m.Note
	st.Claimed, st.Witnessed = facts(m.Place.Claimed), facts(m.Place.Witnessed)
	st.Facts = append(append(facts(m.Dimensions.Before), facts(m.Dimensions.During)...), facts(m.Dimensions.After)...)
	r.checkPerson(s, at)
	r.checkAct(s, at)
	r.checkObjects(s)
}

func facts(m map[string]string) []Fact {
	var out []Fact
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Fact{name, m[name]})
	}
	return out
}

// checkPerson compares the person the manifest names with the enrolment of the
// key. A service may deposit for the owner of the trail; the level is then the
// owner's.
func (r *run) checkPerson(s *step, at Subject) {
	p, m := &s.manifest.Person, s.signer
	if p.Member != s.stmt.Issuer {
		owner := r.owner()
		if owner == nil || owner.stmt.Issuer != p.Member {
			r.check("person", at, DoesNotMatch, because("person-other", "member", p.Member, "signer", s.stmt.Issuer), ClauseBefore)
			return
		}
		r.notice(Subject{Step: s.n}, because("person-on-behalf", "member", p.Member, "signer", s.stmt.Issuer))
		m = r.memberOf(owner.stmt.KID, owner.reg.position)
	}
	switch {
	case m == nil || !m.holds:
		r.check("person", at, Undetermined, because("person-not-enrolled", "member", p.Member), ClauseBefore)
	case m.institution:
		r.check("person", at, Matches, because("person-institution", "member", p.Member), ClauseBefore)
	case p.Assurance > m.assurance:
		r.check("person", at, DoesNotMatch, because("person-assurance", "member", p.Member, "claimed", p.Assurance, "enrolled", m.assurance), ClauseBefore)
	case m.demo && !p.Demo:
		r.check("person", at, DoesNotMatch, because("person-demo-hidden", "member", p.Member), ClauseBefore)
	case !p.Commitment.IsZero() && !m.commitment.IsZero() && p.Commitment != m.commitment:
		r.check("person", at, DoesNotMatch, because("person-commitment", "member", p.Member), ClauseBefore)
	default:
		r.check("person", at, Matches, because("person-enrolled", "member", p.Member, "assurance", m.assurance), ClauseBefore)
	}
	if p.Demo && m == s.signer {
		r.rep.Steps[s.n-1].Who.Demo = true
	}
}

// checkObjects compares each object with the manifest. The bytes were compared
// with the index already (checkFiles), so the index's digests stand for them.
func (r *run) checkObjects(s *step) {
	handedIn := map[int]string{} // number → path
	for _, o := range s.index.Objects {
		number, _, _ := strings.Cut(path.Base(o.Path), "-")
		if i, err := strconv.Atoi(number); err == nil {
			handedIn[i] = o.Path
		}
	}
	st := &r.rep.Steps[s.n-1]
	for i := range s.manifest.Objects {
		o := &s.manifest.Objects[i]
		at := Subject{Step: s.n, Object: i + 1, Path: handedIn[i+1]}
		so := StepObject{Name: o.Name, Size: o.Size, Media: o.Media, SHA256: o.SHA256, SM3: o.SM3, Path: at.Path}
		why := r.checkObject(s, at, o)
		so.Verdict = DoesNotMatch
		switch why.Key {
		case "object-withheld":
			so.Verdict = Undetermined
			r.rep.Withheld = append(r.rep.Withheld, r.withheldPart("object", s, o.Name))
		case "object-holds":
			so.Verdict = Matches
		}
		if so.Verdict == DoesNotMatch {
			so.Computed = r.computed(at.Path, o)
		}
		r.judged[at.Path] = true
		r.check("object", at, so.Verdict, why, ClauseUnaltered)
		st.Objects = append(st.Objects, so)
		delete(handedIn, i+1)
	}
	for _, i := range slices.Sorted(maps.Keys(handedIn)) {
		r.judged[handedIn[i]] = true
		r.check("object", Subject{Step: s.n, Object: i, Path: handedIn[i]}, DoesNotMatch, because("object-not-in-manifest"), ClauseUnaltered)
	}
}

// computed is what the file handed in is, nil where that is what was deposited.
func (r *run) computed(name string, o *evidence.Object) *Computed {
	c, altered := r.altered[name]
	if !altered {
		f := r.files[name]
		c = Computed{Size: f.Size, SHA256: f.SHA256, SM3: f.SM3} // compared by checkFiles
	}
	if c == (Computed{Size: o.Size, SHA256: o.SHA256, SM3: o.SM3}) {
		return nil
	}
	return &c
}

func (r *run) checkObject(s *step, at Subject, o *evidence.Object) Reason {
	f, ok := r.files[at.Path]
	switch {
	case !ok:
		return because("object-withheld", "name", o.Name, "sha256", o.SHA256)
	case r.damaged[at.Path]:
		return because("object-altered", "name", o.Name)
	case f.SHA256 != o.SHA256:
		return because("object-digest", "name", o.Name, "algorithm", "SHA-256", "found", f.SHA256, "manifest", o.SHA256)
	case f.SM3 != o.SM3:
		return because("object-digest", "name", o.Name, "algorithm", "SM3", "found", f.SM3, "manifest", o.SM3)
	case f.Size != o.Size:
		return because("object-size", "name", o.Name, "found", f.Size, "manifest", o.Size)
	case path.Base(at.Path) != fmt.Sprintf("%02d-%s", at.Object, evidence.SafeFileName(o.Name)):
		return because("object-name", "name", o.Name)
	}
	return because("object-holds", "name", o.Name, "size", o.Size)
}

func (r *run) withheldPart(what string, s *step, name string) Withheld {
	w := Withheld{What: what, Step: s.n, Entry: s.digest, Name: name}
	if s.reg.seen {
		p := s.reg.position
		w.Position = &p
	}
	return w
}
