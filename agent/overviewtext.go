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

// WriteText writes o as tables: the agent's part where there is one, then the kernel's. Beside a running agent the kernel's
// part is short, because the agent has shown verdicts, nodes and streams.
func (o *Overview) WriteText(w io.Writer) error {
	if o.Note != "" {
		if _, err := fmt.Fprintf(w, "note    %s\n", o.Note); err != nil {
			return fmt.Errorf("write status: %w", err)
		}
	}
	if o.Running {
		if err := o.Status.WriteText(w); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(w, "agent   not running (%s)\n", o.AgentError); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if o.Kernel == nil {
		if _, err := fmt.Fprintf(w, "\nkernel  %s\n", o.KernelError); err != nil {
			return fmt.Errorf("write status: %w", err)
		}
		return nil
	}
	if o.Running {
		if _, err := fmt.Fprintln(w); err != nil {
			return fmt.Errorf("write status: %w", err)
		}
	}
	return o.Kernel.WriteText(w, !o.Running)
}

// WriteText writes k as tables; whole adds what a running agent shows as well.
func (k *KernelStatus) WriteText(w io.Writer, whole bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "kernel\tLinux %s\n", k.Release)
	fmt.Fprintf(t, "pins\t%s, %s\n", k.BPFFS, k.Pins.describe())
	if len(k.Pins.Foreign) > 0 {
		fmt.Fprintf(t, "FOREIGN PINS\t%s\n", strings.Join(k.Pins.Foreign, ", "))
	}
	for _, f := range k.Pins.Former {
		fmt.Fprintf(t, "former rings\t%s, slot %d: candidates %s, control %s\n", f.Folder, f.Slot, f.Rings["candidates"], f.Rings["control"])
	}
	if k.HookError != "" {
		fmt.Fprintf(t, "hooks\t%s\n", k.HookError)
	}
	for _, i := range k.Interfaces {
		i.writeText(t, whole && k.Pins.SameLayout)
	}
	if whole && k.Pins.SameLayout {
		fmt.Fprintf(t, "\nNODE\tNAME\tEPOCH\tFROM COUNTER\tSTARTS\tHIGHEST VERIFIED\n")
		for _, n := range k.Nodes {
			if len(n.Epochs) == 0 {
				fmt.Fprintf(t, "%d\t%s\tnone\t-\t-\t%d\n", n.Index, dash(n.Name), n.Verified)
			}
			for _, e := range n.Epochs {
				fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\t%d\n", n.Index, dash(n.Name), e.Number, e.Base, counters(e.Starts), n.Verified)
			}
		}
		fmt.Fprintf(t, "\nSTREAM\tSLOT\tNODE\tBUS SLOT\tID\tROLE\tSOURCE\tHIGHEST\tCOMMITTED\tPUBLISHED\tREFUSED\tSHED\n")
		for _, s := range k.Streams {
			fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", s.Stream, s.Slot, s.Node, s.Interface, s.CANID, s.Role, dash(s.Source),
				s.Highest, s.Committed, s.Published, refusedInAll(s.Refused), s.Shed)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

func (p *PinStatus) describe() string {
	var words []string
	if p.SameLayout {
		words = append(words, fmt.Sprintf("layout %d (%.8s)", p.LayoutVersion, p.Layout))
	} else {
		words = append(words, fmt.Sprintf("LAYOUT %d (%.8s) OF ANOTHER BUILD", p.LayoutVersion, p.Layout))
	}
	switch p.Migration {
	case loader.MigrationPrepared:
		words = append(words, "ANOTHER LAYOUT IS BEING MADE BESIDE IT")
	case loader.MigrationCommitted:
		words = append(words, "NOT IN PLACE YET")
	}
	if p.SameBoot {
		words = append(words, fmt.Sprintf("made %v ago", time.Duration(p.AgeS)*time.Second))
	} else {
		words = append(words, "OF ANOTHER BOOT")
	}
	if !p.Ready {
		words = append(words, "not filled yet")
	}
	return strings.Join(words, ", ")
}

func (i *KernelInterface) writeText(t io.Writer, whole bool) {
	name := i.Name
	if name == "" {
		name = "-"
	}
	state := i.State
	if i.Attached {
		state = fmt.Sprintf("attached at %s, first", i.Hook)
		if !i.First {
			state = fmt.Sprintf("attached at %s, BEHIND ANOTHER PROGRAM", i.Hook)
		}
	}
	fmt.Fprintf(t, "\nfilter %s\tslot %d, %s\n", name, i.Slot, state)
	if p := i.Program; p != nil {
		fmt.Fprintf(t, "  program\t%s\n", p.describe())
	}
	for _, p := range i.Others {
		fmt.Fprintf(t, "  other program\t%s\n", p.describe())
	}
	for _, r := range []string{"candidates", "control"} {
		fmt.Fprintf(t, "  %s ring\t%s\n", r, i.Rings[r])
	}
	if !whole {
		return
	}
	for v := range loader.NumVerdicts {
		if n := i.Verdicts[loader.Verdict(v).String()]; n > 0 {
			fmt.Fprintf(t, "  %s\t%d\n", loader.Verdict(v), n)
		}
	}
}

// String says how much of a ring is taken.
func (f Fill) String() string {
	used := "unknown"
	if f.Used != nil {
		used = fmt.Sprint(*f.Used)
	}
	return fmt.Sprintf("%s of %d bytes", used, f.Size)
}

func (p *KernelProgram) describe() string {
	if p.Error != "" {
		return fmt.Sprintf("id %d, %s (%s)", p.ID, p.by(), p.Error)
	}
	jit := "compiled"
	if !p.JITed {
		jit = "INTERPRETED"
	}
	return fmt.Sprintf("id %d %s, tag %s, %s, %s, loaded %v ago", p.ID, p.Name, p.Tag, p.by(), jit, time.Duration(p.AgeS)*time.Second)
}

// by says what attached the program: a link, or a filter at clsact, which has none.
func (p *KernelProgram) by() string {
	if p.Hook == loader.HookClsact {
		return "clsact filter"
	}
	return fmt.Sprintf("link %d", p.Link)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func counters(n []uint64) string {
	if len(n) == 0 {
		return "none"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", ", "), "[]")
}
