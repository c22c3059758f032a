// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cellward/cellward/agent/event"
)

// WriteText writes the fault as lines.
func (f *Fault) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	f.writeText(t)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write fault: %w", err)
	}
	return nil
}

func (f *Fault) writeText(w io.Writer) {
	state := f.State
	if state != "ok" {
		state = strings.ToUpper(state)
	}
	fmt.Fprintf(w, "%s\t%s\n", event.FaultName, state)
	for _, v := range f.Faults {
		fmt.Fprintf(w, "  %s\t%s, %s", v.Name, v.State, v.Cause)
		if v.Advice != "" {
			fmt.Fprintf(w, ": do not trust this source; %s", v.Advice)
		}
		fmt.Fprintln(w)
		for _, e := range v.Evidence {
			fmt.Fprintf(w, "    %s\t%d", e.Kind, e.Count)
			if len(e.Interfaces) > 0 {
				fmt.Fprintf(w, " on %s", strings.Join(e.Interfaces, ", "))
			}
			if len(e.CANIDs) > 0 {
				fmt.Fprintf(w, " id %s", strings.Join(e.CANIDs, ", "))
			}
			fmt.Fprintln(w)
		}
	}
}

func (e *Events) writeText(w io.Writer) {
	if len(e.Counts) > 0 {
		fmt.Fprintf(w, "events\t\n")
	}
	for _, k := range slices.Sorted(maps.Keys(e.Counts)) {
		fmt.Fprintf(w, "  %s\t%d\n", k, e.Counts[k])
	}
	for _, d := range e.Destinations {
		if d.Failures > 0 || d.Summed > 0 {
			fmt.Fprintf(w, "  to %s\t%d of %d delivered, %d waiting, %d summed up; last error: %s\n", d.Name, d.Delivered, d.Offered, d.Waiting, d.Summed, d.LastError)
		}
	}
}
