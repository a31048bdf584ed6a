package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
)

// Names of the party's own steps.
const (
	stepRecordingOpened = "recording opened"
	stepRecordingClosed = "recording closed"
)

// recorder is the recorder's key at work for a party. What it deposits is kept in
// the party's vault, encrypted to her alone, and in her journal: the recorder
// keeps nothing that it could read.
type recorder struct {
	owner   *depositor
	deposit *memberhome.Home // the party's home, the recorder's key
	client  *client.Client
	kid     evidence.Digest
	timeout time.Duration
}

func (a *app) openRecorder(ctx context.Context, o *recordFlags) (_ *recorder, err error) {
	owner, err := a.openDepositor(ctx, o.depositorFlags)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, owner.Close())
		}
	}()
	m, err := a.openMember(o.recorder, o.recorderPassphrase)
	if err != nil {
		return nil, err
	}
	e, err := m.enrolled(a)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Request.Kind != evidence.KindService.String():
		return nil, fail(a.t("%s 的成员类别是 %s，取证服务须为 service", "the member of %s is of the kind %s, and a recorder is a service", o.recorder, m.Request.Kind), a.t("用 `zhenglian member init --kind service` 另建", "make one with `zhenglian member init --kind service`"), nil)
	case e.Alliance != owner.alliance.ID():
		return nil, fail(a.t("取证服务登记在另一个联盟", "the recorder is enrolled in another alliance"), "", nil)
	case m.Public.KID() == owner.KID():
		return nil, fail(a.t("取证服务与当事人不能是同一把密钥", "the recorder's key cannot be the party's own"), "", nil)
	}
	party, err := a.openMemberPublic(owner.dir)
	if err != nil {
		return nil, err
	}
	recipient, err := recipientOf(party.Request.Vault)
	if err != nil {
		return nil, err
	}
	r := &recorder{owner: owner, kid: m.Public.KID(), timeout: o.timeout}
	if r.client, err = client.New(client.Config{Alliance: owner.alliance, URLs: o.depositorFlags.urls, Prefer: o.prefer, Signer: m.Key, Language: string(a.lang), Now: a.now}); err != nil {
		return nil, usage(err.Error(), "")
	}
	r.deposit, err = memberhome.Open(ctx, memberhome.Config{Dir: owner.dir, Signer: m.Key, Recipient: recipient, Now: a.now,
		Person: evidence.Person{Member: e.Member, Commitment: e.Commitment, Assurance: e.Assurance, Demo: e.Demo}})
	return r, err
}

// Close lets go of the homes.
func (r *recorder) Close() { _ = errors.Join(r.deposit.Close(), r.owner.Close()) } // files that were read

// open is the party's part before a session: the opening with purpose and
// consent, and the recorder's right to add to the trail.
func (r *recorder) open(ctx context.Context, a *app, o *recordFlags, session evidence.Digest, start string) (evidence.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	opening := recording.Opening{Session: session, Recorder: r.kid, Purpose: o.purpose, Start: start,
		Consent: a.t("当事人同意本次浏览全程录制，其哈希值上链存证，内容加密交其本人保管。", "The party agrees that all of this session is recorded, that its digests are registered on the chain, and that its content is kept for her, encrypted.")}
	if len(start) > evidence.MaxFact {
		opening.Start = "" // the log has it
	}
	entry, _, err := r.owner.Deposit(ctx, r.owner.client, memberhome.Step{Phase: evidence.PhaseBefore, Name: stepRecordingOpened,
		Note:       a.t("在命令行开启，由成员密钥签署；没有通行密钥确认。", "Opened at the command line and signed with the member's key; no passkey confirmed it."),
		Dimensions: evidence.Dimensions{Before: opening.Facts()},
		Act: func(_ context.Context, m *evidence.Manifest) error {
			m.Act = &evidence.Act{Kind: recording.ActRecord}
			return nil
		},
	}, memberhome.Events{})
	if err != nil {
		return evidence.Digest{}, err
	}
	// Reading too: who adds a step must know the one before it.
	_, _, err = r.owner.Authorise(ctx, r.owner.client, entry.Trail, r.kid, evidence.RightRead|evidence.RightAppend, memberhome.Events{})
	return entry.Trail, err
}

// close is the party's part after a session: she takes the recorder's right back
// and closes the trail. What was done already is not done again.
func (r *recorder) close(ctx context.Context, result *capture.Result) error {
	if _, err := r.owner.Resend(ctx, r.owner.client, result.Trail, nil); err != nil {
		return err
	}
	entries, err := r.owner.Entries(result.Trail)
	if err != nil {
		return err
	}
	own := 0
	for _, e := range entries {
		if e.Statement.KID == r.owner.KID() && e.Refused == nil {
			own++
		}
	}
	if own < 3 { // opening, authorisation
		if _, _, err := r.owner.Authorise(ctx, r.owner.client, result.Trail, r.kid, 0, memberhome.Events{}); err != nil {
			return err
		}
	}
	if own < 4 {
		_, _, err = r.owner.Deposit(ctx, r.owner.client, memberhome.Step{Trail: result.Trail, Phase: evidence.PhaseAfter, Name: stepRecordingClosed,
			Dimensions: evidence.Dimensions{After: map[string]string{"closed-session": result.Session.String(), "closed-state": result.State, "closed-events": strconv.FormatInt(result.Events, 10)}}}, memberhome.Events{})
	}
	return err
}

// config is what a session of this recorder needs of the chain.
func (r *recorder) config(trail evidence.Digest, dir string) capture.Config {
	return capture.Config{Dir: dir, Trail: trail, Recorder: r.kid, Software: software(), Deposit: r.timeout, Chain: &recorderChain{recorder: r, trail: trail, signed: -1}}
}

// recorderChain is a trail as the recorder adds to it.
type recorderChain struct {
	*recorder
	trail  evidence.Digest
	signed int // -1: not counted yet
}

// Add implements capture.Chain.
func (c *recorderChain) Add(ctx context.Context, s capture.Step) (bool, error) {
	if _, err := c.Signed(ctx); err != nil {
		return false, err
	}
	st := memberhome.Step{Trail: c.trail, Phase: s.Phase, Name: s.Name}
	switch s.Phase {
	case evidence.PhaseBefore:
		st.Dimensions.Before = s.Facts
	case evidence.PhaseDuring:
		st.Dimensions.During = s.Facts
	case evidence.PhaseAfter:
		st.Dimensions.After = s.Facts
	}
	for _, f := range s.Files {
		st.Sources = append(st.Sources, memberhome.Source{Name: f.Name, Media: f.Media, Size: -1, Open: f.Open})
	}
	e, _, err := c.deposit.Deposit(ctx, c.client, st, memberhome.Events{})
	var refused *client.Problem
	if e == nil || errors.As(err, &refused) && refused.Rule() {
		return false, err
	}
	c.signed++
	return true, err
}

// Signed implements capture.Chain.
func (c *recorderChain) Signed(context.Context) (int, error) {
	if c.signed >= 0 {
		return c.signed, nil
	}
	entries, err := c.deposit.Entries(c.trail)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if e.Statement.KID == c.kid && e.Refused == nil {
			n++
		}
	}
	c.signed = n
	return n, nil
}

// Flush implements capture.Chain.
func (c *recorderChain) Flush(ctx context.Context) error {
	_, err := c.deposit.Resend(ctx, c.client, c.trail, nil)
	return err
}

// timeClient asks a time source without any proxy of the environment.
func timeClient() *http.Client {
	return &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
}
