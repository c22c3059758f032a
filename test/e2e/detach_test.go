// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// listing is everything that an agent could leave behind, by kind.
type listing map[string][]string

// list looks at this network namespace, the laboratory's bpffs and its folder. ids is what an agent had in the kernel: programs,
// links and maps go by id, since other programs of the machine come and go meanwhile.
func list(t *testing.T, l *demo.Lab, ids *loader.Inspection) listing {
	t.Helper()
	all := make(listing)
	add := func(kind, format string, args ...any) { all[kind] = append(all[kind], fmt.Sprintf(format, args...)) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	root := filepath.Dir(l.Binding().Gateway.BPFFS)
	must(filepath.WalkDir(root+"/", func(path string, _ fs.DirEntry, err error) error {
		if path != root+"/" && filepath.Ext(path) != ".debug" { // which some kernels put into every bpffs
			add("pins", "%s", strings.TrimPrefix(path, root))
		}
		return err
	}))
	hooks, err := loader.Hooks()
	must(err)
	for _, h := range hooks {
		for _, p := range h.Programs {
			add("hooks", "%s: program %d %s, link %d", h.Interface.Name, p.ID, p.Name, p.Link)
		}
	}
	if ids != nil {
		r, err := ids.Remains()
		must(err)
		for kind, list := range map[string][]uint32{"programs": r.Programs, "links": r.Links, "maps": r.Maps} {
			for _, id := range list {
				add(kind, "%d", id)
			}
		}
	}
	for _, q := range qdiscs(t) {
		add("qdiscs", "%s", q)
	}
	must(filepath.WalkDir(l.Folder(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type() == fs.ModeSocket {
			add("socket files", "%s", strings.TrimPrefix(path, l.Folder()))
		}
		return err
	}))
	sockets, err := os.ReadFile("/proc/thread-self/net/unix") // not /proc/net: the first thread may be in another namespace
	must(err)
	for _, line := range strings.Split(string(sockets), "\n") {
		if n := strings.Index(line, l.Folder()); n >= 0 && strings.Contains(line, " 00010000 ") { // listening
			add("listening sockets", "%s", strings.TrimPrefix(line[n:], l.Folder()))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(err)
	add("mounts", "%s", mounts)
	// Namespaces that live without a process: named ones, and those that this process holds.
	names, err := os.ReadDir("/run/netns")
	if !errors.Is(err, fs.ErrNotExist) {
		must(err)
	}
	for _, n := range names {
		add("namespaces", "%s", n.Name())
	}
	files, err := os.ReadDir("/proc/self/fd")
	must(err)
	for _, f := range files {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(to, "net:") {
			add("namespaces", "%s", to)
		}
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// qdiscs lists kind and interface of every queueing discipline: a clsact that an attachment has left would be among them.
func qdiscs(t *testing.T) (all []string) {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const tcmsgLen = 20 // struct tcmsg of linux/rtnetlink.h
	replies, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETQDISC, Flags: netlink.Request | netlink.Dump}, Data: make([]byte, tcmsgLen),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range replies {
		a, err := netlink.NewAttributeDecoder(m.Data[tcmsgLen:])
		if err != nil {
			t.Fatal(err)
		}
		for a.Next() {
			if a.Type() == unix.TCA_KIND {
				all = append(all, fmt.Sprintf("%s on interface %d", a.String(), m.Data[4]))
			}
		}
	}
	return all
}

// TestDetachLeavesNothing lists what there is before the agent, with it, and after `cellward detach`.
func TestDetachLeavesNothing(t *testing.T) {
	needRoot(t)
	const simulated = time.Second
	for _, c := range []struct {
		name    string
		end     func(*testing.T, *demo.Process)
		sockets []string // that the end leaves
	}{
		{"killed", func(_ *testing.T, p *demo.Process) { p.Kill() }, []string{"/run/control.sock", "/run/ring.sock"}},
		{"stopped", func(t *testing.T, p *demo.Process) {
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true}, simulated)
			before := list(t, l, nil)
			gateway, err := l.StartAgent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// What an agent may leave must have been there to be seen.
			ids, err := loader.Inspect(l.Binding().Gateway.BPFFS)
			if err != nil {
				t.Fatal(err)
			}
			during := list(t, l, ids)
			for _, kind := range []string{"pins", "hooks", "programs", "links", "maps", "socket files", "listening sockets"} {
				t.Logf("with the agent: %-17s %d", kind, len(during[kind])-len(before[kind]))
				if len(during[kind]) <= len(before[kind]) {
					t.Errorf("the agent shows no %s: %v", kind, during[kind])
				}
			}
			c.end(t, gateway)
			tap, err := l.TapStack()
			if err != nil {
				t.Fatal(err)
			}
			f := loader.CANFrame{ID: l.Binding().Nodes[0].Streams[0].CANID.Number(), Len: 8}
			write := func() {
				t.Helper()
				if err := l.Buses[0].WriteGateway(&f, loader.CANMTU); err != nil {
					t.Fatal(err)
				}
			}
			write() // is dropped

			var d agent.Detached
			out := cellward(t, t.Context(), "detach", "--binding", l.BindingPath(), "-o", "json")
			if err := json.Unmarshal(out, &d); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if len(d.Interfaces) != 1 || d.Interfaces[0].Name != "can0" || d.Interfaces[0].Link != ids.Buses[0].LinkID ||
				d.Interfaces[0].Program != ids.Buses[0].Program.ID || d.Interfaces[0].Dropped != 1 || d.Protected != len(ids.Streams) ||
				len(d.Maps) != len(ids.MapIDs) || !d.Folder || d.Nothing || d.Agent != 0 || d.Note != "" {
				t.Errorf("detach says %s", out)
			}
			if !loader.Remains(d.Held).None() {
				t.Errorf("detach says that objects are held: %+v", d.Held)
			}
			var sockets []string
			for _, s := range d.Sockets {
				sockets = append(sockets, strings.TrimPrefix(s, l.Folder()))
			}
			if slices.Sort(sockets); !slices.Equal(sockets, c.sockets) {
				t.Errorf("stale sockets %v, want %v", sockets, c.sockets)
			}
			write() // comes through
			if err := tap.Finish(); err != nil {
				t.Fatal(err)
			}
			if n := tap.ProtectedFrames(); n != 1 {
				t.Errorf("%d frames came through, want the one after detach", n)
			}

			after := list(t, l, ids)
			for kind, names := range after {
				// The gateway's swtpm stays: it is the laboratory's, as it was before.
				t.Logf("after detach: %-17s %d, as before", kind, len(names))
				if !slices.Equal(names, before[kind]) {
					t.Errorf("left behind, %s: %v, before: %v", kind, names, before[kind])
				}
			}
			again := string(cellward(t, t.Context(), "detach", "--binding", l.BindingPath()))
			if !strings.Contains(again, "nothing was pinned") {
				t.Errorf("detached twice: %s", again)
			}
		})
	}
}

// TestDetachUnderAgent opens the bus although an agent runs, and says that one does.
func TestDetachUnderAgent(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true}, time.Second)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := string(cellward(t, t.Context(), "detach", "--binding", l.BindingPath()))
	for _, want := range []string{"interface slot 1 (can0): removed link", "WARNING: an agent still runs", "still held by a process", "the bus is open"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if _, err := os.Stat(l.ControlSocket()); err != nil {
		t.Errorf("the socket of a live agent: %v", err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}
