package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Room is an open sandbox.
type Room struct {
	config   Config
	report   Report
	browser  string
	user     int
	lock     net.Listener // the user id is taken while this stands
	folder   string       // on the host: home and the root's place
	held     *os.File     // the folder is in use while this is open
	group    *cgroup
	listener net.Listener

	work chan func() // for the thread
	done chan struct{}

	mu       sync.Mutex
	children []*Child
	closed   bool
	closing  error

	watch     sync.WaitGroup
	stopWatch context.CancelFunc
	over      chan struct{} // closed when a limit ended the room
	overWhy   string
}

// Open builds a room. What the host lacks makes it fail with *Incomplete, unless
// Config.Without names it.
func Open(ctx context.Context, c Config) (*Room, error) {
	c, err := c.filled()
	if err != nil {
		return nil, err
	}
	r := &Room{config: c, work: make(chan func()), done: make(chan struct{}), over: make(chan struct{})}
	r.report.Container = container()
	if r.browser = c.Browser; r.browser == "" {
		r.browser, err = Find()
	}
	if err == nil && !program(r.browser) {
		err = fmt.Errorf("%s is no program: give the browser's own file, not the script that starts it", r.browser)
	}
	r.report.add(PartBrowser, err, r.browser, remedyBrowser, nil)
	if os.Geteuid() == 0 {
		if r.user, r.lock, err = takeUser(c.User); err != nil {
			return nil, err
		}
	}
	if err := r.makeFolder(); err != nil {
		return nil, errors.Join(err, r.undo())
	}
	r.group = newCgroup("zhenglian-"+filepath.Base(r.folder), c.Limits)
	go r.thread()
	r.on(r.furnish)
	for _, part := range []string{PartMemory, PartCPU, PartPIDs} {
		r.report.add(part, r.group.missing[part], r.limitText(part), remedyCgroup, c.Without)
	}
	if r.listener == nil { // no namespace: a socket of the host's loopback
		var lc net.ListenConfig
		if r.listener, err = lc.Listen(ctx, "tcp4", "127.0.0.1:0"); err != nil {
			return nil, errors.Join(fmt.Errorf("opening the proxy's socket: %w", err), r.Close())
		}
	}
	if len(r.report.Missing()) > 0 {
		return nil, errors.Join(&Incomplete{r.report}, r.Close())
	}
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.stopWatch = cancel
	r.watch.Go(func() { r.watchLimits(wctx) })
	return r, nil
}

func (r *Room) limitText(part string) string {
	l := r.config.Limits
	return map[string]string{
		PartMemory: strconv.FormatInt(l.Memory, 10) + " octets",
		PartCPU:    strconv.Itoa(l.CPU) + " hundredths of a processor",
		PartPIDs:   strconv.Itoa(l.Processes) + " processes",
	}[part]
}

// takeUser finds a user id that no process has, and keeps other recorders of this
// machine from it.
func takeUser(first int) (int, net.Listener, error) {
	busy := map[int]bool{}
	for _, p := range processes() {
		busy[p.uid] = true
	}
	start := rand.IntN(users)
	for i := range users {
		id := first + (start+i)%users
		if busy[id] {
			continue
		}
		// The abstract name goes with the process, however it ends.
		lock, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "@zhenglian-recording-user-" + strconv.Itoa(id)})
		if err == nil {
			return id, lock, nil
		}
	}
	return 0, nil, fmt.Errorf("none of the user ids %d to %d is free: too many recordings at a time", first, first+users-1)
}

func (r *Room) makeFolder() error {
	var err error
	if r.folder, err = os.MkdirTemp(r.config.Folder, "recording-"); err != nil {
		return fmt.Errorf("making the sandbox's folder: %w", err)
	}
	if r.held, err = hold(r.folder); err != nil {
		return err
	}
	// The browser's user passes through, and sees nothing else.
	if err := os.Chmod(r.folder, 0o711); err != nil {
		return fmt.Errorf("making the sandbox's folder: %w", err)
	}
	home := filepath.Join(r.folder, "home")
	for _, dir := range []string{home, filepath.Join(home, "profile"), filepath.Join(home, "downloads"), filepath.Join(r.folder, "root")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("making the sandbox's folder: %w", err)
		}
		if r.user != 0 && !strings.HasSuffix(dir, "root") {
			if err := os.Chown(dir, r.user, r.user); err != nil {
				return fmt.Errorf("giving the home to its user: %w", err)
			}
		}
	}
	return nil
}

// thread does what concerns the room, on one thread that never comes back to the
// host's namespaces: the runtime ends it with the goroutine.
func (r *Room) thread() {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread cannot end before the process. Another takes the room, and
		// is another because this one is held until it has begun.
		begun := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(begun)
			r.serve()
		}()
		<-begun
		runtime.UnlockOSThread()
		return
	}
	r.serve()
}

func (r *Room) serve() {
	defer close(r.done)
	for f := range r.work {
		f()
	}
}

// on runs f on the room's thread and waits for it.
func (r *Room) on(f func()) {
	finished := make(chan struct{})
	r.work <- func() { defer close(finished); f() }
	<-finished
}

// furnish takes the thread out of the host, part by part. What fails is reported;
// the order is that nothing is given up that a later part needs.
func (r *Room) furnish() {
	c := r.config
	add := func(part string, err error, detail, remedy string) {
		r.report.add(part, err, detail, remedy, c.Without)
	}
	room := remedyRoom
	if r.report.Container != "" {
		room = remedyContainer
	}
	if os.Geteuid() != 0 {
		err := errors.New("this process is not root")
		add(PartNetwork, err, "", remedyRoot)
		add(PartUser, err, "", remedyRoot)
		add(PartFiles, err, "", remedyRoot)
		add(PartPolicy, policyInstalled(), "installed on this machine", remedyRoom)
		r.report.add(PartRenderer, usernsAllowed(0), "user namespaces", remedyUserns, nil)
		return
	}
	add(PartNetwork, r.enterNetwork(), "lo alone, proxy on 127.0.0.1:"+strconv.Itoa(ProxyPort), room)
	joined := r.group.joinV1(unix.Gettid())
	if joined != nil {
		for _, part := range []string{PartMemory, PartCPU, PartPIDs} {
			r.group.missing[part] = joined
		}
	}
	err := privateMounts()
	if err == nil {
		var extra []string
		if !strings.HasPrefix(r.browser, "/usr/") && r.browser != "" {
			extra = append(extra, filepath.Dir(r.browser))
		}
		err = enterRoot(filepath.Join(r.folder, "root"), filepath.Join(r.folder, "home"), r.user, c.Limits.Memory, Policy(), extra...)
	}
	add(PartFiles, err, "programs read-only, home empty, processes of its own user alone", room)
	if err != nil {
		err = policyInstalled()
	}
	add(PartPolicy, err, "given in the room", room)
	// The thread stays root, to start and to end what runs in the room; its children
	// lose what follows when they start.
	err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	for capability := uintptr(0); err == nil && capability <= unix.CAP_LAST_CAP; capability++ {
		if e := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); e != nil && !errors.Is(e, unix.EINVAL) {
			err = fmt.Errorf("dropping capability %d: %w", capability, e)
		}
	}
	if err == nil {
		err = r.try("/bin/true")
	}
	add(PartUser, err, "user "+strconv.Itoa(r.user)+", no_new_privs, no capability", room)
	r.report.add(PartRenderer, usernsAllowed(r.user), "user namespaces of an unprivileged user", remedyUserns, nil)
}

// try starts a program as the browser would be and waits for it.
func (r *Room) try(path string) error {
	cmd := exec.Command(path)
	cmd.Env, cmd.SysProcAttr = []string{}, r.attributes()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("starting a program as user %d: %w", r.user, err)
	}
	return nil
}

func (r *Room) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if r.user != 0 {
		a.Credential = &syscall.Credential{Uid: uint32(r.user), Gid: uint32(r.user), Groups: []uint32{}}
	}
	return a
}

// enterNetwork gives the thread a network of its own with lo up, and opens the
// proxy's socket there.
func (r *Room) enterNetwork() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	if err := unix.Sethostname([]byte("recording")); err != nil {
		return fmt.Errorf("naming the room: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket in the namespace: %w", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing the namespace's links: %w", err)
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 && l.Flags&net.FlagUp != 0 {
			return fmt.Errorf("the new network namespace has a link %s", l.Name)
		}
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(ProxyPort))
	if err != nil {
		return fmt.Errorf("opening the proxy's socket: %w", err)
	}
	r.listener = listener
	return nil
}

// Listener is the proxy's socket inside the room. The room closes it.
func (r *Room) Listener() net.Listener { return r.listener }

// Report says what holds here and what was given up.
func (r *Room) Report() Report { return r.report }

// Browser is the path of the program that Start runs.
func (r *Room) Browser() string { return r.browser }

// User is the id that the browser runs as; 0 when it has none of its own.
func (r *Room) User() int { return r.user }

// HostPath is where the recorder finds a file of the room's Home; "" for any
// other path. The browser owns what lies there: it may be a link to anywhere.
// OpenFile reads it safely.
func (r *Room) HostPath(inside string) string {
	rel, err := filepath.Rel(Home, inside)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return filepath.Join(r.folder, "home", rel)
}

// OpenFile opens a regular file of the room's home for reading. Links are not
// followed out of the home.
func (r *Room) OpenFile(inside string) (*os.File, error) {
	rel, err := filepath.Rel(Home, inside)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("%q is no path of the room's home", inside)
	}
	home, err := os.OpenRoot(filepath.Join(r.folder, "home"))
	if err != nil {
		return nil, fmt.Errorf("opening the room's home: %w", err)
	}
	defer home.Close()
	f, err := home.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0) // a pipe must not hold the recorder up
	if err != nil {
		return nil, fmt.Errorf("opening a file of the room: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening a file of the room: %w", err), f.Close())
	}
	return f, nil
}

// Place returns the paths of profile and downloads as the browser sees them: the
// constants, or the host's where files of its own were given up.
func (r *Room) Place(inside string) string {
	if r.report.Holds(PartFiles) {
		return inside
	}
	return r.HostPath(inside)
}

// Child is a program that runs in the room.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// PID is the process's number on the host.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err is how it ended, after Done: nil or an *exec.ExitError.
func (c *Child) Err() error { return c.err }

// Start runs the browser in the room. Files become descriptors 3, 4, …; out
// takes what it writes (nil: dropped). An argument that weakens the browser's own
// sandbox or the certificates' check is refused.
func (r *Room) Start(args, env []string, files []*os.File, out io.Writer) (*Child, error) {
	for _, a := range args {
		if name, _, _ := strings.Cut(a, "="); slices.Contains([]string{"--no-sandbox", "--disable-setuid-sandbox", "--disable-namespace-sandbox", "--disable-seccomp-filter-sandbox", "--single-process", "--no-zygote", "--no-zygote-sandbox", "--disable-gpu-sandbox", "--ignore-certificate-errors", "--disable-web-security", "--remote-debugging-port", "--remote-debugging-address"}, name) {
			return nil, fmt.Errorf("starting the browser with %s is refused: it would give its sandbox up", name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("starting the browser: the room is closed")
	}
	child := &Child{done: make(chan struct{})}
	attributes := r.attributes()
	if r.group.v2 != "" && r.group.missing[PartMemory] == nil {
		fd, err := unix.Open(r.group.v2, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_PATH, 0)
		if err != nil {
			return nil, fmt.Errorf("opening the control group: %w", err)
		}
		defer unix.Close(fd)
		attributes.UseCgroupFD, attributes.CgroupFD = true, fd
	}
	var err error
	r.on(func() {
		// The shell lowers limits that no other process may set without further rights,
		// and becomes the browser. A limit of the shell counts 512 octets.
		script := fmt.Sprintf(`ulimit -c 0 && ulimit -f %d && exec "$0" "$@"`, (r.config.Limits.File+511)/512)
		cmd := exec.Command("/bin/sh", append([]string{"-c", script, r.browser}, args...)...)
		cmd.Env = append([]string{"HOME=" + r.Place(Home), "TMPDIR=" + r.tmp(), "XDG_RUNTIME_DIR=" + r.Place(Home), "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "TZ=" + zone()}, env...)
		cmd.Dir, cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = r.Place(Home), files, out, out
		cmd.SysProcAttr = attributes
		cmd.WaitDelay = 2 * time.Second
		if err = cmd.Start(); err == nil {
			child.cmd = cmd
		}
	})
	if err != nil {
		return nil, fmt.Errorf("starting %s in the sandbox: %w", r.browser, err)
	}
	r.children = append(r.children, child)
	r.watch.Go(func() { child.err = child.cmd.Wait(); close(child.done) })
	return child, nil
}

func (r *Room) tmp() string {
	if r.report.Holds(PartFiles) {
		return "/tmp"
	}
	return r.Place(Home)
}

// zone is the clock's zone as the host has it.
func zone() string {
	if z := os.Getenv("TZ"); z != "" {
		return z
	}
	return ":/etc/localtime"
}

// Over is closed when a limit of time or disk ended the room; OverReason says
// which, afterwards.
func (r *Room) Over() <-chan struct{} { return r.over }

// OverReason is "time" or "disk" after Over.
func (r *Room) OverReason() string {
	select {
	case <-r.over:
		return r.overWhy
	default:
		return ""
	}
}

func (r *Room) watchLimits(ctx context.Context) {
	end := time.NewTimer(r.config.Limits.Time)
	defer end.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			r.overWhy = "time"
		case <-look.C:
			if r.diskUsed() <= r.config.Limits.Disk {
				continue
			}
			r.overWhy = "disk"
		}
		close(r.over)
		r.Kill()
		return
	}
}

// diskUsed counts the blocks of the home, so that holes cost nothing.
func (r *Room) diskUsed() int64 {
	var sum int64
	filepath.WalkDir(filepath.Join(r.folder, "home"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was there a moment ago
		}
		if info, err := d.Info(); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += s.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

// MemoryPeak is the most memory that the room has used, in octets; 0 where no
// control group tells.
func (r *Room) MemoryPeak() int64 { return r.group.memoryPeak() }

// Kill ends every process of the room, at once.
func (r *Room) Kill() {
	r.mu.Lock()
	children := slices.Clone(r.children)
	r.mu.Unlock()
	for _, c := range children {
		select {
		case <-c.done:
		default:
			syscall.Kill(-c.PID(), syscall.SIGKILL) // its session: it is the leader
			syscall.Kill(c.PID(), syscall.SIGKILL)
		}
	}
	r.killUser()
}

// killUser ends what has the room's user. The id is the room's alone.
func (r *Room) killUser() (left int) {
	if r.user == 0 {
		return 0
	}
	for _, p := range processes() {
		if p.uid == r.user && p.state != "Z" {
			left++
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	return left
}

// Close ends all processes, and removes the home and the control group. It may be
// called more than once.
func (r *Room) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		<-r.done
		return r.closing
	}
	r.closed = true
	r.mu.Unlock()
	if r.stopWatch != nil {
		r.stopWatch()
	}
	var errs []error
	r.Kill()
	for i := 0; r.killUser() > 0; i++ {
		if i == 200 {
			errs = append(errs, fmt.Errorf("processes of user %d do not end", r.user))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.watch.Wait()
	if r.listener != nil {
		if err := r.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("closing the proxy's socket: %w", err))
		}
	}
	close(r.work)
	<-r.done
	r.closing = errors.Join(append(errs, r.undo())...)
	return r.closing
}

// undo removes what stands on the host.
func (r *Room) undo() error {
	var errs []error
	if r.group != nil {
		err := r.group.remove()
		for i := 0; err != nil && i < 100; i++ { // a killed process leaves its group a little later
			time.Sleep(20 * time.Millisecond)
			err = r.group.remove()
		}
		errs = append(errs, err)
	}
	if r.folder != "" {
		if err := os.RemoveAll(r.folder); err != nil {
			errs = append(errs, fmt.Errorf("removing the sandbox's folder: %w", err))
		}
	}
	if r.held != nil {
		errs = append(errs, r.held.Close())
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	return errors.Join(errs...)
}
