package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	tagSCRAPI    = "scrapi"
	tagLog       = "public-log"
	tagDeposit   = "deposits"
	tagLookup    = "lookups"
	tagPrivate   = "private-lookups"
	tagTime      = "timestamps"
	tagOperation = "operation"
)

// signed and signedOrNot are what an operation asks of its caller. The scheme's
// name is that of securitySchemes below.
var (
	signed      = []map[string][]string{{"httpSignature": {}}}
	signedOrNot = []map[string][]string{{}, {"httpSignature": {}}}
)

const description = `The HTTP face of one institution's node.

Three ways in: SCRAPI (draft-ietf-scitt-scrapi-11) for statements and receipts, C2SP tlog-tiles for auditors of the public log, and JSON under /api/v1.

Anybody may learn that a digest is registered, where, since when and witnessed by whom. Everything else needs a request signed by RFC 9421: label any, components "@method" and "@target-uri", parameters created (at most five minutes off), keyid (64 hexadecimal digits: SHA-256 of the key's SubjectPublicKeyInfo) and nonce (never used twice). The algorithm is the key's: Ed25519, P-256 with SHA-256, or SM2 with SM3.

Errors are application/problem+json (RFC 9457), or application/concise-problem-details+cbor (RFC 9290) under SCRAPI or when asked for. A 429 names in Retry-After when to come back.`

// routes sets everything up that the handler serves.
func (s *Server) routes() error {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Zhenglian node", Version: s.config.Version, Description: description},
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
			Tags: []*huma.Tag{
				{Name: tagDeposit, Description: "Registering statements, one or many"},
				{Name: tagSCRAPI, Description: "draft-ietf-scitt-scrapi-11"},
				{Name: tagLookup, Description: "What anybody may ask"},
				{Name: tagPrivate, Description: "For owners, those they authorised, and institutions"},
				{Name: tagLog, Description: "The public log and the alliance"},
				{Name: tagTime, Description: "Timestamp tokens, RFC 3161"},
				{Name: tagOperation, Description: "For operators"},
			},
		},
		Formats: map[string]huma.Format{
			"application/json": huma.DefaultJSONFormat,
			"json":             huma.DefaultJSONFormat,
			// Only problems are ever written in it.
			typeProblemCBOR: {Marshal: func(w io.Writer, v any) error {
				p, ok := v.(*Problem)
				if !ok {
					return fmt.Errorf("cannot write a %T as concise problem details", v)
				}
				return p.write(w)
			}},
		},
		DefaultFormat: "application/json",
	}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"httpSignature": {Type: "http", Scheme: "signature", Description: "HTTP Message Signatures, RFC 9421, in the profile above"},
	}
	s.huma = humago.New(s.mux, config)
	s.huma.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		next(huma.WithValue(ctx, requestKey{}, r))
	})
	schemaOf[Problem](s)
	s.scrapiRoutes()
	s.tileRoutes()
	s.depositRoutes()
	s.lookupRoutes()
	s.timestampRoutes()
	s.healthRoutes()
	s.documentRoutes()
	// huma's own form of error, which no route answers with.
	schemas := s.huma.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")

	s.documentNumbers()

	var err error
	if s.openapi, err = json.MarshalIndent(s.huma.OpenAPI(), "", "  "); err != nil {
		return fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return nil
}

// documentNumbers gives the parameters that are numbers their type. They are
// text in the handlers' inputs, so that ours is the error that names the field.
func (s *Server) documentNumbers() {
	least := 0.0
	for _, path := range s.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post} {
			if op == nil {
				continue
			}
			for _, p := range op.Parameters {
				switch p.Name {
				case "position", "size", "from", "limit":
					p.Schema = &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &least}
				}
			}
		}
	}
}

func (s *Server) documentRoutes() {
	s.handle(huma.Operation{OperationID: "openapi", Method: http.MethodGet, Path: "/openapi.json", Tags: []string{tagOperation},
		Summary: "This document", Responses: binaryAnswer("application/openapi+json", "OpenAPI 3.1")},
		func(w http.ResponseWriter, _ *http.Request) error {
			s.writePublic(w, "application/openapi+json", "public, max-age=300", s.openapi)
			return nil
		})
	s.handle(huma.Operation{OperationID: "docs", Method: http.MethodGet, Path: "/docs", Tags: []string{tagOperation},
		Summary: "This document as a page", Responses: binaryAnswer("text/html; charset=utf-8", "HTML")}, s.docs)
}

// document adds what all operations have: the form of their errors.
func (s *Server) document(op *huma.Operation) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = &huma.Response{Description: "An error", Content: map[string]*huma.MediaType{
		typeProblemJSON: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
		typeProblemCBOR: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
}

func schemaOf[T any](s *Server) *huma.Schema {
	return s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

type documented struct {
	status   string
	response *huma.Response
}

func answer(status, description string, types ...string) documented {
	r := &huma.Response{Description: description}
	for _, t := range types {
		if r.Content == nil {
			r.Content = map[string]*huma.MediaType{}
		}
		r.Content[t] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return documented{status, r}
}

func answers(all ...documented) map[string]*huma.Response {
	out := map[string]*huma.Response{}
	for _, a := range all {
		out[a.status] = a.response
	}
	return out
}

func binaryAnswer(contentType, description string) map[string]*huma.Response {
	return answers(answer("200", description, contentType))
}

func jsonAnswer[T any](s *Server, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[T](s)}}}}
}

func requestBody(description string, types ...string) *huma.RequestBody {
	b := &huma.RequestBody{Description: description, Required: true, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		b.Content[t] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return b
}

func pathParam(name, description string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
}

func digestParam(name, description string) *huma.Param {
	p := pathParam(name, description)
	p.Schema.Pattern = "^[0-9a-f]{64}$"
	return p
}

func waitParam() *huma.Param {
	return &huma.Param{Name: "wait", In: "query", Description: "final (default) waits for a quorum's witnessing for a bounded time; none answers as soon as the statement is durable here",
		Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"final", "none"}}}
}

const metaMux = "mux"

// muxAt names the route's pattern where it is not the documented path.
func muxAt(pattern string) map[string]any { return map[string]any{metaMux: pattern} }

func muxPath(op huma.Operation) string {
	if p, ok := op.Metadata[metaMux].(string); ok {
		return p
	}
	return op.Path
}
