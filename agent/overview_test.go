// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

const goodBinding = "policy/testdata/good/pack-a.yaml"

func TestWhere(t *testing.T) {
	for _, c := range []struct {
		name                string
		at                  Where
		socket, bpffs, ring string
		err                 error
	}{
		{"nothing given", Where{}, DefaultControlSocket, loader.DefaultRoot, "", nil},
		{"binding", Where{Binding: goodBinding}, "/run/cellward/control.sock", "/sys/fs/bpf/pack-a", "/run/cellward/ring.sock", nil},
		{"in its place", Where{Binding: goodBinding, Socket: "/a", BPFFS: "/b"}, "/a", "/b", "/run/cellward/ring.sock", nil},
		{"without a binding", Where{Socket: "/a", BPFFS: "/b"}, "/a", "/b", "", nil},
		{"no such binding", Where{Binding: "absent.yaml"}, "", "", "", os.ErrNotExist},
		{"not a binding", Where{Binding: "overview_test.go"}, "", "", "", policy.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(DefaultBinding); err == nil && c.at.Binding == "" {
				t.Skipf("%s exists on this machine", DefaultBinding)
			}
			f, note, err := c.at.find()
			if !errors.Is(err, c.err) || note != nil {
				t.Fatalf("%v, note %v", err, note)
			}
			if err == nil && (f.socket != c.socket || f.bpffs != c.bpffs || f.ring != c.ring) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestReadOverviewOfNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadOverview(t.Context(), Where{Socket: filepath.Join(dir, "control.sock"), BPFFS: filepath.Join(dir, "pins")})
	for _, want := range []error{ErrNothing, control.ErrNotRunning, loader.ErrNoPins} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not %v", err, want)
		}
	}
}

// An agent in a place without pins, such as another mount namespace: its part is shown, and why the other is missing.
func TestReadOverviewOfAgentAlone(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "control.sock")
	server, err := control.Serve(socket, "", map[string]func() any{control.StatusPath: func() any { return Status{PID: 7, Engine: "std"} }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	o, err := ReadOverview(t.Context(), Where{Socket: socket, BPFFS: filepath.Join(dir, "pins")})
	if err != nil || !o.Running || o.PID != 7 || o.Kernel != nil || o.KernelError == "" {
		t.Fatalf("%+v, %v", o, err)
	}
	var text bytes.Buffer
	if err := o.WriteText(&text); err != nil || !strings.Contains(text.String(), "pid 7") || !strings.Contains(text.String(), "nothing is pinned") {
		t.Errorf("%v\n%s", err, &text)
	}
	b, err := json.Marshal(o)
	if err != nil || !strings.HasPrefix(string(b), `{"pid":7,"version":""`) || !strings.Contains(string(b), `"running":true`) {
		t.Errorf("%v %s", err, b)
	}
}

// kernelOf is the status of one bus.
func kernelOf(b loader.PinnedBus, hooks ...loader.Hook) KernelInterface {
	i := &loader.Inspection{Meta: loader.Meta{SameLayout: true}, Buses: []loader.PinnedBus{b}}
	return newKernelStatus(i, hooks, nil, nil).Interfaces[0]
}

func TestKernelInterfaceState(t *testing.T) {
	bus := loader.PinnedBus{
		Slot: 3, LinkID: 9, Ifindex: 4, MapIDs: map[string]uint32{"candidates": 21},
		Program: loader.Program{ID: 5, Name: "can_ingress", MapIDs: []uint32{20, 21}},
	}
	own := loader.Program{ID: 5, Hook: loader.HookTCX, Link: 9, Name: "can_ingress", MapIDs: []uint32{20, 21}}
	other := loader.Program{ID: 6, Hook: loader.HookTCX, Link: 10, Name: "other"}
	hook := func(p ...loader.Program) loader.Hook {
		return loader.Hook{Interface: loader.Link{Name: "can0", Index: 4}, Programs: p}
	}
	with := func(f func(*loader.PinnedBus)) loader.PinnedBus { b := bus; f(&b); return b }
	noLink := with(func(b *loader.PinnedBus) {
		b.LinkID, b.Ifindex, b.Program, b.LinkErr = 0, 0, loader.Program{}, os.ErrNotExist
	})
	hidden := with(func(b *loader.PinnedBus) {
		b.LinkID, b.Ifindex, b.Program, b.LinkErr = 0, 0, loader.Program{}, os.ErrPermission
	})
	filter := with(func(b *loader.PinnedBus) { b.LinkID, b.Hook = 0, loader.HookClsact })
	ownFilter := loader.Program{ID: 5, Hook: loader.HookClsact, Name: "can_ingress", MapIDs: []uint32{20, 21}}
	for _, c := range []struct {
		name     string
		bus      loader.PinnedBus
		hooks    []loader.Hook
		state    string
		attached bool
		first    bool
	}{
		{"alone", bus, []loader.Hook{hook(own)}, StateAttached, true, true},
		{"before another", bus, []loader.Hook{hook(own, other)}, StateAttached, true, true},
		{"behind another", bus, []loader.Hook{hook(other, own)}, StateAttached, true, false},
		{"interface gone", with(func(b *loader.PinnedBus) { b.Ifindex = 0 }), nil, StateGone, false, false},
		{"in another namespace", bus, []loader.Hook{hook(other)}, StateElsewhere, false, false},
		{"pin removed", noLink, []loader.Hook{hook(other)}, StateNoLink, false, false},
		{"link not readable", hidden, []loader.Hook{hook(other)}, StateUnknown, false, false},
		{"at clsact", filter, []loader.Hook{hook(ownFilter)}, StateAttached, true, true},
		{"at clsact, behind a program at tcx", filter, []loader.Hook{hook(other, ownFilter)}, StateAttached, true, false},
		{"at clsact, maps hidden", filter, []loader.Hook{hook(loader.Program{ID: 5, Hook: loader.HookClsact})}, StateAttached, true, true},
		{"at clsact, gone", with(func(b *loader.PinnedBus) {
			b.LinkID, b.Ifindex, b.Hook, b.Program = 0, 0, loader.HookClsact, loader.Program{}
		}), []loader.Hook{hook(other)}, StateGone, false, false},
		{"link not readable, program known by its ring", hidden, []loader.Hook{hook(own)}, StateAttached, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := kernelOf(c.bus, c.hooks...)
			if k.State != c.state || k.Attached != c.attached || k.First != c.first {
				t.Errorf("%+v", k)
			}
			if c.attached && (k.Name != "can0" || k.Ifindex != 4 || k.Program.ID != 5 || k.Link != k.Program.Link || k.Hook != k.Program.Hook || k.Hook == "") {
				t.Errorf("%+v", k)
			}
			if len(c.hooks) > 0 && c.attached && len(k.Others) != len(c.hooks[0].Programs)-1 {
				t.Errorf("others %+v", k.Others)
			}
		})
	}
}

func TestKernelStatusText(t *testing.T) {
	used := uint64(96)
	k := &KernelStatus{
		Release: "6.18.0", BPFFS: "/sys/fs/bpf/cellward",
		Pins: PinStatus{LayoutVersion: 1, Layout: "0123456789", SameLayout: true, SameBoot: true, Ready: true, AgeS: 90, Foreign: []string{"intruder"}},
		Interfaces: []KernelInterface{{
			Slot: 1, Name: "can0", Attached: true, Hook: loader.HookTCX, State: StateAttached,
			Program:  &KernelProgram{ID: 5, Name: "can_ingress", Tag: "ab", Link: 9, AgeS: 60, JITed: true},
			Others:   []KernelProgram{{ID: 6, Name: "other", Error: "denied"}},
			Rings:    map[string]Fill{"candidates": {Used: &used, Size: 4096}, "control": {Size: 4096}},
			Verdicts: map[string]uint64{"passed": 3, "bad_tag": 0},
		}},
		Nodes:   []KernelNode{{Index: 0, Name: "bmu", Verified: 70, Epochs: []KernelEpoch{{Number: 2, Base: 5, Starts: []uint64{9, 5}}}}, {Index: 1}},
		Streams: []KernelStream{{Stream: 2, CANID: "6F2", Role: "sample", Highest: 70, Committed: 4, Published: 3, Shed: 1, Refused: map[string]uint64{"replay": 20, "malformed": 5}}},
	}
	for _, c := range []struct {
		whole bool
		want  string
	}{
		{false, `kernel        Linux 6.18.0
pins          /sys/fs/bpf/cellward, layout 1 (01234567), made 1m30s ago
FOREIGN PINS  intruder

filter can0        slot 1, attached at tcx_ingress, BEHIND ANOTHER PROGRAM
  program          id 5 can_ingress, tag ab, link 9, compiled, loaded 1m0s ago
  other program    id 6, link 0 (denied)
  candidates ring  96 of 4096 bytes
  control ring     unknown of 4096 bytes
`},
		{true, `  passed           3

NODE  NAME  EPOCH  FROM COUNTER  STARTS  HIGHEST VERIFIED
0     bmu   2      5             9, 5    70
1     -     none   -             -       0

STREAM  SLOT  NODE  BUS SLOT  ID   ROLE    SOURCE  HIGHEST  COMMITTED  PUBLISHED  REFUSED  SHED
2       0     0     0         6F2  sample  -       70       4          3          25       1
`},
	} {
		var b bytes.Buffer
		if err := k.WriteText(&b, c.whole); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !c.whole && got != c.want || !strings.HasSuffix(got, c.want) {
			t.Errorf("whole %v: got\n%s\nwant\n%s", c.whole, got, c.want)
		}
	}
	moving := &KernelStatus{Pins: PinStatus{SameLayout: true, SameBoot: true, Ready: true, Migration: loader.MigrationCommitted, Former: []FormerRings{
		{Folder: "former_2", Slot: 3, Rings: map[string]Fill{"candidates": {Used: &used, Size: 8192}, "control": {Size: 4096}}},
	}}}
	var m bytes.Buffer
	if err := moving.WriteText(&m, true); err != nil || !strings.Contains(m.String(), "NOT IN PLACE YET") ||
		!strings.Contains(m.String(), "former rings  former_2, slot 3: candidates 96 of 8192 bytes, control unknown of 4096 bytes\n") {
		t.Errorf("%v\n%s", err, &m)
	}
	other := &KernelStatus{Pins: PinStatus{LayoutVersion: 2, Layout: "99"}}
	var b bytes.Buffer
	if err := other.WriteText(&b, true); err != nil || !strings.Contains(b.String(), "OF ANOTHER BUILD, OF ANOTHER BOOT, not filled yet") || strings.Contains(b.String(), "NODE") {
		t.Errorf("%v\n%s", err, &b)
	}
}

func TestRemoveStaleSocket(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, network := range []string{"unix", "unixpacket"} {
		dead, err := net.ListenUnix(network, &net.UnixAddr{Name: path("dead-" + network), Net: network})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		alive, err := net.ListenUnix(network, &net.UnixAddr{Name: path("live-" + network), Net: network})
		if err != nil {
			t.Fatal(err)
		}
		defer alive.Close()
	}
	if err := os.WriteFile(path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"dead-unix": true, "dead-unixpacket": true, "live-unix": false, "live-unixpacket": false, "file": false, "absent": false} {
		removed, err := removeStaleSocket(path(name))
		if err != nil || removed != want {
			t.Errorf("%s: removed %v, %v", name, removed, err)
		}
		if _, err := os.Lstat(path(name)); (err == nil) != (!want && name != "absent") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDetachedText(t *testing.T) {
	d := &Detached{
		BPFFS: "/sys/fs/bpf/cellward", Protected: 5, Folder: true, Maps: map[string]uint32{"epochs": 1, "meta": 2}, Sockets: []string{"/run/ring.sock"},
		Interfaces: []DetachedInterface{{Slot: 1, Name: "can0", Link: 9, Program: 5, Maps: map[string]uint32{"control": 3}, Dropped: 7}, {Slot: 2, State: StateGone}, {Slot: 3, Name: "can2", Hook: loader.HookClsact, Program: 6, Maps: map[string]uint32{"control": 4}}},
		Agent:      77, Held: Held{Maps: []uint32{1}},
	}
	var b bytes.Buffer
	if err := d.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `interface slot 1 (can0): removed link 9, program 5, 1 maps; it had dropped 7 frames, 0 bytes were unread
interface slot 2 (interface is gone): removed link 0, program 0, 0 maps; it had dropped 0 frames, 0 bytes were unread
interface slot 3 (can2): removed clsact filter, program 6, 1 maps; it had dropped 0 frames, 0 bytes were unread
removed 2 shared maps with the replay windows
removed stale socket /run/ring.sock
removed /sys/fs/bpf/cellward
WARNING: an agent still runs (process 77) and filters nothing any more: stop it
still held by a process: programs [], links [], maps [1]
detached: the bus is open, 5 identifiers are protected no more
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

func TestBuild(t *testing.T) {
	b := Build()
	if len(b.Filter.Object) != 64 || len(b.Filter.Layout) != 64 || b.Filter.LayoutVersion == 0 || b.Filter.Error != "" {
		t.Errorf("filter %+v", b.Filter)
	}
	if n := len(b.Engines); n == 0 || b.Engines[n-1] != "std" || b.Protocol != 1 || b.Ring == "" || b.Go == "" || b.Kernel == "" {
		t.Errorf("%+v", b)
	}
	var text bytes.Buffer
	if err := b.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	if !strings.HasPrefix(lines[0], "cellward ") || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "filter ") && strings.Contains(l, b.Filter.Object) }) {
		t.Errorf("%s", &text)
	}
}
