// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/loader"
)

func canFamily(x *exam) {
	switch err := x.m.TryCAN(); {
	case err == nil:
		x.ok("", "CAN sockets can be opened")
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT):
		x.warn("", "the kernel has no CAN sockets", "there are no real CAN interfaces; only TUN devices that look like CAN, as in the demonstration, can be filtered",
			"modprobe can_raw")
	default:
		x.unknown("", err, "modprobe can_raw")
	}
}

func canVCAN(x *exam)  { x.tryKind("vcan", "tests use TUN devices instead") }
func canVXCAN(x *exam) { x.tryKind("vxcan", "the demonstration uses TUN devices instead") }

// tryKind looks for a kind of interfaces that no gateway needs, so its absence is no fault.
func (x *exam) tryKind(kind, instead string) {
	if !x.has(unix.CAP_SYS_ADMIN) || !x.has(unix.CAP_NET_ADMIN) {
		x.needs("CAP_SYS_ADMIN or CAP_NET_ADMIN to make one")
		return
	}
	switch err := x.m.TryKind(kind); {
	case err == nil:
		x.ok("", "%s interfaces can be made", kind)
	case errors.Is(err, loader.ErrLinkKind):
		x.ok("", "none in this kernel: %s", instead)
	default:
		x.unknown("", err, "modprobe "+kind)
	}
}

func interfaceExists(x *exam) {
	if x.binding == nil {
		return
	}
	for _, i := range x.binding.Interfaces {
		switch l, err := x.m.Interface(i.Name); {
		case err == nil:
			x.links[i.Name] = l
			x.ok(i.Name, "interface %d%s", l.Index, kindOf(l))
		case errors.Is(err, loader.ErrNoLink):
			x.fail(i.Name, "there is no such interface here", "nothing comes in there; a running agent attaches the filter when it appears", "ip -details link show")
		default:
			x.unknown(i.Name, err, "ip -details link show "+i.Name)
		}
	}
}

func kindOf(l loader.Link) string {
	if l.Kind == "" {
		return ""
	}
	return " of kind " + l.Kind
}

// each calls f for the interfaces of the binding that exist.
func (x *exam) each(f func(name string, l loader.Link)) {
	if x.binding == nil {
		return
	}
	for _, i := range x.binding.Interfaces {
		if l, ok := x.links[i.Name]; ok {
			f(i.Name, l)
		}
	}
}

func interfaceType(x *exam) {
	x.each(func(name string, l loader.Link) {
		if l.Type == loader.ARPHRDCAN {
			x.ok(name, "CAN")
			return
		}
		x.fail(name, fmt.Sprintf("link type %d is not CAN (%d)", l.Type, loader.ARPHRDCAN), "the filter is not attached", "ip -details link show type can")
	})
}

func interfaceMTU(x *exam) {
	x.each(func(name string, l loader.Link) {
		switch {
		case l.Type != loader.ARPHRDCAN: // said already
		case l.MTU >= loader.CANFDMTU:
			x.ok(name, "%d bytes", l.MTU)
		default:
			change := fmt.Sprintf("mtu %d", loader.CANFDMTU)
			if l.Kind == "can" { // a controller has to be told to do FD, and by what bit rate
				change = "type can fd on dbitrate 2000000"
			}
			x.fail(name, fmt.Sprintf("MTU is %d bytes, sealed frames have %d", l.MTU, loader.CANFDMTU), "CAN FD frames are neither sent nor received",
				fmt.Sprintf("ip link set %s down && ip link set %s %s && ip link set %s up", name, name, change, name))
		}
	})
}

func interfaceUp(x *exam) {
	x.each(func(name string, l loader.Link) {
		if l.Up() {
			x.ok(name, "up")
			return
		}
		x.fail(name, "the interface is down", "no frame comes in", fmt.Sprintf("ip link set %s up", name))
	})
}

func interfaceFilter(x *exam) {
	if x.binding == nil {
		return
	}
	root := x.gateway().BPFFS
	run := fmt.Sprintf("cellward run --policy %s --binding %s", x.opts.Policy, x.opts.Binding)
	inspection, err := loader.Inspect(root)
	if err == nil {
		x.inspection = inspection
		if len(inspection.MapIDs)+len(inspection.Buses) == 0 {
			err = loader.ErrNoPins // and only what others have pinned
		} else {
			x.kernel, err = agent.ReadKernel(root, x.binding)
		}
	}
	switch {
	case errors.Is(err, loader.ErrNoPins):
		if x.agent != nil {
			x.fail("", fmt.Sprintf("an agent runs (process %d) and no filter is pinned", x.agent.PID), "protected identifiers are open: somebody detached the filter",
				fmt.Sprintf("kill %d", x.agent.PID))
			return
		}
		x.warn("", "no filter is attached", "protected identifiers reach the CAN stack unverified until the agent has run", run)
		return
	case err != nil:
		x.unknown("", err, x.asRoot())
		return
	case x.kernel.HookError != "":
		x.unknown("", errors.New(x.kernel.HookError), x.asRoot())
		return
	}
	for _, i := range x.binding.Interfaces {
		x.judgeFilter(i.Name, uint32(i.Index), run)
	}
}

func (x *exam) judgeFilter(name string, slot uint32, run string) {
	for _, k := range x.kernel.Interfaces {
		switch {
		case k.Slot != slot:
			continue
		case !k.Attached:
			x.fail(name, k.State, "its protected identifiers reach the CAN stack unverified", run)
		case k.Name != name:
			x.fail(name, fmt.Sprintf("the filter of slot %d is attached to %s", slot, k.Name), "the identifiers of this interface are open", run)
		case !k.First:
			x.warn(name, fmt.Sprintf("program %q judges before the filter", k.Others[0].Name), "it can let protected identifiers through unverified",
				"cellward status")
		default:
			if k.Hook == loader.HookClsact {
				x.ok(name, "attached at %s, first, program %d", k.Hook, k.Program.ID)
				return
			}
			x.ok(name, "attached at %s, first, link %d, program %d", k.Hook, k.Link, k.Program.ID)
		}
		return
	}
	x.fail(name, "no filter is pinned for it", "its protected identifiers reach the CAN stack unverified", run)
}
