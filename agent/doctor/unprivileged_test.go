// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes the test binary examine the machine with the documents that the variable names, as whoever runs it.
const childEnv = "CELLWARD_DOCTOR_TEST_CHILD"

func TestMain(m *testing.M) {
	if docs := os.Getenv(childEnv); docs != "" {
		policy, binding, _ := strings.Cut(docs, ":")
		if err := json.NewEncoder(os.Stdout).Encode(Run(context.Background(), Options{Policy: policy, Binding: binding})); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestWithoutRights examines a good gateway as nobody: want of rights is told as such, and nothing is taken for a fault of the
// kernel.
func TestWithoutRights(t *testing.T) {
	r := newRig(t)
	r.must(os.Chmod(filepath.Dir(r.dir), 0o755)) // the test's folder is for its user alone
	var out Report
	r.must(r.ns.Do(func() error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{childEnv + "=" + r.policyPath() + ":" + r.bindingPath()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		b, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
		return json.Unmarshal(b, &out)
	}))
	for id, want := range map[string]struct {
		severity Severity
		help     string
	}{
		"documents.valid":      {OK, ""},
		"process.capabilities": {Fail, "sudo cellward doctor"},
		"kernel.filter":        {Warn, "sudo cellward doctor"},
		"kernel.tcx":           {Warn, "sudo cellward doctor"},
		"interface.exists":     {OK, ""},
		"interface.mtu":        {OK, ""},
		"state.safe":           {Warn, "sudo cellward doctor"},
		"tpm.present":          {Fail, "sudo cellward doctor"},
	} {
		f := out.Find(id)
		if len(f) != 1 || f[0].Severity != want.severity || !strings.Contains(f[0].Help, want.help) {
			t.Errorf("%s: %+v, want %+v", id, f, want)
		}
	}
}
