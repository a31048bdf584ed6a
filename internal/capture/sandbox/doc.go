// Package sandbox is the room a recorded browser lives in: one process tree that
// sees no network but the recording proxy, no file but its own, and no other
// process of the machine.
//
//	Check ──► Report: what this host gives, what is missing, what was given up
//	Open ───► a thread of its own: network namespace (lo alone), mount namespace
//	            │    (read-only system, empty home), user, cgroup, no_new_privs
//	            ├──► Listener: inside the namespace, served by the proxy outside
//	            ├──► Start: the browser, a child of that thread
//	            └──► Close: every process of the user killed, home and cgroup gone
//
// # How it holds
//
// One thread of this process leaves the host's namespaces for good; nothing of
// it has a name on the host that another process could join or that could be
// left behind. On that thread the proxy's socket is opened, the root is exchanged
// for a folder in memory that shows the programs read-only, the capabilities are
// dropped and no_new_privs is set; the browser is its child. The thread ends with
// the room, and the kernel kills the browser with it.
//
// The browser's own sandbox (user namespaces and seccomp of the renderer) stays
// on in every case: Start refuses an argument that turns it off, and Processes
// shows from /proc that it holds. no_new_privs rules out the setuid sandbox, so
// the host must let an unprivileged user make user namespaces.
//
// # Trust
//
// Trusted: the kernel, and this process, which runs as root and stands outside.
// Not trusted: the browser and whatever page it shows. Whoever takes over the
// whole browser process, not just a renderer, has one unprivileged user without
// network, who sees a copy of this session's home and can speak to the proxy,
// and the proxy refuses what it refuses to any page. Against a hole in the kernel
// there is nothing here: run the recorder on a machine of its own.
package sandbox
