// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// compileSchema compiles a schema and thereby checks it against its meta-schema.
func compileSchema(t testing.TB, id string, data []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(id, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const schemaID = "urn:cellward:schema:security.bms:v1alpha1"

// bundled compiles the schema of all kinds.
func bundled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	data, err := BundledSchema()
	if err != nil {
		t.Fatal(err)
	}
	return compileSchema(t, schemaID, data)
}

// checkSchema validates a document.
func checkSchema(t testing.TB, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	v, err := untyped(data)
	if err != nil {
		return err
	}
	return validateValue(s, v)
}

// validateValue validates a document by way of JSON, which is what validators of other languages see.
func validateValue(s *jsonschema.Schema, v any) error {
	encoded, err := json.Marshal(v)
	if err != nil {
		return err
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// TestSchemaOfKindAgreesWithBundle checks that the schema of all kinds says of each document what that of its kind says.
func TestSchemaOfKindAgreesWithBundle(t *testing.T) {
	all, compared := bundled(t), 0
	one := map[any]*jsonschema.Schema{}
	for _, kind := range Kinds() {
		data, err := Schema(kind)
		if err != nil {
			t.Fatal(err)
		}
		one[kind] = compileSchema(t, schemaID+":"+kind, data)
	}
	for _, name := range append(documents(t, "good"), documents(t, "bad")...) {
		v, err := untyped(read(t, name))
		m, ok := v.(map[string]any)
		if err != nil || !ok || one[m["kind"]] == nil {
			continue // of no kind
		}
		compared++
		if a, b := validateValue(all, v), validateValue(one[m["kind"]], v); (a == nil) != (b == nil) {
			t.Errorf("%s: bundle says %v, schema of the kind %v", name, a, b)
		}
	}
	if compared < 100 {
		t.Errorf("only %d documents compared", compared)
	}
	if _, err := Schema("NetworkPolicy"); !errors.Is(err, ErrUnknownName) {
		t.Errorf("unknown kind: %v", err)
	}
}

// TestSchemaPatterns checks that the schemas carry the expressions of the Go code.
func TestSchemaPatterns(t *testing.T) {
	patterns := map[string]pattern{
		"name": namePattern, "interface": interfacePattern, "path": pathPattern, "socket": socketPattern, "tpm": tpmPattern,
		"group": groupPattern, "user": userPattern, "kid": kidPattern, "publicKey": base64Pattern, "signalName": signalPattern, "unit": unitPattern,
		"rate": ratePattern, "duration": durationPattern, "address": addressPattern(),
	}
	seen := map[string]bool{}
	for _, kind := range Kinds() {
		data, err := Schema(kind)
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Defs map[string]struct {
				Pattern   string
				MaxLength int
				Not       *struct{ Pattern string }
			} `json:"$defs"`
		}
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatal(err)
		}
		for name, def := range schema.Defs {
			if def.Pattern == "" {
				continue
			}
			p, ok := patterns[name]
			if !ok {
				t.Errorf("%s: the code has no pattern %q", kind, name)
				continue
			}
			seen[name] = true
			refuse := ""
			if p.refuse != nil {
				refuse = p.refuse.String()
			}
			not := ""
			if def.Not != nil {
				not = def.Not.Pattern
			}
			if def.Pattern != p.expr.String() || not != refuse || def.MaxLength != p.max {
				t.Errorf("%s: %s differs: schema %q, not %q, %d; code %q, not %q, %d",
					kind, name, def.Pattern, not, def.MaxLength, p.expr, refuse, p.max)
			}
		}
	}
	for name := range patterns {
		if !seen[name] {
			t.Errorf("no schema has the pattern %q", name)
		}
	}
}

// TestSchemaSystematically changes every place of the good documents (of long lists, the first two items) in every
// simple way, and checks that Go and schema give the same verdict on each change: a field taken away, an unknown one
// added, a value of another type, a list without items. Where they differ, the schema must be the more permissive
// one, and the field one that only Go can check.
func TestSchemaSystematically(t *testing.T) {
	all := bundled(t)
	// Changes that break what binds two values, which a schema cannot say.
	allowed := map[string]bool{}
	for _, path := range []string{"kid", "identifier", "interface", "source", "signal", "name", "index", "stream", "id"} {
		allowed[path] = true
	}
	checked, refused, accepted := 0, 0, 0
	for _, name := range []string{packBinding, referencePolicy, "testdata/good/binding-escalation.yaml", "testdata/good/binding-events.yaml"} {
		var root yaml.Node
		if err := yaml.Unmarshal(read(t, name), &root); err != nil {
			t.Fatal(err)
		}
		plainStyle(&root)
		for _, c := range changes(&root, "") {
			c.apply()
			data, err := yaml.Marshal(&root)
			c.revert()
			if err != nil {
				t.Fatal(err)
			}
			checked++
			_, goErr := Parse(name, data)
			v, err := untyped(data)
			if err != nil {
				t.Fatal(err)
			}
			schemaErr := validateValue(all, v)
			if goErr == nil {
				accepted++
			} else {
				refused++
			}
			field := c.path[strings.LastIndexAny(c.path, ".")+1:]
			switch {
			case goErr == nil && schemaErr != nil:
				t.Errorf("%s: %s: accepted, but the schema says %v", filepath.Base(name), c.what, schemaErr)
			case goErr != nil && schemaErr == nil && !allowed[field] && !c.structural:
				t.Errorf("%s: %s: the schema accepts it, but %v", filepath.Base(name), c.what, goErr)
			}
		}
	}
	t.Logf("%d changes: %d accepted, %d refused", checked, accepted, refused)
	if accepted < 20 || refused < 800 {
		t.Errorf("%d changes accepted and %d refused: the test has lost its subject", accepted, refused)
	}
}

// change is one change of a tree of nodes that can be taken back.
type change struct {
	what, path    string
	structural    bool // takes away what other places refer to
	apply, revert func()
}

// changes lists the changes of a node and all below it.
func changes(n *yaml.Node, path string) []change {
	var all []change
	switch n.Kind {
	case yaml.DocumentNode:
		return changes(n.Content[0], path)
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			before := n.Content
			without := append(append([]*yaml.Node{}, before[:i]...), before[i+2:]...)
			all = append(all, change{
				what: "without " + join(path, key), path: join(path, key), structural: key == "extended",
				apply: func() { n.Content = without }, revert: func() { n.Content = before },
			})
			all = append(all, changes(n.Content[i+1], join(path, key))...)
		}
		before := n.Content
		more := append(append([]*yaml.Node{}, before...), scalar("extra", "!!str", 0), scalar("1", "!!int", 0))
		all = append(all, change{
			what: "unknown field in " + path, path: path + ".extra",
			apply: func() { n.Content = more }, revert: func() { n.Content = before },
		})
	case yaml.SequenceNode:
		before := n.Content
		all = append(all, change{
			what: "empty list " + path, path: path,
			apply: func() { n.Content = nil }, revert: func() { n.Content = before },
		})
		for i, item := range n.Content[:min(len(n.Content), 2)] {
			all = append(all, changes(item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	kept := *n
	for _, other := range []*yaml.Node{
		scalar("text", "!!str", 0), scalar("", "!!str", yaml.DoubleQuotedStyle), scalar("12345678901234567890", "!!int", 0),
		scalar("-1", "!!int", 0), scalar("0", "!!int", 0), scalar("1.5", "!!float", 0), scalar("true", "!!bool", 0), scalar("null", "!!null", 0),
		list(), block(),
	} {
		all = append(all, change{
			what: fmt.Sprintf("%s is %s %q", path, describe(other), other.Value), path: path,
			structural: strings.HasSuffix(path, ".extended") && other.Tag == "!!bool",
			apply:      func() { *n = *other }, revert: func() { *n = kept },
		})
	}
	return all
}

// plainStyle writes all integers in decimal, so that the tree can be written anew by the YAML library.
func plainStyle(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	for _, c := range n.Content {
		plainStyle(c)
	}
}
