// Package demo plays the demonstration as a person would and looks at what it
// leaves: the verdicts, the summary, and no process.
package demo
