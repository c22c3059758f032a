// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a node of a document together with where it stands. Its readers report what they refuse and say whether
// the result may be used.
type value struct {
	r    *report
	node *yaml.Node
	key  *yaml.Node // the field name before it; nil for list items and the root
	path string
}

// errorf reports an error at the value, or at its field name when nothing is written there.
func (v value) errorf(format string, args ...any) {
	at := v.node
	if v.key != nil && at.Kind == yaml.ScalarNode && at.Tag == "!!null" && at.Value == "" {
		at = v.key
	}
	v.r.add(at.Line, at.Column, v.path, fmt.Sprintf(format, args...))
}

// want reports a value of a wrong type. An alias was reported already.
func (v value) want(what string) {
	if v.node.Kind != yaml.AliasNode {
		v.errorf("want %s, got %s", what, describe(v.node))
	}
}

// place is "line:column" of the value, for messages about two places.
func (v value) place() string { return fmt.Sprintf("%d:%d", v.node.Line, v.node.Column) }

// object is a mapping with its known fields.
type object struct {
	value
	fields map[string]value
}

// object reads a mapping and reports every field that is not among known.
func (v value) object(known ...string) (object, bool) {
	if v.node.Kind != yaml.MappingNode {
		v.want("a mapping")
		return object{}, false
	}
	o := object{value: v, fields: make(map[string]value, len(known))}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key, val := v.node.Content[i], v.node.Content[i+1]
		if !isString(key) {
			continue // reported by checkNode
		}
		if !slices.Contains(known, key.Value) {
			v.r.add(key.Line, key.Column, v.path, fmt.Sprintf("unknown field %s; known here: %s", clip(key.Value), strings.Join(known, ", ")))
			continue
		}
		if _, twice := o.fields[key.Value]; !twice {
			o.fields[key.Value] = value{r: v.r, node: val, key: key, path: join(v.path, key.Value)}
		}
	}
	return o, true
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// required returns a field and reports its absence, at the name of the mapping that should have it.
func (o object) required(name string) (value, bool) {
	v, ok := o.fields[name]
	if !ok {
		at := o.node
		if o.key != nil {
			at = o.key
		}
		o.r.add(at.Line, at.Column, o.path, fmt.Sprintf("missing field %q", name))
	}
	return v, ok
}

// optional returns a field that may be absent.
func (o object) optional(name string) (value, bool) {
	v, ok := o.fields[name]
	return v, ok
}

// list returns the items of a list of at least one and at most limit items.
func (v value) list(limit int) []value {
	if v.node.Kind != yaml.SequenceNode {
		v.want("a list")
		return nil
	}
	switch n := len(v.node.Content); {
	case n == 0:
		v.errorf("the list is empty")
	case n > limit:
		v.errorf("the list has %d items; at most %d are allowed", n, limit)
	}
	items := make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		items[i] = value{r: v.r, node: n, path: fmt.Sprintf("%s[%d]", v.path, i)}
	}
	return items
}

// text reads a string. A number or a date is not taken for one: what YAML reads as 1122334455667788 or 1e5 may have
// been meant otherwise.
func (v value) text(what string) (string, bool) {
	if !isString(v.node) {
		v.want(what)
		return "", false
	}
	return v.node.Value, true
}

// match reads a string that a pattern describes.
func (v value) match(p pattern) (string, bool) {
	good := p.match(v.node.Value)
	switch {
	case isString(v.node) && good:
		return v.node.Value, true
	case v.node.Kind == yaml.ScalarNode && v.node.Tag != "!!str" && v.node.Tag != "!!null" && good:
		v.want(p.what + ", in quotes since it would be something else without")
	default:
		v.want(p.what)
	}
	return "", false
}

// oneOf reads a string out of a closed list.
func (v value) oneOf(allowed ...string) (string, bool) {
	what := allowed[0]
	if n := len(allowed); n > 1 {
		what = strings.Join(allowed[:n-1], ", ") + " or " + allowed[n-1]
	}
	s, ok := v.text(what)
	if ok && !slices.Contains(allowed, s) {
		v.want(what)
		return "", false
	}
	return s, ok
}

// decimalOrHex is how integers are written. YAML's other forms are refused because its versions disagree about them:
// 010 is 8 or 10, 1_000 and 0b1 are numbers or strings.
var decimalOrHex = regexp.MustCompile(`^(0|[1-9][0-9]*|0x[0-9A-Fa-f]+)$`)

// integer reads an integer from low to high.
func (v value) integer(low, high uint64) (uint64, bool) {
	what := fmt.Sprintf("an integer from %d to %d", low, high)
	isNumber := v.node.Kind == yaml.ScalarNode && (v.node.Tag == "!!int" || v.node.Tag == "!!float")
	if !isNumber || !decimalOrHex.MatchString(v.node.Value) {
		v.want(what + ", in decimal or 0x hexadecimal")
		return 0, false
	}
	n, err := strconv.ParseUint(v.node.Value, 0, 64)
	if err != nil || n < low || n > high {
		v.want(what)
		return 0, false
	}
	return n, true
}

// jsonNumber is how numbers are written: no infinity, no NaN, none of YAML's further forms.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// number reads a finite decimal number.
func (v value) number() (float64, bool) {
	isNumber := v.node.Kind == yaml.ScalarNode && (v.node.Tag == "!!int" || v.node.Tag == "!!float")
	if !isNumber || !jsonNumber.MatchString(v.node.Value) {
		v.want("a decimal number")
		return 0, false
	}
	f, err := strconv.ParseFloat(v.node.Value, 64)
	if err != nil || math.IsInf(f, 0) {
		v.want("a number of double precision")
		return 0, false
	}
	return f, true
}

// boolean reads true or false.
func (v value) boolean() (b, ok bool) {
	if v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!bool" {
		return strings.EqualFold(v.node.Value, "true"), true
	}
	v.want("true or false")
	return false, false
}
