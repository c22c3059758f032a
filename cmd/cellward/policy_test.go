// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/policy"
)

const (
	goodPolicy  = "../../agent/policy/testdata/good/security_policy_bms_data.yaml"
	goodBinding = "../../agent/policy/testdata/good/pack-a.yaml"
	badPolicy   = "../../agent/policy/testdata/bad/policy-integrity.yaml"
)

// runPolicy runs the verb and returns what it wrote.
func runPolicy(args ...string) (string, error) {
	cmd := newPolicyCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestPolicyCommand(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // in the output
		err  error
	}{
		{[]string{"validate", goodPolicy, goodBinding}, "pack-a.yaml: valid SensorDataBinding", nil},
		{[]string{"validate", goodPolicy, badPolicy}, "policy-integrity.yaml:24:27: spec.transport.integrityEnforcement: want STRICT", errInvalidDocuments},
		{[]string{"validate", "-o", "json", badPolicy}, `"line": 24,`, errInvalidDocuments},
		{[]string{"show", goodPolicy}, "transport     STRICT, replay window 1024", nil},
		{[]string{"show", goodPolicy, goodBinding}, "BINDING HASH", nil},
		{[]string{"show", "-o", "json", goodBinding}, `"bindingHash": "`, nil},
		{[]string{"show", badPolicy}, "", policy.ErrInvalid},
		{[]string{"schema", "SensorDataBinding"}, `"title": "SensorDataBinding"`, nil},
		{[]string{"schema"}, `"$id": "urn:cellward:schema:security.bms:v1alpha1"`, nil},
	} {
		out, err := runPolicy(c.args...)
		if !errors.Is(err, c.err) || !strings.Contains(out, c.want) {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
		if isJSON := strings.Contains(strings.Join(c.args, " "), "json") || c.args[0] == "schema"; isJSON != json.Valid([]byte(out)) {
			t.Errorf("%q: JSON is %v", c.args, !isJSON)
		}
	}
	for _, args := range [][]string{
		{"validate"}, {"show"}, {"show", "a", "b", "c"}, {"schema", "Other"}, {"schema", "SensorDataBinding", "SensorDataBinding"},
		{"show", "-o", "xml", goodPolicy}, {"explain"},
	} {
		if out, err := runPolicy(args...); err == nil {
			t.Errorf("%q: no error\n%s", args, out)
		}
	}
}
