// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes a line for each finding, two more for each that is not OK, and a summary. It tells severities by words,
// never by colour.
func (r *Report) WriteText(w io.Writer) error {
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.ID))
	}
	var b strings.Builder
	for _, f := range r.Findings {
		what := f.What
		if f.Subject != "" {
			what = f.Subject + ": " + what
		}
		mark := map[Severity]string{OK: "ok  ", Warn: "WARN", Fail: "FAIL"}[f.Severity]
		indent := "\n" + strings.Repeat(" ", len(mark)+width+4)
		fmt.Fprintf(&b, "%s  %-*s  %s\n", mark, width, f.ID, strings.ReplaceAll(what, "\n", indent))
		if f.Why != "" {
			fmt.Fprintf(&b, "%s why: %s\n", strings.Repeat(" ", len(mark)+width+3), f.Why)
		}
		if f.Help != "" {
			fmt.Fprintf(&b, "%s run: %s\n", strings.Repeat(" ", len(mark)+width+3), f.Help)
		}
	}
	fmt.Fprintf(&b, "%d ok, %d to look at, %d failed\n", r.OK, r.Warn, r.Fail)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}
