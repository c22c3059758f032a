// SPDX-License-Identifier: Apache-2.0

// Package tpmtest gives tests a real TPM 2.0 emulator.
//
// It may import crypto/tpm and crypto/tpm/swtpm, and is imported by tests only.
package tpmtest

import (
	"context"
	"testing"
	"time"

	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
)

// Start runs a fresh swtpm until the test ends. A missing swtpm fails the test.
func Start(tb testing.TB) *swtpm.Process {
	tb.Helper()
	return StartIn(tb, tb.TempDir())
}

// StartIn is Start with the emulator's state in dir, which may be that of an
// emulator that has ended.
func StartIn(tb testing.TB, dir string) *swtpm.Process {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := swtpm.Start(ctx, dir)
	if err != nil {
		tb.Fatalf("start a TPM emulator: %v", err)
	}
	tb.Cleanup(func() { _ = p.Stop() })
	return p
}

// Open starts a fresh swtpm and opens it with the options' zero value; both end
// with the test.
func Open(tb testing.TB) *tpm.TPM {
	tb.Helper()
	return OpenAt(tb, Start(tb), tpm.Options{})
}

// OpenAt opens a running emulator until the test ends.
func OpenAt(tb testing.TB, p *swtpm.Process, opts tpm.Options) *tpm.TPM {
	tb.Helper()
	t, err := tpm.Open(context.Background(), Path(p), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = t.Close() })
	return t
}

// Path is what tpm.Open takes for the emulator.
func Path(p *swtpm.Process) string { return "unix:" + p.Socket }
