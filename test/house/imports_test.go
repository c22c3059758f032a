// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is the table of rooms: which of them the packages of a room may import. Nothing outside the rooms is a package.
func mayImport() map[string][]string {
	return map[string][]string{
		"bpf":    {},
		"loader": {"bpf"},
		"crypto": {"crypto"},
		"replay": {"replay"},
		"agent":  {"agent", "loader", "crypto", "replay"},
		"cmd":    {"agent"},
		"test":   {"bpf", "loader", "crypto", "replay", "agent", "test"},
	}
}

// importFault says what is wrong with one import, or nothing. test says that it stands in a _test.go file.
func importFault(dir, imported string, test bool) string {
	if imported == "C" {
		return "cgo is off in this module"
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	if !ours {
		if imported == module {
			return "there is no package at the top"
		}
		return ""
	}
	allowed, known := mayImport()[room(dir)]
	if !known {
		return fmt.Sprintf("%s lies in no room", dir)
	}
	if !slices.Contains(allowed, room(target)) {
		return fmt.Sprintf("%s may not import %s", room(dir), room(target))
	}
	if !test && !testOnly(dir) && testOnly(target) {
		return fmt.Sprintf("%s is for tests only", target)
	}
	return ""
}

func TestImports(t *testing.T) {
	_, all := units(t)
	seen := make(map[string]bool)
	for _, u := range all {
		seen[room(u.dir)] = true
		if _, known := mayImport()[room(u.dir)]; !known {
			t.Errorf("%s: lies in none of the rooms", u.dir)
		}
		for _, f := range u.files {
			for _, i := range f.ast.Imports {
				p, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if fault := importFault(u.dir, p, f.test); fault != "" {
					t.Errorf("%s imports %s: %s", f.path, p, fault)
				}
			}
		}
	}
	for r := range mayImport() {
		if !seen[r] {
			t.Errorf("room %s has no package", r)
		}
	}
}

func TestImportFault(t *testing.T) {
	for _, c := range []struct {
		dir, imported string
		test          bool
		good          bool
	}{
		{"bpf/can", "loader", false, false},
		{"bpf/can", "bpf/can/testrun", true, false},
		{"loader", "bpf/can", false, true},
		{"loader", "bpf/can/testrun", false, false},
		{"loader", "bpf/can/testrun", true, true},
		{"loader", "crypto/spdu", false, false},
		{"loader", "crypto/spdu", true, false},
		{"crypto/aead", "crypto/spdu", false, true},
		{"crypto/aead", "replay", false, false},
		{"crypto/edhoc", "crypto/tpm/tpmtest", false, false},
		{"crypto/edhoc", "crypto/tpm/tpmtest", true, true},
		{"crypto/edhoc/edhoctest", "crypto/tpm/tpmtest", false, true},
		{"replay", "crypto/spdu", false, false},
		{"agent", "loader", false, true},
		{"agent/ring", "agent", false, true},
		{"agent", "bpf/can", false, false},
		{"agent", "test/bench", true, false},
		{"cmd/cellward", "agent/keys", false, true},
		{"cmd/cellward", "loader", false, false},
		{"test/e2e", "bpf/can/testrun", false, true},
		{"test/e2e", "cmd/cellward", false, false},
		{"tools", "agent", false, false},
		{"agent", "", false, false},
	} {
		if fault := importFault(c.dir, path.Join(module, c.imported), c.test); (fault == "") != c.good {
			t.Errorf("%s imports %s (test %v): %q", c.dir, c.imported, c.test, fault)
		}
	}
	if importFault("agent", "github.com/other/module", false) != "" || importFault("agent", "net/http", false) != "" {
		t.Error("packages of others are none of this table's business")
	}
	if importFault("crypto/tpm", "C", false) == "" {
		t.Error("cgo passes")
	}
}
