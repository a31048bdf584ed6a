package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Paths as the browser sees them.
const (
	Home      = "/home/recording"           // writable, empty at the start
	Profile   = "/home/recording/profile"   // for --user-data-dir
	Downloads = "/home/recording/downloads" // for files that the browser saves
)

// ProxyPort is where the proxy listens inside, on 127.0.0.1.
const ProxyPort = 3128

// Parts of the room.
const (
	PartRoot     = "root"     // this process may make namespaces and change users
	PartNetwork  = "network"  // a network namespace whose only exit is the proxy
	PartUser     = "user"     // a user of its own
	PartFiles    = "files"    // a root of its own: no file of the host but programs
	PartPolicy   = "policy"   // the browser's managed policy
	PartMemory   = "memory"   // limit of memory
	PartCPU      = "cpu"      // limit of processor time
	PartPIDs     = "pids"     // limit of processes
	PartRenderer = "renderer" // the browser's own sandbox: never given up
	PartBrowser  = "browser"  // there is a browser
)

// Limits of one room. Zero values take the default.
type Limits struct {
	Memory    int64         // octets of all processes together; default 1.5 GiB
	CPU       int           // hundredths of one processor; default 200
	Processes int           // processes and threads; default 1024
	File      int64         // octets of one file; default 2 GiB
	Disk      int64         // octets of the home; default 4 GiB
	Time      time.Duration // until the room is closed by itself; default 2 h
}

func (l Limits) filled() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Memory, 1536<<20)
	def(&l.File, 2<<30)
	def(&l.Disk, 4<<30)
	if l.CPU == 0 {
		l.CPU = 200
	}
	if l.Processes == 0 {
		l.Processes = 1024
	}
	if l.Time == 0 {
		l.Time = 2 * time.Hour
	}
	return l
}

// Config of a room. The zero value works.
type Config struct {
	Folder  string // where homes are made; "": the system's folder for temporary files
	Browser string // path of the browser's program, not of a script; "": Find
	Limits  Limits
	// Without names parts that may be missing on this host: PartNetwork, PartUser,
	// PartFiles, PartPolicy, PartMemory, PartCPU, PartPIDs. What is named and
	// missing is given up and stands in the report as given up; what is missing and
	// not named makes Open fail. What the host can give is never left out.
	Without []string
	// User is the first of 64 user ids of which a free one is taken; default 61184,
	// the range that systemd gives to users of one service's life.
	User int
}

const (
	firstUser = 61184
	users     = 64
)

func (c Config) filled() (Config, error) {
	c.Limits = c.Limits.filled()
	if c.Limits.Memory < 0 || c.Limits.CPU < 0 || c.Limits.Processes < 0 || c.Limits.File < 0 || c.Limits.Disk < 0 || c.Limits.Time < 0 {
		return c, errors.New("a limit of the sandbox is negative: give a positive one, or none for the default")
	}
	if c.User == 0 {
		c.User = firstUser
	}
	if c.User < 1000 {
		return c, fmt.Errorf("user %d is one of the system's: give the first of %d free ids from 1000 on", c.User, users)
	}
	if c.Folder == "" {
		c.Folder = os.TempDir()
	}
	var err error
	if c.Folder, err = filepath.Abs(c.Folder); err != nil {
		return c, fmt.Errorf("reading the path of the sandbox's folder: %w", err)
	}
	for _, w := range c.Without {
		if !slices.Contains([]string{PartNetwork, PartUser, PartFiles, PartPolicy, PartMemory, PartCPU, PartPIDs}, w) {
			return c, fmt.Errorf("part %q of the sandbox cannot be given up", w)
		}
	}
	return c, nil
}

// ErrNoBrowser says that there is no browser to record with.
var ErrNoBrowser = errors.New("there is no Chromium here: install Debian's package chromium")

// Find returns the path of the browser's program. ErrNoBrowser.
func Find() (string, error) {
	for _, path := range []string{"/usr/lib/chromium/chromium", "/usr/lib/chromium-browser/chromium-browser", "/opt/google/chrome/chrome", "/usr/lib64/chromium-browser/chromium-browser"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	for _, name := range []string{"chromium", "google-chrome", "chrome"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if path, err = filepath.EvalSymlinks(path); err == nil && program(path) {
			return path, nil
		}
	}
	return "", ErrNoBrowser
}

// program: not a script, whose flags would come from elsewhere.
func program(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	n, _ := f.Read(head)
	return string(head[:n]) == "\x7fELF"
}
