package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// archived is what the web archive holds.
type archived struct {
	read     bool // to its end
	records  map[string]*recordSeen
	present  map[evidence.Digest]int64  // bytes found anywhere, with their size
	places   map[evidence.Digest]string // resource records, by their block
	payloads map[evidence.Digest]string // of responses: record ids
	certs    map[evidence.Digest][]byte // DER
	certSize int
	unpacked map[string]evidence.Digest // gzip taken off, by record id
}

// recordSeen is what a record was found to be.
type recordSeen struct {
	kind, uri, ip, refers string
	status                int
	head, payload         recording.Part
	framing               recording.Part
	named                 string // WARC-Payload-Digest
	facts                 map[string][]string
	claimed               bool // an event speaks of it
}

const (
	maxCertificate  = 32 << 10 // DER; the largest in use have a tenth
	maxCertificates = 8 << 20  // of a session, in memory
	maxFacts        = 64 << 10 // a metadata record
)

// readArchive checks the archive by itself and gathers its records.
func (c *recorded) readArchive(ctx context.Context) error {
	c.records, c.present, c.places = map[string]*recordSeen{}, map[evidence.Digest]int64{}, map[evidence.Digest]string{}
	c.payloads, c.certs, c.unpacked = map[evidence.Digest]string{}, map[evidence.Digest][]byte{}, map[string]evidence.Digest{}
	at := c.at(c.rep.Archive)
	if c.rep.Archive == "" {
		c.run.check("recording-archive", at, Undetermined, because("recording-no-archive", "session", c.id), ClauseBefore)
		return nil
	}
	file, err := c.file(c.rep.Archive)
	if err != nil {
		return err
	}
	fail := func(path string, e *recording.ArchiveError) {
		if c.more("recording-archive") {
			c.run.check("recording-archive", at, DoesNotMatch, because("recording-archive-fault", "file", path, "code", e.Code, "detail", e.Reason), ClauseUnaltered)
		}
	}
	a, err := recording.OpenArchive(file, file.Size())
	var bad *recording.ArchiveError
	if errors.As(err, &bad) {
		fail(bad.Path, bad)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.rep.Archive, err)
	}
	faults, err := a.Check(func(path string, sum evidence.Digest, size int64) { c.present[sum] = size })
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.rep.Archive, err)
	}
	for _, f := range faults {
		fail(f.Path, f)
	}
	c.read = true
	for _, f := range a.Files {
		if strings.HasPrefix(f.Path, "archive/") {
			if err := c.readRecords(ctx, a, f.Path); err != nil {
				return err
			}
		}
	}
	if !c.archiveSum.IsZero() && c.run.files[c.rep.Archive].SHA256 != c.archiveSum {
		c.run.check("recording-archive", at, DoesNotMatch, because("recording-file-differs", "name", recording.FileWACZ, "found", c.run.files[c.rep.Archive].SHA256, "want", c.archiveSum), ClauseUnaltered)
		c.lines["recording-archive"]++
	}
	c.rep.Records = len(c.records)
	if c.good("recording-archive") {
		signed := because("recording-archive-unsigned", "records", len(c.records))
		if a.Signed {
			signed = because("recording-archive-holds", "records", len(c.records), "key", a.Key)
		}
		c.run.check("recording-archive", at, Matches, signed, ClauseUnaltered)
	}
	return nil
}

// readRecords streams a WARC file of the archive.
func (c *recorded) readRecords(ctx context.Context, a *recording.Archive, path string) error {
	in, err := a.Open(path)
	var gone *recording.ArchiveError
	if errors.As(err, &gone) {
		return nil // named by Check
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.rep.Archive, err)
	}
	wanted := map[string]bool{} // records of downloads, whose content coding is taken off
	for _, d := range c.downloads {
		if d.Data.Has("exchange") {
			wanted[recording.RecordID(c.id, d.Data.Int("exchange"), recording.KindResponse)] = true
		}
	}
	r := recording.NewWARCReader(in)
	r.Keep = func(rec *recording.Record) int64 {
		switch {
		case rec.Type == recording.RecordMetadata:
			return maxFacts
		case rec.Type == recording.RecordResource && rec.Get("Content-Type") == "application/pkix-cert" && c.certSize < maxCertificates:
			return maxCertificate
		}
		return 0
	}
	var open *gunzip
	r.Body = func(rec *recording.Record) io.Writer {
		if !wanted[rec.ID] || !strings.EqualFold(rec.HTTP.Get("Content-Encoding"), "gzip") {
			return nil
		}
		open = newGunzip()
		return open
	}
	defer func() {
		if open != nil {
			open.end()
		}
	}()
	for n := 0; ; n++ {
		if n%256 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		rec, err := r.Next()
		if err == io.EOF {
			return nil
		}
		var bad *recording.WARCError
		switch {
		case errors.As(err, &bad):
			c.read = false
			c.recordFault(bad)
			return nil
		case recording.IsAltered(err):
			c.read = false // named by Check
			return nil
		case err != nil:
			return fmt.Errorf("reading %s: %w", c.rep.Archive, err)
		}
		if open != nil {
			if sum, ok := open.end(); ok {
				c.unpacked[rec.ID] = sum
			}
			open = nil
		}
		for _, f := range rec.Faults {
			c.recordFault(f)
		}
		c.takeRecord(rec)
	}
}

func (c *recorded) recordFault(e *recording.WARCError) {
	if c.more("recording-archive") {
		c.run.check("recording-archive", c.at(c.rep.Archive), DoesNotMatch, because("recording-record-fault", "record", e.Record, "id", e.ID, "code", e.Code, "detail", e.Reason), ClauseUnaltered)
	}
}

func (c *recorded) takeRecord(rec *recording.Record) {
	s := &recordSeen{kind: rec.Type, uri: rec.URI, ip: rec.Get("WARC-IP-Address"), refers: strings.Trim(rec.Get("WARC-Refers-To"), "<>"), head: rec.Head, payload: rec.Payload, framing: rec.Framing, named: rec.Get("WARC-Payload-Digest")}
	c.records[rec.ID] = s
	c.present[rec.Block] = rec.Size
	switch rec.Type {
	case recording.RecordRequest, recording.RecordResponse, recording.RecordRevisit:
		if rec.HTTP != nil {
			s.status = rec.HTTP.Status
		}
		for _, p := range []recording.Part{rec.Head, rec.Payload, rec.Framing} {
			c.present[p.SHA256] = p.Size
		}
		if rec.Type == recording.RecordResponse {
			c.payloads[rec.Payload.SHA256] = rec.ID
		}
	case recording.RecordResource:
		c.places[rec.Block] = rec.ID
		if rec.Content != nil {
			c.certs[rec.Block] = rec.Content
			c.certSize += len(rec.Content)
		}
	case recording.RecordMetadata:
		s.facts, _ = recording.ParseFields(rec.Content) // what is not there is missed below
	}
}

// judgeExchanges compares what events say with the records, both ways.
func (c *recorded) judgeExchanges() {
	c.rep.Exchanges = len(c.order)
	open := 0
	fail := func(n int64, v Verdict, why Reason) {
		if c.more("recording-exchange") {
			c.run.check("recording-exchange", c.at(c.rep.Archive), v, why, ClauseBefore, ClauseUnaltered)
		}
	}
	for _, n := range c.order {
		x := c.exchanges[n]
		if x.response == nil {
			c.rep.Failed++
		}
		if x.end == nil {
			open++
		}
		if c.read {
			c.judgeExchange(n, x, func(v Verdict, why Reason) { fail(n, v, why) })
		}
	}
	if open > 0 {
		c.run.notice(c.at(c.rep.Log), because("recording-open-exchanges", "count", open))
		if c.summary.State == recording.StateComplete {
			fail(0, Undetermined, because("recording-exchange-open", "count", open))
		}
	}
	if !c.read || c.broken {
		return
	}
	for _, id := range sortedKeys(c.records) {
		s := c.records[id]
		if (s.kind == recording.RecordRequest || s.kind == recording.RecordResponse || s.kind == recording.RecordRevisit || s.kind == recording.RecordMetadata) && !s.claimed {
			fail(0, DoesNotMatch, because("recording-record-foreign", "id", id, "url", s.uri))
		}
	}
	if c.good("recording-exchange") {
		c.run.check("recording-exchange", c.at(c.rep.Archive), Matches, because("recording-exchanges", "count", len(c.order), "failed", c.rep.Failed), ClauseBefore, ClauseUnaltered)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (c *recorded) judgeExchange(n int64, x *exchanged, fail func(Verdict, Reason)) {
	record := func(kind string) *recordSeen {
		s := c.records[recording.RecordID(c.id, n, kind)]
		if s != nil {
			s.claimed = true
		}
		return s
	}
	request, response, facts := record(recording.KindRequest), record(recording.KindResponse), record(recording.KindMetadata)
	if x.end == nil {
		return // it was under way when the session ended; what is there of it is not foreign
	}
	differs := func(part string, url string) {
		fail(DoesNotMatch, because("recording-record-differs", "exchange", n, "part", part, "url", url))
	}
	url := x.end.Data.Text("url")
	if facts == nil {
		fail(DoesNotMatch, because("recording-record-missing", "exchange", n, "kind", recording.KindMetadata, "url", url))
	}
	if x.request != nil && request == nil && x.response != nil {
		fail(DoesNotMatch, because("recording-record-missing", "exchange", n, "kind", recording.KindRequest, "url", url))
	}
	if x.request != nil && request != nil {
		c.comparePart(x.request, recording.RoleRequestHead, request.head, func() { differs("request-head", url) })
		c.comparePart(x.end, recording.RoleRequestBody, request.payload, func() { differs("request-body", url) })
		if request.uri != url {
			differs("address", url)
		}
	}
	switch {
	case x.response == nil && response != nil:
		fail(DoesNotMatch, because("recording-record-foreign", "id", recording.RecordID(c.id, n, recording.KindResponse), "url", response.uri))
		return
	case x.response == nil:
		return
	case response == nil:
		fail(DoesNotMatch, because("recording-record-missing", "exchange", n, "kind", recording.KindResponse, "url", url))
		return
	}
	c.comparePart(x.response, recording.RoleResponseHead, response.head, func() { differs("response-head", url) })
	if response.uri != url {
		differs("address", url)
	}
	if int64(response.status) != x.response.Data.Int("status") {
		differs("status", url)
	}
	body, has := x.end.Blob(recording.RoleResponseBody)
	switch {
	case response.kind == recording.RecordRevisit:
		first := c.records[response.refers]
		if !has || response.named != "sha256:"+body.SHA256.String() || first == nil || first.kind != recording.RecordResponse || first.payload.SHA256 != body.SHA256 {
			differs("revisit", url)
		}
	case has:
		c.comparePart(x.end, recording.RoleResponseBody, response.payload, func() { differs("response-body", url) })
		c.comparePart(x.end, recording.RoleResponseFraming, response.framing, func() { differs("framing", url) })
	case response.payload.Size > 0:
		differs("response-body", url)
	}
	if conn := c.connections[x.end.Data.Int("connection")]; conn != nil && conn.made != nil {
		if remote, err := netip.ParseAddrPort(conn.made.Data.Text("remote")); err == nil && response.ip != remote.Addr().Unmap().String() {
			differs("ip-address", url)
		}
	}
}

// comparePart holds a part of a record to the blob of that role, where the event
// names one.
func (c *recorded) comparePart(e *recording.Logged, role string, p recording.Part, differs func()) {
	if b, ok := e.Blob(role); ok && (b.SHA256 != p.SHA256 || b.Size != p.Size) {
		differs()
	}
}

// judgeNetwork holds DNS answers, addresses and certificates against each other
// and against the metadata records.
func (c *recorded) judgeNetwork() {
	at := c.at(c.rep.Log)
	fail := func(why Reason) {
		if c.more("recording-network") {
			c.run.check("recording-network", at, DoesNotMatch, why, ClauseBefore)
		}
	}
	ids := make([]int64, 0, len(c.connections))
	for n := range c.connections {
		ids = append(ids, n)
	}
	slices.Sort(ids)
	for _, n := range ids {
		c.judgeConnection(n, c.connections[n], fail)
	}
	for _, n := range c.order {
		x := c.exchanges[n]
		if x.end == nil || x.response == nil {
			continue
		}
		conn := c.connections[x.end.Data.Int("connection")]
		switch {
		case conn == nil || conn.made == nil:
			fail(because("recording-no-connection", "exchange", n))
		case strings.HasPrefix(x.end.Data.Text("url"), "https:") && conn.tls == nil:
			fail(because("recording-no-certificate", "exchange", n))
		default:
			c.compareFacts(n, conn, fail)
		}
	}
	if c.good("recording-network") {
		c.run.check("recording-network", at, Matches, because("recording-network-holds", "count", len(ids)), ClauseBefore)
	}
}

// compareFacts holds a metadata record against the events of its connection.
func (c *recorded) compareFacts(n int64, conn *connected, fail func(Reason)) {
	s := c.records[recording.RecordID(c.id, n, recording.KindMetadata)]
	if s == nil {
		return // named already
	}
	differs := func(part string) { fail(because("recording-facts-differ", "exchange", n, "part", part)) }
	if one(s.facts, "connection") != strconv.FormatInt(conn.made.Data.Int("connection"), 10) || one(s.facts, "remote") != conn.made.Data.Text("remote") {
		differs("connection")
	}
	if conn.dns != nil {
		var told []string
		for _, a := range s.facts["dns-answer"] {
			if f := strings.Fields(a); len(f) == 3 && (f[1] == "A" || f[1] == "AAAA") {
				told = append(told, f[2])
			}
		}
		answers := slices.Clone(conn.dns.Data.Texts("answers"))
		slices.Sort(told)
		slices.Sort(answers)
		if !slices.Equal(slices.Compact(told), slices.Compact(answers)) {
			differs("dns-answer")
		}
	}
	if conn.tls != nil {
		var chain []string
		for _, b := range conn.tls.Blobs {
			if b.Role == recording.RoleCertificate {
				chain = append(chain, "sha256:"+b.SHA256.String())
			}
		}
		if !slices.Equal(chain, s.facts["certificate"]) || one(s.facts, "tls-verdict") != conn.tls.Data.Text("verdict") {
			differs("certificate")
		}
	}
}

func one(facts map[string][]string, name string) string {
	if v := facts[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}
