package verify

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/zhenglian/zhenglian/evidence"
)

// keyChange is an institution's change of a key in the package.
type keyChange struct {
	name  string
	kid   evidence.Digest // of the new key, as the path says
	reg   evidence.Registration
	files []receiptFile
}

// followKeys takes the package's key changes into the policy, as far as they are
// proven under it: keys that the institutions' own statements and a quorum's
// receipts lead to from what the verifier trusts. What does not stand weighs
// against the package; where the policy has a change already, it says so itself.
func (r *run) followKeys() {
	changes := r.keyChanges()
	if len(changes) == 0 {
		return
	}
	if r.policy == nil {
		for _, c := range changes {
			r.check("key-change", Subject{Path: c.name}, Undetermined, because("no-keys"), ClausePlatform)
		}
		return
	}
	var regs []evidence.Registration
	for _, c := range changes {
		regs = append(regs, c.reg)
	}
	next, followed, refused := r.policy.Follow(regs)
	r.policy = next
	for _, c := range changes {
		at := Subject{Path: c.name, Key: c.kid.String()}
		d := evidence.SumSHA256(c.reg.Statement)
		i := slices.IndexFunc(followed, func(f evidence.Followed) bool { return f.Statement == d })
		if i < 0 {
			r.notFollowed(at, c, d, refused)
			continue
		}
		f := followed[i]
		at.Institution = f.Institution
		if f.Key.KID() != c.kid {
			r.check("key-change", at, DoesNotMatch, because("key-change-other-key", "found", f.Key.KID()), ClausePlatform)
			continue
		}
		if reg := r.checkReceipts(at, d, &f.Position, c.files); !reg.quorum {
			continue // its own check has said so
		}
		r.check("key-change", at, Matches, because("key-change-holds", "institution", f.Institution, "use", f.Use, "position", f.Position, "key", f.Replaces), ClausePlatform)
	}
}

// notFollowed says of a change that is not new to the policy that nothing rests
// on it, and of any other why it does not stand.
func (r *run) notFollowed(at Subject, c keyChange, d evidence.Digest, refused []evidence.NotFollowed) {
	i := slices.IndexFunc(refused, func(n evidence.NotFollowed) bool { return n.Statement == d })
	switch {
	case i >= 0 && refused[i].Open:
		r.check("key-change", at, Undetermined, because("key-change-open", "detail", refused[i].Err), ClausePlatform)
	case i >= 0:
		r.check("key-change", at, DoesNotMatch, because("key-change-refused", "detail", refused[i].Err), ClausePlatform)
	default:
		r.rep.Unchecked = append(r.rep.Unchecked, Unchecked{c.name, because("unchecked-key-change")})
		for _, f := range c.files {
			r.rep.Unchecked = append(r.rep.Unchecked, Unchecked{f.path, because("unchecked-key-change")})
		}
	}
}

// keyChanges reads the key changes of the package and marks their files judged.
func (r *run) keyChanges() []keyChange {
	var out []keyChange
	for _, name := range r.withRole(evidence.RoleKeyChange) {
		base := name[:len(name)-len("cose")]
		c := keyChange{name: name}
		c.kid, _ = evidence.ParseDigest(base[len("keychanges/") : len(base)-1]) // OpenPackage has held the path to its grammar
		var paths []string
		for _, p := range r.withRole(evidence.RoleKeyChangeReceipt) {
			if len(p) > len(base) && p[:len(base)] == base {
				paths = append(paths, p)
			}
		}
		c.files = r.receiptFiles(paths)
		c.reg = evidence.Registration{Statement: r.readFile(name), Receipts: map[string][]byte{}}
		r.judged[name] = true
		for _, f := range c.files {
			r.judged[f.path] = true
			c.reg.Receipts[f.institution] = f.data
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b keyChange) int { return bytes.Compare(a.kid[:], b.kid[:]) })
	return out
}

// unknownKey reports whether the policy cannot say whose key this is: then what
// it signed is open, and the reader is told how to get the current policy.
func (r *run) unknownKey(kid evidence.Digest) bool { return !r.policy.KnownKey(kid) }

// noteCompromised says once of a key that its institution gave it up because
// somebody else may have had it. What it signed for sizes before still counts:
// for whoever has it now, those roots are signed by others too.
func (r *run) noteCompromised(inst string, kid evidence.Digest) {
	to, ok := r.policy.Compromised()[kid]
	if !ok || r.noted[kid] {
		return
	}
	if r.noted == nil {
		r.noted = map[evidence.Digest]bool{}
	}
	r.noted[kid] = true
	r.notice(Subject{Institution: inst, Key: kid.String()}, because("key-compromised", "institution", inst, "size", strconv.FormatUint(to-1, 10)))
}
