// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// listing is everything that an agent could leave behind, by kind.
type listing map[string][]string

// list looks at this network namespace, the laboratory's bpffs and its folder, and asks the kernel for the programs, links and
// maps that ids name.
func (l *lab) list(t *testing.T, ids *loader.Inspection) listing {
	t.Helper()
	all := make(listing)
	add := func(kind, format string, args ...any) { all[kind] = append(all[kind], fmt.Sprintf(format, args...)) }

	root := filepath.Dir(l.Binding().Gateway.BPFFS)
	ok(t, filepath.WalkDir(root+"/", func(path string, _ fs.DirEntry, err error) error {
		if path != root+"/" && filepath.Ext(path) != ".debug" { // which some kernels put into every bpffs
			add("pins", "%s", strings.TrimPrefix(path, root))
		}
		return err
	}))
	hooks, err := loader.Hooks()
	ok(t, err)
	for _, h := range hooks {
		for _, p := range h.Programs {
			add("programs at hooks", "%s: program %d %s", h.Interface.Name, p.ID, p.Name)
		}
	}
	if ids != nil {
		r := must[loader.Remains](t)(ids.Remains())
		for kind, list := range map[string][]uint32{"programs": r.Programs, "links": r.Links, "maps": r.Maps} {
			for _, id := range list {
				add(kind, "%d", id)
			}
		}
	}
	for _, q := range trafficControl(t, unix.RTM_GETQDISC, 0, 0) {
		add("qdiscs", "%s", q)
	}
	links := must[*loader.Links](t)(loader.DialLinks())
	defer links.Close()
	for _, link := range must[[]loader.Link](t)(links.All()) {
		const ingress = 0xFFFFFFF2 // TC_H_CLSACT, TC_H_MIN_INGRESS
		for _, f := range trafficControl(t, unix.RTM_GETTFILTER, link.Index, ingress) {
			add("filters", "%s", f)
		}
	}
	ok(t, filepath.WalkDir(l.Folder(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type() == fs.ModeSocket {
			add("socket files", "%s", strings.TrimPrefix(path, l.Folder()))
		}
		return err
	}))
	mounts := must[[]byte](t)(os.ReadFile("/proc/self/mountinfo"))
	add("mounts", "%s", mounts)
	names, err := os.ReadDir("/run/netns")
	if !errors.Is(err, fs.ErrNotExist) {
		ok(t, err)
	}
	for _, n := range names {
		add("namespaces", "%s", n.Name())
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// trafficControl lists queueing disciplines or filters (rtnetlink(7)): kind, interface and handle.
func trafficControl(t *testing.T, kind netlink.HeaderType, index int, parent uint32) (all []string) {
	t.Helper()
	c := must[*netlink.Conn](t)(netlink.Dial(unix.NETLINK_ROUTE, nil))
	defer c.Close()
	head := make([]byte, 20) // struct tcmsg of linux/rtnetlink.h
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	binary.NativeEndian.PutUint32(head[12:], parent)
	replies, err := c.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump}, Data: head})
	ok(t, err)
	for _, m := range replies {
		if len(m.Data) < len(head) {
			continue
		}
		a := must[*netlink.AttributeDecoder](t)(netlink.NewAttributeDecoder(m.Data[len(head):]))
		for a.Next() {
			if a.Type() == unix.TCA_KIND {
				all = append(all, fmt.Sprintf("%s on interface %d, handle %#x", a.String(), binary.NativeEndian.Uint32(m.Data[4:]), binary.NativeEndian.Uint32(m.Data[8:])))
			}
		}
	}
	return all
}

// TestDetach lists what there is before the agent, with it, and after `cellward detach`, which ends what a killed agent and what
// one that stopped has left: nothing of it is there any more, and protected identifiers are open.
func TestDetach(t *testing.T) {
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, shortLog(t, 10))
	for _, end := range []string{"killed", "stopped"} {
		t.Run(end, func(t *testing.T) {
			before := l.list(t, nil)
			gateway := l.agent(t)
			ids := must[*loader.Inspection](t)(loader.Inspect(l.Binding().Gateway.BPFFS))
			during := l.list(t, ids)
			for _, kind := range []string{"pins", "programs at hooks", "programs", "maps", "socket files"} {
				if len(during[kind]) <= len(before[kind]) {
					t.Errorf("the agent shows no %s: %v", kind, during[kind])
				}
			}
			if len(during["links"])+len(during["filters"]) <= len(before["filters"]) {
				t.Error("the agent shows neither link nor filter")
			}
			if end == "killed" {
				gateway.Kill()
			} else {
				ok(t, gateway.Stop())
			}
			here, there := openRaw(t, nil, l.Buses[0].Name, rawOptions{}), openRaw(t, l.EdgeNetns(), l.Buses[0].Name, rawOptions{})
			id := uint32(l.Binding().Nodes[0].Streams[0].CANID)
			there.send(&loader.CANFrame{ID: id, Len: 8}, loader.CANMTU)
			there.send(&loader.CANFrame{ID: last}, loader.CANMTU)
			wantIDs(t, here.until(last))

			cellward(t, "detach", "--binding", l.BindingPath())
			there.send(&loader.CANFrame{ID: id, Len: 8}, loader.CANMTU)
			there.send(&loader.CANFrame{ID: last}, loader.CANMTU)
			wantIDs(t, here.until(last), id)
			after := l.list(t, ids)
			var counts []string
			for _, kind := range []string{"pins", "programs at hooks", "programs", "links", "maps", "qdiscs", "filters", "socket files", "mounts", "namespaces"} {
				counts = append(counts, fmt.Sprintf("%s %d/%d/%d", kind, len(before[kind]), len(during[kind]), len(after[kind])))
				if !slices.Equal(after[kind], before[kind]) {
					t.Errorf("left behind, %s: %v, before: %v", kind, after[kind], before[kind])
				}
			}
			t.Logf("before/with the agent/after: %s", strings.Join(counts, ", "))
		})
	}
}
