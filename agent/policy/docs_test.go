// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentation checks that docs/documents.md knows every field of the schemas, and that its example is a policy.
func TestDocumentation(t *testing.T) {
	text := string(read(t, "../../docs/documents.md"))
	for _, kind := range Kinds() {
		data, err := Schema(kind)
		if err != nil {
			t.Fatal(err)
		}
		var schema any
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatal(err)
		}
		fields := map[string]bool{}
		collectFields(schema, fields)
		if len(fields) < 15 {
			t.Fatalf("%s: found only %d fields", kind, len(fields))
		}
		for field := range fields {
			if !regexp.MustCompile("[.`{]" + field + "\\b|" + field + ": \\[").MatchString(text) {
				t.Errorf("%s: field %q is not described", kind, field)
			}
		}
	}
	_, example, _ := strings.Cut(text, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if _, err := ParsePolicy("example", []byte(example)); err != nil {
		t.Errorf("the example is not a policy: %v", err)
	}
}

// collectFields gathers the names under every "properties" that have no fields of their own.
func collectFields(schema any, fields map[string]bool) {
	switch s := schema.(type) {
	case map[string]any:
		for key, sub := range s {
			if properties, ok := sub.(map[string]any); ok && key == "properties" {
				for name, property := range properties {
					if p, ok := property.(map[string]any); ok && p["properties"] == nil && name != "apiVersion" && name != "kind" {
						fields[name] = true
					}
				}
			}
			collectFields(sub, fields)
		}
	case []any:
		for _, sub := range s {
			collectFields(sub, fields)
		}
	}
}
