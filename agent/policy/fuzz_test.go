// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// seed adds the corpus, and what a fuzzer takes long to find.
func seed(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		for _, name := range documents(f, folder) {
			if data := read(f, name); len(data) < 4096 { // long ones take the fuzzer's time for making them short
				f.Add(data)
			}
		}
	}
	for _, text := range []string{"", "a: &a [*a]", "? ", "- - -", "%YAML 1.1\n---\n", "{", "\t", "a: |\n x\n", "\"\\x00\"", "--- >\n", "!!binary x", "<<: 1"} {
		f.Add([]byte(text))
	}
}

// fuzzDocument reads arbitrary bytes as a document: it never panics, every error lies within the file, and what is
// accepted reads back equal after it was written and is accepted by the schema.
func fuzzDocument(t *testing.T, schema *jsonschema.Schema, data []byte, parse func(string, []byte) (Document, error)) {
	doc, err := parse("fuzz", data)
	if err != nil {
		checkErrors(t, "fuzz", data, err)
		return
	}
	roundTrip(t, doc)
	if err := checkSchema(t, schema, data); err != nil {
		t.Errorf("the schema refuses what was accepted: %v", err)
	}
}

func FuzzPolicy(f *testing.F) {
	seed(f)
	schema := bundled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDocument(t, schema, data, func(name string, data []byte) (Document, error) { return ParsePolicy(name, data) })
	})
}

func FuzzBinding(f *testing.F) {
	seed(f)
	schema := bundled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDocument(t, schema, data, func(name string, data []byte) (Document, error) { return ParseBinding(name, data) })
	})
}
