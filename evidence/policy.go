package evidence

// Policy says whose keys a verification trusts, for which tree sizes, and how
// many institutions must agree.
type Policy struct {
	V            int                 `json:"v"`
	Alliance     Digest              `json:"alliance"`
	Name         string              `json:"name"`
	Origin       string              `json:"origin"`
	Quorum       int                 `json:"quorum"`
	Institutions []PolicyInstitution `json:"institutions"`
}

type PolicyInstitution struct {
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Kind InstitutionKind `json:"kind"`
	Keys []PolicyKey     `json:"keys"`
}

// PolicyKey counts for tree sizes from ≤ size < to; to 0 or absent means no end.
type PolicyKey struct {
	Use  KeyUse `json:"use"`
	Key  string `json:"key"` // PEM, PUBLIC KEY
	From uint64 `json:"from"`
	To   uint64 `json:"to,omitempty"`
	pub  *PublicKey
}

func PolicyFromAlliance(a *Alliance) (*Policy, error)                    { return nil, errSoon }
func ParsePolicy(data []byte) (*Policy, error)                           { return nil, errSoon }
func (p *Policy) Encode() ([]byte, error)                                { return nil, errSoon }
func (p *Policy) Validate() error                                        { return errSoon }
func (p *Policy) Keys(inst string, use KeyUse, size uint64) []*PublicKey { return nil }
func (p *Policy) ByKID(kid Digest, use KeyUse, size uint64) (inst string, key *PublicKey, ok bool) {
	return "", nil, false
}
