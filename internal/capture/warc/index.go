package warc

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// indexed is what the index says of a record.
type indexed struct {
	url, method, media string
	status             int
}

// entry is the JSON part of a CDXJ line.
type entry struct {
	URL          string `json:"url"`
	Mime         string `json:"mime"`
	Status       int    `json:"status"`
	Digest       string `json:"digest,omitempty"`
	Length       int64  `json:"length"`
	Offset       int64  `json:"offset"`
	Filename     string `json:"filename"`
	RecordDigest string `json:"recordDigest"`
	Method       string `json:"method,omitempty"`
}

// line is a line of the CDXJ index: key, time, JSON.
func (x *indexed) line(r *record, at place) string {
	media, _, _ := strings.Cut(x.media, ";")
	e := entry{URL: x.url, Mime: strings.ToLower(strings.TrimSpace(media)), Status: x.status, Length: at.length, Offset: at.offset, Filename: "data.warc.gz", RecordDigest: labelled(at.block)}
	if r.payload != nil {
		e.Digest = labelled(*r.payload)
	}
	address := x.url
	if x.method != "" && x.method != "GET" {
		// As other indexers write it, so that a GET of the same address is not answered
		// with the answer to something else.
		e.Method = x.method
		sign := "?"
		if strings.Contains(address, "?") {
			sign = "&"
		}
		address += sign + "__wb_method=" + x.method
	}
	data, err := marshal(e)
	if err != nil { // of texts and numbers
		data = []byte("{}")
	}
	return fmt.Sprintf("%s %s %s\n", key(address), r.at.UTC().Format("20060102150405"), data)
}

var www = regexp.MustCompile(`^(https?://)www\d*\.`)

// key returns the sort key of an address as the common viewers and indexers make
// it (SURT): the host's labels in reverse, then port, path, and the query's
// fields sorted.
func key(address string) string {
	if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
		return strings.ReplaceAll(address, " ", "%20")
	}
	lower := strings.ToLower(www.ReplaceAllString(address, "$1"))
	u, err := url.Parse(lower)
	if err != nil || strings.Contains(lower, " ") {
		return strings.ReplaceAll(lower, " ", "%20")
	}
	labels := strings.Split(u.Hostname(), ".")
	slices.Reverse(labels)
	out := strings.Join(labels, ",")
	if p := u.Port(); p != "" && !(u.Scheme == "http" && p == "80") && !(u.Scheme == "https" && p == "443") {
		out += ":" + p
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	out += ")" + path
	if u.RawQuery != "" {
		fields := strings.Split(u.RawQuery, "&")
		slices.Sort(fields)
		out += "?" + strings.Join(fields, "&")
	}
	return out
}
