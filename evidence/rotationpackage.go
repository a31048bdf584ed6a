package evidence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// parseKeyChangePath reads what follows keychanges/: <kid>.cose, the statement
// that put this key in place, or <kid>.<institution>.cose, a receipt of it.
func parseKeyChangePath(base string) (p packagePath, ok bool) {
	name, found := strings.CutSuffix(base, ".cose")
	kid, inst, receipt := strings.Cut(name, ".")
	d, err := ParseDigest(kid)
	p = packagePath{role: RoleKeyChange, kid: d}
	if receipt {
		p.role, p.inst = RoleKeyChangeReceipt, inst
	}
	return p, found && err == nil && (!receipt || isSlug(inst))
}

// AddKeyChange adds the statement by which an institution replaced a key, and
// its receipts: a reader who has the founding document alone follows it.
func (p *PackageWriter) AddKeyChange(statement []byte, receipts map[string][]byte) error {
	s, err := ParseStatement(statement)
	if err == nil && s.ContentType != TypeKeyChange {
		err = fmt.Errorf("it is no key change but %s", s.ContentType)
	}
	if err != nil {
		return p.fail("keychanges/", err)
	}
	k, err := ParseKeyChange(s.Payload)
	if err != nil {
		return p.fail("keychanges/", err)
	}
	base := "keychanges/" + k.Key.KID().String()
	if err := p.add(base+".cose", statement); err != nil {
		return err
	}
	for _, inst := range slices.Sorted(maps.Keys(receipts)) {
		if err := p.add(base+"."+inst+".cose", receipts[inst]); err != nil {
			return err
		}
	}
	return nil
}

// KeyChanges returns the institutions' key changes by the kid of the new key.
func (p *Package) KeyChanges() (map[Digest]*Registration, error) {
	all := map[Digest]*Registration{}
	for _, f := range p.Index.Files {
		parsed, _ := parsePackagePath(f.Path)
		if parsed.role != RoleKeyChange {
			continue
		}
		r, err := p.registration("key change to " + parsed.kid.String())
		if err != nil {
			return nil, err
		}
		all[parsed.kid] = r
	}
	return all, nil
}
