// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellward/cellward/loader"
)

// WriteText writes s as tables: the agent, its interfaces with the verdicts that occurred, nodes, streams.
func (s *Status) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "agent\tpid %d, version %s, engine %s, up %v\n", s.PID, s.Version, s.Engine, time.Duration(s.UptimeS)*time.Second)
	fmt.Fprintf(t, "policy\t%s\n", s.Policy)
	fmt.Fprintf(t, "binding\t%s\n", s.Binding)
	if l := s.Documents.Last; l != nil {
		result := "in effect"
		if !l.Applied {
			result = "refused: " + l.Error
		}
		fmt.Fprintf(t, "new documents\tby %s at %s: %s\n", l.By, l.Time.Format(time.RFC3339), result)
	}
	if s.SaveError != "" {
		fmt.Fprintf(t, "STATE FOLDER\t%s\n", s.SaveError)
	}
	if s.KeyMemory.Refused != "" {
		fmt.Fprintf(t, "KEY MEMORY\t%s, which root can read: %s\n", s.KeyMemory.Kind, s.KeyMemory.Refused)
	}
	s.Fault.writeText(t)
	s.Events.writeText(t)
	for _, i := range s.Interfaces {
		fmt.Fprintf(t, "\ninterface %s\tslot %d, %s, ring %d of %d bytes\n", i.Name, i.Slot, i.Carrier, i.RingUsed, i.RingSize)
		fmt.Fprintf(t, "  link\t%s\n", i.Link.describe(time.Now()))
		for v := range loader.NumVerdicts {
			if n := i.Verdicts[loader.Verdict(v).String()]; n > 0 {
				fmt.Fprintf(t, "  %s\t%d\n", loader.Verdict(v), n)
			}
		}
	}
	fmt.Fprintf(t, "\nNODE\tKID\tEPOCH\tAGE\tAGREED BY\tHIGHEST VERIFIED\n")
	for _, n := range s.Nodes {
		if len(n.Epochs) == 0 {
			fmt.Fprintf(t, "%s\t%s\tnone\t-\t-\t%d\n", n.Name, n.KID, n.Verified)
		}
		for _, e := range n.Epochs {
			fmt.Fprintf(t, "%s\t%s\t%d\t%v\t%s\t%d\n", n.Name, n.KID, e.Number, time.Duration(e.AgeS)*time.Second, e.Method, n.Verified)
		}
	}
	fmt.Fprintf(t, "\nSTREAM\tBUS\tID\tSOURCE\tSENSITIVITY\tRATE\tHIGHEST\tPUBLISHED\tLOST\tMISSING\tDELETED\tREFUSED\tSHED\n")
	for _, r := range s.Streams {
		source, sensitivity, rate := r.Source, r.Sensitivity, r.SamplingRate
		if source == "" {
			source, sensitivity, rate = r.Role, "-", "-"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", r.Stream, r.Interface, r.CANID, source, sensitivity, rate,
			r.Highest, r.Published, r.Lost, r.Missing, r.Deleted-r.Corrected, refusedInAll(r.Refused), r.Shed)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// describe says it in a line; what asks for somebody's attention is in capitals.
func (l *LinkStatus) describe(now time.Time) string {
	if l.State == "" {
		return "unknown"
	}
	since := func(t time.Time) string { return now.Sub(t).Truncate(time.Second).String() }
	state := l.State
	if state != LinkUp {
		state = strings.ToUpper(state)
	}
	words := []string{fmt.Sprintf("%s for %s", state, since(l.Since))}
	switch {
	case l.Attached:
		words = append(words, l.Hook)
	case l.State != LinkAbsent:
		words = append(words, "NOT ATTACHED")
	}
	if l.Error != "" {
		words = append(words, l.Error)
	}
	if l.Controller != "" {
		words = append(words, fmt.Sprintf("controller %s for %s", l.Controller, since(l.ControllerSince)))
	}
	if l.Reattached > 0 {
		words = append(words, fmt.Sprintf("re-attached %d times, the last in %v", l.Reattached, time.Duration(l.LastReattachUS)*time.Microsecond))
	}
	return strings.Join(words, ", ")
}
