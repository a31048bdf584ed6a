package signin_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

func TestLevels(t *testing.T) {
	c := newClock()
	good := func() object { return verified(c.now(), document("vpip", "pvp")) }
	with := func(part, key string, value any) object {
		v := good()
		inner := maps.Clone(v[part].(object))
		if value == nil {
			delete(inner, key)
		} else {
			inner[key] = value
		}
		v[part] = inner
		return v
	}
	evidence := func(e ...any) object { return with("verification", "evidence", e) }
	other := with("claims", "id_card_number", gbtest.IDNumber(1992, 5, 14, 904).Number())
	type of struct {
		idToken, userInfo any
		more              func(object) // userinfo's top level
		policy            func(*signin.Provider)
		level             signin.Level
		reason            string // the first
	}
	for name, w := range map[string]of{
		"a document, seen in person":     {userInfo: good(), level: 3},
		"in the signed ID token":         {idToken: good(), level: 3},
		"in both":                        {idToken: good(), userInfo: good(), level: 3},
		"an array":                       {userInfo: []any{good()}, level: 3},
		"a document alone":               {userInfo: evidence(document("vri")), level: 2, reason: signin.ReasonNotCompare},
		"a register alone":               {userInfo: evidence(object{"type": "electronic_record", "check_details": []any{object{"check_method": "data"}}}), level: 2, reason: signin.ReasonNotCompare},
		"a register and a live face":     {userInfo: evidence(object{"type": "electronic_record", "check_details": []any{object{"check_method": "data"}, object{"check_method": "bvr"}}}), level: 3},
		"the method of earlier drafts":   {userInfo: evidence(object{"type": "document", "method": "pipp"}), level: 3},
		"one of two":                     {userInfo: []any{evidence(document("kbv")), evidence(document("vri"))}, level: 2, reason: signin.ReasonNotCompare},
		"nothing":                        {level: 1, reason: signin.ReasonNone},
		"null":                           {userInfo: json.RawMessage("null"), level: 1, reason: signin.ReasonNone},
		"an empty array":                 {userInfo: []any{}, level: 1, reason: signin.ReasonNone},
		"a text":                         {userInfo: "level 3", level: 1, reason: signin.ReasonMalformed},
		"an array of texts":              {userInfo: []any{"level 3"}, level: 1, reason: signin.ReasonMalformed},
		"no claims":                      {userInfo: object{"verification": object{"trust_framework": "cn_rna"}}, level: 1, reason: signin.ReasonMalformed},
		"claims of herself":              {more: func(o object) { maps.Copy(o, good()["claims"].(object)); o["assurance_level"] = 3; o["level"] = 3 }, level: 1, reason: signin.ReasonNone},
		"verification beside the claims": {more: func(o object) { maps.Copy(o, good()) }, level: 1, reason: signin.ReasonNone},
		"claims from elsewhere": {more: func(o object) {
			o["_claim_names"] = object{"verified_claims": "a"}
			o["_claim_sources"] = object{"a": object{"JWT": "x.y.z"}}
		}, level: 1, reason: signin.ReasonNone},
		"an unknown framework":           {userInfo: with("verification", "trust_framework", "my_own"), level: 1, reason: signin.ReasonFramework},
		"no framework":                   {userInfo: with("verification", "trust_framework", nil), level: 1, reason: signin.ReasonMalformed},
		"too old":                        {userInfo: with("verification", "time", c.now().AddDate(-2, 0, 0).UTC().Format(time.RFC3339)), level: 1, reason: signin.ReasonTooOld},
		"old, and any age will do":       {userInfo: with("verification", "time", c.now().AddDate(-2, 0, 0).UTC().Format(time.RFC3339)), policy: func(p *signin.Provider) { p.Policy.MaxAge = 0 }, level: 3},
		"in the future":                  {userInfo: with("verification", "time", c.now().Add(time.Hour).UTC().Format(time.RFC3339)), level: 1, reason: signin.ReasonFuture},
		"no time":                        {userInfo: with("verification", "time", nil), level: 1, reason: signin.ReasonTime},
		"no time, and any age will do":   {userInfo: with("verification", "time", nil), policy: func(p *signin.Provider) { p.Policy.MaxAge = 0 }, level: 3},
		"a time that is none":            {userInfo: with("verification", "time", "recently"), policy: func(p *signin.Provider) { p.Policy.MaxAge = 0 }, level: 1, reason: signin.ReasonTime},
		"a time without seconds":         {userInfo: with("verification", "time", c.now().Add(-time.Hour).UTC().Format("2006-01-02T15:04Z")), level: 3},
		"no evidence":                    {userInfo: with("verification", "evidence", nil), level: 1, reason: signin.ReasonEvidence},
		"a vouch":                        {userInfo: evidence(object{"type": "vouch", "check_details": []any{object{"check_method": "pvp"}}}), level: 1, reason: signin.ReasonKind},
		"knowledge questions":            {userInfo: evidence(document("kbv")), level: 1, reason: signin.ReasonMethod},
		"a check that is not known":      {userInfo: evidence(document("telepathy")), level: 1, reason: signin.ReasonMethod},
		"compared with nothing":          {userInfo: evidence(document("pvp")), level: 1, reason: signin.ReasonEvidence},
		"compared with another document": {userInfo: evidence(document("vri"), document("pvp")), level: 2, reason: signin.ReasonNotCompare},
		"an expired document":            {userInfo: evidence(object{"type": "document", "check_details": []any{object{"check_method": "vpip"}}, "document_details": object{"date_of_expiry": "2020-01-01"}}), level: 1, reason: signin.ReasonDocument},
		"no name":                        {userInfo: with("claims", "name", nil), level: 1, reason: signin.ReasonName},
		"no number":                      {userInfo: with("claims", "id_card_number", nil), level: 1, reason: signin.ReasonNumber},
		"a wrong number":                 {userInfo: with("claims", "id_card_number", "119999199205149020"), level: 1, reason: signin.ReasonBadNumber},
		"a number that is a number":      {userInfo: with("claims", "id_card_number", 119999199205149024), level: 1, reason: signin.ReasonNumber},
		"a birth date that is another":   {userInfo: with("claims", "birthdate", "1992-05-15"), level: 1, reason: signin.ReasonBirth},
		"no birth date":                  {userInfo: with("claims", "birthdate", nil), level: 3},
		"two that disagree":              {idToken: good(), userInfo: other, level: 1, reason: signin.ReasonConflict},
		"two that disagree in one array": {userInfo: []any{good(), other}, level: 1, reason: signin.ReasonConflict},
		"one that does not count differs": {idToken: good(), userInfo: func() object {
			o := maps.Clone(other)
			o["verification"] = object{"trust_framework": "my_own"}
			return o
		}(), level: 3},
		"an assurance level as wanted": {userInfo: with("verification", "assurance_level", "high"), policy: func(p *signin.Provider) { p.Policy.Frameworks[0].Assurance = []string{"high"} }, level: 3},
		"a lower assurance level":      {userInfo: with("verification", "assurance_level", "low"), policy: func(p *signin.Provider) { p.Policy.Frameworks[0].Assurance = []string{"high"} }, level: 1, reason: signin.ReasonAssurance},
		"a framework that gives 2":     {userInfo: good(), policy: func(p *signin.Provider) { p.Policy.Frameworks[0].AtMost = 2 }, level: 2, reason: signin.ReasonFrameCap},
		"a framework that gives 1":     {userInfo: good(), policy: func(p *signin.Provider) { p.Policy.Frameworks[0].AtMost = 1 }, level: 1, reason: signin.ReasonFrameCap},
		"no policy":                    {userInfo: good(), policy: func(p *signin.Provider) { p.Policy = signin.Policy{} }, level: 1, reason: signin.ReasonFramework},
		"no number claim configured":   {userInfo: good(), policy: func(p *signin.Provider) { p.NumberClaim = "" }, level: 1, reason: signin.ReasonNumber},
		"a demonstration provider":     {userInfo: good(), policy: func(p *signin.Provider) { p.Demonstration = true }, level: 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, c.now)
			f.claims = func(o object) {
				if w.idToken != nil {
					o["verified_claims"] = w.idToken
				}
			}
			f.userInfo = func(o object) {
				if w.userInfo != nil {
					o["verified_claims"] = w.userInfo
				}
				if w.more != nil {
					w.more(o)
				}
				o["sub"] = "s1"
			}
			p := f.config()
			if w.policy != nil {
				w.policy(&p)
			}
			rp := party(t, c.now, p)
			begun, err := rp.Begin(t.Context(), "fake", signin.Options{})
			if err != nil {
				t.Fatal(err)
			}
			id, err := rp.Finish(t.Context(), "fake", begun.Pending, f.visit(begun.Redirect))
			if err != nil {
				t.Fatal(err)
			}
			if id.Level != w.level {
				t.Errorf("level %d, want %d: %v", id.Level, w.level, id.Reasons)
			}
			if w.reason == "" && len(id.Reasons) != 0 || w.reason != "" && (len(id.Reasons) == 0 || id.Reasons[0].Code != w.reason) {
				t.Errorf("reasons %v, want %q first", id.Reasons, w.reason)
			}
			if (id.Level > 1) != (id.Facts != signin.Facts{}) {
				t.Errorf("facts %v at level %d", id.Facts, id.Level)
			}
			if id.Demo != p.Demonstration {
				t.Errorf("demonstration: %v", id.Demo)
			}
		})
	}
}
