// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"testing"

	"github.com/cellward/cellward/loader"
)

// TestOwnEcho tells what this machine sends from what comes from the bus. The kernel hands each frame that is sent to the
// interface's own receivers as well; on a protected identifier that copy ends at the filter and is never a candidate.
func TestOwnEcho(t *testing.T) {
	for _, kind := range []string{"vxcan", "vcan"} {
		t.Run(kind, func(t *testing.T) {
			gateway, node := pair(t)
			name := "can0"
			if kind == "vcan" {
				name = "vcan0"
				addVCAN(t, gateway, name)
			}
			bus := attach(t, gateway, name)
			sender, neighbour := openRaw(t, gateway, name, rawOptions{own: true}), openRaw(t, gateway, name, rawOptions{})
			sender.send(sealed(protected, 1), loader.CANFDMTU)
			sender.send(&loader.CANFrame{ID: protected, Len: 8}, loader.CANMTU)
			sender.send(&loader.CANFrame{ID: 0x200, Len: 8}, loader.CANMTU)
			sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
			if c := settled(t, bus, 4); c[loader.OwnEcho] != 2 || c[loader.Passed] != 2 {
				t.Errorf("verdicts %v", c)
			}
			wantIDs(t, neighbour.until(last), 0x200)
			wantIDs(t, sender.until(last), 0x200)
			if kind == "vcan" {
				return // there is nobody at the other end
			}
			// The same bytes from the bus are a candidate.
			far := openRaw(t, node, name, rawOptions{})
			far.send(sealed(protected, 1), loader.CANFDMTU)
			if c := settled(t, bus, 5); c[loader.Candidate] != 1 || c[loader.OwnEcho] != 2 {
				t.Errorf("verdicts %v", c)
			}
		})
	}
}
