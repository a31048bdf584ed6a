// Package demoprovider is an OpenID provider for demonstrations: a handful of
// persons who do not exist, and a page on which anybody becomes any of them with
// one click. The portal meets it as it meets every provider, over HTTP.
//
//	/authorize ──► checks client, redirect address, PKCE ──► /login: the people, no password
//	/login     ──► one is chosen ──► back to the client with a code and iss
//	/token     ◄── code, once, with the PKCE verifier ──► ID token (ES256), access token
//	/userinfo  ◄── access token ──► name and, when asked for, verified_claims
//	/keys, /.well-known/openid-configuration
//
// Tokens and their signatures are zitadel/oidc's. It trusts whoever comes: it
// proves nothing about anybody, says so on every page, and is not to be trusted
// outside a demonstration. It does not start unless the portal is marked as one.
// The people's numbers are well formed and of a region that does not exist.
package demoprovider
