// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cellward/cellward/test/guest"
)

const verboseOutput = `=== RUN   TestA
    a_test.go:10: nothing to see
--- PASS: TestA (0.10s)
=== RUN   TestB
=== RUN   TestB/one
    b_test.go:12: cannot hold on this kernel: it has no such thing
=== RUN   TestB/two
--- PASS: TestB (1.00s)
    --- SKIP: TestB/one (0.00s)
    --- PASS: TestB/two (0.90s)
`

func parse(t *testing.T, code int, text string) *result {
	t.Helper()
	r := &result{kernel: guest.Kernels()[0], code: code}
	p := &parser{result: r, say: t.Logf}
	// As it comes: in pieces.
	for b := []byte(text); len(b) > 0; {
		n := min(7, len(b))
		if _, err := p.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	r.err = p.end()
	return r
}

func TestResults(t *testing.T) {
	for _, c := range []struct {
		name, text string
		code       int
		good       bool
		cases      int
	}{
		{"all well", verboseOutput, 0, true, 4},
		{"a failure", strings.Replace(verboseOutput, "PASS: TestB/two", "FAIL: TestB/two", 1), 1, false, 4},
		{"a skip without a reason", strings.Replace(verboseOutput, "cannot hold on this kernel: ", "", 1), 0, false, 4},
		{"an exit code alone", verboseOutput, 2, false, 4},
		{"nothing ran", "testing: warning: no tests to run\nPASS\n", 0, false, 0},
	} {
		r := parse(t, c.code, c.text)
		if r.failed() == c.good || len(r.cases) != c.cases {
			t.Errorf("%s: failed %v, cases %+v", c.name, r.failed(), r.cases)
		}
		var out bytes.Buffer
		if err := summary(&out, []*result{r}); (err == nil) != c.good {
			t.Errorf("%s: %v\n%s", c.name, err, out.String())
		}
	}
	var out bytes.Buffer
	if err := summary(&out, []*result{parse(t, 0, verboseOutput)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PASS  kernel 6.1-amd64", "  pass  TestA ", "  -     TestB/one  cannot hold on this kernel: it has no such thing"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestPick(t *testing.T) {
	if k, err := pick("all"); err != nil || len(k) != 3 {
		t.Errorf("all: %v, %v", k, err)
	}
	if k, err := pick("6.12-arm64,6.1-amd64"); err != nil || len(k) != 2 || k[0].Arch != "arm64" {
		t.Errorf("two: %v, %v", k, err)
	}
	if _, err := pick("5.15-amd64"); err == nil {
		t.Error("a kernel that there is not")
	}
}
