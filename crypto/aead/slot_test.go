// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"unsafe"
)

// TestSlotOffsets compares the header of the assembly with the struct.
func TestSlotOffsets(t *testing.T) {
	var s keySlot
	header, err := os.ReadFile("slot.h")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uintptr{
		"FIRST":  unsafe.Offsetof(s.first),
		"POWER1": unsafe.Offsetof(s.power) + uintptr(len(s.power)-1)*16,
		"LENGTH": unsafe.Offsetof(s.length),
	} {
		m := regexp.MustCompile(`#define SLOT_` + name + ` +(\d+)`).FindSubmatch(header)
		if m == nil || string(m[1]) != fmt.Sprint(want) {
			t.Errorf("SLOT_%s is %s, the field is at %d", name, m, want)
		}
	}
	if got := unsafe.Offsetof(s.round); got != 16 {
		t.Errorf("round keys at %d: SLOT_ROUND(1) is 16", got)
	}
	if size := unsafe.Sizeof(s); size%64 != 0 {
		t.Errorf("a slot of %d bytes shares cache lines with its neighbours", size)
	}
	// Registers are loaded whole: from the last power on, and from the last product on, 64 bytes belong to the slot.
	if unsafe.Offsetof(s.length)+unsafe.Sizeof(s.length)+48 > unsafe.Sizeof(s) {
		t.Error("a load from the end of a table leaves the slot")
	}
	if unsafe.Offsetof(s.power)+unsafe.Sizeof(s.power)+256 > unsafe.Sizeof(s) {
		t.Error("a load of four registers from the end of the powers leaves the slot")
	}
}

// TestExpandAgreesWithTwin: every engine's slot is the twin's, byte for byte.
func TestExpandAgreesWithTwin(t *testing.T) {
	for _, k := range kernels() {
		for i := range uint32(200) {
			key, iv := secret(i)
			switch i {
			case 0:
				clear(key[:])
			case 1:
				for j := range key {
					key[j] = 0xFF
				}
			}
			var got, want keySlot
			k.expand(&got, &key, &iv)
			expandTwin(&want, &key, &iv)
			if got != want {
				t.Fatalf("engine %s, secret %d: slots differ", k.name, i)
			}
		}
	}
}

// TestCounterBlocks: the kernels count in one byte.
func TestCounterBlocks(t *testing.T) {
	if last := 1 + (MaxText+15)/16; last+16 > 255 {
		t.Errorf("%d counter blocks, and up to 16 more are made and not used: the last byte overflows", last)
	}
}
