package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
)

// ownLog is what the court's copy of the log answered.
type ownLog struct {
	checkpoint evidence.Checkpoint
	keys       map[evidence.Digest]KeyStatus
}

func (r *run) openLog(ctx context.Context) error {
	if r.opts.Log == nil {
		return nil
	}
	cp, err := r.opts.Log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("asking the log for its size: %w", err)
	}
	r.log = &ownLog{checkpoint: cp, keys: map[evidence.Digest]KeyStatus{}}
	r.rep.Court = &CourtLog{Institution: r.opts.Log.Institution(), Size: cp.Size, Root: cp.Root}
	return nil
}

// readLogKeys asks the registry about each step's signer, and about the passkeys
// that acts name.
func (r *run) readLogKeys(ctx context.Context) error {
	if r.log == nil {
		return nil
	}
	for _, s := range r.steps {
		if s.stmt == nil {
			continue
		}
		kids := []evidence.Digest{s.stmt.KID}
		if s.index.Manifest != "" {
			m, err := evidence.ParseManifest(r.readFile(s.index.Manifest))
			if err == nil && m.Act != nil && m.Act.Passkey != nil {
				kids = append(kids, m.Act.Passkey.KID)
			}
		}
		for _, kid := range kids {
			if _, asked := r.log.keys[kid]; asked {
				continue
			}
			status, known, err := r.opts.Log.Key(ctx, kid)
			if err != nil {
				return fmt.Errorf("asking the registry for key %s: %w", kid, err)
			}
			if known {
				r.log.keys[kid] = status
			}
		}
	}
	return nil
}

// memberFromLog is what the court's own registry knows of a key. It counts
// before what a package shows.
func (r *run) memberFromLog(kid evidence.Digest) *member {
	if r.log == nil {
		return nil
	}
	k, ok := r.log.keys[kid]
	if !ok || k.Key == nil || k.Key.KID() != kid || k.Passkey != nil {
		return nil
	}
	m := &member{kid: kid, key: k.Key, holder: k.Holder, kind: k.Kind, institution: k.Institution, assurance: k.Assurance,
		demo: k.Demo, commitment: k.Commitment, holds: true, genesis: k.Genesis, enrolledAt: k.EnrolledAt}
	if k.Revoked {
		m.revocations = []revocation{{position: k.RevokedAt}}
	}
	return m
}

// checkOwnLog compares the package with the court's own copy of the log. What
// is not in it fails, whatever receipts the package shows.
func (r *run) checkOwnLog(ctx context.Context) error {
	if r.log == nil {
		return nil
	}
	for _, s := range r.steps {
		if err := r.checkInLog(ctx, s); err != nil {
			return err
		}
	}
	return r.checkWithheld(ctx)
}

// checkOwnRoots compares every root that the package shows with the log's.
func (r *run) checkOwnRoots(ctx context.Context) error {
	if r.log == nil {
		return nil
	}
	for _, size := range slices.Sorted(maps.Keys(r.roots)) {
		seen := r.roots[size]
		root, known, err := r.opts.Log.Root(ctx, size)
		switch {
		case err != nil:
			return fmt.Errorf("asking the log for its root at size %d: %w", size, err)
		case !known:
			r.check("own-root", seen.by, Undetermined, because("own-root-beyond", "size", size, "own", r.log.checkpoint.Size), ClausePlatform, ClauseMerkle)
		case root != seen.root:
			r.check("own-root", seen.by, DoesNotMatch, because("own-root-differs", "size", size, "root", seen.root, "own", root), ClausePlatform, ClauseMerkle)
		default:
			r.check("own-root", Subject{}, Matches, because("own-root-same", "size", size), ClausePlatform, ClauseMerkle)
		}
	}
	return nil
}

func (r *run) checkInLog(ctx context.Context, s *step) error {
	if s.digest.IsZero() {
		return nil // the file was unreadable, which is said already
	}
	at := s.at()
	position, known, err := r.opts.Log.Lookup(ctx, s.digest)
	switch {
	case err != nil:
		return fmt.Errorf("looking step %d up in the log: %w", s.n, err)
	case !known:
		r.check("own-log", at, DoesNotMatch, because("own-log-absent", "institution", r.rep.Court.Institution, "size", r.log.checkpoint.Size), ClauseUnaltered, ClausePlatform)
	case position != s.index.Position || s.reg.seen && position != s.reg.position:
		r.check("own-log", at, DoesNotMatch, because("own-log-position", "own", position, "index", s.index.Position), ClauseUnaltered, ClausePlatform)
	default:
		r.check("own-log", at, Matches, because("own-log-present", "institution", r.rep.Court.Institution, "position", position), ClauseUnaltered, ClausePlatform)
	}
	return nil
}

// checkWithheld lists the statements of the trail that the log has and the
// package has not. A statement by somebody without a right in the trail is no
// step of it, and is only mentioned.
func (r *run) checkWithheld(ctx context.Context) error {
	entries, err := r.opts.Log.Trail(ctx, r.pkg.Index.Trail)
	if err != nil {
		return fmt.Errorf("asking the log for the trail: %w", err)
	}
	if len(entries) == 0 {
		c := &r.rep.Completeness
		c.TreeSize, c.Institutions, c.OwnLog = r.log.checkpoint.Size, []string{r.rep.Court.Institution}, true
		at := Subject{Institution: r.rep.Court.Institution}
		if r.policy != nil && r.pkg.Index.Alliance != r.policy.Alliance {
			r.check("completeness", at, DoesNotMatch, because("own-log-other-alliance", "institution", r.rep.Court.Institution, "found", r.pkg.Index.Alliance, "alliance", r.policy.Alliance), ClauseBefore)
			return nil
		}
		r.check("completeness", at, DoesNotMatch, because("own-log-no-trail", "institution", r.rep.Court.Institution, "size", c.TreeSize, "trail", r.pkg.Index.Trail), ClauseBefore)
		return nil
	}
	have := map[evidence.Digest]bool{}
	for _, s := range r.steps {
		have[s.digest] = true
	}
	var a *rights
	missing, number := 0, uint64(0)
	for _, e := range entries {
		data, err := r.opts.Log.Statement(ctx, e.Position)
		if err != nil {
			return fmt.Errorf("reading the statement at position %d of the log: %w", e.Position, err)
		}
		stmt, err := evidence.ParseStatement(data)
		if err != nil || evidence.SumSHA256(data) != e.Entry {
			return fmt.Errorf("the log's statement at position %d is damaged", e.Position)
		}
		switch {
		case a == nil && stmt.Subject == evidence.SubjectNewTrail:
			a = &rights{owner: stmt.KID, granted: map[evidence.Digest]uint64{}}
		case a == nil || !a.may(stmt):
			if !have[e.Entry] {
				r.notice(Subject{}, because("foreign-in-log", "position", e.Position, "signer", stmt.Issuer))
			}
			continue
		}
		a.apply(stmt)
		number++
		if have[e.Entry] {
			continue
		}
		missing++
		position := e.Position
		r.rep.Withheld = append(r.rep.Withheld, Withheld{What: "statement", Number: number, Position: &position, Entry: e.Entry})
	}
	c := &r.rep.Completeness
	c.Known, c.TreeSize, c.Count, c.OwnLog = missing == 0, r.log.checkpoint.Size, number, true
	c.Institutions = []string{r.rep.Court.Institution}
	if missing > 0 {
		r.check("completeness", Subject{Institution: r.rep.Court.Institution}, Undetermined, because("complete-withheld", "count", number, "have", number-uint64(missing), "missing", missing, "size", c.TreeSize, "institution", r.rep.Court.Institution), ClauseBefore)
		return nil
	}
	r.check("completeness", Subject{Institution: r.rep.Court.Institution}, Matches, because("complete", "count", number, "size", c.TreeSize, "institution", r.rep.Court.Institution), ClauseBefore)
	return nil
}
