package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup is one room's limits: a group of version 2, or one for each controller
// of version 1.
type cgroup struct {
	v2      string            // folder, "" where the controllers are version 1's
	folders map[string]string // version 1: controller → folder
	missing map[string]error  // part → why its limit is not there
}

// hierarchy is a mounted cgroup file system and where this process is in it.
type hierarchy struct {
	controllers []string // version 1's; nil for version 2
	folder      string
}

func hierarchies() (v1 []hierarchy, v2 string, err error) {
	own := map[string]string{} // controller list → path; "" is version 2
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, "", fmt.Errorf("reading this process's control groups: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				own[c] = f[2]
			}
		}
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, "", fmt.Errorf("reading the mounts: %w", err)
	}
	defer mounts.Close()
	scan := bufio.NewScanner(mounts)
	for scan.Scan() {
		left, right, ok := strings.Cut(scan.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		at := func(path string) string {
			inside := filepath.Join(l[4], strings.TrimPrefix(path, strings.TrimSuffix(l[3], "/")))
			if _, err := os.Stat(inside); err == nil {
				return inside
			}
			return l[4] // a namespace shows another path than the mount
		}
		switch r[0] {
		case "cgroup2":
			v2 = at(own[""])
		case "cgroup":
			var h hierarchy
			for c := range strings.SplitSeq(r[2], ",") {
				if path, ok := own[c]; ok {
					h.controllers, h.folder = append(h.controllers, c), at(path)
				}
			}
			if h.controllers != nil {
				v1 = append(v1, h)
			}
		}
	}
	return v1, v2, scan.Err()
}

// newCgroup makes the groups under this process's own. A limit that cannot be
// made is told in missing; there is no other error.
func newCgroup(name string, l Limits) *cgroup {
	g := &cgroup{folders: map[string]string{}, missing: map[string]error{}}
	v1, v2, err := hierarchies()
	if err == nil && v2 != "" && hasController(v2, "memory") {
		g.makeV2(v2, name, l)
		return g
	}
	parts := map[string]string{PartMemory: "memory", PartCPU: "cpu", PartPIDs: "pids"}
	for part, controller := range parts {
		g.missing[part] = errors.Join(fmt.Errorf("no control group with the controller %q", controller), err)
	}
	settings := map[string][][2]string{
		"memory": {{"memory.limit_in_bytes", strconv.FormatInt(l.Memory, 10)}, {"memory.swappiness", "0"}},
		"cpu":    {{"cpu.cfs_period_us", "100000"}, {"cpu.cfs_quota_us", strconv.Itoa(l.CPU * 1000)}},
		"pids":   {{"pids.max", strconv.Itoa(l.Processes)}},
	}
	for _, h := range v1 {
		for _, c := range h.controllers {
			for part, controller := range parts {
				if c == controller {
					g.missing[part] = g.makeV1(c, filepath.Join(h.folder, name), settings[c])
					if g.missing[part] == nil {
						delete(g.missing, part)
					}
				}
			}
		}
	}
	return g
}

func hasController(folder, name string) bool {
	data, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(data))+" ", " "+name+" ")
}

func (g *cgroup) makeV1(controller, folder string, settings [][2]string) error {
	if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making a control group: %w", err)
	}
	g.folders[controller] = folder
	for i, s := range settings {
		err := os.WriteFile(filepath.Join(folder, s[0]), []byte(s[1]), 0)
		if err != nil && (i == 0 || controller == "cpu") { // swappiness is not everywhere
			return fmt.Errorf("setting %s: %w", s[0], err)
		}
	}
	return nil
}

func (g *cgroup) makeV2(parent, name string, l Limits) {
	fail := func(err error) {
		for _, part := range []string{PartMemory, PartCPU, PartPIDs} {
			g.missing[part] = err
		}
	}
	// One write a controller: those that are on already do not stand in the way.
	var enabling error
	for _, c := range []string{"+memory", "+cpu", "+pids"} {
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte(c), 0); err != nil {
			enabling = err
		}
	}
	folder := filepath.Join(parent, name)
	if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		fail(fmt.Errorf("making a control group: %w", err))
		return
	}
	g.v2 = folder
	set := func(part, file, value string) {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(value), 0); err != nil {
			g.missing[part] = errors.Join(fmt.Errorf("setting %s: %w", file, err), enabling)
		}
	}
	set(PartMemory, "memory.max", strconv.FormatInt(l.Memory, 10))
	set(PartCPU, "cpu.max", strconv.Itoa(l.CPU*1000)+" 100000")
	set(PartPIDs, "pids.max", strconv.Itoa(l.Processes))
	if g.missing[PartMemory] == nil {
		os.WriteFile(filepath.Join(folder, "memory.swap.max"), []byte("0"), 0) // not on every kernel
	}
}

// joinV1 puts the calling thread into the groups of version 1, so that its
// children are born there.
func (g *cgroup) joinV1(tid int) error {
	for controller, folder := range g.folders {
		if err := os.WriteFile(filepath.Join(folder, "tasks"), []byte(strconv.Itoa(tid)), 0); err != nil {
			return fmt.Errorf("joining the control group of %s: %w", controller, err)
		}
	}
	return nil
}

// MemoryPeak is the most that the room's processes used at a time, in octets; 0
// where no group tells.
func (g *cgroup) memoryPeak() int64 {
	for _, file := range []string{filepath.Join(g.v2, "memory.peak"), filepath.Join(g.folders["memory"], "memory.max_usage_in_bytes")} {
		if data, err := os.ReadFile(file); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			return n
		}
	}
	return 0
}

// remove takes the groups away; they must be empty.
func (g *cgroup) remove() error {
	var errs []error
	folders := []string{}
	if g.v2 != "" {
		folders = append(folders, g.v2)
	}
	for _, f := range g.folders {
		folders = append(folders, f)
	}
	for _, f := range folders {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the control group: %w", err)
	}
	return nil
}
