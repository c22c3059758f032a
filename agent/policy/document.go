// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// APIVersion is the only apiVersion that documents may have.
const APIVersion = "security.bms/v1alpha1"

// The kinds of documents.
const (
	KindPolicy  = "SensorDataSecurityPolicy"
	KindBinding = "SensorDataBinding"
)

// Document is a [*Policy] or a [*Binding].
type Document interface {
	// Kind returns [KindPolicy] or [KindBinding].
	Kind() string
	// DocumentName returns metadata.name.
	DocumentName() string
}

// Parse reads a document of either kind. The name stands for the file in errors, which are [Errors].
func Parse(name string, data []byte) (Document, error) {
	p, err := parse(newSource(name, data), KindPolicy, KindBinding)
	if err != nil {
		return nil, err
	}
	return p.document, nil
}

// ParsePolicy reads a SensorDataSecurityPolicy. The name stands for the file in errors, which are [Errors].
func ParsePolicy(name string, data []byte) (*Policy, error) {
	p, err := parse(newSource(name, data), KindPolicy)
	if err != nil {
		return nil, err
	}
	return p.policy(), nil
}

// ParseBinding reads a SensorDataBinding and checks it in itself; [Bind] checks it against its policy. The name stands
// for the file in errors, which are [Errors].
func ParseBinding(name string, data []byte) (*Binding, error) {
	p, err := parse(newSource(name, data), KindBinding)
	if err != nil {
		return nil, err
	}
	return p.binding(), nil
}

// LoadPolicy reads a SensorDataSecurityPolicy from a file.
func LoadPolicy(path string) (*Policy, error) {
	p, err := load(path, KindPolicy)
	if err != nil {
		return nil, err
	}
	return p.policy(), nil
}

// LoadBinding reads a SensorDataBinding from a file and checks it in itself.
func LoadBinding(path string) (*Binding, error) {
	p, err := load(path, KindBinding)
	if err != nil {
		return nil, err
	}
	return p.binding(), nil
}

// parsed is a document with the places that checks against another document may have to name.
type parsed struct {
	document Document
	report   *report
	places   map[string]value // by path
}

func (p *parsed) policy() *Policy {
	d, _ := p.document.(*Policy)
	return d
}

func (p *parsed) binding() *Binding {
	d, _ := p.document.(*Binding)
	return d
}

func load(path string, kinds ...string) (*parsed, error) {
	src, err := readSource(path)
	if err != nil {
		return nil, err
	}
	return parse(src, kinds...)
}

// parse reads a document of one of the kinds.
func parse(src *source, kinds ...string) (*parsed, error) {
	r := &report{src: src}
	p := &parsed{report: r, places: map[string]value{}}
	if root := src.tree(r); root != nil {
		p.decode(value{r: r, node: root}, kinds)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// decode reads apiVersion and kind, and the rest only by the rules of a kind that is known and wanted.
func (p *parsed) decode(root value, kinds []string) {
	o, ok := root.object("apiVersion", "kind", "metadata", "spec")
	if !ok {
		return
	}
	if v, ok := o.required("apiVersion"); ok {
		if _, ok := v.oneOf(APIVersion); !ok {
			return
		}
	}
	v, ok := o.required("kind")
	if !ok {
		return
	}
	kind, ok := v.oneOf(kinds...)
	if !ok {
		return
	}
	name, nameField := decodeMetadata(o)
	spec, ok := o.required("spec")
	if !ok {
		return
	}
	switch kind {
	case KindPolicy:
		p.document = decodePolicy(name, spec)
	case KindBinding:
		p.document = decodeBinding(name, spec, p.places)
	}
	p.places[nameField.path] = nameField
}

func decodeMetadata(o object) (name string, field value) {
	if v, ok := o.required("metadata"); ok {
		if m, ok := v.object("name"); ok {
			if field, ok = m.required("name"); ok {
				name, _ = field.match(namePattern)
			}
		}
	}
	return name, field
}

// unique remembers where each key was first and reports a second use.
type unique[K comparable] map[K]value

// add reports v when key was seen before; what names the thing, such as `stream 7`.
func (u unique[K]) add(key K, v value, what string) bool {
	if first, twice := u[key]; twice {
		v.errorf("%s is already at %s (%s)", what, first.place(), first.path)
		return false
	}
	u[key] = v
	return true
}

// quoted names a thing by its kind and its name.
func quoted(kind, name string) string { return fmt.Sprintf("%s %q", kind, name) }
