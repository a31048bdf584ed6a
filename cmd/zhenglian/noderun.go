package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/zhenglian/zhenglian/internal/institution"
)

// errNoNode is returned until the chain and the interfaces are wired here.
var errNoNode = errors.New("this build cannot run a node: the chain is not wired in yet")

// runNode runs one institution's node until ctx ends. Wiring goes here:
// chain.Open with the home's consensus and node keys, receipt and cosigning
// keys, h.Alliance, h.DataDir(), h.PeerAddresses, h.ServerTLS and h.ClientTLS;
// then the peer interface on h.Config.Peer.Listen and the public interface on
// h.Config.API.Listen.
func runNode(context.Context, *institution.Home, *slog.Logger) error { return errNoNode }
