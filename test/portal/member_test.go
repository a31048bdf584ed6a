package portal

import (
	"archive/zip"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
)

func random(p []byte) { _, _ = rand.Read(p) }

// A person makes a key, gets a certificate, binds a passkey, deposits a photo
// with it and makes the package; a stranger verifies it, on the public page and
// at a command line. Nothing of the photo is at the portal or at any node.
func TestPersonDeposits(t *testing.T) {
	for _, c := range []struct {
		person          walk.Person
		screen          tour.Screen
		number          string
		file, step      string
		matches, device string
	}{
		{walk.Lin, wide(walk.Chinese), "119999199205149024", "侵权页面-红叶插画-取证现场.jpg", "插画被盗用的页面", "相符", "工作室电脑"},
		{walk.Chen, narrow(walk.English), "11999919881102901X", "stolen-photo-of-the-lake-at-dawn.jpg", "Photo as it was sold elsewhere", "Matches", "my phone"},
	} {
		t.Run(string(c.person), func(t *testing.T) {
			s := tell(t)
			file, mark := s.photo(c.file, 700_001)
			w := s.visitor(c.screen)
			phone, err := w.AddAuthenticator(s.ctx)
			s.must(err)
			s.must(w.SignIn(s.ctx, c.person))
			paper := text(s)(w.MakeKey(s.ctx, c.device))
			if !strings.HasPrefix(paper, "AGE-SECRET-KEY-1") {
				t.Errorf("the recovery key reads %q", paper)
			}
			s.must(w.KeepPaper(s.ctx))
			s.must(w.AddPasskey(s.ctx, "", c.device))
			held, err := phone.Credentials(s.ctx)
			s.must(err)
			if len(held) != 1 {
				t.Fatalf("the device holds %d passkeys", len(held))
			}
			trail := text(s)(w.Deposit(s.ctx, walk.Deposit{Files: []string{file}, Step: c.step, Note: "note that only she reads", Confirm: true}))
			s.must(w.Record(s.ctx, trail, c.step))
			packet := text(s)(w.Package(s.ctx))
			s.quiet(w)

			s.checkCertificate(packet)
			report, status := s.verify(packet)
			if status != 0 {
				t.Errorf("zhenglian-verify ends with %d:\n%s", status, report)
			}
			if !strings.Contains(strings.ToLower(report), "passkey") {
				t.Errorf("the report says nothing of the passkey:\n%s", report)
			}
			stranger := s.visitor(c.screen)
			s.must(stranger.Open(s.ctx, "/verify"))
			stranger.Requests()
			finding := text(s)(stranger.Verify(s.ctx, packet))
			if !strings.Contains(finding, c.matches) {
				t.Errorf("the public page finds:\n%s", finding)
			}
			for _, r := range stranger.Requests() {
				if !strings.HasPrefix(r, "GET ") || strings.Contains(r, "?") {
					t.Errorf("verifying sent %s", r)
				}
			}
			s.quiet(stranger)

			marks := map[string][]byte{"the photo": mark, "the file's name": []byte(c.file), "the step": []byte(c.step), "the note": []byte("note that only she reads"),
				"her name": []byte(c.person.Name(walk.Chinese)), "her number": []byte(c.number)}
			for _, found := range s.onDisk(filepath.Join(shared.dir, "alliance"), marks) {
				t.Errorf("plaintext: %s", found)
			}
			// The same search finds what is there: the package has it all but her identity.
			if found := s.onDisk(filepath.Dir(packet), map[string][]byte{"the photo": mark}); len(found) == 0 {
				t.Error("the package does not have the photo: the search finds nothing")
			}
		})
	}
}

// unpack writes the files of a package whose names match to a directory.
func (s *story) unpack(packet, pattern string) (files []string) {
	s.Helper()
	z, err := zip.OpenReader(packet)
	s.must(err)
	defer func() { _ = z.Close() }()
	dir := s.TempDir()
	for _, f := range z.File {
		if ok, _ := filepath.Match(pattern, f.Name); !ok {
			continue
		}
		r, err := f.Open()
		s.must(err)
		data, err := io.ReadAll(r)
		s.must(err)
		path := filepath.Join(dir, filepath.Base(f.Name))
		s.must(os.WriteFile(path, data, 0o600))
		files = append(files, path)
	}
	return files
}

// checkCertificate has openssl judge the certificate in a package: its chain, and
// what the portal's OCSP responder says of it.
func (s *story) checkCertificate(packet string) (certificate string) {
	s.Helper()
	found := s.unpack(packet, "certificates/*.pem")
	if len(found) != 1 {
		s.Fatalf("the package has %d certificates", len(found))
	}
	root := s.root()
	if out, err := s.openssl("verify", "-x509_strict", "-CAfile", root, found[0]); err != nil {
		s.Errorf("openssl verify: %v\n%s", err, out)
	}
	if out := s.ocsp(found[0]); !strings.Contains(out, ": good") {
		s.Errorf("openssl ocsp says:\n%s", out)
	}
	return found[0]
}

// root is the authority's certificate, as anybody gets it.
func (s *story) root() string { return filepath.Join(portalHome(), "ca", "certificate.pem") }

func (s *story) ocsp(certificate string) string {
	s.Helper()
	out, err := s.openssl("ocsp", "-issuer", s.root(), "-cert", certificate, "-url", shared.portal.Origin+"/ca/ocsp", "-CAfile", s.root())
	if err != nil || !strings.Contains(out, "Response verify OK") {
		s.Errorf("openssl ocsp: %v\n%s", err, out)
	}
	return out
}
