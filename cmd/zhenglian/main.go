// Command zhenglian is the judicial evidence chain's one program: it runs an
// institution's node, and it is what institutions, members and courts use on
// the command line.
//
//	institution init ──► descriptor ──► alliance genesis ──► institution join ──► node
//	                                                                               ▲
//	member init ──► request ──► member enrol (the CA's officer) ──── statement ────┤
//	     │                             │                                           │
//	     └────────► member home ◄──────┘ ──► deposit, package ─────────────────────┘
//
// It trusts the home directory it is given and the files in it, as the packages
// that read them say. A command opens one home: no process ever reads two
// institutions' keys.
//
// Exit codes: 0 done; 1 it failed, or what was checked does not hold; 2 the
// command line is wrong, and nothing was done.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv})
	stop()
	os.Exit(code)
}
