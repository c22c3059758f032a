// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/loader"
)

// letGo is how long the kernel gets to free what nobody uses any more.
const letGo = 2 * time.Second

// Detached says what Detach has done.
type Detached struct {
	BPFFS string `json:"bpffs"`
	// Nothing says that nothing was pinned there.
	Nothing    bool                `json:"nothing"`
	Interfaces []DetachedInterface `json:"interfaces"`
	Maps       map[string]uint32   `json:"maps"` // ids of the shared maps that were unpinned
	// Protected is how many identifiers were closed and are open now.
	Protected int `json:"protected"`
	// Sockets are the files that a killed agent had left.
	Sockets []string `json:"sockets"`
	// Folder says that the folder of the pins is gone; where it is a mount point it stays.
	Folder bool `json:"folder_removed"`
	// Agent is the process id of an agent that still runs; 0: none answers.
	Agent int `json:"agent,omitempty"`
	// Held are the kernel objects that some process still holds.
	Held Held `json:"held"`
	// Note is what could not be told.
	Note string `json:"note,omitempty"`
}

// DetachedInterface is an interface that is open now.
type DetachedInterface struct {
	Slot     uint32            `json:"slot"`
	Name     string            `json:"name"`
	State    string            `json:"state"` // before
	Hook     string            `json:"hook,omitempty"`
	Link     uint32            `json:"link"`
	Program  uint32            `json:"program"`
	Maps     map[string]uint32 `json:"maps"`
	Unread   uint64            `json:"unread_bytes"` // in its rings, those of former layouts included
	Dropped  uint64            `json:"frames_dropped"`
	Verdicts map[string]uint64 `json:"verdicts"`
}

// Held are ids of kernel objects.
type Held struct {
	Programs []uint32 `json:"programs,omitempty"`
	Links    []uint32 `json:"links,omitempty"`
	Maps     []uint32 `json:"maps,omitempty"`
}

// Detach takes the filter off all interfaces and says what it has taken away: it lists before, removes, and asks the kernel
// for what is left. It is the only way in which protected identifiers become open again. Nothing that is wrong with the pins
// keeps it from removing them.
func Detach(ctx context.Context, w Where) (*Detached, error) {
	f, note, err := w.find()
	if err != nil {
		return nil, err
	}
	d := &Detached{BPFFS: f.bpffs, Interfaces: []DetachedInterface{}, Maps: map[string]uint32{}, Sockets: []string{}}
	if note != nil {
		d.Note = note.Error()
	}
	before, err := loader.Inspect(f.bpffs)
	switch {
	case errors.Is(err, loader.ErrNoPins):
		d.Nothing = true
	case err != nil:
		d.Note = strings.TrimPrefix(d.Note+"; "+err.Error(), "; ")
	default:
		hooks, hookErr := loader.Hooks()
		d.list(newKernelStatus(before, hooks, hookErr, f.binding))
	}
	if err := loader.Detach(f.bpffs); err != nil {
		return nil, err
	}
	_, err = os.Lstat(f.bpffs)
	d.Folder = errors.Is(err, fs.ErrNotExist)
	var s Status
	if err := control.Get(ctx, f.socket, control.StatusPath, &s); err == nil {
		d.Agent = s.PID
	}
	if before != nil {
		if err := d.wait(ctx, before); err != nil {
			return d, err
		}
	}
	for _, path := range []string{f.socket, f.ring} {
		removed, err := removeStaleSocket(path)
		if err != nil {
			return d, err
		}
		if removed {
			d.Sockets = append(d.Sockets, path)
		}
	}
	return d, nil
}

// list notes what is about to go.
func (d *Detached) list(k *KernelStatus) {
	d.Maps, d.Protected = k.Pins.Maps, len(k.Streams)
	former := make(map[uint32]uint64)
	for _, f := range k.Pins.Former {
		for _, r := range f.Rings {
			if r.Used != nil {
				former[f.Slot] += *r.Used
			}
		}
	}
	for _, i := range k.Interfaces {
		o := DetachedInterface{Slot: i.Slot, Name: i.Name, State: i.State, Hook: i.Hook, Link: i.Link, Maps: i.Maps, Verdicts: i.Verdicts, Unread: former[i.Slot]}
		if i.Program != nil {
			o.Program = i.Program.ID
		}
		for _, r := range i.Rings {
			if r.Used != nil {
				o.Unread += *r.Used
			}
		}
		for v := loader.Verdict(0); v < loader.Accepted; v++ {
			// Candidates and control records were dropped too, but handed on.
			if v.Drops() && v != loader.Candidate && v != loader.Control {
				o.Dropped += i.Verdicts[v.String()]
			}
		}
		d.Interfaces = append(d.Interfaces, o)
	}
}

// wait gives the kernel its instant and notes what is held after it.
func (d *Detached) wait(ctx context.Context, before *loader.Inspection) error {
	for deadline := time.Now().Add(letGo); ; {
		r, err := before.Remains()
		if err != nil {
			return fmt.Errorf("look for what is left: %w", err)
		}
		d.Held = Held(r)
		if r.None() || d.Agent != 0 || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("look for what is left: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// removeStaleSocket removes a socket file on which nobody listens. Anything else stays.
func removeStaleSocket(path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return false, nil
	}
	if live(path) {
		return false, nil
	}
	// An agent that starts in this instant finds its name gone and says so at its first reader; agents are not started
	// while the bus is being opened.
	if err := os.Remove(path); err != nil {
		return false, fmt.Errorf("remove stale socket: %w", err)
	}
	return true, nil
}

// live reports whether somebody has a Unix socket bound to the path, or may have. A socket of another kind than a stream says
// so with EPROTOTYPE.
func live(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return !errors.Is(err, unix.ECONNREFUSED)
}

// WriteText says it in sentences.
func (d *Detached) WriteText(w io.Writer) error {
	var b strings.Builder
	if d.Nothing {
		fmt.Fprintf(&b, "nothing was pinned in %s: nothing was protected from there\n", d.BPFFS)
	}
	if d.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", d.Note)
	}
	for _, i := range d.Interfaces {
		name := i.Name
		if name == "" {
			name = i.State
		}
		what := fmt.Sprintf("link %d", i.Link)
		if i.Hook == loader.HookClsact {
			what = "clsact filter"
		}
		fmt.Fprintf(&b, "interface slot %d (%s): removed %s, program %d, %d maps; it had dropped %d frames, %d bytes were unread\n",
			i.Slot, name, what, i.Program, len(i.Maps), i.Dropped, i.Unread)
	}
	if n := len(d.Maps); n > 0 {
		fmt.Fprintf(&b, "removed %d shared maps with the replay windows\n", n)
	}
	for _, s := range d.Sockets {
		fmt.Fprintf(&b, "removed stale socket %s\n", s)
	}
	if !d.Nothing && d.Folder {
		fmt.Fprintf(&b, "removed %s\n", d.BPFFS)
	} else if !d.Nothing {
		fmt.Fprintf(&b, "%s stays, empty: it is a mount point\n", d.BPFFS)
	}
	if d.Agent != 0 {
		fmt.Fprintf(&b, "WARNING: an agent still runs (process %d) and filters nothing any more: stop it\n", d.Agent)
	}
	if !loader.Remains(d.Held).None() {
		fmt.Fprintf(&b, "still held by a process: programs %v, links %v, maps %v\n", d.Held.Programs, d.Held.Links, d.Held.Maps)
	}
	if !d.Nothing {
		fmt.Fprintf(&b, "detached: the bus is open, %d identifiers are protected no more\n", d.Protected)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write what was detached: %w", err)
	}
	return nil
}
