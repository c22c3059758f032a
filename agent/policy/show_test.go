// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// TestShow compares what is shown, as text and as JSON, with files.
func TestShow(t *testing.T) {
	for name, files := range map[string][]string{
		"both":    {referencePolicy, packBinding},
		"policy":  {referencePolicy},
		"binding": {packBinding},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Show(files)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := v.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/show-"+name+".txt", text.String())
			encoded, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/show-"+name+".json", string(encoded)+"\n")
		})
	}
	// The order of the files does not matter.
	a, errA := Show([]string{referencePolicy, packBinding})
	b, errB := Show([]string{packBinding, referencePolicy})
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	x, y := new(bytes.Buffer), new(bytes.Buffer)
	if err := errors.Join(a.WriteText(x), b.WriteText(y)); err != nil || x.String() != y.String() {
		t.Errorf("depends on the order of the files: %v", err)
	}
}

func TestShowRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  error
	}{
		"nothing":        {nil, ErrFiles},
		"two policies":   {[]string{referencePolicy, "testdata/good/policy-variants.yaml"}, ErrFiles},
		"two bindings":   {[]string{packBinding, packBinding}, ErrFiles},
		"absent file":    {[]string{"testdata/none.yaml"}, os.ErrNotExist},
		"bad document":   {[]string{"testdata/bad/policy-integrity.yaml"}, ErrInvalid},
		"other's policy": {[]string{packBinding, "testdata/good/policy-variants.yaml"}, ErrInvalid},
	} {
		if _, err := Show(c.files); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// failingWriter fails at once.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteTextReportsFailure(t *testing.T) {
	v, err := Show([]string{referencePolicy})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WriteText(failingWriter{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("WriteText: %v", err)
	}
	if err := WriteFindings(failingWriter{}, []Finding{{}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("WriteFindings: %v", err)
	}
}

func TestValidate(t *testing.T) {
	bad := "testdata/bad/policy-integrity.yaml"
	variants := "testdata/good/policy-variants.yaml"
	for name, c := range map[string]struct {
		files []string
		want  []string // beginning of what is written about each file, in order
	}{
		"policy":            {[]string{referencePolicy}, []string{referencePolicy + `: valid SensorDataSecurityPolicy "bms-sensor-channel-aes256-gcm-hsm"` + "\n"}},
		"binding alone":     {[]string{packBinding}, []string{packBinding + `: valid SensorDataBinding "pack-a", not checked against its policy, which is not among the files` + "\n"}},
		"both":              {[]string{packBinding, referencePolicy}, []string{packBinding + `: valid SensorDataBinding "pack-a", fits ` + referencePolicy + "\n", referencePolicy + ": valid "}},
		"other's policy":    {[]string{packBinding, variants}, []string{packBinding + `:7:11: spec.policy: the binding is for policy "bms-sensor-channel-aes256-gcm-hsm"; the policy given is "2024"`, variants + ": valid "}},
		"among policies":    {[]string{variants, packBinding, referencePolicy}, []string{variants + ": valid ", packBinding + ": valid ", referencePolicy + ": valid "}},
		"bad and good":      {[]string{bad, referencePolicy}, []string{bad + ":24:27: ", referencePolicy + ": valid "}},
		"bad policy":        {[]string{bad, packBinding}, []string{bad + ":24:27: ", packBinding + ": valid "}},
		"one policy, twice": {[]string{variants, variants}, []string{variants + ": valid ", variants + `:26:18: metadata.name: policy "2024" is already in ` + variants}},
	} {
		t.Run(name, func(t *testing.T) {
			findings, err := Validate(c.files)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range findings {
				var out bytes.Buffer
				if err := WriteFindings(&out, findings[i:i+1]); err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(out.String(), c.want[i]) {
					t.Errorf("got %q, want %q", out.String(), c.want[i])
				}
				if f.Valid != strings.Contains(c.want[i], ": valid ") || f.Valid != (len(f.Errors) == 0) || f.File != c.files[i] {
					t.Errorf("%+v", f)
				}
			}
			if bad := strings.Count(strings.Join(c.want, ""), ": valid ") != len(c.want); AllValid(findings) == bad {
				t.Errorf("AllValid is %v", !bad)
			}
			if len(findings) != len(c.want) {
				t.Errorf("%d findings", len(findings))
			}
		})
	}
	if f, err := Validate([]string{referencePolicy, "testdata/none.yaml"}); !errors.Is(err, os.ErrNotExist) || f != nil {
		t.Errorf("absent file: %v, %v", f, err)
	}
}

// TestValidateJSON checks the form of the findings that other programs read.
func TestValidateJSON(t *testing.T) {
	findings, err := Validate([]string{referencePolicy, "testdata/bad/policy-integrity.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.MarshalIndent(findings, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/validate.json", string(encoded)+"\n")
}
