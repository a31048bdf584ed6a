// Package portal tells whole stories of the portal: a real Chromium, a portal
// process and an alliance of node processes, and at the end independent judges:
// openssl, the offline verifier, the bytes on the disks.
//
//	TestMain ─► zhenglian (built once) ─► four nodes, the CA's portal ─► stories
//	person ─► walk (internal/tour/walk) ─► pages ─► package ─► stranger, openssl
//	attacker ─► HTTP or a browser of his own ─► what stops him
//
// Each attacker's test names the line of docs/threat-model.md that it covers.
package portal
