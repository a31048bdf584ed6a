package clean

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// programs: the recorder and the browser, by digest.
func (i *inspection) programs() {
	own := i.Program
	if own == "" {
		var err error
		if own, err = os.Executable(); err != nil {
			i.finding(CheckRecorder, "the recorder's own file is not known: %v", err)
		}
	}
	if own != "" {
		i.digest(CheckRecorder, own)
	}
	if i.Browser == "" {
		i.finding(CheckBrowser, "no browser is named")
		return
	}
	i.digest(CheckBrowser, i.Browser)
}

func (i *inspection) digest(check, file string) {
	f, err := os.Open(file)
	if err != nil {
		i.finding(check, "%s cannot be read", file)
		return
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		i.finding(check, "%s cannot be read", file)
		return
	}
	sum := hex.EncodeToString(h.Sum(nil))
	i.fact(check+"-sha256", sum)
	i.keep(check, "sha256sum "+file, fmt.Appendf(nil, "%s  %s\n%d bytes\n", sum, file, n), nil)
}

// watchers are programs that read or change what a browser gets, or the browser
// itself, by the name of their file.
func watchers() []string {
	return []string{"mitmproxy", "mitmdump", "mitmweb", "charles", "fiddler", "burp", "burpsuite", "zaproxy", "proxyman", "whistle", "anyproxy", "squid", "privoxy", "polipo", "tinyproxy",
		"redsocks", "proxychains", "proxychains4", "clash", "clash-meta", "mihomo", "v2ray", "xray", "sing-box", "ss-local", "trojan", "openvpn", "frida-server", "frida", "gdb", "lldb", "strace", "ltrace",
		"ettercap", "bettercap", "sslsplit", "sslstrip", "responder", "dnschef", "dnsspoof", "arpspoof", "browsermob-proxy"}
}

// processes: none that stands between the browser and the network.
func (i *inspection) processes() {
	root := os.DirFS(i.Root)
	entries, err := fs.ReadDir(root, "proc")
	if err != nil {
		i.finding(CheckProcesses, "/proc cannot be read")
		return
	}
	var list strings.Builder
	read := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, err := fs.ReadFile(root, path.Join("proc", e.Name(), "comm"))
		if err != nil {
			continue // it ended
		}
		read++
		line, _ := fs.ReadFile(root, path.Join("proc", e.Name(), "cmdline")) // a kernel thread has none
		args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		// The program alone: arguments hold other people's secrets.
		fmt.Fprintf(&list, "%d\t%s\t%s\n", pid, strings.TrimSpace(string(name)), args[0])
		if w := watcher(strings.TrimSpace(string(name)), args); w != "" {
			i.finding(CheckProcesses, "%s runs (process %d): it can read or change what the browser gets", w, pid)
		}
	}
	i.keep(CheckProcesses, "ps -e -o pid,comm,args (programs without their arguments)", []byte(list.String()), nil)
	if read == 0 {
		i.finding(CheckProcesses, "/proc shows no process")
	}
}

// watcher names the watcher that a process is; scripts are known by their file.
func watcher(comm string, args []string) string {
	names := []string{comm}
	for _, a := range args[:min(len(args), 2)] {
		names = append(names, strings.TrimSuffix(path.Base(a), ".py"))
	}
	for _, n := range names {
		if slices.Contains(watchers(), strings.ToLower(n)) {
			return n
		}
	}
	return ""
}

// hosts: no name but the machine's own.
func (i *inspection) hosts() {
	data := i.must(CheckHosts, "/etc/hosts")
	own := i.host()
	for n, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		for _, name := range f[1:] {
			if !ownName(strings.ToLower(name), strings.ToLower(own)) {
				i.finding(CheckHosts, "line %d of /etc/hosts sends %s to %s", n+1, name, f[0])
			}
		}
	}
}

func ownName(name, host string) bool {
	short, _, _ := strings.Cut(host, ".")
	switch name {
	case "localhost", "localhost.localdomain", "localhost4", "localhost4.localdomain4", "localhost6", "localhost6.localdomain6", "broadcasthost",
		"ip6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts":
		return true
	}
	return host != "" && (name == host || name == short)
}

// resolver: there is one; which, stands in the report and in each DNS answer.
func (i *inspection) resolver() {
	data := i.must(CheckResolver, "/etc/resolv.conf")
	var servers []string
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	i.fact("resolvers", strings.Join(servers, " "))
	if len(servers) == 0 {
		i.finding(CheckResolver, "/etc/resolv.conf names no server")
	}
	i.file(CheckResolver, "/etc/nsswitch.conf") // where there is one
}

// variables: no proxy but the recording one, which the browser alone is given.
func (i *inspection) variables() {
	var found []string
	for _, v := range i.Environ {
		name, value, _ := strings.Cut(v, "=")
		switch lower := strings.ToLower(name); {
		case value == "":
		case strings.HasSuffix(lower, "_proxy") && lower != "no_proxy", lower == "ssl_cert_file", lower == "ssl_cert_dir", lower == "sslkeylogfile", lower == "ld_preload", lower == "ld_library_path":
			found = append(found, name)
		}
	}
	slices.Sort(found)
	// Values can hold passwords.
	i.keep(CheckProxy, "env (names of variables that change connections)", []byte(strings.Join(found, "\n")+"\n"), nil)
	for _, name := range found {
		i.finding(CheckProxy, "the variable %s is set", name)
	}
}

// routes: the way out is no tunnel.
func (i *inspection) routes() {
	data := i.must(CheckRoutes, "/proc/net/route")
	for _, r := range parseRoutes(string(data)) {
		if r.def {
			i.fact("default-route", r.device)
			if tunnel(r.device) {
				i.finding(CheckRoutes, "the way out goes through the tunnel %s", r.device)
			}
		}
	}
	i.file(CheckRoutes, "/proc/net/ipv6_route")
	i.file(CheckRoutes, "/proc/net/dev")
}

type route struct {
	device string
	def    bool
}

// parseRoutes reads /proc/net/route: device, destination, gateway, flags, three
// numbers, mask.
func parseRoutes(text string) []route {
	var out []route
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] == "Iface" {
			continue
		}
		// 0/1 and 128/1 together are how tunnels take the default over.
		half := f[7] == "00000080" && (f[1] == "00000000" || f[1] == "00000080")
		out = append(out, route{f[0], f[1] == "00000000" && f[7] == "00000000" || half})
	}
	return out
}

func tunnel(device string) bool {
	for _, p := range []string{"tun", "tap", "wg", "ppp", "utun", "ipsec", "tailscale"} {
		if strings.HasPrefix(device, p) {
			return true
		}
	}
	return false
}

// trace: the way to the first address, where the machine has a program for it
// and a target was named. That it cannot be told is no fault: many networks do
// not answer.
func (i *inspection) trace() {
	if i.Target == "" {
		i.report.Declared = append(i.report.Declared, "trace: no way was traced")
		return
	}
	for _, c := range [][]string{{"traceroute", "-n", "-q", "1", "-w", "1", "-m", "20"}, {"tracepath", "-n", "-m", "20"}} {
		if _, err := i.command(CheckTrace, c[0], append(c[1:], i.Target)...); !errors.Is(err, exec.ErrNotFound) {
			return
		}
	}
	i.report.Declared = append(i.report.Declared, "trace: this machine has no program that traces the way")
}

// certificates: the system's store, and nothing added to it.
func (i *inspection) certificates() {
	found := false
	for _, name := range []string{"etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem"} {
		data, err := fs.ReadFile(os.DirFS(i.Root), name)
		if err != nil {
			continue
		}
		found = true
		var list strings.Builder
		sum := sha256.Sum256(data)
		n := 0
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			n++
			fmt.Fprintf(&list, "%x\n", sha256.Sum256(block.Bytes))
		}
		i.fact("ca-store-sha256", hex.EncodeToString(sum[:]))
		i.fact("ca-store-count", strconv.Itoa(n))
		i.keep(CheckCA, "SHA-256 of each certificate in /"+name, []byte(list.String()), nil)
		if n == 0 {
			i.finding(CheckCA, "/%s holds no certificate", name)
		}
		break
	}
	if !found {
		i.finding(CheckCA, "the machine has no store of certificates")
	}
	for _, dir := range []string{"usr/local/share/ca-certificates", "etc/pki/ca-trust/source/anchors"} {
		err := fs.WalkDir(os.DirFS(i.Root), dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && slices.Contains([]string{".crt", ".pem", ".cer"}, filepath.Ext(name)) {
				i.finding(CheckCA, "the certificate authority /%s was added to the system's", name)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			i.finding(CheckCA, "/%s cannot be read", dir)
		}
	}
}

// profile: the browser begins with nothing.
func (i *inspection) profile() {
	if i.Profile == "" {
		i.report.Declared = append(i.report.Declared, "profile: made empty by the sandbox")
		return
	}
	entries, err := os.ReadDir(i.Profile)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	i.keep(CheckProfile, "ls -A "+i.Profile, []byte(strings.Join(names, "\n")+"\n"), err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		i.finding(CheckProfile, "the browser's profile cannot be read")
	case len(names) > 0:
		i.finding(CheckProfile, "the browser's profile is not empty: cookies or a cache may be in it")
	}
}

// maxOffset is how far the clock may be from a time source: a recording's times
// are judged to ten minutes, and a machine that keeps time has milliseconds.
const maxOffset = 2 * time.Second

// clock: compared with those who answer.
func (i *inspection) clock() {
	i.command(CheckClock, "date", "--utc", "+%Y-%m-%dT%H:%M:%S.%NZ")
	var list strings.Builder
	answered := 0
	for _, s := range i.Sources {
		ctx, cancel := context.WithTimeout(i.ctx, 3*time.Second)
		offset, err := s.Offset(ctx)
		cancel()
		if err != nil {
			fmt.Fprintf(&list, "%s\tno answer: %v\n", s.Name(), err)
			continue
		}
		answered++
		fmt.Fprintf(&list, "%s\t%d ms\n", s.Name(), offset.Milliseconds())
		i.fact("clock-offset-ms "+s.Name(), strconv.FormatInt(offset.Milliseconds(), 10))
		if offset.Abs() > maxOffset {
			i.finding(CheckClock, "%s says the clock is off by %d ms", s.Name(), offset.Milliseconds())
		}
	}
	i.keep(CheckClock, "offset of time sources from this clock", []byte(list.String()), nil)
	switch {
	case len(i.Sources) == 0:
		i.report.Declared = append(i.report.Declared, "clock: compared with no time source")
	case answered == 0:
		i.report.Declared = append(i.report.Declared, "clock: no time source answered")
	}
}
