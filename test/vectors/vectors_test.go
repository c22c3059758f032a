// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// readProject reads a file of the project by its path from the root.
func readProject(t *testing.T, path string) []byte {
	t.Helper()
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// committed reads the published vectors. What the tests check is the file, not what the generator would make.
func committed(t *testing.T) *file {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(readProject(t, vectorsPath)))
	d.DisallowUnknownFields()
	f := new(file)
	if err := d.Decode(f); err != nil {
		t.Fatalf("read %s: %v", vectorsPath, err)
	}
	return f
}

// unhex decodes hexadecimal of the file.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same reports a value of the file that is not what its description gives.
func same(t *testing.T, what, got string, want []byte) {
	t.Helper()
	if got != hex.EncodeToString(want) {
		t.Errorf("%s is %s, but by its description %x", what, got, want)
	}
}

func TestCommittedFileIsCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readProject(t, vectorsPath), want) {
		t.Errorf("%s is not what the generator makes: run `go run ./test/vectors` and look at the difference", vectorsPath)
	}
	again, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, again) {
		t.Error("the generator does not give the same bytes twice")
	}
}

// TestFileIsWhole: no list is empty, names are unique within their list, and every string of bytes is lower-case hexadecimal.
func TestFileIsWhole(t *testing.T) {
	f := committed(t)
	if f.Version != 1 || len(f.Note) == 0 {
		t.Errorf("version %d, %d lines of note", f.Version, len(f.Note))
	}
	prose := map[string]bool{"Name": true, "Form": true, "Kind": true, "TrafficKey": true, "Verdict": true, "Note": true,
		"NodeName": true, "Carrier": true, "SourceName": true, "Fingerprint": true}
	forms := map[string]bool{nameFD: true, nameClassic: true, nameGeneric: true}
	lower := regexp.MustCompile(`^([0-9a-f][0-9a-f])*$`)
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				name := v.Type().Field(i).Name
				if name == "Form" && !forms[v.Field(i).String()] {
					t.Errorf("%s: no form is called %q", path, v.Field(i).String())
				}
				if !prose[name] {
					walk(path+"."+name, v.Field(i))
				}
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(path, v.Index(i))
			}
		case reflect.String:
			if !lower.MatchString(v.String()) {
				t.Errorf("%s: %q is not lower-case hexadecimal", path, v.String())
			}
		}
	}
	lists := reflect.ValueOf(*f)
	for i := range lists.NumField() {
		list, field := lists.Field(i), lists.Type().Field(i).Name
		if list.Kind() != reflect.Slice || prose[field] {
			continue
		}
		if list.Len() == 0 {
			t.Errorf("%s is empty", field)
		}
		seen := make(map[string]bool)
		for j := range list.Len() {
			item := list.Index(j)
			walk(field, item)
			if item.Kind() != reflect.Struct || !item.FieldByName("Name").IsValid() {
				continue
			}
			name := item.FieldByName("Name").String()
			if name == "" || seen[name] {
				t.Errorf("%s: name %q is empty or there twice", field, name)
			}
			seen[name] = true
		}
	}
}

// TestCommittedFileHasNoFieldLeftOut: what is in the file is all there is, in the order in which the types have it.
func TestCommittedFileHasNoFieldLeftOut(t *testing.T) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(committed(t)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), readProject(t, vectorsPath)) {
		t.Error("the file is not the canonical encoding of what it says")
	}
	if strings.Contains(b.String(), "null") {
		t.Error("the file has a value that is null")
	}
}
