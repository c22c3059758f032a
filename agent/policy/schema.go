// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"embed"
	"encoding/json"
	"fmt"
)

//go:embed schema/*.schema.json
var schemas embed.FS

// Kinds returns the kinds of documents.
func Kinds() []string { return []string{KindPolicy, KindBinding} }

// Schema returns the JSON Schema (draft 2020-12) of a kind. It refuses nothing that [Parse] accepts; Parse refuses
// more, since a schema cannot express everything.
func Schema(kind string) ([]byte, error) {
	data, err := schemas.ReadFile("schema/" + kind + ".schema.json")
	if err != nil {
		return nil, fmt.Errorf("schema of kind %q: %w", kind, ErrUnknownName)
	}
	return data, nil
}

// BundledSchema returns one JSON Schema for documents of every kind, which chooses by the field kind. Editors that
// look at all files of a folder with one schema take this one.
func BundledSchema() ([]byte, error) {
	defs := map[string]json.RawMessage{}
	var choices []any
	for _, kind := range Kinds() {
		data, err := Schema(kind)
		if err != nil {
			return nil, err
		}
		var head struct {
			ID string `json:"$id"`
		}
		if err := json.Unmarshal(data, &head); err != nil {
			return nil, fmt.Errorf("schema of kind %q: %w", kind, err)
		}
		defs[kind] = data
		choices = append(choices, map[string]any{
			"if":   map[string]any{"required": []string{"kind"}, "properties": map[string]any{"kind": map[string]any{"const": kind}}},
			"then": map[string]any{"$ref": head.ID},
		})
	}
	bundle, err := json.MarshalIndent(map[string]any{
		"$schema":    "https://json-schema.org/draft/2020-12/schema",
		"$id":        "urn:cellward:schema:security.bms:v1alpha1",
		"type":       "object",
		"required":   []string{"kind"},
		"properties": map[string]any{"kind": map[string]any{"enum": Kinds()}},
		"allOf":      choices,
		"$defs":      defs,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("bundle schemas: %w", err)
	}
	return append(bundle, '\n'), nil
}
