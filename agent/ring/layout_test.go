// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unsafe"
)

// moduleRoot walks up to go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// snake turns a Go field name into the table's: ProducerPID -> producer_pid.
func snake(name string) string {
	if name == "CANID" {
		return "can_id"
	}
	var b strings.Builder
	lower := false
	for _, r := range name {
		if unicode.IsUpper(r) && lower {
			b.WriteByte('_')
		}
		lower = !unicode.IsUpper(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func tableType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Array:
		return fmt.Sprintf("%s[%d]", tableType(t.Elem()), t.Len())
	case reflect.Struct:
		return strings.TrimSuffix(t.Name(), "Layout")
	case reflect.Float64:
		return "f64"
	}
	return strings.NewReplacer("uint", "u", "int", "i").Replace(t.Kind().String())
}

// TestLayoutTable compares the table in docs/ring.md, row by row and in order, with the Go types.
func TestLayoutTable(t *testing.T) {
	var want []string
	for _, s := range []any{helloLayout{}, headerLayout{}, streamLayout{}, signalLayout{}, slotLayout{}, latestLayout{}} {
		typ := reflect.TypeOf(s)
		name := strings.TrimSuffix(typ.Name(), "Layout")
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Name == "_" {
				continue
			}
			want = append(want, fmt.Sprintf("%s %s %d %d %s", name, snake(f.Name), f.Offset, f.Type.Size(), tableType(f.Type)))
			if f.Name == "Tail" {
				want = append(want, fmt.Sprintf("%s tail_futex %d 4 u32", name, f.Offset))
			}
		}
		want = append(want, fmt.Sprintf("%s (end) %d 0 ", name, typ.Size()))
	}

	f, err := os.Open(filepath.Join(moduleRoot(t), "docs", "ring.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Split(lines.Text(), "|")
		if len(cells) != 8 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "structure" {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		got = append(got, strings.Join(cells[1:6], " "))
	}
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("row %d of docs/ring.md: %q, the code has %q", i+1, g, w)
		}
	}
}

// TestHotWords checks that no two of the words that change while the ring is in use share a pair of cache lines.
func TestHotWords(t *testing.T) {
	var h headerLayout
	seen := map[uintptr]string{0: "the constant part"}
	for _, w := range []struct {
		name   string
		offset uintptr
	}{
		{"intent", unsafe.Offsetof(h.Intent)}, {"tail", unsafe.Offsetof(h.Tail)},
		{"heartbeat", unsafe.Offsetof(h.Heartbeat)}, {"fault", unsafe.Offsetof(h.Fault)},
	} {
		if w.offset%128 != 0 {
			t.Errorf("%s at %d does not begin a pair of lines", w.name, w.offset)
		}
		if other, taken := seen[w.offset/128]; taken {
			t.Errorf("%s shares its lines with %s", w.name, other)
		}
		seen[w.offset/128] = w.name
	}
}

func TestSlotSizes(t *testing.T) {
	for _, c := range []struct{ body, slot, latest int }{
		{0, 64, 64}, {8, 64, 64}, {16, 64, 128}, {17, 128, 128}, {36, 128, 128}, {72, 128, 128}, {80, 128, 192},
		{81, 192, 192}, {2020, 2112, 2112},
	} {
		if got := slotSizeFor(c.body); got != c.slot {
			t.Errorf("slot for %d bytes: %d, want %d", c.body, got, c.slot)
		}
		if got := latestSizeFor(c.body); got != c.latest {
			t.Errorf("latest value of %d bytes: %d, want %d", c.body, got, c.latest)
		}
	}
}

// TestFaultRecordLayout: a record stands in the header as it does in Go.
func TestFaultRecordLayout(t *testing.T) {
	var h headerLayout
	var r FaultRecord
	base := unsafe.Offsetof(h.RecordTime)
	for name, o := range map[string][2]uintptr{
		"time": {unsafe.Offsetof(h.RecordTime), unsafe.Offsetof(r.Time)}, "causes": {unsafe.Offsetof(h.RecordCauses), unsafe.Offsetof(r.Causes)},
		"sources": {unsafe.Offsetof(h.RecordSources), unsafe.Offsetof(r.Sources)}, "source ids": {unsafe.Offsetof(h.RecordSourceIDs), unsafe.Offsetof(r.SourceIDs)},
		"kinds": {unsafe.Offsetof(h.RecordKinds), unsafe.Offsetof(r.Kinds)}, "kind": {unsafe.Offsetof(h.RecordKind), unsafe.Offsetof(r.Kind)},
		"count": {unsafe.Offsetof(h.RecordCount), unsafe.Offsetof(r.Count)},
		"end":   {unsafe.Offsetof(h.RecordCount) + unsafe.Sizeof(h.RecordCount), unsafe.Sizeof(r)},
	} {
		if o[0]-base != o[1] {
			t.Errorf("%s: %d in the header, %d in a record", name, o[0]-base, o[1])
		}
	}
}
