// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/loader"
)

// linkUntil waits for a state of the first interface.
func linkUntil(t *testing.T, l *demo.Lab, what string, is func(agent.LinkStatus) bool) agent.LinkStatus {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		s, err := l.Status(t.Context())
		if err != nil {
			t.Fatalf("the agent does not answer: %v", err)
		}
		if is(s.Interfaces[0].Link) {
			return s.Interfaces[0].Link
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not %s: %+v", what, s.Interfaces[0].Link)
		}
	}
}

// closed sends frames on protected identifiers, plain and as if sealed, and then a foreign one: only that may reach a socket.
func closed(t *testing.T, l *demo.Lab) {
	t.Helper()
	const foreign = 0x555
	c, err := loader.OpenCAN(nil, l.Buses[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, s := range l.Binding().Nodes[0].Streams {
		for _, size := range []int{loader.CANMTU, loader.CANFDMTU} {
			if err := l.Buses[0].WriteGateway(&loader.CANFrame{ID: uint32(s.CANID), Len: 8}, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Classic frames and CAN FD frames are read from one queue each.
	for _, size := range []int{loader.CANMTU, loader.CANFDMTU} {
		if err := l.Buses[0].WriteGateway(&loader.CANFrame{ID: foreign, Len: 8}, size); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []int
	for len(sizes) < 2 {
		var f loader.CANFrame
		size, err := c.Receive(&f, time.Now().Add(20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if f.ID != foreign {
			t.Errorf("protected frame %#x reached a socket", f.ID)
			continue
		}
		sizes = append(sizes, size)
	}
}

// flows seals the pack once more and wants all of it published.
func flows(t *testing.T, l *demo.Lab, d time.Duration) {
	t.Helper()
	status := settled(t, l)
	before := status.Published()
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, 0, packInput(d)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(edge.Wait(), wire.Finish()); err != nil {
		t.Fatal(err)
	}
	status = settled(t, l)
	if n := report(t, edge).Sealed; n == 0 || status.Published()-before != n {
		t.Errorf("sealed %d samples, %d were published", n, status.Published()-before)
	}
}

// changeLink changes the gateway's interface.
func changeLink(t *testing.T, name string, f func(links *loader.Links, index int) error) {
	t.Helper()
	links, err := loader.DialLinks()
	if err != nil {
		t.Fatal(err)
	}
	link, err := links.ByName(name)
	if err == nil {
		err = f(links, link.Index)
	}
	if err := errors.Join(err, links.Close()); err != nil {
		t.Fatal(err)
	}
}

// deleteClsact does what `tc qdisc del dev INTERFACE clsact` does.
func deleteClsact(index int) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	head := make([]byte, 20) // struct tcmsg of linux/rtnetlink.h
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	binary.NativeEndian.PutUint32(head[8:], 0xFFFF0000)
	binary.NativeEndian.PutUint32(head[12:], 0xFFFFFFF1) // TC_H_CLSACT
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_DELQDISC, Flags: netlink.Request | netlink.Acknowledge}, Data: head,
	})
	return errors.Join(err, c.Close())
}

// hooks are those that this kernel has.
func hooks(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() == 0 && loader.ProbeTCX() != nil {
		return []string{loader.HookClsact}
	}
	return []string{loader.HookTCX, loader.HookClsact}
}

// TestInterfaceUnderAgent does to the interface, under an agent that has given up its rights and is confined, what happens to
// interfaces: it is absent at the start, taken away and made anew, set down and up, and given another MTU; and its hook is removed
// by hand. The filter comes back each time, and samples flow again.
func TestInterfaceUnderAgent(t *testing.T) {
	needRoot(t)
	const simulated, rounds = 500 * time.Millisecond, 10
	for _, kind := range hooks(t) {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t, demo.LabOptions{Frames: 20_000, SoftwareEdge: true}, simulated)
			bus := l.Buses[0]
			if err := bus.Unplug(); err != nil {
				t.Fatal(err)
			}
			gateway, err := l.StartAgent(t.Context(), "--hook", kind)
			if err != nil {
				t.Fatal(err)
			}
			linkUntil(t, l, "absent", func(s agent.LinkStatus) bool { return s.State == agent.LinkAbsent && !s.Attached })
			status, err := l.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			threads, err := privilege.Threads(status.PID)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range threads {
				if x.UID[0] != demo.AgentUID || x.Effective.Has(unix.CAP_SYS_ADMIN) || x.Seccomp != 2 {
					t.Fatalf("the agent is not confined: %+v", x)
				}
			}
			was := 0
			back := func(s agent.LinkStatus) bool {
				return s.State == agent.LinkUp && s.Attached && s.Hook == kind && s.Ifindex != was && s.Error == ""
			}
			if err := bus.Plug(); err != nil {
				t.Fatal(err)
			}
			was = linkUntil(t, l, "attached to what was absent", back).Ifindex
			closed(t, l)
			flows(t, l, simulated)

			var took []int64
			for range rounds {
				if err := bus.Unplug(); err != nil {
					t.Fatal(err)
				}
				linkUntil(t, l, "gone", func(s agent.LinkStatus) bool { return s.State == agent.LinkAbsent && !s.Attached })
				if err := bus.Plug(); err != nil {
					t.Fatal(err)
				}
				s := linkUntil(t, l, "attached again", back)
				was, took = s.Ifindex, append(took, s.LastReattachUS)
				closed(t, l)
			}
			flows(t, l, simulated)
			slices.Sort(took)
			t.Logf("made anew %d times under a confined agent: from the kernel's event to the hook, median %d us, longest %d us", rounds,
				took[rounds/2], took[rounds-1])

			changeLink(t, bus.Name, (*loader.Links).SetDown)
			linkUntil(t, l, "down", func(s agent.LinkStatus) bool { return s.State == agent.LinkDown && s.Attached })
			const small = loader.CANFDMTU - 1 // a TUN device takes none below 68
			changeLink(t, bus.Name, func(links *loader.Links, i int) error { return links.SetMTU(i, small) })
			linkUntil(t, l, "too small for CAN FD", func(s agent.LinkStatus) bool { return s.MTU == small && s.Attached })
			changeLink(t, bus.Name, func(links *loader.Links, i int) error {
				return errors.Join(links.SetMTU(i, loader.CANFDMTU), links.SetUp(i))
			})
			linkUntil(t, l, "up", func(s agent.LinkStatus) bool {
				return s.State == agent.LinkUp && s.MTU == loader.CANFDMTU && s.Attached
			})
			closed(t, l)

			if kind == loader.HookClsact {
				before := linkUntil(t, l, "attached", attached(kind)).Reattached
				if err := deleteClsact(was); err != nil {
					t.Fatal(err)
				}
				s := linkUntil(t, l, "attached after its qdisc was deleted", func(s agent.LinkStatus) bool { return s.Attached && s.Reattached > before })
				t.Logf("qdisc deleted by hand: attached again after %d us", s.LastReattachUS)
				closed(t, l)
			}
			flows(t, l, simulated)
			if s, err := l.Status(t.Context()); err != nil || s.PID != status.PID {
				t.Errorf("another agent: %+v, %v", s.PID, err)
			}
			if err := gateway.Stop(); err != nil {
				t.Fatal(err)
			}
			// A new agent finds and takes over what the confined one has pinned.
			if gateway, err = l.StartAgent(t.Context()); err != nil {
				t.Fatal(err)
			}
			linkUntil(t, l, "taken over", attached(kind))
			closed(t, l)
			flows(t, l, simulated)
			if err := gateway.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func attached(kind string) func(agent.LinkStatus) bool {
	return func(s agent.LinkStatus) bool { return s.Attached && s.Hook == kind && s.Error == "" }
}

// TestClosedWithoutState starts an agent that cannot open its state, again and again, as a service manager does: each start closes
// what is there then, by the hook that it was told.
func TestClosedWithoutState(t *testing.T) {
	needRoot(t)
	for _, kind := range hooks(t) {
		for _, before := range []string{"after a boot", "after an agent"} {
			t.Run(fmt.Sprint(kind, " ", before), func(t *testing.T) {
				l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
				if before == "after an agent" {
					gateway, err := l.StartAgent(t.Context(), "--hook", kind)
					if err != nil {
						t.Fatal(err)
					}
					if err := gateway.Stop(); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chmod(l.GatewayState(), 0o777); err != nil {
					t.Fatal(err)
				}
				start := func() error {
					t.Helper()
					p, err := l.BeginAgent("--hook", kind)
					if err != nil {
						t.Fatal(err)
					}
					return p.Wait()
				}
				for _, absent := range []bool{true, false, false} {
					if absent {
						if err := l.Buses[0].Unplug(); err != nil {
							t.Fatal(err)
						}
					}
					if err := start(); err == nil {
						t.Fatal("an agent runs on a state that everybody may write")
					}
					if absent {
						if err := l.Buses[0].Plug(); err != nil {
							t.Fatal(err)
						}
						continue
					}
					closed(t, l)
					all, err := loader.Hooks()
					if err != nil {
						t.Fatal(err)
					}
					if len(all) != 1 || len(all[0].Programs) != 1 || all[0].Programs[0].Hook != kind {
						t.Errorf("at the hooks: %+v", all)
					}
				}
				// Put right, it is a gateway again.
				if err := os.Chmod(l.GatewayState(), 0o700); err != nil {
					t.Fatal(err)
				}
				gateway, err := l.StartAgent(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				flows(t, l, time.Second)
				if err := gateway.Stop(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// nameNetns gives this network namespace a name, as ip-netns(8) does: anybody can open it by that.
func nameNetns(t *testing.T) {
	t.Helper()
	path := fmt.Sprintf("/run/netns/cellward-e2e-%d", os.Getpid())
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o444)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
}

// TestInterfaceOfAnotherNamespace moves a gateway to another network namespace, by agents that were started there, and makes the
// interface appear only when the second agent is confined: to look for the filter of the first, it would have to enter the namespace
// in which that is, which ends a confined process.
func TestInterfaceOfAnotherNamespace(t *testing.T) {
	needRoot(t)
	const simulated = 500 * time.Millisecond
	l := newLab(t, demo.LabOptions{Frames: 20_000, SoftwareEdge: true}, simulated)
	nameNetns(t)
	first, err := l.StartAgent(t.Context(), "--hook", loader.HookClsact)
	if err != nil {
		t.Fatal(err)
	}
	linkUntil(t, l, "attached", attached(loader.HookClsact))
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}

	ns, err := loader.NewNetns()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	second := exec.Command(program(), "run", "--policy", l.PolicyPath(), "--binding", l.BindingPath())
	var said bytes.Buffer
	second.Stderr = &said
	if err := ns.Do(second.Start); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- second.Wait() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if s, err := l.Status(t.Context()); err == nil && s.PID == second.Process.Pid {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the agent has ended: %v\n%s", err, said.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent does not answer")
		}
	}
	linkUntil(t, l, "absent", func(s agent.LinkStatus) bool { return s.State == agent.LinkAbsent })
	d, err := loader.NewTUN(ns, l.Buses[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	linkUntil(t, l, "attached to what appeared", attached(loader.HookClsact))
	// The filter of before stays where it is: closed is the safe side.
	closed(t, l)
	if err := second.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the agent has ended: %v\n%s", err, said.String())
	}
}
