package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/institution"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
	"github.com/zhenglian/zhenglian/verify"
)

// numbers returns every identity number of a place and a day of birth: 1000.
func numbers(s *story, place, birth string) []string {
	s.Helper()
	weights := []int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2} // GB 11643-1999, 5.1
	var all []string
	for n := range 1000 {
		number := fmt.Sprintf("%s%s%03d", place, birth, n)
		sum := 0
		for i, c := range number {
			sum += int(c-'0') * weights[i]
		}
		number += string("10X98765432"[sum%11])
		if _, err := gb.ParseIDNumber(number, time.Now()); err != nil {
			s.Fatalf("%s: %v", number, err)
		}
		all = append(all, number)
	}
	return all
}

// Threat model: "learn who a member is from the log": an institution has every
// statement and knows a name, a place and a birthday. Trying all numbers finds
// nothing; with the salt, which the person and the CA have, it finds her at once.
func TestNumbersAreNotInTheLog(t *testing.T) {
	s := tell(t)
	v := s.signIn(walk.He)
	v.enrolByRequest()
	var mine struct {
		Members []struct{ ID, Kind, Commitment, Salt string }
	}
	s.must(json.Unmarshal([]byte(v.get("/keys/my-data.json").body), &mine))
	if len(mine.Members) == 0 || mine.Members[0].Kind != "person" {
		t.Fatalf("her data names no member of hers: %+v", mine)
	}
	hers := mine.Members[0]

	court, err := institution.Open(shared.alliance.Node("court").Home, evidence.UseStatement)
	s.must(err)
	c := s.client(court.Key(evidence.UseStatement))
	status, err := shared.alliance.Node("court").Status(s.ctx)
	s.must(err)
	commitments := map[evidence.Digest]string{}
	var everything []byte
	for at := range status.WitnessedSize {
		r, _, err := c.Registration(s.ctx, at)
		if err != nil {
			continue // a deposit: not for an institution to read
		}
		everything = append(everything, r.Statement...)
		st, err := evidence.ParseStatement(r.Statement)
		s.must(err)
		if st.ContentType == evidence.TypeEnrolment {
			e, err := evidence.ParseEnrolment(st.Payload)
			s.must(err)
			commitments[e.Commitment] = e.Member
		}
	}
	if len(commitments) == 0 {
		t.Fatal("the institution read no enrolment: the test looks at nothing")
	}
	name := walk.He.Name(walk.Chinese)
	try := func(salt evidence.Salt) string {
		for _, number := range numbers(s, "119999", "19940930") {
			for _, document := range []string{"cn-resident-id", "居民身份证", ""} {
				for _, d := range []evidence.Digest{evidence.Commit(salt, name, document, number), evidence.Commit(salt, number)} {
					if commitments[d] != "" {
						return number
					}
				}
			}
		}
		return ""
	}
	salt := evidence.Salt{}
	if found := try(salt); found != "" {
		t.Errorf("without a salt the number is found: %s", found)
	}
	// What an institution can see stands in no place of a salt either.
	for d, member := range commitments {
		if found := try(evidence.Salt(d)); found != "" {
			t.Errorf("the commitment of %s opens it: %s", member, found)
		}
	}
	for _, number := range numbers(s, "119999", "19940930") {
		for what, text := range map[string]string{"the number": number, "name and number": name + number} {
			for _, d := range [][]byte{[]byte(text), sum256(text), sm3(text)} {
				if bytes.Contains(everything, d) {
					t.Errorf("the log holds %s or its plain digest: %s", what, text)
				}
			}
		}
	}
	s.must(salt.UnmarshalText([]byte(hers.Salt)))
	if found := try(salt); found != "119999199409309042" {
		t.Errorf("with her salt the search finds %q: it would find nothing at all", found)
	}
}

func sum256(text string) []byte { d := sha256.Sum256([]byte(text)); return d[:] }

func sm3(text string) []byte { d := evidence.SumSM3([]byte(text)); return d[:] }

// platform is a member's own systems with a key of hers that the portal enrolled.
func (s *story) platform(v *session, now func() time.Time) (*memberhome.Home, *client.Client) {
	s.Helper()
	request, key := s.opensslKey()
	if a := v.post("/en/keys/request", "request", request, "label", "a platform"); a.status != http.StatusSeeOther {
		s.Fatalf("enrolling by request: %d\n%s", a.status, a.body)
	}
	signer, err := evidence.NewSigner(key)
	s.must(err)
	c := s.client(signer)
	enrolled, err := c.Member(s.ctx, signer.Public().KID())
	s.must(err)
	r, _, err := c.Registration(s.ctx, enrolled.EnrolledAt)
	s.must(err)
	st, err := evidence.ParseStatement(r.Statement)
	s.must(err)
	e, err := evidence.ParseEnrolment(st.Payload)
	s.must(err)
	vault, err := age.GenerateX25519Identity()
	s.must(err)
	h, err := memberhome.Open(s.ctx, memberhome.Config{Dir: filepath.Join(s.TempDir(), "platform"), Signer: signer, Identity: vault, Recipient: vault.Recipient(), Now: now,
		Person: evidence.Person{Member: e.Member, Commitment: e.Commitment, Assurance: int(e.Assurance), Demo: e.Demo}})
	s.must(err)
	s.Cleanup(func() { s.must(h.Close()) })
	return h, c
}

// Threat model: "date a statement back or ahead": a member's clock is a claim. Set
// back it is shown not to fit, and gains no earlier time; ahead it is refused.
func TestSetBackClock(t *testing.T) {
	s := tell(t)
	file := filepath.Join(s.TempDir(), "letter.txt")
	s.must(os.WriteFile(file, []byte("written, it says, three days ago"), 0o600))
	began := time.Now()
	v := s.signIn(walk.Gao)
	back, c := s.platform(v, func() time.Time { return time.Now().Add(-72 * time.Hour) })
	trail, err := depositPlain(s, back, c, file)
	s.must(err)
	packet, err := os.Create(filepath.Join(s.TempDir(), "letter.zip"))
	s.must(err)
	defer func() { s.must(packet.Close()) }()
	_, err = back.Package(s.ctx, c, trail, packet)
	s.must(err)
	info, err := packet.Stat()
	s.must(err)
	rep, err := verify.Check(s.ctx, packet, info.Size(), verify.Options{Policy: c.Policy()})
	s.must(err)
	seen := false
	for _, check := range rep.Checks {
		off, err := strconv.Atoi(check.Reason.Params["off_seconds"])
		seen = seen || check.Reason.Key == "clock-claim-behind" && err == nil && off > 71*3600
	}
	if !seen {
		t.Errorf("the report does not say that the clock is three days behind: %+v", rep.Steps[0].Time)
	}
	if lower, err := time.Parse(time.RFC3339, rep.Steps[0].Time.NotBefore); err != nil || lower.Before(began.Add(-10*time.Minute)) {
		t.Errorf("the bracket begins at %s (%v)", rep.Steps[0].Time.NotBefore, err)
	}
	final, err := c.Confirm(s.ctx, trail)
	s.must(err)
	if final.Time.Before(began.Add(-time.Minute)) {
		t.Errorf("the time witnessed is %s, before it was made", final.Time)
	}

	ahead, c := s.platform(v, func() time.Time { return time.Now().Add(time.Hour) })
	if _, err := depositPlain(s, ahead, c, file); err == nil || !strings.Contains(err.Error(), evidence.CodeClockAhead.String()) {
		t.Errorf("a clock an hour ahead: %v", err)
	}
}

// The portal is killed after it took a deposit and before a quorum could witness
// it; then a node is killed too. Both come back, and the deposit arrives without
// anybody doing anything.
func TestKilledAfterAccept(t *testing.T) {
	s := tell(t)
	w := s.visitor(wide(walk.English))
	s.must(w.SignIn(s.ctx, walk.Sun))
	text(s)(w.MakeKey(s.ctx, "desk"))
	s.must(w.KeepPaper(s.ctx))
	file, mark := s.photo("in-flight.jpg", 120_000)
	s.must(w.FillDeposit(s.ctx, walk.Deposit{Files: []string{file}, Step: "Deposit in flight"}))
	// Two of four are down: nothing becomes final.
	down := []string{"court", "notary"}
	for _, id := range down {
		shared.alliance.Node(id).Kill()
	}
	up := func() {
		for _, id := range down {
			if n := shared.alliance.Node(id); n.PID() == 0 {
				s.must(n.Start(s.ctx))
			}
		}
		s.must(shared.alliance.WaitReady(s.ctx))
	}
	s.Cleanup(func() {
		if t.Failed() {
			up() // the stories after this one need them
		}
	})
	s.must(w.Press(s.ctx))
	var trail string
	s.eventually("the portal to take the deposit", func() error {
		path, err := tour.Eval[string](s.ctx, w.Visitor, `document.getElementById("work-done").hidden ? "" : new URL(document.getElementById("to-record").href).pathname`)
		if err == nil && !strings.Contains(path, "/records/") {
			err = errNotYet
		}
		trail = path[strings.LastIndexByte(path, '/')+1:]
		return err
	})
	shared.portal.Kill()
	shared.alliance.Node("ca").Kill()
	s.must(shared.alliance.Node("ca").Start(s.ctx))
	s.must(shared.portal.Start(s.ctx, portalEnv))
	s.must(shared.portal.WaitReady(s.ctx))
	up()
	s.eventually("the deposit to be final", func() error {
		got, err := tour.Eval[string](s.ctx, w.Visitor, `fetch("/app/deposits/`+trail+`").then((r) => r.json()).then((d) => d.state)`)
		if err == nil && got != "final" {
			err = errors.New("it is " + got)
		}
		return err
	})
	s.must(w.Record(s.ctx, trail, "Deposit in flight"))
	packet := text(s)(w.Package(s.ctx))
	if report, status := s.verify(packet); status != 0 {
		t.Errorf("the package: %d\n%s", status, report)
	}
	if data, err := os.ReadFile(packet); err != nil || !bytes.Contains(data, mark) {
		t.Errorf("the photo is not in the package (%v)", err)
	}
}
