package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Recordings: events as they stand in a log, written by hand so that the order of
// the names is that of RFC 8785 to the eye.

type recordingLog struct {
	Name    string           `json:"name"`
	Log     string           `json:"log"`     // events.jsonl
	Digests []string         `json:"digests"` // of each event
	Closed  bool             `json:"closed"`  // ends with session.close
	Batches []recordingBatch `json:"batches"`
}

type recordingBatch struct {
	First int    `json:"first"`
	Last  int    `json:"last"`
	Root  string `json:"root"`
	Head  string `json:"head"`
}

type recordingBad struct {
	Name string `json:"name"`
	Log  string `json:"log"`
	Seq  int    `json:"seq"` // of the event that is refused, by counting
	Code string `json:"code"`
}

type recordingID struct {
	Session  string `json:"session"`
	Exchange int    `json:"exchange"`
	Kind     string `json:"kind"`
	ID       string `json:"id"`
}

// recordedEvents is a short session. Each is made from the digest of the one
// before.
func recordedEvents() (lines, digests []string) {
	session := hexSum("a session")
	prev := strings.Repeat("0", 64)
	add := func(second int, phase, kind, data, blobs string) {
		seq := len(lines)
		if kind == "session.close" {
			data = fmt.Sprintf(`"count":%d,"head":"%s","state":"complete"`, seq, prev)
		}
		line := fmt.Sprintf(`{"at":"2026-11-22T15:05:%02d.123Z","blobs":[%s],"data":{%s},"mono":%d,"phase":"%s","prev":"%s","seq":%d,"session":"%s","type":"%s","v":1}`,
			38+second, blobs, data, second*1_000_000, phase, prev, seq, session, kind)
		prev = hexSum(line)
		lines, digests = append(lines, line), append(digests, prev)
	}
	blob := func(role, media, content string) string {
		return fmt.Sprintf(`{"media":"%s","role":"%s","sha256":"%s","size":%d}`, media, role, hexSum(content), len(content))
	}
	add(0, "before", "session.open", fmt.Sprintf(`"recorder":"%s","trail":"%s","version":"1.0.0"`, hexSum("a key"), hexSum("a trail")), "")
	add(0, "before", "env.hosts", `"command":"cat /etc/hosts"`, blob("output", "text/plain", "127.0.0.1 localhost\n"))
	add(1, "before", "env.report", `"exceptions":[],"verdict":"clean"`, blob("report", "application/json", "{}"))
	add(1, "before", "browser.started", `"version":"Chromium 140"`, "")
	add(2, "during", "input", `"kind":"text","text":"侵权 \"作品\"\n"`, "")
	add(3, "during", "dns.answer", `"answers":["203.0.113.7"],"connection":1,"name":"works.example"`, "")
	add(3, "during", "connection", `"connection":1,"name":"works.example","remote":"203.0.113.7:80"`, "")
	add(4, "during", "http.request", `"connection":1,"exchange":2,"method":"GET","url":"http://works.example/"`, blob("request.head", "application/http", "GET / HTTP/1.1\r\n\r\n"))
	add(4, "during", "http.response", `"connection":1,"exchange":2,"status":200,"url":"http://works.example/"`, blob("response.head", "application/http", "HTTP/1.1 200 OK\r\n\r\n"))
	add(5, "during", "http.end", `"connection":1,"exchange":2,"status":200,"url":"http://works.example/"`, blob("response.body", "text/html", "<p>"))
	add(6, "during", "video.frames", fmt.Sprintf(`"first":0,"frames":["%s","%s"],"times":[0,40]`, hexSum("frame 0"), hexSum("frame 1")), "")
	add(7, "during", "step.done", `"name":"打开作品页","url":"http://works.example/"`, blob("screenshot", "image/png", "png"))
	add(8, "after", "session.close", "", "")
	return lines, digests
}

func hexSum(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

// batchRoot is RFC 9162 §2.1.1 word by word: split at the largest power of two
// below n.
func batchRoot(digests []string) []byte {
	sum := func(parts ...[]byte) []byte {
		d := sha256.Sum256(slices.Concat(parts...))
		return d[:]
	}
	if len(digests) == 1 {
		return sum([]byte{0}, mustHex(digests[0]))
	}
	k := 1
	for k*2 < len(digests) {
		k *= 2
	}
	return sum([]byte{1}, batchRoot(digests[:k]), batchRoot(digests[k:]))
}

func recordingVectors() (good []recordingLog, bad []recordingBad, ids []recordingID) {
	lines, digests := recordedEvents()
	text := func(lines []string) string {
		var b strings.Builder
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
		return b.String()
	}
	batch := func(first, last int) recordingBatch {
		return recordingBatch{first, last, hex.EncodeToString(batchRoot(digests[first : last+1])), digests[last]}
	}
	last := len(lines) - 1
	good = append(good,
		recordingLog{"a whole session", text(lines), digests, true, []recordingBatch{batch(0, 3), batch(4, 4), batch(5, 11), batch(12, last)}},
		recordingLog{"cut off between two events", text(lines[:9]), digests[:9], false, []recordingBatch{batch(0, 8)}})

	refuse := func(name, log string, seq int, code string) { bad = append(bad, recordingBad{name, log, seq, code}) }
	without := func(i int) []string { return slices.Delete(slices.Clone(lines), i, i+1) }
	altered := func(i int, old, new string) string {
		l := slices.Clone(lines)
		l[i] = strings.Replace(l[i], old, new, 1)
		if l[i] == lines[i] {
			panic("the vector changes nothing: " + old)
		}
		return text(l)
	}
	refuse("no events", "", 0, "empty")
	refuse("an event left out", text(without(4)), 4, "gap")
	refuse("the first event left out", text(without(0)), 0, "gap")
	refuse("an old event again", text(slices.Insert(slices.Clone(lines), 6, lines[2])), 6, "order")
	refuse("the same number twice", text(slices.Insert(slices.Clone(lines), 6, lines[5])), 6, "fork")
	refuse("a text altered", altered(1, "cat ", "Cat "), 2, "link")
	refuse("a blob's digest altered", altered(1, hexSum("127.0.0.1 localhost\n"), hexSum("other")), 2, "link")
	refuse("something after the end", text(append(slices.Clone(lines), lines[last])), last+1, "after-close")
	refuse("a line cut off", text(lines)[:len(text(lines))-1], last, "line")
	refuse("a blank between names", altered(3, `,"data"`, `, "data"`), 3, "form")
	refuse("names in another order", altered(3, `"phase":"before","prev"`, `"prev"`), 3, "form")
	refuse("a float", altered(5, `"connection":1`, `"connection":1.0`), 5, "form")
	refuse("a name twice", altered(1, `"command"`, `"command":"x","command"`), 1, "form")
	refuse("an unknown name", altered(4, `"v":1`, `"v":1,"w":1`), 4, "form")
	refuse("version 2", altered(0, `"v":1`, `"v":2`), 0, "version")
	refuse("another session", altered(4, hexSum("a session"), hexSum("another")), 4, "session")
	refuse("time with an offset", altered(4, "123Z", "123+08:00"), 4, "time")
	refuse("time without milliseconds", altered(4, ".123Z", "Z"), 4, "time")
	refuse("an unknown type", altered(4, `"type":"input"`, `"type":"output"`), 4, "type")
	refuse("a required field missing", altered(4, `"kind":"text",`, ``), 4, "required")
	refuse("a field of another kind", altered(4, `"kind":"text"`, `"kind":7`), 4, "value")
	refuse("an object in the data", altered(4, `"kind":"text"`, `"kind":"text","more":{}`), 4, "value")
	refuse("a mixed list", altered(5, `["203.0.113.7"]`, `["203.0.113.7",7]`), 5, "value")
	refuse("a capital in a field's name", altered(1, `"command"`, `"Command"`), 1, "name")
	refuse("a role with a blank", altered(1, `"role":"output"`, `"role":"the output"`), 1, "name")
	refuse("a media type with parameters", altered(1, `"text/plain"`, `"text/plain;charset=utf-8"`), 1, "value")
	refuse("the phase goes back", altered(last-1, `"phase":"during"`, `"phase":"before"`), last-1, "phase")
	refuse("the clock that is never set goes back", altered(6, `"mono":3000000`, `"mono":2999999`), 6, "mono")
	refuse("a close that counts wrongly", altered(last, `"count":12`, `"count":11`), last, "value")
	refuse("frames without their times", altered(10, `"times":[0,40]`, `"times":[0]`), 10, "value")

	for _, x := range []struct {
		exchange int
		kind     string
	}{{1, "response"}, {1, "request"}, {2, "metadata"}, {1000000, "response"}} {
		d := sha256.Sum256(slices.Concat([]byte("zhenglian warc record v1\x00"), mustHex(hexSum("a session")), fmt.Appendf(nil, "%d:%s", x.exchange, x.kind)))
		d[6], d[8] = d[6]&0x0f|0x80, d[8]&0x3f|0x80
		h := hex.EncodeToString(d[:16])
		ids = append(ids, recordingID{hexSum("a session"), x.exchange, x.kind, "urn:uuid:" + strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")})
	}
	return good, bad, ids
}
