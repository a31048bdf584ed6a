package signin

import (
	"encoding/json"
	"testing"
	"time"
)

// Whatever a provider writes into verified_claims: no panic, and no level without
// the facts it is about, a framework that is believed and evidence.
func FuzzVerifiedClaims(f *testing.F) {
	f.Add([]byte(`{"verification":{"trust_framework":"cn_rna","time":"2026-01-01T00:00:00Z","evidence":[{"type":"document","check_details":[{"check_method":"vpip"},{"check_method":"pvp"}]}]},"claims":{"name":"林若溪","birthdate":"1992-05-14","n":"119999199205149024"}}`), []byte(`null`))
	f.Add([]byte(`[{},null,1]`), []byte(`"x"`))
	f.Add([]byte(`{"verification":{"trust_framework":"cn_rna","evidence":[null]},"claims":{"n":1}}`), []byte(`[[[]]]`))
	p := &provider{Provider: Provider{ID: "p", NumberClaim: "n", Policy: Policy{Frameworks: []Framework{{Name: "cn_rna"}}}}}
	f.Fuzz(func(t *testing.T, idToken, userInfo []byte) {
		var id Identity
		p.weigh(&id, json.RawMessage(idToken), json.RawMessage(userInfo), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
		switch {
		case id.Level < SelfAsserted || id.Level > Seen:
			t.Fatalf("level %d", id.Level)
		case id.Level == SelfAsserted && (id.Facts != Facts{} || len(id.Reasons) == 0):
			t.Fatalf("level 1 with facts or without a reason: %+v", id)
		case id.Level > SelfAsserted && (id.Facts.Name == "" || id.Facts.Number.Number() == "" || id.Source.TrustFramework != "cn_rna" || len(id.Source.Evidence) == 0):
			t.Fatalf("%v without what it needs: %+v", id.Level, id)
		}
	})
}
