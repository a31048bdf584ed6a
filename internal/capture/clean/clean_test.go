package clean

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a root directory on which nothing is wrong.
func machine(t *testing.T, change map[string]string) Config {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{
		"etc/os-release": "ID=debian\n", "etc/hosts": "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # own\n192.0.2.7 recorder recorder.example\n", "etc/resolv.conf": "nameserver 192.0.2.53\n",
		"proc/version": "Linux", "proc/1/comm": "init\n", "proc/1/cmdline": "/sbin/init\x00", "proc/77/comm": "python3\n", "proc/77/cmdline": "python3\x00/opt/report.py\x00--password=x\x00",
		"proc/net/route":                    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\neth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
		"etc/ssl/certs/ca-certificates.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("der")})), "opt/browser": "ELF", "opt/recorder": "ELF too",
	}
	for name, text := range change {
		files[name] = text
	}
	for name, text := range files {
		if text == "-" {
			continue
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Config{Root: root, Environ: []string{"PATH=/bin", "HTTP_PROXY=", "no_proxy=x"}, Hostname: "recorder.example", Software: "test", Program: filepath.Join(root, "opt/recorder"), Browser: filepath.Join(root, "opt/browser"),
		Profile: filepath.Join(root, "profile"), Run: func(context.Context, string, ...string) ([]byte, error) { return nil, exec.ErrNotFound }}
}

func inspect(t *testing.T, c Config) *Report {
	t.Helper()
	r, err := Inspect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCleanMachine(t *testing.T) {
	r := inspect(t, machine(t, nil))
	if r.Verdict != Clean || len(r.Findings) > 0 || r.Facts["default-route"] != "eth0" || r.Facts["ca-store-count"] != "1" || len(r.Facts["browser-sha256"]) != 64 {
		t.Fatalf("%+v", r)
	}
	for _, o := range r.Outputs {
		if strings.Contains(string(o.Data), "password") {
			t.Errorf("%s shows the arguments of a process", o.Command)
		}
	}
	if data, err := r.JSON(); err != nil || !strings.Contains(string(data), `"verdict": "clean"`) {
		t.Errorf("%s %v", data, err)
	}
}

// Each thing that should not be is found, by the check that is responsible; and
// what cannot be read is found too.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		check  string
		files  map[string]string
		change func(*Config)
	}{
		{CheckHosts, map[string]string{"etc/hosts": "127.0.0.1 localhost\n10.0.0.9 www.court.example\n"}, nil},
		{CheckHosts, map[string]string{"etc/hosts": "-"}, nil},
		{CheckOS, map[string]string{"etc/os-release": "-"}, nil},
		{CheckResolver, map[string]string{"etc/resolv.conf": "search example\n"}, nil},
		{CheckProcesses, map[string]string{"proc/9/comm": "mitmproxy\n", "proc/9/cmdline": "/usr/bin/mitmproxy\x00"}, nil},
		{CheckProcesses, map[string]string{"proc/9/comm": "python3\n", "proc/9/cmdline": "python3\x00/opt/mitmdump.py\x00"}, nil},
		{CheckProcesses, map[string]string{"proc/1/comm": "-", "proc/77/comm": "-"}, nil},
		{CheckRoutes, map[string]string{"proc/net/route": "Iface\tDestination\ntun0\t00000000\t0\t0003\t0\t0\t0\t00000000\n"}, nil},
		{CheckRoutes, map[string]string{"proc/net/route": "wg0\t00000080\t0\t0003\t0\t0\t0\t00000080\n"}, nil},
		{CheckRoutes, map[string]string{"proc/net/route": "-"}, nil},
		{CheckCA, map[string]string{"usr/local/share/ca-certificates/own/mine.crt": "x"}, nil},
		{CheckCA, map[string]string{"etc/ssl/certs/ca-certificates.crt": "-"}, nil},
		{CheckCA, map[string]string{"etc/ssl/certs/ca-certificates.crt": "nothing"}, nil},
		{CheckProfile, map[string]string{"profile/Cookies": "x"}, nil},
		{CheckProxy, nil, func(c *Config) { c.Environ = []string{"https_proxy=http://user:secret@h"} }},
		{CheckProxy, nil, func(c *Config) { c.Environ = []string{"LD_PRELOAD=/x.so"} }},
		{CheckBrowser, nil, func(c *Config) { c.Browser = "" }},
		{CheckRecorder, nil, func(c *Config) { c.Program += "x" }},
		{CheckClock, nil, func(c *Config) { c.Sources = []TimeSource{fixed(3 * time.Second)} }},
	} {
		config := machine(t, c.files)
		if c.change != nil {
			c.change(&config)
		}
		r := inspect(t, config)
		if r.Verdict != Unclean || len(r.Findings) != 1 || r.Findings[0].Check != c.check {
			t.Errorf("%s: %s %+v", c.check, r.Verdict, r.Findings)
			continue
		}
		if strings.Contains(r.Findings[0].Problem, "secret") {
			t.Error("a password is in the report")
		}
		// Accepted by name, it is an exception; another name accepts nothing.
		config.Accept = []string{c.check}
		if r = inspect(t, config); r.Verdict != Exceptions || len(r.Exceptions) != 1 || len(r.Problems()) > 0 {
			t.Errorf("%s accepted: %+v", c.check, r)
		}
		config.Accept = slices.DeleteFunc(Checks(), func(name string) bool { return name == c.check })
		if r = inspect(t, config); r.Verdict != Unclean {
			t.Errorf("%s: accepted by others' names", c.check)
		}
	}
}

func TestKnownExceptions(t *testing.T) {
	c := machine(t, nil)
	c.Known = []string{"test site"}
	if r := inspect(t, c); r.Verdict != Exceptions || r.Exceptions[0] != "test site" {
		t.Errorf("%+v", r)
	}
	c.Accept = []string{"everything"}
	if _, err := Inspect(t.Context(), c); err == nil {
		t.Error("a check that does not exist was accepted")
	}
}

type fixed time.Duration

func (fixed) Name() string { return "fixed" }
func (f fixed) Offset(context.Context) (time.Duration, error) {
	if f == 0 {
		return 0, errors.New("no answer")
	}
	return time.Duration(f), nil
}

// Nobody who answers is no fault, and is said.
func TestNoTimeSource(t *testing.T) {
	c := machine(t, nil)
	c.Sources = []TimeSource{fixed(0)}
	if r := inspect(t, c); r.Verdict != Clean || !slices.Contains(r.Declared, "clock: no time source answered") {
		t.Errorf("%+v", r)
	}
}

func TestNTP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var b [48]byte
		_, from, err := server.ReadFrom(b[:])
		if err != nil {
			return
		}
		answer := make([]byte, 48)
		answer[0], answer[1] = 4<<3|4, 2
		copy(answer[24:32], b[40:48])
		now := time.Now().Add(-time.Hour)
		putNTP(answer[32:], now)
		putNTP(answer[40:], now)
		_, _ = server.WriteTo(answer, from)
	}()
	offset, err := NTP{server.LocalAddr().String()}.Offset(t.Context())
	if err != nil || offset.Round(time.Minute) != -time.Hour {
		t.Errorf("%s %v", offset, err)
	}
	<-done
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNTPAnswers(t *testing.T) {
	ask := make([]byte, 48)
	putNTP(ask[40:], time.Unix(1_800_000_000, 0))
	good := func() []byte {
		b := make([]byte, 48)
		b[0], b[1] = 4<<3|4, 1
		copy(b[24:32], ask[40:48])
		putNTP(b[32:], time.Unix(1_800_000_005, 0))
		putNTP(b[40:], time.Unix(1_800_000_005, 0))
		return b
	}
	at := time.Unix(1_800_000_000, 0)
	if off, err := readNTP(ask, good(), at, at); err != nil || off != 5*time.Second {
		t.Errorf("%s %v", off, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":          func(b []byte) []byte { return b[:47] },
		"a client":       func(b []byte) []byte { b[0] = 4<<3 | 3; return b },
		"unsynchronised": func(b []byte) []byte { b[0] |= 3 << 6; return b },
		"kiss of death":  func(b []byte) []byte { b[1] = 0; return b },
		"another's":      func(b []byte) []byte { b[24] ^= 1; return b },
	} {
		if _, err := readNTP(ask, change(good()), at, at); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	// The era after 2036 (RFC 4330 §3).
	b := make([]byte, 8)
	late := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	if putNTP(b, late); !parseNTP(b).Equal(late) {
		t.Errorf("%s", parseNTP(b))
	}
}

func TestHTTPDate(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	}))
	defer server.Close()
	off, err := HTTPDate{server.URL, server.Client()}.Offset(t.Context())
	if err != nil || off.Round(time.Minute) != time.Hour {
		t.Errorf("%s %v", off, err)
	}
}
