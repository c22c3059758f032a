// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/loader"
)

// TestCanUtils has can-utils send and receive around the filter: candump on the gateway shows every foreign frame of cansend,
// cangen and canplayer and nothing on a protected identifier; what the gateway sends on one arrives at the node's candump.
func TestCanUtils(t *testing.T) {
	gateway, node := pair(t)
	here := startDump(t, gateway, "can0")
	there := startDump(t, node, "can0")
	bus := attach(t, gateway, "can0")

	var want []string
	for _, c := range []struct {
		frame string
		seen  bool
	}{
		{"200#0102030405060708", true},
		{"200#R", true},
		{"200##1AABBCC", true},
		{"00000123#DEADBEEF", true},
		{"00000200##0" + strings.Repeat("5A", 64), true},
		{"123#DEADBEEF", false},
		{"123#R", false},
		{"123##1" + strings.Repeat("00", 48), false},
		{"124#", false},
		{"00000456#11", false},
		{"456#11", true},
		{"7FF#", true},
	} {
		tool(t, node, "cansend", "can0", c.frame)
		if c.seen {
			want = append(want, "can0 "+c.frame)
		}
	}
	log := "(1.000000) can0 123#00\n(1.100000) can0 201#0A0B\n(1.200000) can0 00000456#00\n(1.300000) can0 202##312\n"
	path := filepath.Join(t.TempDir(), "log")
	ok(t, os.WriteFile(path, []byte(log), 0o644))
	tool(t, node, "canplayer", "-g", "0", "-I", path)
	want = append(want, "can0 201#0A0B", "can0 202##312")
	tool(t, node, "cangen", "can0", "-g", "0", "-p", "1000", "-n", "500", "-I", "123", "-L", "8", "-D", "i")
	tool(t, node, "cangen", "can0", "-g", "0", "-p", "1000", "-n", "500", "-I", "123", "-f", "-L", "48", "-D", "i")
	tool(t, node, "cangen", "can0", "-g", "0", "-p", "1000", "-n", "3", "-I", "203", "-L", "2", "-D", "i")
	want = append(want, "can0 203#0000", "can0 203#0100", "can0 203#0200")
	tool(t, node, "cansend", "can0", "7F0#")
	got := plain(here.until("7F0#"))
	if !slices.Equal(got, want) {
		t.Errorf("candump shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// What comes from the other end of a vxcan pair is judged; the node's own candump has seen it all.
	if c := bus.FilterCounts(); c[loader.PlaintextOnProtected]+c[loader.Malformed]+c[loader.UnknownEpoch]+c[loader.WrongKind] < 1007 {
		t.Errorf("verdicts %v", c)
	}
	if n := len(there.until("7F0#")); n < 1000+len(want) {
		t.Errorf("the node's candump shows %d frames", n)
	}

	// The other way: the filter judges only what comes in.
	tool(t, gateway, "cansend", "can0", "123#0BAD")
	tool(t, gateway, "cansend", "can0", "204#00")
	tool(t, gateway, "cansend", "can0", "7EF#")
	lines := there.until("7EF#")
	if tail := lines[len(lines)-2:]; !slices.Equal(plain(tail), []string{"can0 123#0BAD", "can0 204#00"}) {
		t.Errorf("the node's candump shows %q", tail)
	}
	// And its echo of the first ends at the filter.
	if lines := plain(here.until("7EF#")); !slices.Equal(lines[len(lines)-2:], []string{"can0 7F0#", "can0 204#00"}) {
		t.Errorf("candump shows %q", lines[len(lines)-2:])
	}
}

// plain takes off what candump writes in some versions only: direction marks, and the flag that says that it is CAN FD.
func plain(lines []string) (all []string) {
	for _, l := range lines {
		l = strings.TrimSuffix(strings.TrimSuffix(l, " R"), " T")
		if before, after, fd := strings.Cut(l, "##"); fd && after != "" {
			flags := strings.Map(func(r rune) rune {
				if i := strings.IndexRune("0123456789ABCDEF", r); i >= 0 {
					return rune("0123456789ABCDEF"[i&^loader.CANFDFDF])
				}
				return r
			}, after[:1])
			l = before + "##" + flags + after[1:]
		}
		all = append(all, l)
	}
	return all
}
