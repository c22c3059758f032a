// SPDX-License-Identifier: Apache-2.0

// Package tooltest finds the programs of other projects that tests run: independent readers of what cellward writes, and tools that look
// into a process. It may import nothing of the project.
package tooltest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Required is the environment variable that says that every such program must be there. `make test` sets it after it has installed them, so
// that a missing one fails there and does not pass for a test that was run.
const Required = "CELLWARD_TEST_TOOLS"

// Path returns the path of the first of names that is there; a name with a slash is taken as it is. If none is, the test is skipped, or
// fails where [Required] is set to "required". from says where to get it from, as in "Debian package gdb".
func Path(tb testing.TB, from string, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(tb, strings.Join(names, ", ")+" not installed ("+from+")")
	return ""
}

// Missing skips the test, or fails it where [Required] is set to "required". what says what is missing, and where to get it from.
func Missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv(Required) == "required" {
		tb.Fatal(what + "; " + Required + " says that it must be there")
	}
	tb.Skip(what)
}
