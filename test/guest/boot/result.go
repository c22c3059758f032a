// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellward/cellward/test/guest"
)

// cannotHold begins the reason with which a test says that its case cannot hold on a kernel. A test that is skipped for any
// other reason has failed: a guest has all that the tests need.
const cannotHold = "cannot hold on this kernel: "

// testcase is one test and what became of it.
type testcase struct {
	name   string
	state  string // "PASS", "FAIL" or "SKIP"
	reason string // the last line that it logged: why it was skipped, or what it found
	took   string
}

func (c *testcase) failed() bool {
	return c.state == "FAIL" || c.state == "SKIP" && !strings.HasPrefix(c.reason, cannotHold)
}

// result is what a run on one kernel came to.
type result struct {
	kernel guest.Kernel
	pkg    string
	code   int
	took   time.Duration
	cases  []testcase
	err    error
}

func (r *result) failed() bool {
	if r.err != nil || r.code != 0 || len(r.cases) == 0 {
		return true
	}
	for i := range r.cases {
		if r.cases[i].failed() {
			return true
		}
	}
	return false
}

// parser reads the verbose output of a test binary as it comes.
type parser struct {
	result  *result
	verbose bool
	say     func(format string, args ...any)

	line  []byte
	since []string          // lines since the last test began, to be shown if it fails
	last  map[string]string // by test: the last line that it logged
	now   string
}

var (
	runLine   = regexp.MustCompile(`^=== (?:RUN|CONT|NAME) +(\S+)`)
	endLine   = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+s)\)`)
	logPrefix = regexp.MustCompile(`^\s+\w+\.go:\d+: `)
)

func (p *parser) Write(b []byte) (int, error) {
	p.line = append(p.line, b...)
	for {
		i := bytes.IndexByte(p.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		p.take(strings.TrimRight(string(p.line[:i]), "\r"))
		p.line = p.line[i+1:]
	}
}

func (p *parser) take(line string) {
	if p.verbose {
		p.say("| %s", line)
	}
	if p.last == nil {
		p.last = make(map[string]string)
	}
	if m := runLine.FindStringSubmatch(line); m != nil {
		p.now = m[1]
		if !strings.Contains(p.now, "/") {
			p.since = nil
		}
		return
	}
	p.since = append(p.since, line)
	m := endLine.FindStringSubmatch(line)
	if m == nil {
		if at := logPrefix.FindString(line); at != "" {
			p.last[p.now] = strings.TrimPrefix(line, at)
		}
		return
	}
	c := testcase{name: m[2], state: m[1], took: m[3], reason: p.last[m[2]]}
	p.result.cases = append(p.result.cases, c)
	p.say("%s %s %s %s", c.state, c.name, c.took, c.reason)
	if !strings.Contains(c.name, "/") && c.state == "FAIL" && !p.verbose {
		p.show()
	}
}

func (p *parser) show() {
	for _, l := range p.since {
		p.say("| %s", l)
	}
	p.since = nil
}

// end is called when no more output comes.
func (p *parser) end() error {
	if p.result.code != 0 && !p.verbose {
		p.show() // a panic of the tests, for example
	}
	if len(p.result.cases) == 0 {
		return errors.New("no test has run")
	}
	return nil
}

// summary prints the list of cases by kernel. The error says which kernels failed.
func summary(w io.Writer, results []*result) error {
	var failed []string
	for _, r := range results {
		verdict := "PASS"
		if r.failed() {
			verdict = "FAIL"
			failed = append(failed, r.kernel.String())
		}
		fmt.Fprintf(w, "\n%s  kernel %s (%s), %d cases, %.0f s\n", verdict, r.kernel, r.pkg, len(r.cases), r.took.Seconds())
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, c := range r.cases {
			state := strings.ToLower(c.state)
			switch {
			case c.state == "SKIP" && !c.failed():
				state = "-"
			case c.state == "SKIP":
				state = "skipped"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", state, c.name, c.reason)
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("print list of cases: %w", err)
		}
		if r.err != nil {
			first, _, _ := strings.Cut(r.err.Error(), "\n")
			fmt.Fprintf(w, "  %s\n", first)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed on %s", strings.Join(failed, ", "))
	}
	return nil
}
