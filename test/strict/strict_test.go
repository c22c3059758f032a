// SPDX-License-Identifier: Apache-2.0

// Package strict checks that integrityEnforcement: STRICT has no override: nothing that an operator can set lets a frame through that
// has not verified. It may import agent/policy.
package strict

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/policy"
)

// reviewed are all fields of both documents. Each was looked at for whether it can let an unverified frame through; none can. A field
// that is added must be looked at, too: that is what this list is for. What follows from the values that they may have is tried out
// in agent (TestNothingOverridesStrict).
func reviewed() map[string][]string {
	return map[string][]string{
		policy.KindBinding: strings.Fields(`address apiVersion bpffs byteOrder candidateRing carrier cause clear control count destinations
			encoding escalation events extended gateway grace group heartbeats id identifier identity immediate index interface interfaces
			interval kid kind kinds latch latchAfter length metadata multiplexor name network nodes of offset path policy publicKey raise
			ring samplingRate scale sensitivity signal signals signed slots socket source sources spec startBit stateDirectory stream
			streams thresholds tpm type unit user values`),
		policy.KindPolicy: strings.Fields(`apiVersion authenticationTagLength cipher cryptographicProfile dataSources enabled hsmConfig
			identifier integrityEnforcement interval keyDerivationFunction keyManagement keyStorage kind metadata name provider
			replayProtection rotationPolicy samplingRate sensitivity spec transport trigger vendor windowSize`),
	}
}

func properties(v any, names map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if p, ok := v["properties"].(map[string]any); ok {
			for name := range p {
				names[name] = true
			}
		}
		for _, x := range v {
			properties(x, names)
		}
	case []any:
		for _, x := range v {
			properties(x, names)
		}
	}
}

func TestFields(t *testing.T) {
	for kind, want := range reviewed() {
		b, err := policy.Schema(kind)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		names := make(map[string]bool)
		properties(v, names)
		for name := range names {
			if !slices.Contains(want, name) {
				t.Errorf("%s has a field %q that was not looked at", kind, name)
			}
		}
		for _, name := range want {
			if !names[name] {
				t.Errorf("%s has no field %q any more", kind, name)
			}
		}
	}
}

// TestEnforcement tries every value but STRICT, and replay protection that is off.
func TestEnforcement(t *testing.T) {
	good, err := os.ReadFile("../../agent/demo/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.ParsePolicy("p", good); err != nil {
		t.Fatal(err)
	}
	for from, all := range map[string][]string{
		`integrityEnforcement: "STRICT"`: {
			"integrityEnforcement: PERMISSIVE", "integrityEnforcement: LOG", "integrityEnforcement: AUDIT", "integrityEnforcement: strict",
			"integrityEnforcement: \"\"", "integrityEnforcement: [STRICT]", "integrityEnforcement: false", "integrityEnforcement: null",
			"# integrityEnforcement: STRICT",
		},
		"enabled: true":                     {"enabled: false", "enabled: \"true\"", "# enabled: true"},
		"authenticationTagLength: 128 bits": {"authenticationTagLength: 32 bits", "authenticationTagLength: 0 bits", "# none"},
	} {
		if !strings.Contains(string(good), from) {
			t.Fatalf("the policy has no %q", from)
		}
		for _, to := range all {
			if _, err := policy.ParsePolicy("p", []byte(strings.Replace(string(good), from, to, 1))); !errors.Is(err, policy.ErrInvalid) {
				t.Errorf("%q is taken: %v", to, err)
			}
		}
	}
}

// TestFlags looks at the flags of `cellward run`: the documents, how the filter is attached, who the agent becomes.
func TestFlags(t *testing.T) {
	b, err := os.ReadFile("../../cmd/cellward/run.go")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile(`Flags\(\)\.\w+\((?:&[\w.]+, )?"([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
		got = append(got, m[1])
	}
	slices.Sort(got)
	// engine names one that passes its tests; hook and require-interfaces say how interfaces are filtered; user and seccomp what the
	// agent may do; metrics-listen where it is read. An upgrade, and what goes with it (background, if-changed), goes by the documents
	// and epochs in effect.
	want := []string{"background", "binding", "engine", "hook", "if-changed", "metrics-listen", "policy", "require-interfaces", "seccomp", "upgrade", "user"}
	if !slices.Equal(got, want) {
		t.Errorf("flags %v, looked at were %v", got, want)
	}
}

// TestEnvironment looks for what the program, with all packages of the project that it is made of, reads of its environment: the service manager's socket, also for a successor; which side
// of a demonstration it is; whether a terminal has UTF-8; how many threads there may be.
func TestEnvironment(t *testing.T) {
	known := map[string]bool{
		"agent/notify/notify.go": true, "agent/predecessor.go": true, "agent/demo/demo.go": true, "agent/demo/children.go": true,
		"agent/watch/run.go": true, "crypto/secretmem/collect_plain.go": true,
	}
	call := regexp.MustCompile(`\bos\.(Getenv|LookupEnv|Environ|ExpandEnv)\(|\b(unix|syscall)\.(Getenv|Environ)\(`)
	list := exec.Command("go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}\n{{end}}{{end}}{{end}}", "./cmd/cellward")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(list.Dir)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for path := range strings.FieldsSeq(string(out)) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		files++
		if call.Match(b) && !known[filepath.ToSlash(name)] {
			t.Errorf("%s reads the environment", name)
		}
	}
	if files < 100 {
		t.Errorf("only %d files looked at", files)
	}
}
