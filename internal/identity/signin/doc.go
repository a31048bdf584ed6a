// Package signin lets people sign in with the OpenID providers that the
// institution configured, and says how surely a provider knows who they are.
//
//	Begin  ──► the browser goes to the provider: state, nonce, PKCE; a Pending stays in its session here
//	        ◄── the provider sends it back to Callback/ID with a code
//	Finish ──► state, iss, age, single use ──► code for tokens ──► ID token, userinfo of the same subject
//	       ──► verified_claims under the provider's policy ──► level 1, 2 or 3, with the reasons
//	       ──► Identity: issuer and subject, facts, level
//
// OpenID Connect Core 1.0 (authorization code flow alone), PKCE (RFC 7636),
// authorization response issuer (RFC 9207), OpenID Connect for Identity
// Assurance 1.0. JOSE and discovery are go-oidc's.
//
// What it trusts: a configured provider, over TLS, for who signed in and, as far
// as its policy goes, for who that person is. Claims outside verified_claims are
// self-asserted, whatever they are called. Whatever is not understood does not
// count. The caller is trusted to keep a Pending in the session of the browser
// that began, and nowhere else. Neither numbers nor names are in any error.
package signin
