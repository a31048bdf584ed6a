package proxy

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tshark, given the packets of the origin's leg and the session's key log, sees
// the exchanges that were recorded, octet for octet.
func TestPacketsAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("short: no packet capture")
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed: apt-get install tshark lets the packets be compared")
	}
	if os.Geteuid() != 0 {
		t.Skip("capturing on lo needs root: the packets are not compared")
	}
	root := newTestCA(t)
	answers := []string{
		"HTTP/1.1 200 OK\r\nX-odd:  v\r\nSet-Cookie: a\r\nset-cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 70000\r\nContent-Range: bytes 0-69999/100000\r\n\r\n" + strings.Repeat("0123456789", 7000),
		"HTTP/1.1 404 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	}
	for _, secure := range []bool{true, false} {
		t.Run(fmt.Sprint("tls ", secure), func(t *testing.T) {
			config, port, authority := root.server("site.test", time.Now().Add(time.Hour)), uint16(443), "site.test:443"
			if !secure {
				config, port, authority = nil, 80, "site.test:80"
			}
			to, _ := says(t, config, answers...)
			dir := t.TempDir()
			packets, keys := filepath.Join(dir, "leg.pcapng"), filepath.Join(dir, "keys.log")
			log, err := os.Create(keys)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			stop := capture(t, tshark, to.Port(), packets)
			w := newWorld(t, Config{Exceptions: exception("site.test", port, to), Roots: root.pool(), RootsName: "test", KeyLog: log})
			b, _ := w.tunnel(authority)
			if secure {
				if b, err = b.secure(w, "site.test"); err != nil {
					t.Fatal(err)
				}
			}
			for i, answer := range answers {
				b.say(fmt.Sprintf("GET /%d HTTP/1.1\r\nhost: site.test\r\nX-n:%d\r\nAccept-Encoding: gzip, zstd\r\n\r\n", i, i))
				b.read(len(answer))
			}
			b.rest()
			var sent, received bytes.Buffer
			for _, e := range ended(w.m.wait(t, ends(len(answers)))) {
				sent.Write(e.RequestHead)
				received.Write(e.ResponseHead)
				switch {
				case e.ResponseFraming != nil:
					if err := Reassemble(&received, bytes.NewReader(w.m.bytes(t, e.ResponseFraming)), bytes.NewReader(w.m.bytes(t, e.ResponseBody))); err != nil {
						t.Fatal(err)
					}
				case e.ResponseBody != nil:
					received.Write(w.m.bytes(t, e.ResponseBody))
				}
			}
			local := ended(w.m.wait(t, ends(1)))[0].Conn.Local
			stop(fmt.Sprintf("tcp.port == %d && tcp.flags.fin == 1", local.Port()))
			layer, args := "tcp", []string(nil)
			if secure {
				layer, args = "tls", []string{"-o", "tls.keylog_file:" + keys, "-d", fmt.Sprintf("tcp.port==%d,tls", to.Port())}
			}
			// Which of the captured connections it was, the record tells by its own port.
			number, err := exec.Command(tshark, "-r", packets, "-n", "-Y", fmt.Sprintf("tcp.port == %d", local.Port()), "-T", "fields", "-e", "tcp.stream").Output()
			stream, _, _ := strings.Cut(string(number), "\n")
			if err != nil || stream == "" {
				t.Fatalf("tshark finds no packet of port %d: %v", local.Port(), err)
			}
			out, err := exec.Command(tshark, append(args, "-r", packets, "-q", "-z", "follow,"+layer+",raw,"+stream)...).Output()
			if err != nil {
				t.Fatalf("tshark: %v", err)
			}
			wireSent, wireReceived := followed(string(out), to.Port())
			if !bytes.Equal(wireSent, sent.Bytes()) {
				t.Errorf("the packets have the requests\n%q, the record\n%q", wireSent, sent.Bytes())
			}
			if !bytes.Equal(wireReceived, received.Bytes()) {
				t.Errorf("the packets have %d octets of responses, the record %d", len(wireReceived), received.Len())
			}
			if len(wireSent) == 0 || bytes.Contains(wireSent, []byte("zstd")) {
				t.Errorf("the packets have %q", wireSent)
			}
		})
	}
}

// capture captures what goes over lo to a port. stop ends it when a packet that
// matches is in the file.
func capture(t *testing.T, tshark string, port uint16, file string) (stop func(until string)) {
	t.Helper()
	cmd := exec.Command(tshark, "-i", "lo", "-f", fmt.Sprintf("tcp port %d", port), "-w", file, "-n")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "Capturing on")
	}
	if !ready {
		_ = cmd.Wait() // it said why on its way
		t.Skip("tshark cannot capture on lo here: the packets are not compared")
	}
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, said) }()
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(os.Interrupt)
			<-drained
			_ = cmd.Wait() // an interrupted capture may say so
		}
	}
	t.Cleanup(end)
	// "Capturing on" comes before the first packet can be caught: knock until one is.
	for range 200 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
		}
		if info, err := os.Stat(file); err == nil && info.Size() > 600 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return func(until string) {
		for range 200 {
			out, err := exec.Command(tshark, "-r", file, "-n", "-Y", until, "-T", "fields", "-e", "frame.number").Output()
			if err == nil && len(bytes.TrimSpace(out)) > 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		end()
	}
}

// followed reads tshark's "follow,…,raw": one line of hexadecimal a piece, those of
// node 1 indented.
func followed(out string, origin uint16) (sent, received []byte) {
	var nodes [2][]byte
	first := 0 // the node that is the browser's side
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "Node 0: ") && strings.HasSuffix(line, fmt.Sprintf(":%d", origin)) {
			first = 1
		}
		text, indented := strings.CutPrefix(line, "\t")
		octets, err := hex.DecodeString(text)
		if err != nil {
			continue // headings
		}
		node := 0
		if indented {
			node = 1
		}
		nodes[node] = append(nodes[node], octets...)
	}
	return nodes[first], nodes[1-first]
}
