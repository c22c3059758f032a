// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// layoutHash is SHA-256 over a description of everything that lies in pinned maps: per map its kind, sizes
// and flags, and per type each member's name, offset and size; and the records of the rings. Two builds with
// the same hash can use each other's pins. Sizes that the loader sets (rings, CPUs) are not part of it.
func layoutHash(spec *ebpf.CollectionSpec) ([32]byte, error) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		if name[0] == '.' {
			continue // the program's own data, made new for each instance
		}
		m := spec.Maps[name]
		entries := m.MaxEntries
		if slices.Contains(busMaps(), name) {
			entries = 0
		}
		fmt.Fprintf(h, "map %s %d %d %d %d %#x\n", name, m.Type, m.KeySize, m.ValueSize, entries, m.Flags)
		describe(h, m.Key, 0)
		describe(h, m.Value, 0)
	}
	for _, name := range []string{"cw_record_64", "cw_refused_frame"} {
		var t *btf.Struct
		if err := spec.Types.TypeByName(name, &t); err != nil {
			return [32]byte{}, fmt.Errorf("hash layout: %w", err)
		}
		describe(h, t, 0)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("cw_verdict", &enum); err != nil {
		return [32]byte{}, fmt.Errorf("hash layout: %w", err)
	}
	for _, v := range enum.Values {
		fmt.Fprintf(h, "%s %d\n", v.Name, v.Value)
	}
	return [32]byte(h.Sum(nil)), nil
}

// describe writes one line per member. Type names are left out: a typedef more or less changes no byte.
func describe(w io.Writer, t btf.Type, depth int) {
	if t == nil {
		return
	}
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			fmt.Fprintf(w, "%*d %s\n", 2*depth, m.Offset.Bytes(), m.Name)
			describe(w, m.Type, depth+1)
		}
	case *btf.Array:
		fmt.Fprintf(w, "%*s[%d]\n", 2*depth, "", t.Nelems)
		describe(w, t.Type, depth+1)
	case *btf.Int:
		fmt.Fprintf(w, "%*sint %d\n", 2*depth, "", t.Size)
	default:
		fmt.Fprintf(w, "%*s%T\n", 2*depth, "", t)
	}
}
