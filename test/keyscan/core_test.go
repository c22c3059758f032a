// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/cellward/cellward/agent/tooltest"
	"github.com/cellward/cellward/crypto/secretmem/secretmemtest"
)

// core has the debugger of the machine write a core file of a running process, with everything in it that root can read, also what
// the process wants left out, and the registers of all threads.
func core(t *testing.T, pid int) string {
	t.Helper()
	gdb := tooltest.Path(t, "Debian package gdb", "gdb")
	name := filepath.Join(t.TempDir(), "core")
	// Not its settings, and not what the program's file asks for.
	cmd := exec.Command(gdb, "-nx", "-batch", "-iex", "set auto-load off", "-ex", "set use-coredump-filter off", "-ex", "set dump-excluded-mappings on",
		"-ex", "generate-core-file "+name, "-p", strconv.Itoa(pid))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v: %s", err, out)
	}
	if _, err := os.Stat(name); err != nil {
		t.Fatalf("gdb has written no core file: %s", out)
	}
	return name
}

// inCore looks for the secrets in a core file of the process. public is what must be found there. For keys that are in use tries is more
// than one, as in inUse.
func (s *secrets) inCore(t *testing.T, pid int, public []byte, tries int) {
	t.Helper()
	r := s.readCore(t, pid, public)
	for ; tries > 1 && len(r.Hits) > 0; tries-- {
		signalThreads(t, pid)
		r = s.readCore(t, pid, public)
	}
	s.on(t).none("in a core file", r)
}

func (s *secrets) readCore(t *testing.T, pid int, public []byte) *secretmemtest.Result {
	t.Helper()
	name := core(t, pid)
	r, err := secretmemtest.ScanFile(name, append([]secretmemtest.Secret{{Name: control, Value: public}}, s.all...))
	if err != nil {
		t.Fatal(err)
	}
	s.on(t).report(r)
	return r
}
