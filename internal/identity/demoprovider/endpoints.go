package demoprovider

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// discovery is OpenID Connect Discovery §4 with the additions of RFC 9207 and of
// OpenID Connect for Identity Assurance §9.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	at := p.issuer.String()
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         at,
		"authorization_endpoint":                         at + "/authorize",
		"token_endpoint":                                 at + "/token",
		"userinfo_endpoint":                              at + "/userinfo",
		"jwks_uri":                                       at + "/keys",
		"scopes_supported":                               []string{"openid", "profile"},
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"ES256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post", "none"},
		"code_challenge_methods_supported":               []string{"S256"},
		"acr_values_supported":                           []string{ACR},
		"ui_locales_supported":                           []string{"zh-CN", "en"},
		"claims_supported":                               []string{"sub", "name", "verified_claims"},
		"claims_parameter_supported":                     true,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
		"authorization_response_iss_parameter_supported": true,
		"verified_claims_supported":                      true,
		"trust_frameworks_supported":                     []string{TrustFramework},
		"evidence_supported":                             []string{"electronic_record"},
		"claims_in_verified_claims_supported":            []string{"name", "birthdate", NumberClaim},
	})
}

func (p *Provider) keys(w http.ResponseWriter, r *http.Request) { op.Keys(w, r, p.store) }

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) { op.Userinfo(w, r, p.op) }

// authorize is the authorization endpoint. What is wrong with the client or its
// redirect address is told to the person; everything else to the client.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	asked, err := op.ParseAuthorizeRequest(r, p.op.Decoder())
	if err != nil {
		p.pages.problem(w, r, http.StatusBadRequest, "bad-request")
		return
	}
	known, err := p.store.GetClientByClientID(r.Context(), asked.ClientID)
	if err != nil || !slices.Contains(known.RedirectURIs(), asked.RedirectURI) {
		p.pages.problem(w, r, http.StatusBadRequest, "unknown-client")
		return
	}
	asked.IDTokenHint = "" // whoever it names: the person chooses anew
	if _, err := op.ValidateAuthRequestClient(r.Context(), asked, known, nil); err != nil {
		p.answerError(w, r, asked, err)
		return
	}
	var claims claimsRequest
	switch {
	case asked.RequestParam != "" || r.Form.Get("request_uri") != "":
		err = oidc.ErrRequestNotSupported()
	case !slices.Contains(asked.Scopes, oidc.ScopeOpenID):
		err = oidc.ErrInvalidScope().WithDescription("scope must have openid")
	case asked.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || len(asked.CodeChallenge) != 43:
		err = oidc.ErrInvalidRequest().WithDescription("PKCE with S256 is required")
	case asked.ResponseMode != "" && asked.ResponseMode != oidc.ResponseModeQuery:
		err = oidc.ErrInvalidRequest().WithDescription("response_mode must be query")
	case slices.Contains(asked.Prompt, oidc.PromptNone):
		err = oidc.ErrLoginRequired() // nobody is ever signed in here
	case r.Form.Get("claims") != "" && json.Unmarshal([]byte(r.Form.Get("claims")), &claims) != nil:
		err = oidc.ErrInvalidRequest().WithDescription("claims is no JSON object")
	}
	if err != nil {
		p.answerError(w, r, asked, err)
		return
	}
	waiting, err := p.store.add(asked, claims)
	if err != nil {
		p.answerError(w, r, asked, oidc.ErrServerError().WithDescription("too many sign-ins at once"))
		return
	}
	q := url.Values{"id": {waiting.id}, "lang": {language(r, asked)}}
	http.Redirect(w, r, p.issuer.Path+"/login?"+q.Encode(), http.StatusSeeOther)
}

// login shows the people.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	waiting := p.store.find(r.URL.Query().Get("id"))
	if waiting == nil {
		p.pages.problem(w, r, http.StatusGone, "gone")
		return
	}
	p.pages.people(w, r, waiting, p.store.people)
}

// choose takes the choice and sends the browser back.
func (p *Provider) choose(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		p.pages.problem(w, r, http.StatusBadRequest, "bad-request")
		return
	}
	subject := r.PostForm.Get("person")
	if subject != "" && p.store.person(subject) == nil {
		p.pages.problem(w, r, http.StatusBadRequest, "bad-request")
		return
	}
	chosen := p.store.finish(r.PostForm.Get("id"), subject)
	if chosen == nil {
		p.pages.problem(w, r, http.StatusGone, "gone")
		return
	}
	if subject == "" {
		p.answerError(w, r, &chosen.asked, oidc.ErrAccessDenied().WithDescription("nobody was chosen"))
		return
	}
	text, err := op.BuildAuthRequestCode(chosen, p.op.Crypto())
	if err != nil {
		p.answerError(w, r, &chosen.asked, oidc.ErrServerError())
		return
	}
	p.store.keep(text, chosen)
	p.answer(w, r, &chosen.asked, url.Values{"code": {text}})
}

func (p *Provider) answerError(w http.ResponseWriter, r *http.Request, asked *oidc.AuthRequest, err error) {
	e := oidc.DefaultToServerError(err, "server error")
	p.answer(w, r, asked, url.Values{"error": {string(e.ErrorType)}, "error_description": {e.Description}})
}

// answer sends the browser back with state and iss (RFC 9207).
func (p *Provider) answer(w http.ResponseWriter, r *http.Request, asked *oidc.AuthRequest, q url.Values) {
	back, err := url.Parse(asked.RedirectURI)
	if err != nil {
		p.pages.problem(w, r, http.StatusBadRequest, "unknown-client")
		return
	}
	for k, v := range back.Query() {
		q[k] = v
	}
	if asked.State != "" {
		q.Set("state", asked.State)
	}
	q.Set("iss", p.issuer.String())
	back.RawQuery = q.Encode()
	http.Redirect(w, r, back.String(), http.StatusSeeOther)
}

// token is the token endpoint: a code, the client it was given to, and the
// verifier of its challenge. The code is spent before anything is compared, so
// that nobody can try twice.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	// Read here, since the library reads the form of a copy of the request.
	if err := r.ParseForm(); err != nil {
		op.RequestError(w, r, oidc.ErrInvalidRequest().WithDescription("the form cannot be read"), p.log)
		return
	}
	asked, err := op.ParseAccessTokenRequest(r, p.op.Decoder())
	if err != nil {
		op.RequestError(w, r, err, p.log)
		return
	}
	response, err := p.exchange(r, asked)
	if err != nil {
		op.RequestError(w, r, err, p.log)
		return
	}
	writeJSON(w, http.StatusOK, response)
}

func (p *Provider) exchange(r *http.Request, asked *oidc.AccessTokenRequest) (*oidc.AccessTokenResponse, error) {
	if grant := r.PostForm.Get("grant_type"); grant != string(oidc.GrantTypeCode) {
		return nil, oidc.ErrUnsupportedGrantType()
	}
	known, err := p.store.GetClientByClientID(r.Context(), asked.ClientID)
	if err != nil {
		return nil, err
	}
	if known.AuthMethod() != oidc.AuthMethodNone {
		if err := p.store.AuthorizeClientIDSecret(r.Context(), asked.ClientID, asked.ClientSecret); err != nil {
			return nil, err
		}
	}
	chosen := p.store.take(asked.Code)
	switch {
	case chosen == nil:
		return nil, oidc.ErrInvalidGrant().WithDescription("the code is unknown, used or too old")
	case chosen.asked.ClientID != asked.ClientID:
		return nil, oidc.ErrInvalidGrant().WithDescription("the code was given to another client")
	case chosen.asked.RedirectURI != asked.RedirectURI:
		return nil, oidc.ErrInvalidGrant().WithDescription("redirect_uri is another one")
	}
	if err := op.AuthorizeCodeChallenge(asked.CodeVerifier, chosen.GetCodeChallenge()); err != nil {
		return nil, oidc.ErrInvalidGrant().WithDescription("code_verifier does not fit")
	}
	response, err := op.CreateTokenResponse(r.Context(), chosen, known, p.op, true, asked.Code, "")
	if err != nil {
		return nil, errors.Join(oidc.ErrServerError(), err)
	}
	return response, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the reader went away: nothing is left to do
}

// language of the pages: what the address says, what the client asks for, what
// the browser prefers; Chinese otherwise.
func language(r *http.Request, asked *oidc.AuthRequest) string {
	wishes := []string{r.FormValue("lang")}
	if asked != nil {
		for _, tag := range asked.UILocales {
			wishes = append(wishes, tag.String())
		}
	}
	wishes = append(wishes, strings.Split(r.Header.Get("Accept-Language"), ",")...)
	for _, wish := range wishes {
		switch wish = strings.ToLower(strings.TrimSpace(wish)); {
		case strings.HasPrefix(wish, "zh"):
			return "zh-CN"
		case strings.HasPrefix(wish, "en"):
			return "en"
		}
	}
	return "zh-CN"
}
