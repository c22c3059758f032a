// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/tooltest"
)

// field is a row of the table in docs/ring.md.
type field struct {
	structure, name string
	offset, size    int
	kind            string
}

// layoutTable reads the table. The Go structures are compared with it in agent/ring.
func layoutTable(t testing.TB) []field {
	t.Helper()
	f, err := os.Open("../../docs/ring.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []field
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Split(lines.Text(), "|")
		if len(cells) != 8 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		offset, errOffset := strconv.Atoi(cells[3])
		size, errSize := strconv.Atoi(cells[4])
		if errOffset != nil || errSize != nil {
			continue // head of the table
		}
		rows = append(rows, field{cells[1], cells[2], offset, size, cells[5]})
	}
	if len(rows) < 80 {
		t.Fatalf("the table in docs/ring.md has only %d rows", len(rows))
	}
	return rows
}

func (f field) String() string {
	return fmt.Sprintf("%s %s %d %d %s", f.structure, f.name, f.offset, f.size, f.kind)
}

// cType is how the header spells a type of the table.
func cType(kind string) (name string, isArray bool) {
	name, _, isArray = strings.Cut(kind, "[")
	switch name {
	case "f64":
		return "double", false
	case "slot":
		return "struct cellward_ring__slot", false
	}
	return strings.NewReplacer("u", "uint", "i", "int").Replace(name) + "_t", isArray
}

// TestLayoutC compares the table with the C header: offset and size by a program made from the table, types by what its
// compiler accepts.
func TestLayoutC(t *testing.T) {
	needC(t)
	var want []string
	source := "#define CELLWARD_RING_IMPLEMENTATION\n#include \"cellward_ring.h\"\n#include <stdio.h>\n" +
		"#define ROW(s, f, kind) printf(\"%s %s %zu %zu %s\\n\", #s, #f, offsetof(struct cellward_ring__##s, f), " +
		"sizeof(((struct cellward_ring__##s *)0)->f), kind)\nint main(void)\n{\n"
	for i, row := range layoutTable(t) {
		want = append(want, row.String())
		switch row.name {
		case "(end)":
			source += fmt.Sprintf("\tprintf(\"%s (end) %%zu 0 \\n\", sizeof(struct cellward_ring__%s));\n", row.structure, row.structure)
		case "tail_futex":
			source += fmt.Sprintf("\tprintf(\"%s tail_futex %%zu 4 u32\\n\", (size_t)CELLWARD_RING__TAIL_FUTEX);\n", row.structure)
		default:
			source += fmt.Sprintf("\tROW(%s, %s, \"%s\");\n", row.structure, row.name, row.kind)
			if name, isArray := cType(row.kind); isArray {
				source += fmt.Sprintf("\t{ static struct cellward_ring__%s s; %s *p = s.%s; (void)p; }\n", row.structure, name, row.name)
			} else {
				source += fmt.Sprintf("\t{ static struct cellward_ring__%s s; %s *p%d = &s.%s; (void)p%d; }\n", row.structure, name, i, row.name, i)
			}
		}
	}
	source += "\treturn 0;\n}\n"
	dir := t.TempDir()
	file := filepath.Join(dir, "layout.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "layout")
	if text, err := exec.Command("gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I../../agent/ring/c", "-o", out, file, "-pthread").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	text, err := exec.Command(out).Output()
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, "the C header", strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), want)

	// And no field of the header is missing from the table: those that are not reserved are as many as its rows.
	header, err := os.ReadFile("../../agent/ring/c/cellward_ring.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, structure := range []string{"hello", "header", "stream", "signal", "slot", "latest"} {
		_, body, found := strings.Cut(string(header), "struct cellward_ring__"+structure+" {\n")
		body, _, closed := strings.Cut(body, "\n};")
		if !found || !closed {
			t.Fatalf("no struct cellward_ring__%s in the header", structure)
		}
		fields, rows := 0, 0
		for line := range strings.Lines(body) {
			if !strings.Contains(line, " reserved") {
				fields++
			}
		}
		for _, row := range layoutTable(t) {
			if row.structure == structure && row.name != "(end)" && row.name != "tail_futex" {
				rows++
			}
		}
		if fields != rows {
			t.Errorf("struct cellward_ring__%s has %d fields, the table %d", structure, fields, rows)
		}
	}
}

// TestLayoutPython compares the table with the Python module's own.
func TestLayoutPython(t *testing.T) {
	s := pythonSubject(t, "Python")
	if s.skip != "" {
		tooltest.Missing(t, s.skip)
	}
	const script = `
import struct, cellward_ring as ring
types = {"H": "u16", "I": "u32", "Q": "u64", "q": "i64", "B": "u8", "d": "f64", "48s": "slot", "4I": "u32[4]", "6H": "u16[6]", "6Q": "u64[6]"}
for name, (size, fields) in ring.LAYOUT.items():
    for field, code, offset in fields:
        kind = types.get(code) or "u8[%s]" % code[:-1]
        print(name, field, offset, struct.calcsize("=" + code), kind)
        if field == "tail":
            print(name, "tail_futex", ring.TAIL_FUTEX_OFFSET, 4, "u32")
    print(name, "(end)", size, 0, "")
`
	cmd := exec.Command(s.command[0], "-c", script)
	cmd.Env = append(os.Environ(), s.env...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var want []string
	for _, row := range layoutTable(t) {
		want = append(want, row.String())
	}
	compareRows(t, "the Python module", strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), want)
}

func compareRows(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("row %d of docs/ring.md: %q, %s has %q", i+1, w, what, g)
		}
	}
}
