// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// built are the programs for the guests of one architecture.
type built struct{ init, cellward, suite string }

// build builds them without cgo, so that they need nothing of the guest.
func build(ctx context.Context, arch, dir string) (built, error) {
	b := built{init: filepath.Join(dir, "init"), cellward: filepath.Join(dir, "cellward"), suite: filepath.Join(dir, "socketcan.test")}
	for _, args := range [][]string{
		{"build", "-trimpath", "-ldflags=-s -w", "-o", b.init, "./test/guest/init"},
		{"build", "-trimpath", "-o", b.cellward, "./cmd/cellward"},
		{"test", "-c", "-trimpath", "-o", b.suite, "./test/socketcan"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("go %s: %w\n%s", args[len(args)-1], err, out)
		}
	}
	return b, nil
}
