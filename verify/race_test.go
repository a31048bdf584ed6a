//go:build race

package verify_test

// everyByteStep: the race detector makes a verification ten times as slow; with
// it every 16th byte is enough, the plain run flips them all.
const everyByteStep = 16
