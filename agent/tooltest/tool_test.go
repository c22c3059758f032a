// SPDX-License-Identifier: Apache-2.0

package tooltest

import (
	"os"
	"path/filepath"
	"testing"
)

// outcome is a test that says how it ended.
type outcome struct {
	testing.TB
	how string
}

func (o *outcome) Helper()      {}
func (o *outcome) Fatal(...any) { o.ends("failed") }
func (o *outcome) Skip(...any)  { o.ends("skipped") }

// ends keeps the first end: a real test goes no further.
func (o *outcome) ends(how string) {
	if o.how == "" {
		o.how = how
	}
}

func TestPath(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, c := range []struct {
		required, path, how string
		names               []string
	}{
		{"", there, "", []string{"there"}},
		{"required", there, "", []string{"absent", "there"}},
		{"required", there, "", []string{there}},
		{"", "", "skipped", []string{"absent", dir + "/absent"}},
		{"required", "", "failed", []string{"absent"}},
		{"required", "", "failed", []string{dir + "/absent"}},
	} {
		t.Setenv(Required, c.required)
		o := &outcome{}
		if path := Path(o, "a package", c.names...); path != c.path || o.how != c.how {
			t.Errorf("%q of %q: %q, %q", c.required, c.names, path, o.how)
		}
	}
}
