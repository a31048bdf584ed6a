//go:build !race

package verify_test

const everyByteStep = 1
