package verify_test

import (
	"bytes"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// Every case alters an honest package in one way that leaves the index in
// agreement with the files, and names the reasons the report must give.
func TestRules(t *testing.T) {
	type content = testalliance.Content
	cases := []struct {
		name   string
		alter  func(t *testing.T, s *story, c *content)
		want   verify.Verdict
		reason []string
	}{
		{"quorum of 3 is enough", func(t *testing.T, s *story, c *content) {
			for i := range c.Steps {
				delete(c.Steps[i].Receipts, "notary")
			}
		}, verify.Matches, nil},
		{"2 of 4", func(t *testing.T, s *story, c *content) {
			delete(c.Steps[1].Receipts, "notary")
			delete(c.Steps[1].Receipts, "court")
		}, verify.DoesNotMatch, []string{"quorum-missing"}},
		{"one institution's receipt under other names", func(t *testing.T, s *story, c *content) {
			for _, other := range []string{"court", "notary", "forensic"} {
				c.Steps[1].Receipts[other] = c.Steps[1].Receipts["ca"]
			}
		}, verify.DoesNotMatch, []string{"receipt-issuer", "quorum-missing"}},
		{"receipt of another step", func(t *testing.T, s *story, c *content) {
			c.Steps[1].Receipts["court"] = c.Steps[2].Receipts["court"]
		}, verify.DoesNotMatch, []string{"receipt-signature"}},
		{"receipt by an institution that the policy does not know", func(t *testing.T, s *story, c *content) {
			f, err := testalliance.New("forger", 6)
			must(t, err)
			signer := f.Get("other-05")
			rec, err := evidence.ParseReceipt(c.Steps[0].Receipts["court"])
			must(t, err)
			root, err := evidence.SignRoot(signer.Receipt, "other-05", s.Origin(), 1, s.Now())
			must(t, err)
			c.Steps[0].Receipts["other-05"] = root.Receipt(rec.LeafIndex, rec.Path)
		}, verify.Undetermined, []string{"institution-unknown"}},
		{"another block time for the same root", func(t *testing.T, s *story, c *content) {
			rec, err := evidence.ParseReceipt(c.Steps[1].Receipts["notary"])
			must(t, err)
			root, err := evidence.SignRoot(s.Get("notary").Receipt, "notary", s.Origin(), rec.IssuedAt-3600, evidence.Checkpoint{Size: rec.Size, Root: s.RootAt(rec.Size)})
			must(t, err)
			c.Steps[1].Receipts["notary"] = root.Receipt(rec.LeafIndex, rec.Path)
		}, verify.DoesNotMatch, []string{"two-block-times"}},
		{"receipt of another log of the same institutions", func(t *testing.T, s *story, c *content) {
			rec, err := evidence.ParseReceipt(c.Steps[1].Receipts["notary"])
			must(t, err)
			root, err := evidence.SignRoot(s.Get("notary").Receipt, "notary", "other-log", rec.IssuedAt, evidence.Checkpoint{Size: rec.Size, Root: s.RootAt(rec.Size)})
			must(t, err)
			c.Steps[1].Receipts["notary"] = root.Receipt(rec.LeafIndex, rec.Path)
		}, verify.DoesNotMatch, []string{"receipt-log"}},
		{"receipt by another key of the institution", func(t *testing.T, s *story, c *content) {
			rec, err := evidence.ParseReceipt(c.Steps[1].Receipts["notary"])
			must(t, err)
			root, err := evidence.SignRoot(s.Get("notary").Attest, "notary", s.Origin(), rec.IssuedAt, evidence.Checkpoint{Size: rec.Size, Root: s.RootAt(rec.Size)})
			must(t, err)
			c.Steps[1].Receipts["notary"] = root.Receipt(rec.LeafIndex, rec.Path)
		}, verify.DoesNotMatch, []string{"receipt-key"}},
		{"receipt with a path too short", func(t *testing.T, s *story, c *content) {
			rec, err := evidence.ParseReceipt(c.Steps[1].Receipts["notary"])
			must(t, err)
			c.Steps[1].Receipts["notary"] = rec.RootSignature.Receipt(rec.LeafIndex, rec.Path[1:])
		}, verify.DoesNotMatch, []string{"receipt-path"}},
		{"steps exchanged", func(t *testing.T, s *story, c *content) {
			c.Steps[2], c.Steps[3] = c.Steps[3], c.Steps[2]
		}, verify.DoesNotMatch, []string{"link-order"}},
		{"step removed from the middle", func(t *testing.T, s *story, c *content) {
			c.Steps = append(c.Steps[:2:2], c.Steps[3])
		}, verify.DoesNotMatch, []string{"link-gap", "complete-withheld"}},
		{"opening removed", func(t *testing.T, s *story, c *content) {
			c.Steps = c.Steps[1:]
		}, verify.DoesNotMatch, []string{"link-no-opening", "authority-no-opening", "index-trail"}},
		{"last step removed", func(t *testing.T, s *story, c *content) {
			c.Steps = c.Steps[:3]
		}, verify.Undetermined, []string{"complete-withheld"}},
		{"last step and the heads removed", func(t *testing.T, s *story, c *content) {
			c.Steps = c.Steps[:3]
			clear(c.Heads)
		}, verify.Undetermined, []string{"complete-no-head"}},
		{"step twice", func(t *testing.T, s *story, c *content) {
			c.Steps = append(c.Steps, c.Steps[3])
		}, verify.DoesNotMatch, []string{"link-twice"}},
		{"heads of another trail", func(t *testing.T, s *story, c *content) {
			other, err := s.Open(s.li, testalliance.Step{})
			must(t, err)
			c.Heads["court"], err = s.Head(other, s.Size(), "court")
			must(t, err)
		}, verify.DoesNotMatch, []string{"head-foreign"}},
		{"head by another institution", func(t *testing.T, s *story, c *content) {
			c.Heads["court"] = c.Heads["ca"]
		}, verify.DoesNotMatch, []string{"receipt-issuer"}},
		{"manifest withheld", func(t *testing.T, s *story, c *content) {
			c.Steps[2].Manifest = nil
		}, verify.Undetermined, []string{"manifest-withheld"}},
		{"object withheld", func(t *testing.T, s *story, c *content) {
			c.Steps[2].Objects[0] = nil
		}, verify.Undetermined, []string{"object-withheld"}},
		{"manifest of another step", func(t *testing.T, s *story, c *content) {
			c.Steps[2].Manifest, c.Steps[2].Objects = c.Steps[0].Manifest, c.Steps[0].Objects
		}, verify.DoesNotMatch, []string{"manifest-digest"}},
		{"manifest for an authorisation", func(t *testing.T, s *story, c *content) {
			c.Steps[1].Manifest = c.Steps[0].Manifest
		}, verify.DoesNotMatch, []string{"manifest-not-expected"}},
		{"index tells another position", func(t *testing.T, s *story, c *content) {
			c.Steps[1].Position = 0
		}, verify.DoesNotMatch, []string{"receipt-position"}},
		{"index tells another size", func(t *testing.T, s *story, c *content) {
			c.Info.TreeSize += 5
		}, verify.DoesNotMatch, []string{"index-tree-size"}},
		{"index tells another trail", func(t *testing.T, s *story, c *content) {
			c.Info.Trail = evidence.SumSHA256([]byte("x"))
		}, verify.DoesNotMatch, []string{"index-trail", "link-foreign"}},
		{"index tells another alliance", func(t *testing.T, s *story, c *content) {
			c.Info.Alliance, c.Alliance = evidence.SumSHA256([]byte("x")), nil
		}, verify.DoesNotMatch, []string{"index-alliance"}},
		{"enrolment missing", func(t *testing.T, s *story, c *content) {
			clear(c.Enrolments)
			c.MemberKeys = nil
		}, verify.Undetermined, []string{"signer-key-unknown", "key-not-shown"}},
		{"enrolment without a quorum", func(t *testing.T, s *story, c *content) {
			reg := c.Enrolments[s.li.Signer.Public().KID()]
			delete(reg.Receipts, "court")
			delete(reg.Receipts, "notary")
		}, verify.DoesNotMatch, []string{"quorum-missing", "key-not-shown"}},
		{"enrolment of another key", func(t *testing.T, s *story, c *content) {
			c.Enrolments[s.li.Signer.Public().KID()] = c.Enrolments[s.recorder.Signer.Public().KID()]
		}, verify.DoesNotMatch, []string{"enrolment-other-key"}},
		{"member key that nobody enrolled", func(t *testing.T, s *story, c *content) {
			k, err := testalliance.Signer("stranger")
			must(t, err)
			c.MemberKeys = append(c.MemberKeys, k.Public())
		}, verify.DoesNotMatch, []string{"member-key-unknown"}},
		{"institution key that is not trusted", func(t *testing.T, s *story, c *content) {
			k, err := testalliance.Signer("stranger")
			must(t, err)
			c.Keys["court"] = append(c.Keys["court"], k.Public())
		}, verify.DoesNotMatch, []string{"key-file-not-trusted"}},
		{"checkpoint missing", func(t *testing.T, s *story, c *content) {
			clear(c.Checkpoints)
		}, verify.Undetermined, []string{"after-not-shown"}},
		{"checkpoint cosigned by two", func(t *testing.T, s *story, c *content) {
			for size := range c.Checkpoints {
				var err error
				c.Checkpoints[size], err = s.Cosigned(size, "court", "ca")
				must(t, err)
			}
		}, verify.DoesNotMatch, []string{"checkpoint-quorum", "after-not-shown"}},
		{"checkpoint of another size", func(t *testing.T, s *story, c *content) {
			cp, err := s.Cosigned(1)
			must(t, err)
			for size := range c.Checkpoints {
				c.Checkpoints[size] = cp
			}
		}, verify.DoesNotMatch, []string{"checkpoint-size"}},
		{"checkpoint of another log", func(t *testing.T, s *story, c *content) {
			for size, text := range c.Checkpoints {
				c.Checkpoints[size] = bytes.Replace(text, []byte(s.Origin()), []byte("other-log"), 1)
			}
		}, verify.DoesNotMatch, []string{"checkpoint-origin"}},
		{"checkpoint with a cosignature of another size", func(t *testing.T, s *story, c *content) {
			for size := range c.Checkpoints {
				cp, err := evidence.ParseCheckpoint(c.Checkpoints[size])
				must(t, err)
				other, err := s.Cosigned(size-1, "ca")
				must(t, err)
				o, err := evidence.ParseCheckpoint(other)
				must(t, err)
				cp.Cosignatures[0] = o.Cosignatures[0]
				c.Checkpoints[size] = cp.Encode()
			}
		}, verify.DoesNotMatch, []string{"cosignature-wrong", "checkpoint-holds"}},
		{"cosignature of a stranger", func(t *testing.T, s *story, c *content) {
			for size, text := range c.Checkpoints {
				c.Checkpoints[size] = append(text, bytes.Replace(text[bytes.Index(text, []byte("— ")):bytes.Index(text, []byte("— "))+bytes.IndexByte(text[bytes.Index(text, []byte("— ")):], '\n')+1], []byte("/ca "), []byte("/stranger "), 1)...)
			}
		}, verify.Matches, nil},
		{"head signed with the receipt key", func(t *testing.T, s *story, c *content) {
			h, err := evidence.ParseTrailHead(c.Heads["court"])
			must(t, err)
			c.Heads["court"], err = h.Sign(s.Get("court").Receipt)
			must(t, err)
		}, verify.DoesNotMatch, []string{"head-signature"}},
		{"head that counts fewer", func(t *testing.T, s *story, c *content) {
			h, err := evidence.ParseTrailHead(c.Heads["court"])
			must(t, err)
			h.Count--
			c.Heads["court"], err = h.Sign(s.Get("court").Attest)
			must(t, err)
		}, verify.DoesNotMatch, []string{"complete-contradiction"}},
		{"head with another last statement", func(t *testing.T, s *story, c *content) {
			h, err := evidence.ParseTrailHead(c.Heads["court"])
			must(t, err)
			h.Last = s.trail
			c.Heads["court"], err = h.Sign(s.Get("court").Attest)
			must(t, err)
		}, verify.DoesNotMatch, []string{"complete-contradiction"}},
		{"garbage for a head, a checkpoint, a receipt", func(t *testing.T, s *story, c *content) {
			c.Heads["court"], c.Steps[0].Receipts["court"] = []byte("x"), []byte("x")
			for size := range c.Checkpoints {
				c.Checkpoints[size] = []byte("x")
			}
		}, verify.DoesNotMatch, []string{"head-malformed", "checkpoint-malformed", "receipt-malformed"}},
		{"garbage for a statement", func(t *testing.T, s *story, c *content) {
			c.Steps[3].Statement = []byte("x")
		}, verify.DoesNotMatch, []string{"statement-malformed", "receipt-signature"}},
		{"a deposit passed for an enrolment", func(t *testing.T, s *story, c *content) {
			c.Enrolments[s.li.Signer.Public().KID()] = &evidence.Registration{Statement: c.Steps[0].Statement, Receipts: c.Steps[0].Receipts}
		}, verify.DoesNotMatch, []string{"registry-other-kind"}},
		{"the revocation of another key", func(t *testing.T, s *story, c *content) {
			p, err := s.Revoke(s.recorder)
			must(t, err)
			full, err := s.Content(s.trail)
			must(t, err)
			*c = *full
			_ = p
			c.Revocations[s.li.Signer.Public().KID()] = c.Revocations[s.recorder.Signer.Public().KID()]
		}, verify.DoesNotMatch, []string{"revocation-other-key"}},
		{"an enrolment as a step", func(t *testing.T, s *story, c *content) {
			reg := c.Enrolments[s.li.Signer.Public().KID()]
			c.Steps = append([]testalliance.ContentStep{{Statement: reg.Statement, Position: 0, Receipts: reg.Receipts}}, c.Steps...)
		}, verify.DoesNotMatch, []string{"link-registry", "link-foreign"}},
		{"timestamps are listed, not believed", func(t *testing.T, s *story, c *content) {
			c.Timestamps[c.Info.TreeSize] = []byte("token")
			c.Renewals["r1.tsr"] = []byte("token")
		}, verify.Matches, nil},
		{"institution's own older statement of the trail is complete too", func(t *testing.T, s *story, c *content) {
			var err error
			c.Heads["notary"], err = s.Head(s.trail, 5, "notary")
			must(t, err)
		}, verify.Matches, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t, "rules", 4)
			c := s.content(t)
			tc.alter(t, s, c)
			wants(t, check(t, encode(t, c), verify.Options{Policy: s.Policy}), tc.want, tc.reason...)
		})
	}
}

// Every case is a trail that was registered as it stands: the log is honest and
// what was put into it is not.
func TestTrailsThatLie(t *testing.T) {
	cases := []struct {
		name   string
		make   func(t *testing.T, s *story)
		want   verify.Verdict
		reason []string
	}{
		{"stranger in the trail", func(t *testing.T, s *story) {
			eve, err := s.Enrol("m:eve", 2, false)
			must(t, err)
			_, err = s.Deposit(eve, s.trail, testalliance.Step{})
			must(t, err)
		}, verify.DoesNotMatch, []string{"authority-none"}},
		{"right withdrawn", func(t *testing.T, s *story) {
			_, err := s.Authorise(s.li, s.trail, s.recorder.Signer.Public().KID(), 0)
			must(t, err)
			_, err = s.Deposit(s.recorder, s.trail, testalliance.Step{})
			must(t, err)
		}, verify.DoesNotMatch, []string{"authority-none"}},
		{"right to read is none to append", func(t *testing.T, s *story) {
			_, err := s.Authorise(s.li, s.trail, s.recorder.Signer.Public().KID(), evidence.RightRead)
			must(t, err)
			_, err = s.Deposit(s.recorder, s.trail, testalliance.Step{})
			must(t, err)
		}, verify.DoesNotMatch, []string{"authority-none"}},
		{"the authorised may not authorise", func(t *testing.T, s *story) {
			_, err := s.Authorise(s.recorder, s.trail, s.recorder.Signer.Public().KID(), 3)
			must(t, err)
		}, verify.DoesNotMatch, []string{"authority-none"}},
		{"key revoked before", func(t *testing.T, s *story) {
			_, err := s.Revoke(s.li)
			must(t, err)
			_, err = s.Deposit(s.li, s.trail, testalliance.Step{})
			must(t, err)
		}, verify.DoesNotMatch, []string{"key-revoked"}},
		{"key revoked after", func(t *testing.T, s *story) {
			_, err := s.Revoke(s.li)
			must(t, err)
		}, verify.Matches, []string{"revocation-holds"}},
		{"enrolled by one that is no ca", func(t *testing.T, s *story) {
			k, err := testalliance.Signer("x")
			must(t, err)
			x, err := s.EnrolKey("m:x", k, evidence.KindPerson, 2, false, "notary")
			must(t, err)
			s.trail, err = s.Open(x, testalliance.Step{})
			must(t, err)
		}, verify.DoesNotMatch, []string{"enrolment-not-ca", "key-not-shown"}},
		{"issuer is not the holder", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Issuer: "m:wang"})
			must(t, err)
		}, verify.DoesNotMatch, []string{"key-other-holder"}},
		{"signature by another key", func(t *testing.T, s *story) {
			impostor := *s.li
			impostor.Signer = pretender{s.li.Signer, s.recorder.Signer}
			_, err := s.Deposit(&impostor, s.trail, testalliance.Step{})
			must(t, err)
		}, verify.DoesNotMatch, []string{"signature-wrong"}},
		{"deposit before enrolment", func(t *testing.T, s *story) {
			k, err := testalliance.Signer("late")
			must(t, err)
			late := &testalliance.Member{ID: "m:late", Signer: k}
			s.trail, err = s.Open(late, testalliance.Step{})
			must(t, err)
			_, err = s.EnrolKey("m:late", k, evidence.KindPerson, 0, false, "ca")
			must(t, err)
		}, verify.DoesNotMatch, []string{"key-enrolled-later"}},
		{"an institution's own trail", func(t *testing.T, s *story) {
			var err error
			notary := &testalliance.Member{ID: "notary", Signer: s.Get("notary").Statement}
			s.trail, err = s.Open(notary, testalliance.Step{})
			must(t, err)
		}, verify.Matches, []string{"key-institution", "person-institution"}},
		{"a time bracket turned around", func(t *testing.T, s *story) {
			s.CosignLater = 4000
		}, verify.DoesNotMatch, []string{"time-contradiction"}},
		{"assurance raised", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Person: &evidence.Person{Member: "m:li", Assurance: 3, Commitment: s.li.Commitment}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"person-assurance"}},
		{"demo identity passed for a real one", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.recorder, s.trail, testalliance.Step{Person: &evidence.Person{Member: "m:recorder", Assurance: 1, Commitment: s.recorder.Commitment}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"person-demo-hidden"}},
		{"another's commitment", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Person: &evidence.Person{Member: "m:li", Assurance: 2, Commitment: s.recorder.Commitment}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"person-commitment"}},
		{"another person in the manifest", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Person: &evidence.Person{Member: "m:wang"}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"person-other"}},
		{"recorder for the owner", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.recorder, s.trail, testalliance.Step{Person: &evidence.Person{Member: "m:li", Assurance: 2, Commitment: s.li.Commitment}})
			must(t, err)
		}, verify.Matches, []string{"person-enrolled"}},
		{"statement that follows another", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Prev: &s.trail})
			must(t, err)
		}, verify.DoesNotMatch, []string{"link-order"}},
		{"root that the log never had", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{After: &evidence.Checkpoint{Size: 3, Root: evidence.SumSHA256([]byte("x"))}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"after-root"}},
		{"root of the future", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{After: &evidence.Checkpoint{Size: s.Size() + 1, Root: evidence.SumSHA256([]byte("x"))}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"after-later"}},
		{"empty log with another root", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{After: &evidence.Checkpoint{Root: evidence.SumSHA256([]byte("x"))}})
			must(t, err)
		}, verify.DoesNotMatch, []string{"after-empty-root"}},
		{"no checkpoint seen", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{After: &evidence.Checkpoint{Root: evidence.SumSHA256(nil)}})
			must(t, err)
		}, verify.Matches, []string{"time-no-lower"}},
		{"clock 15 minutes behind", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Clock: -900})
			must(t, err)
		}, verify.Matches, []string{"clock-claim-behind"}},
		{"clock 15 minutes ahead", func(t *testing.T, s *story) {
			_, err := s.Deposit(s.li, s.trail, testalliance.Step{Clock: 900})
			must(t, err)
		}, verify.DoesNotMatch, []string{"clock-ahead"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t, "lies", 4)
			tc.make(t, s)
			wants(t, check(t, encode(t, s.content(t)), verify.Options{Policy: s.Policy}), tc.want, tc.reason...)
		})
	}
}

// pretender names one key and signs with another.
type pretender struct{ names, signs evidence.Signer }

func (p pretender) Public() *evidence.PublicKey         { return p.names.Public() }
func (p pretender) Sign(message []byte) ([]byte, error) { return p.signs.Sign(message) }
