// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"os/exec"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tcCommand runs tc(8), another's hand at the same hook.
func tcCommand(t testing.TB, ns *Netns, args ...string) string {
	t.Helper()
	var out []byte
	ok(t, ns.Do(func() (err error) {
		out, err = exec.Command("tc", args...).CombinedOutput()
		return err
	}))
	return string(out)
}

// hasQdisc reports whether the interface has a qdisc of the ingress kinds.
func hasQdisc(t testing.TB, ns *Netns, name string) (has bool) {
	t.Helper()
	ok(t, inTC(ns, func(c tcConn) error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		index := must[Link](t)(links.ByName(name)).Index
		for _, m := range must[[]netlink.Message](t)(c.execute(unix.RTM_GETQDISC, netlink.Dump, tcMessage{index: index}, nil)) {
			has = has || int(binary.NativeEndian.Uint32(m.Data[4:])) == index && binary.NativeEndian.Uint32(m.Data[8:]) == tcHandleClsact
		}
		return nil
	}))
	return has
}
