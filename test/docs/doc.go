// Package docs holds what the project's documents say to what the program does:
// every command that README and docs show is run, every link leads somewhere,
// every test that a table names exists.
//
//	*.md ─► shell blocks, each with <!-- run … --> before it ─► one shell a document
//	     ─► links, `package TestName` ─► the tree
//
// A block that no comment precedes, or a comment that names no way of running
// it, fails the test: nothing is shown that is not run.
package docs
