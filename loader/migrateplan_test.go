// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"pgregory.net/rapid"
)

// Types of the tests' values.
func u(bytes uint32) *btf.Int { return &btf.Int{Size: bytes} }

func array(n uint32, t btf.Type) *btf.Array { return &btf.Array{Index: u(4), Type: t, Nelems: n} }

// field is a member of a test's struct; it lies behind the one before.
type field struct {
	name string
	t    btf.Type
}

func structOf(t rapid.TB, fields ...field) *btf.Struct {
	s := &btf.Struct{Name: "value"}
	for _, f := range fields {
		s.Members = append(s.Members, btf.Member{Name: f.name, Type: f.t, Offset: btf.Bits(s.Size * 8)})
		s.Size += uint32(must[int](t)(btf.Sizeof(f.t)))
	}
	return s
}

// TestPlanValue says for each change of a layout whether values can follow it, and what is named where not.
func TestPlanValue(t *testing.T) {
	ab := structOf(t, field{"a", u(8)}, field{"b", u(4)}, field{"reserved", array(2, u(4))})
	slots := structOf(t, field{"slot", array(4, structOf(t, field{"word", u(8)}, field{"base", u(8)}))})
	for _, tt := range []struct {
		name     string
		table    string
		from, to btf.Type
		asBefore map[string]string
		refused  string // by the types
		inUse    string // by a value without a zero
	}{
		{name: "same", from: ab, to: ab, inUse: "m.reserved is gone"},
		{name: "moved", from: structOf(t, field{"a", u(8)}, field{"b", u(8)}), to: structOf(t, field{"b", u(8)}, field{"a", u(8)})},
		{name: "through a typedef", from: structOf(t, field{"a", &btf.Typedef{Name: "x", Type: u(8)}}), to: structOf(t, field{"a", u(8)})},
		{name: "wider", from: structOf(t, field{"a", u(4)}), to: structOf(t, field{"a", u(8)})},
		{name: "narrower", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"a", u(4)}), inUse: "m.a has 4 bytes and had 8"},
		{name: "signed", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"a", &btf.Int{Size: 8, Encoding: btf.Signed}}), refused: "m.a is of another type"},
		{name: "signed and wider", from: structOf(t, field{"a", &btf.Int{Size: 4, Encoding: btf.Signed}}), to: structOf(t, field{"a", &btf.Int{Size: 8, Encoding: btf.Signed}}), refused: "m.a is of another type"},
		{name: "new", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"a", u(8)}, field{"c", u(8)}), refused: "m.c is new"},
		{name: "new and argued for", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"c", u(8)}, field{"a", u(8)}), asBefore: map[string]string{"m.c": "nobody counts"}},
		{name: "new in what was reserved", from: ab, to: structOf(t, field{"a", u(8)}, field{"b", u(4)}, field{"c", u(4)}, field{"reserved", u(4)}), refused: "m.c is new"},
		{name: "gone", from: ab, to: structOf(t, field{"a", u(8)}), inUse: "m.b is gone"},
		{name: "renamed", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"z", u(8)}), refused: "m.z is new"},
		{name: "int for array", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"a", array(8, u(1))}), refused: "m.a is of another type"},
		{name: "array for int", from: structOf(t, field{"a", array(8, u(1))}), to: structOf(t, field{"a", u(8)}), refused: "m.a is of another type"},
		{name: "struct for int", from: structOf(t, field{"a", u(8)}), to: structOf(t, field{"a", structOf(t, field{"b", u(8)})}), refused: "m.a is of another type"},
		{name: "longer", from: structOf(t, field{"words", array(64, u(8))}), to: structOf(t, field{"words", array(128, u(8))}), refused: "m.words has 128 elements and had 64"},
		{name: "shorter", from: structOf(t, field{"words", array(64, u(8))}), to: structOf(t, field{"words", array(32, u(8))}), refused: "m.words has 32 elements and had 64"},
		{name: "more slots", table: "epochs", from: slots, to: structOf(t, field{"slot", array(6, structOf(t, field{"base", u(8)}, field{"word", u(8)}))})},
		{name: "fewer slots", table: "epochs", from: slots, to: structOf(t, field{"slot", array(2, structOf(t, field{"word", u(8)}, field{"base", u(8)}))}), inUse: "epochs.slot has 2 elements and had 4"},
		{name: "member of an element gone", table: "epochs", from: slots, to: structOf(t, field{"slot", array(4, structOf(t, field{"word", u(8)}))}), inUse: "epochs.slot.base is gone"},
		{name: "bit field", from: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "a", Type: u(8), BitfieldSize: 3}}}, to: ab, refused: "m has a member that is not copied"},
		{name: "union", from: structOf(t, field{"a", &btf.Union{Size: 8}}), to: structOf(t, field{"a", u(8)}), refused: "m.a is of a kind that is not copied"},
		{name: "count gone", table: "filter_counters", from: structOf(t, field{"accepted", u(8)}, field{"lately", u(8)}), to: structOf(t, field{"accepted", u(8)})},
		{name: "count new", table: "filter_counters", from: structOf(t, field{"accepted", u(8)}), to: structOf(t, field{"passed", u(8)}, field{"accepted", u(8)})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.table == "" {
				tt.table = "m"
			}
			plan, err := planValue(tt.table, tt.from, tt.to, tt.asBefore, tt.table == "filter_counters")
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("planned with %v, want %q", err, tt.refused)
				}
				return
			}
			ok(t, err)
			size := must[int](t)(btf.Sizeof(tt.from))
			if l := plan.judge(make([]byte, size)); l != nil {
				t.Errorf("zeros are in use: %s", l.name)
			}
			got := ""
			if l := plan.judge(bytes.Repeat([]byte{1}, size)); l != nil {
				got = l.name + " " + l.why
			}
			if got != tt.inUse {
				t.Errorf("in use: %q, want %q", got, tt.inUse)
			}
		})
	}
}

// TestPlanThereAndBack takes values through layouts with the same members in another order and with more between them, and back.
func TestPlanThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var fields []field
		for i := range rapid.IntRange(1, 8).Draw(t, "members") {
			var typ btf.Type = u(rapid.SampledFrom([]uint32{1, 2, 4, 8}).Draw(t, "size"))
			if rapid.Bool().Draw(t, "array") {
				typ = array(uint32(rapid.IntRange(1, 5).Draw(t, "elements")), typ)
			}
			if rapid.Bool().Draw(t, "nested") {
				typ = structOf(t, field{"x", typ}, field{"y", u(4)})
			}
			fields = append(fields, field{string(rune('a' + i)), typ})
		}
		from := structOf(t, fields...)
		to := structOf(t, append(rapid.Permutation(fields).Draw(t, "order"), field{"more", u(8)})...)
		there, err := planValue("m", from, to, map[string]string{"m.more": "it is the test's"}, false)
		ok(t, err)
		back, err := planValue("m", to, from, nil, false)
		ok(t, err)
		value := rapid.SliceOfN(rapid.Byte(), int(from.Size), int(from.Size)).Draw(t, "value")
		between, again := make([]byte, to.Size), make([]byte, from.Size)
		there.apply(between, value)
		if l := back.judge(between); l != nil {
			t.Fatalf("%s is in use on the way back", l.name)
		}
		back.apply(again, between)
		if !bytes.Equal(value, again) {
			t.Fatalf("% x came back as % x", value, again)
		}
	})
}
