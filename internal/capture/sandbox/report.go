package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// Report says what a host gives. It belongs into the record of a session.
type Report struct {
	Items     []Item `json:"items"`
	Container string `json:"container"` // "docker", "lxc", …: what this process runs in; "" when nothing shows
}

// Item is one part of the room.
type Item struct {
	Part    string `json:"part"` // one of the Part constants
	Held    bool   `json:"held"`
	GivenUp bool   `json:"givenUp"` // missing, and the recorder was told to go on without
	Detail  string `json:"detail"`  // what was found, for the record: English, kernel's words
	remedy  string // key of what to do
}

// Missing returns the parts that are missing and not given up.
func (r Report) Missing() []Item {
	return r.filter(func(i Item) bool { return !i.Held && !i.GivenUp })
}

// GivenUp returns the parts that a session does without.
func (r Report) GivenUp() []Item {
	return r.filter(func(i Item) bool { return !i.Held && i.GivenUp })
}

func (r Report) filter(keep func(Item) bool) []Item {
	var out []Item
	for _, i := range r.Items {
		if keep(i) {
			out = append(out, i)
		}
	}
	return out
}

// Holds reports whether a part is there.
func (r Report) Holds(part string) bool {
	return slices.ContainsFunc(r.Items, func(i Item) bool { return i.Part == part && i.Held })
}

func (r *Report) add(part string, err error, detail, remedy string, without []string) {
	item := Item{Part: part, Held: err == nil, Detail: detail, remedy: remedy}
	if err != nil {
		item.Detail = err.Error()
		item.GivenUp = slices.Contains(without, part)
	}
	r.Items = append(r.Items, item)
}

// Incomplete is the error of a host that cannot give what was not given up.
type Incomplete struct{ Report Report }

func (e *Incomplete) Error() string { return e.Text("en") }

// Text is what a person reads, in "zh-CN" or "en": what is missing and what to do.
func (e *Incomplete) Text(lang string) string {
	head := "this machine cannot hold a recorded browser safely:\n"
	if lang == "zh-CN" {
		head = "本机不具备安全运行取证浏览器的条件：\n"
	}
	var lines []string
	for _, i := range e.Report.Missing() {
		lines = append(lines, "- "+i.Text(lang))
	}
	return head + strings.Join(lines, "\n")
}

// Text is the report's line about a part, in "zh-CN" or "en".
func (i Item) Text(lang string) string {
	t := english()
	if lang == "zh-CN" {
		t = chinese()
	}
	name := t.parts[i.Part]
	if name == "" {
		name = i.Part
	}
	switch {
	case i.Held && i.Detail == "":
		return fmt.Sprintf(t.held, name)
	case i.Held:
		return fmt.Sprintf(t.heldDetail, name, i.Detail)
	case i.GivenUp:
		return fmt.Sprintf(t.givenUp, name, i.Detail)
	}
	return fmt.Sprintf(t.missing, name, i.Detail, t.remedies[i.remedy])
}

type texts struct {
	held, heldDetail, givenUp, missing string
	parts, remedies                    map[string]string
}

func english() texts {
	return texts{
		held: "%s: yes", heldDetail: "%s: yes (%s)", givenUp: "%s: NO, given up by the operator's choice (%s)", missing: "%s: no (%s). %s",
		parts: map[string]string{
			PartRoot: "right to build the room", PartNetwork: "network of its own, whose only exit is the recording proxy", PartUser: "user of its own",
			PartFiles: "files of its own, nothing of the host's but programs", PartPolicy: "managed policy of the browser",
			PartMemory: "limit of memory", PartCPU: "limit of processor time", PartPIDs: "limit of processes",
			PartRenderer: "the browser's own sandbox", PartBrowser: "browser",
		},
		remedies: map[string]string{
			remedyRoot:      "Run the recorder as root; it gives its rights up for the browser.",
			remedyContainer: "In a container: start it with the capabilities SYS_ADMIN, NET_ADMIN, SETUID, SETGID, SETPCAP and KILL and without a seccomp profile that forbids namespaces, or run the recorder on the host.",
			remedyUserns:    "Let unprivileged users make user namespaces: sysctl user.max_user_namespaces (above 0), kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0, where they exist. The browser never runs without its own sandbox.",
			remedyBrowser:   "Install Debian's package chromium.",
			remedyCgroup:    "Make the cgroup file system writable for the recorder (systemd: Delegate=yes), or let the recorder go on without this limit; the report will say so.",
			remedyRoom:      "Run the recorder as root on a kernel with namespaces, or let it go on without this part; the report will say so.",
		},
	}
}

func chinese() texts {
	return texts{
		held: "%s：具备", heldDetail: "%s：具备（%s）", givenUp: "%s：不具备，由操作者明示放弃（%s）", missing: "%s：不具备（%s）。%s",
		parts: map[string]string{
			PartRoot: "建立隔离环境的权限", PartNetwork: "独立网络（唯一出口为取证代理）", PartUser: "独立用户",
			PartFiles: "独立文件系统（除程序外看不到本机文件）", PartPolicy: "浏览器受管策略",
			PartMemory: "内存上限", PartCPU: "处理器时间上限", PartPIDs: "进程数上限",
			PartRenderer: "浏览器自身的沙箱", PartBrowser: "浏览器",
		},
		remedies: map[string]string{
			remedyRoot:      "请以 root 身份运行取证程序；浏览器运行时不带任何特权。",
			remedyContainer: "在容器中运行时，请授予 SYS_ADMIN、NET_ADMIN、SETUID、SETGID、SETPCAP、KILL 能力，且不使用禁止命名空间的 seccomp 配置；或改在宿主机上运行。",
			remedyUserns:    "请允许普通用户创建用户命名空间：user.max_user_namespaces 大于 0；如存在下列参数，则设 kernel.unprivileged_userns_clone=1、kernel.apparmor_restrict_unprivileged_userns=0。浏览器自身的沙箱在任何情况下都不会关闭。",
			remedyBrowser:   "请安装 Debian 软件包 chromium。",
			remedyCgroup:    "请使取证程序可写 cgroup 文件系统（systemd 可设 Delegate=yes）；或明示放弃此项，报告中将予载明。",
			remedyRoom:      "请以 root 身份在支持命名空间的内核上运行；或明示放弃此项，报告中将予载明。",
		},
	}
}

const (
	remedyRoot      = "root"
	remedyContainer = "container"
	remedyUserns    = "userns"
	remedyBrowser   = "browser"
	remedyCgroup    = "cgroup"
	remedyRoom      = "room"
)
