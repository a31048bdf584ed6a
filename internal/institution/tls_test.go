package institution

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// connect lets one side dial the other and returns what each met with.
func connect(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		err = s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		done <- err
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		defer c.Close()
		// In TLS 1.3 the client hears of its refusal with the first read.
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	return <-done, err
}

func TestTLS(t *testing.T) {
	courtHome, court := initHome(t, params("court", evidence.KindCourt))
	notaryHome, notary := initHome(t, params("notary", evidence.KindNotary))
	caHome, ca := initHome(t, params("ca", evidence.KindCA))
	strangerHome, stranger := initHome(t, params("court", evidence.KindCourt)) // calls itself the court
	all := genesis(t, court, notary, ca)
	for home, a := range map[string][]byte{courtHome: all, notaryHome: all, caHome: all, strangerHome: genesis(t, stranger, notary, ca)} {
		if _, err := Join(home, a); err != nil {
			t.Fatal(err)
		}
	}
	config := func(home, peer string) *tls.Config {
		t.Helper()
		h := open(t, home)
		var c *tls.Config
		var err error
		if peer == "" {
			c, err = h.ServerTLS()
		} else {
			c, err = h.ClientTLS(peer)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	server := config(notaryHome, "")
	var state tls.ConnectionState
	check := server.VerifyConnection
	server.VerifyConnection = func(s tls.ConnectionState) error { state = s; return check(s) }
	if s, c := connect(t, server, config(courtHome, "notary")); s != nil || c != nil {
		t.Fatalf("court to notary: server %v, client %v", s, c)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("version %x", state.Version)
	}
	if id, err := open(t, notaryHome).PeerOf(&state); err != nil || id != "court" {
		t.Errorf("the notary was called by %q, %v", id, err)
	}

	s, _ := connect(t, config(notaryHome, ""), config(strangerHome, "notary"))
	if s == nil {
		t.Fatal("the notary took a stranger for the court")
	}
	wantCode(t, s, CodePeerKey)
	_, c := connect(t, config(caHome, ""), config(courtHome, "notary"))
	if c == nil {
		t.Fatal("the court took the CA for the notary")
	}
	wantCode(t, c, CodePeerKey)
	_, c = connect(t, config(strangerHome, ""), config(notaryHome, "court"))
	wantCode(t, c, CodePeerKey)

	bare := &tls.Config{InsecureSkipVerify: true}
	if s, _ := connect(t, config(notaryHome, ""), bare); s == nil {
		t.Error("a client without a certificate was let in")
	}
	old := config(courtHome, "notary")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if s, c := connect(t, config(notaryHome, ""), old); s == nil || c == nil {
		t.Error("TLS 1.2 was accepted")
	}

	// A certificate with the court's public key, presented without its private key.
	thief := config(courtHome, "notary")
	other, err := signing.Generate(evidence.ES256, nil)
	if err != nil {
		t.Fatal(err)
	}
	thief.Certificates[0].PrivateKey = other.Private()
	if s, c := connect(t, config(notaryHome, ""), thief); s == nil && c == nil {
		t.Error("a copied certificate was enough")
	}
}
