//go:build !js

// Command zhenglian-verify checks an evidence package on its own machine, with
// no connection: see package command for its flags and exit statuses. Built for
// WebAssembly (GOOS=js GOARCH=wasm) it is the same check as a function for a
// page; see wasm.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/zhenglian/zhenglian/verify/command"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	f, err := command.Parse("zhenglian-verify", os.Args[1:], os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return command.ExitMatches
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return command.ExitUnreadable
	}
	return command.Run(ctx, f, os.Stdout, os.Stderr)
}
