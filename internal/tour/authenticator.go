package tour

import (
	"context"
	"fmt"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Authenticator is a passkey device inside the browser (Chrome DevTools
// Protocol, domain WebAuthn): CTAP 2, discoverable credentials, user
// verification, and a finger always on it.
type Authenticator struct {
	v  *Visitor
	id webauthn.AuthenticatorID
}

// AddAuthenticator gives the visitor a device.
func (v *Visitor) AddAuthenticator(ctx context.Context) (*Authenticator, error) {
	step, done := v.step(ctx)
	defer done()
	if _, err := chromedp.Call(step, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return nil, fmt.Errorf("turning virtual authenticators on: %w", err)
	}
	out, err := chromedp.Call(step, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
	if err != nil {
		return nil, fmt.Errorf("adding a virtual authenticator: %w", err)
	}
	return &Authenticator{v, out.AuthenticatorID}, nil
}

// Credentials returns the device's credentials, private keys and all.
func (a *Authenticator) Credentials(ctx context.Context) ([]*webauthn.Credential, error) {
	step, done := a.v.step(ctx)
	defer done()
	out, err := chromedp.Call(step, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	if err != nil {
		return nil, fmt.Errorf("reading the credentials: %w", err)
	}
	return out.Credentials, nil
}

// Refuse makes the device fail (true) or pass (false) user verification: the
// wrong finger.
func (a *Authenticator) Refuse(ctx context.Context, refuse bool) error {
	step, done := a.v.step(ctx)
	defer done()
	if _, err := chromedp.Call(step, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: !refuse}); err != nil {
		return fmt.Errorf("setting user verification: %w", err)
	}
	return nil
}

// Lose takes the device away, with its credentials.
func (a *Authenticator) Lose(ctx context.Context) error {
	step, done := a.v.step(ctx)
	defer done()
	if _, err := chromedp.Call(step, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: a.id}); err != nil {
		return fmt.Errorf("removing the authenticator: %w", err)
	}
	return nil
}
