// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"io"
)

// Finding is what [Validate] says about one file.
type Finding struct {
	File   string `json:"file"`
	Kind   string `json:"kind,omitempty"` // empty when the document cannot be read
	Name   string `json:"name,omitempty"`
	Valid  bool   `json:"valid"`
	Policy string `json:"policy,omitempty"` // file of the policy that a binding was checked against
	Errors Errors `json:"errors"`           // never nil
}

// Validate reads files of either kind and checks each binding against the policy it names, when one of the files is
// that policy. When policies are given and none is the one, the binding is not valid, and neither is a second policy
// of one name. Validate fails only when a file cannot be read; what is wrong with documents is in the findings, which
// have the order of the files.
func Validate(files []string) ([]Finding, error) {
	findings := make([]Finding, len(files))
	documents := make([]*parsed, len(files))
	for i, file := range files {
		f := &findings[i]
		*f = Finding{File: file, Errors: Errors{}}
		p, err := load(file, KindPolicy, KindBinding)
		if errors.As(err, &f.Errors) {
			continue
		} else if err != nil {
			return nil, err
		}
		documents[i], f.Valid, f.Kind, f.Name = p, true, p.document.Kind(), p.document.DocumentName()
	}
	policies := map[string]string{}
	for i, p := range documents {
		switch {
		case p == nil:
			continue
		case p.policy() != nil:
			name := p.policy().Name
			if first, twice := policies[name]; twice {
				p.places["metadata.name"].errorf("policy %q is already in %s", name, first)
				findings[i].Valid = !errors.As(p.report.err(), &findings[i].Errors)
			} else {
				policies[name] = files[i]
			}
			continue
		}
		if err := findings[i].checkAgainst(files, documents, p); err != nil && !errors.As(err, &findings[i].Errors) {
			return nil, err
		}
		findings[i].Valid = len(findings[i].Errors) == 0
	}
	return findings, nil
}

// AllValid reports whether every file holds a valid document.
func AllValid(findings []Finding) bool {
	for _, f := range findings {
		if !f.Valid {
			return false
		}
	}
	return true
}

// checkAgainst binds a binding to its policy among the documents.
func (f *Finding) checkAgainst(files []string, documents []*parsed, b *parsed) error {
	var others []*Policy
	for i, p := range documents {
		if p == nil || p.policy() == nil {
			continue
		}
		if p.policy().Name == b.binding().Policy {
			f.Policy = files[i]
			_, err := bindParsed(p.policy(), b)
			return err
		}
		others = append(others, p.policy())
	}
	if len(others) > 0 {
		_, err := bindParsed(others[0], b)
		return err
	}
	return nil
}

// WriteFindings writes a line for each good file and the errors of each other one.
func WriteFindings(w io.Writer, findings []Finding) error {
	for _, f := range findings {
		text := f.Errors.Error()
		if f.Valid {
			text = fmt.Sprintf("%s: valid %s %q", f.File, f.Kind, f.Name)
			switch {
			case f.Policy != "":
				text += ", fits " + f.Policy
			case f.Kind == KindBinding:
				text += ", not checked against its policy, which is not among the files"
			}
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
	}
	return nil
}
