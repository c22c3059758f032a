// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/cellward/cellward/loader"
)

// protocolDocument is the text that the vectors belong to.
const protocolDocument = "docs/protocol.md"

// TestWorkedExample: every value of the worked example stands in the vectors under the same name.
func TestWorkedExample(t *testing.T) {
	f := committed(t)
	text := string(readProject(t, protocolDocument))
	_, text, ok := strings.Cut(text, "\n## Worked example\n")
	if !ok {
		t.Fatal("the document has no worked example")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	blocks := regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(text, -1)
	var wants []any
	for _, c := range f.TrafficKeys {
		if c.Name == "cell voltages, second start" {
			wants = append(wants, c)
		}
	}
	for _, c := range f.Samples {
		if strings.HasPrefix(c.Name, "worked example") {
			wants = append(wants, c)
		}
	}
	for _, c := range f.StartRecords {
		if c.Name == "CAN FD" {
			wants = append(wants, c)
		}
	}
	if len(blocks) != 3 || len(wants) != 3 {
		t.Fatalf("%d blocks in the document and %d vectors for them, want 3 of each", len(blocks), len(wants))
	}
	for i, want := range wants {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		fields := make(map[string]any)
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		shown := example(t, blocks[i][1])
		if len(shown) < 4 {
			t.Errorf("block %d shows only %d values", i, len(shown))
		}
		for name, value := range shown {
			if fields[name] != value {
				t.Errorf("the document says that %s is %s, the vector %v", name, value, fields[name])
			}
		}
	}
}

// example reads the lines "name  hexadecimal  words" of a block. A line without a name goes on with the value before it; hexadecimal
// ends at three spaces.
func example(t *testing.T, block string) map[string]string {
	t.Helper()
	values := make(map[string]string)
	name := ""
	for _, line := range strings.Split(strings.TrimRight(block, "\n"), "\n") {
		rest := strings.TrimLeft(line, " ")
		if rest == line {
			name, rest, _ = strings.Cut(line, " ")
			if _, twice := values[name]; twice {
				t.Fatalf("%s stands in the block twice", name)
			}
		}
		value, _, _ := strings.Cut(strings.TrimLeft(rest, " "), "   ")
		value = strings.ReplaceAll(value, " ", "")
		if _, err := hex.DecodeString(value); err != nil || value == "" {
			t.Fatalf("line %q: %q is not hexadecimal", line, value)
		}
		values[name] += value
	}
	return values
}

// TestDocumentNamesEveryVerdict: the table of verdicts has each verdict of filter and agent once and in order.
func TestDocumentNamesEveryVerdict(t *testing.T) {
	text := string(readProject(t, protocolDocument))
	_, text, ok := strings.Cut(text, "\n## Verdicts\n")
	if !ok {
		t.Fatal("the document has no table of verdicts")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (filter|agent) ").FindAllStringSubmatch(text, -1) {
		names = append(names, row[1])
		v := loader.Verdict(len(names) - 1)
		if v.String() != row[1] {
			t.Errorf("row %d is %s, but verdict %d is %s", len(names), row[1], len(names)-1, v)
		}
		if want := map[bool]string{true: "agent", false: "filter"}[v >= loader.Accepted]; want != row[2] {
			t.Errorf("%s is a verdict of the %s", row[1], want)
		}
	}
	if len(names) != loader.NumVerdicts {
		t.Errorf("the document has %d verdicts, there are %d", len(names), loader.NumVerdicts)
	}
}

// TestDocumentListsTheVectors: every list of the file is in the document's table of vectors.
func TestDocumentListsTheVectors(t *testing.T) {
	text := string(readProject(t, protocolDocument))
	_, text, ok := strings.Cut(text, "\n## Vectors\n")
	if !ok {
		t.Fatal("the document has no chapter on vectors")
	}
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(readProject(t, vectorsPath), &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if name != "version" && name != "note" && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("the document does not name %s", name)
		}
	}
}
