package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

// Deposit is a request to register one statement.
type Deposit struct {
	Statement []byte `json:"statement" doc:"The signed statement, base64" maxLength:"5464"`
	Manifest  []byte `json:"manifest,omitempty" doc:"The manifest it commits to, base64: compared and forgotten, never stored"`
}

// Deposited says what became of an accepted statement.
type Deposited struct {
	Code     string  `json:"code" doc:"ok or already-registered"`
	Digest   string  `json:"digest" doc:"SHA-256 of the bytes sent"`
	Position *uint64 `json:"position,omitempty" doc:"Place in the log, once known"`
	Entry    string  `json:"entry,omitempty" doc:"Digest registered, when the same content was registered before under another signature"`
	Final    bool    `json:"final" doc:"A quorum of institutions has signed a root that covers it"`
	Location string  `json:"location" doc:"Where the receipt is or will be"`
}

func (s *Server) depositRoutes() {
	body := requestBody("One statement: its bytes, or JSON or multipart/form-data with the parts statement and manifest", typeCOSE, typeStatement, "multipart/form-data")
	body.Content["application/json"] = &huma.MediaType{Schema: schemaOf[Deposit](s)}
	ok := jsonAnswer[Deposited](s, "Registered before and final")
	ok["201"] = &huma.Response{Description: "Registered and final", Content: ok["200"].Content}
	ok["202"] = &huma.Response{Description: "Accepted and durable here, not final yet", Content: ok["200"].Content}
	s.handle(huma.Operation{OperationID: "deposit", Method: http.MethodPost, Path: "/api/v1/statements", Tags: []string{tagDeposit},
		Summary:     "Register one statement",
		Description: "Idempotent: the same statement gives the same position. A manifest sent along must be the one whose digests were signed; it is compared while it is read and not stored.",
		Parameters:  []*huma.Param{waitParam()}, RequestBody: body, Responses: ok}, s.deposit)
	s.batchRoute()
}

// waitsFinal reads the parameter wait.
func waitsFinal(r *http.Request) (bool, error) {
	switch v := r.URL.Query().Get("wait"); v {
	case "", "final":
		return true, nil
	case "none":
		return false, nil
	default:
		return false, fail(http.StatusBadRequest, "bad-request", "wait", "want final or none")
	}
}

func (s *Server) deposit(w http.ResponseWriter, r *http.Request) error {
	final, err := waitsFinal(r)
	if err != nil {
		return err
	}
	statement, manifest, err := s.readDeposit(w, r)
	if err != nil {
		return err
	}
	if manifest != nil {
		if err := manifest.check(statement); err != nil {
			s.metrics.outcomes.WithLabelValues(evidence.CodeManifestMismatch.String()).Inc()
			return err
		}
	}
	o, err := s.submit(r, statement, final)
	if err != nil {
		return err
	}
	out := Deposited{Code: o.Code.String(), Digest: o.Digest.String(), Final: o.Final, Location: s.entryURL(o.Digest)}
	if o.Known {
		out.Position = &o.Position
		out.Location = s.entryURL(o.Entry)
		if o.Entry != o.Digest {
			out.Entry = o.Entry.String()
		}
	}
	status := http.StatusCreated
	switch {
	case !o.Final:
		status = http.StatusAccepted
		w.Header().Set("Retry-After", "1")
	case o.Code == evidence.CodeRegistered:
		status = http.StatusOK
	}
	w.Header().Set("Location", out.Location)
	return writeJSON(w, status, out)
}

// manifestSum holds the digests of a manifest that was sent along.
type manifestSum struct{ sha256, sm3 evidence.Digest }

func (m *manifestSum) check(statement []byte) error {
	st, err := evidence.ParseStatement(statement)
	if err != nil {
		var f *evidence.FormatError
		if errors.As(err, &f) {
			return refused(chain.Outcome{Code: f.Code, Field: f.Field, Reason: f.Reason})
		}
		return err
	}
	mismatch := func(field string) error {
		return fail(http.StatusUnprocessableEntity, evidence.CodeManifestMismatch.String(), field, "the manifest received has another digest")
	}
	switch {
	case !st.Envelope():
		return fail(http.StatusUnprocessableEntity, evidence.CodeManifestMismatch.String(), "protected.content-type", "a statement of this kind has no manifest")
	case !bytes.Equal(st.Payload, m.sha256[:]):
		return mismatch("payload")
	case st.ManifestSM3 != m.sm3:
		return mismatch("protected.sm3")
	}
	return nil
}

// smallDeposit is the length of a JSON body below which it takes no slot: one
// statement in base64 with room for the names.
const smallDeposit = 8 << 10

// maxDeposit is statement and manifest in base64, with room for the names.
const maxDeposit = (evidence.MaxStatement+evidence.MaxManifest)/3*4 + 1024

func (s *Server) readDeposit(w http.ResponseWriter, r *http.Request) ([]byte, *manifestSum, error) {
	got, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch got {
	case typeCOSE, typeStatement:
		b, err := readStatement(w, r)
		return b, nil, err
	case "application/json":
		return s.readJSONDeposit(w, r)
	case "multipart/form-data":
		return readMultipartDeposit(w, r)
	}
	return nil, nil, takes(r, typeCOSE, typeStatement, "application/json", "multipart/form-data")
}

func (s *Server) readJSONDeposit(w http.ResponseWriter, r *http.Request) ([]byte, *manifestSum, error) {
	if r.ContentLength < 0 || r.ContentLength > smallDeposit {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		default:
			return nil, nil, &chain.OverloadError{RetryAfter: time.Second}
		}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDeposit))
	dec.DisallowUnknownFields()
	var d struct {
		Statement []byte  `json:"statement"`
		Manifest  *[]byte `json:"manifest"`
	}
	if err := dec.Decode(&d); err != nil {
		return nil, nil, jsonBroken(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fail(http.StatusBadRequest, "bad-request", "body", "something follows the JSON object")
	}
	if len(d.Statement) == 0 {
		return nil, nil, fail(http.StatusBadRequest, evidence.CodeEmpty.String(), "statement", "it is missing or empty")
	}
	if d.Manifest == nil {
		return d.Statement, nil, nil
	}
	if len(*d.Manifest) > evidence.MaxManifest {
		return nil, nil, fail(http.StatusRequestEntityTooLarge, "too-large", "manifest", "at most %d bytes are allowed", evidence.MaxManifest)
	}
	return d.Statement, &manifestSum{evidence.SumSHA256(*d.Manifest), evidence.SumSM3(*d.Manifest)}, nil
}

// jsonBroken says where JSON is wrong without repeating what stands there.
func jsonBroken(err error) error {
	var large *http.MaxBytesError
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var b64 base64.CorruptInputError
	switch {
	case errors.As(err, &large):
		return err
	case errors.As(err, &syntax):
		return fail(http.StatusBadRequest, "bad-request", "body", "the JSON is broken at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fail(http.StatusBadRequest, "bad-request", kind.Field, "want %s", kind.Type)
	case errors.As(err, &b64):
		return fail(http.StatusBadRequest, "bad-request", "body", "a field is not in standard base64")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(http.StatusBadRequest, "bad-request", "body", "the JSON ends early")
	}
	return fail(http.StatusBadRequest, "bad-request", "body", "want an object with statement and, if you like, manifest")
}

// readMultipartDeposit hashes the manifest as it comes: nothing of it is kept.
func readMultipartDeposit(w http.ResponseWriter, r *http.Request) ([]byte, *manifestSum, error) {
	r.Body = http.MaxBytesReader(w, r.Body, evidence.MaxStatement+evidence.MaxManifest+8192)
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, nil, fail(http.StatusBadRequest, "bad-request", "content-type", "the multipart boundary is missing")
	}
	var statement []byte
	var sum *manifestSum
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, multipartBroken(err)
		}
		switch name := p.FormName(); {
		case name == "statement" && statement == nil:
			if statement, err = readPart(p, evidence.MaxStatement); err != nil {
				return nil, nil, err
			}
		case name == "manifest" && sum == nil:
			if sum, err = sumPart(p); err != nil {
				return nil, nil, err
			}
		default:
			return nil, nil, fail(http.StatusBadRequest, "bad-request", "body", "want one part statement and at most one part manifest")
		}
	}
	if len(statement) == 0 {
		return nil, nil, fail(http.StatusBadRequest, evidence.CodeEmpty.String(), "statement", "the part is missing or empty")
	}
	return statement, sum, nil
}

func multipartBroken(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return bodyBroken(err)
}

func readPart(p *multipart.Part, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(p, limit+1))
	if err != nil {
		return nil, multipartBroken(err)
	}
	if int64(len(b)) > limit {
		return nil, fail(http.StatusRequestEntityTooLarge, evidence.CodeOversize.String(), "statement", "at most %d bytes are allowed", limit)
	}
	return b, nil
}

func sumPart(p *multipart.Part) (*manifestSum, error) {
	a, b := sha256.New(), sm3.New()
	n, err := io.Copy(io.MultiWriter(a, b), io.LimitReader(p, evidence.MaxManifest+1))
	if err != nil {
		return nil, multipartBroken(err)
	}
	if n > evidence.MaxManifest {
		return nil, fail(http.StatusRequestEntityTooLarge, "too-large", "manifest", "at most %d bytes are allowed", evidence.MaxManifest)
	}
	return &manifestSum{evidence.Digest(a.Sum(nil)), evidence.Digest(b.Sum(nil))}, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
	return nil
}
