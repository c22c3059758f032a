// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("a", 150) + "X" + strings.Repeat("b", 150)
	for _, c := range []struct {
		line           string
		number, column int
		want           string
	}{
		{"name: p", 3, 7, "  3 | name: p\n    |       ^"},
		{"name: p", 12, 8, "  12 | name: p\n     |        ^"}, // behind the end
		{"", 1, 1, "  1 | \n    | ^"},
		{"größe: 1", 1, 8, "  1 | größe: 1\n    |        ^"},
		{"a:\tb", 1, 4, "  1 | a: b\n    |    ^"},
		{"a: \x1b[2J\u202e\xff", 1, 4, "  1 | a: \uFFFD[2J\uFFFD\uFFFD\n    |    ^"},
		{long, 1, 1, "  1 | " + long[:110] + "...\n    | ^"},
		{long, 1, 151, "  1 | ..." + long[77:187] + "...\n    | " + strings.Repeat(" ", 3+73) + "^"},
		{long, 1, 302, "  1 | ..." + long[191:] + "\n    | " + strings.Repeat(" ", 3+110) + "^"},
	} {
		if got := excerpt(c.line, c.number, c.column); got != c.want {
			t.Errorf("%q at %d: got\n%s\nwant\n%s", c.line, c.column, got, c.want)
		}
	}
}

// TestErrorsAreBounded gives a document with more errors than anyone can read.
func TestErrorsAreBounded(t *testing.T) {
	data := []byte("apiVersion: security.bms/v1alpha1\nkind: SensorDataSecurityPolicy\nmetadata: {name: p}\nspec: {" +
		strings.Repeat("a: 1, ", 20000) + "}\n")
	_, err := Parse("many.yaml", data)
	var all Errors
	if !errors.As(err, &all) || len(all) != maxErrors+1 {
		t.Fatalf("%d errors", len(all))
	}
	checkErrors(t, "many.yaml", data, err)
	if last := all[maxErrors].Message; !strings.HasSuffix(last, " more errors are not shown") {
		t.Errorf("the last one says %q", last)
	}
	if size := len(err.Error()); size > 1<<20 {
		t.Errorf("%d bytes of errors", size)
	}
}

// TestAliasBomb gives a document of 2 KiB whose aliases stand for 9^64 nodes, and one that contains itself.
func TestAliasBomb(t *testing.T) {
	bomb := "a0: &a0 [x,x]\n"
	for i := range 64 {
		bomb += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 8), i)
	}
	for _, text := range []string{bomb, "spec: &s {a: *s, b: [*s, *s]}\n"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse("bomb.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Fatal("accepted")
		}
		checkErrors(t, "bomb.yaml", []byte(text), err)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%d bytes allocated", used)
		}
	}
}

// TestHostileShapes gives the parser what is expensive to parse or to walk. They all have to end in errors.
func TestHostileShapes(t *testing.T) {
	for name, text := range map[string]string{
		"open lists":     strings.Repeat("[", MaxSize),
		"open mappings":  strings.Repeat("{", MaxSize),
		"nested lists":   strings.Repeat("- ", 5000) + "x",
		"nested maps":    strings.Repeat("a: {", 5000),
		"question marks": strings.Repeat("? ", 5000),
		"commas":         "[" + strings.Repeat("a,", MaxSize/20) + "]",
		"documents":      strings.Repeat("---\n", MaxSize/4),
		"comments":       strings.Repeat("#\n", MaxSize/2),
		"long scalar":    strings.Repeat("a", MaxSize),
		"quotes":         strings.Repeat("'", MaxSize),
		"anchors":        strings.Repeat("&", MaxSize),
		"line breaks":    strings.Repeat("\n", MaxSize),
		"keys":           strings.Repeat("a: 1\n", MaxSize/50),
		"block scalar":   "a: |\n" + strings.Repeat(" b\n", MaxSize/3-2),
		"tags":           strings.Repeat("!", 1000) + " x",
		"directives":     strings.Repeat("%TAG ! x\n", 1000),
	} {
		_, err := Parse(name, []byte(text))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		checkErrors(t, name, []byte(text), err)
	}
}

func TestSizeLimit(t *testing.T) {
	good := read(t, "testdata/good/binding-minimal.yaml")
	full := append(bytes.Clone(good), bytes.Repeat([]byte("#"), MaxSize-len(good))...)
	if _, err := Parse("full.yaml", full); err != nil {
		t.Errorf("%d bytes: %v", len(full), err)
	}
	_, err := Parse("over.yaml", append(full, '\n'))
	if err == nil || !strings.HasPrefix(err.Error(), "over.yaml:1:1: the document is larger than 1 MiB (1048576 bytes)") {
		t.Errorf("%d bytes: %v", len(full)+1, err)
	}
}

func TestLoadFiles(t *testing.T) {
	if _, err := LoadPolicy(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrInvalid) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := LoadBinding(t.TempDir()); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("folder: %v", err)
	}
	if _, err := LoadPolicy("/dev/zero"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("endless file: %v", err)
	}
	p, err := LoadPolicy("testdata/good/security_policy_bms_data.yaml")
	if err != nil || p.Name != "bms-sensor-channel-aes256-gcm-hsm" {
		t.Errorf("policy: %v, %v", p, err)
	}
	b, err := LoadBinding("testdata/good/pack-a.yaml")
	if err != nil || b.Name != "pack-a" {
		t.Errorf("binding: %v, %v", b, err)
	}
}

// TestWrongKind checks that a document is not read by the rules of another kind.
func TestWrongKind(t *testing.T) {
	_, err := LoadPolicy("testdata/good/pack-a.yaml")
	want := "testdata/good/pack-a.yaml:3:7: kind: want SensorDataSecurityPolicy, got \"SensorDataBinding\"\n  3 | kind: SensorDataBinding\n    |       ^"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	name := "testdata/good/security_policy_bms_data.yaml"
	_, err = ParseBinding(name, read(t, name))
	want = name + ":3:7: kind: want SensorDataBinding, got \"SensorDataSecurityPolicy\"\n  3 | kind: SensorDataSecurityPolicy\n    |       ^"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestErrorIsOne(t *testing.T) {
	_, err := ParsePolicy("p", []byte("{}"))
	var one *Error
	if !errors.As(err, &one) || one.Line != 1 || one.Column != 1 || one.File != "p" {
		t.Errorf("errors.As: %+v", one)
	}
}

// TestFileNameIsNotInterpreted checks that a name with format verbs comes back as it is.
func TestFileNameIsNotInterpreted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "100%d.yaml")
	if err := os.WriteFile(name, []byte("a: %s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(name); err == nil || !strings.HasPrefix(err.Error(), name+":1:") {
		t.Errorf("%v", err)
	}
}
