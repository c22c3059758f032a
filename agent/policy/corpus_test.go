// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the expected texts in testdata")

// documents returns the names of the documents in a folder of testdata, which must not be empty.
func documents(t testing.TB, folder string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no documents in testdata/%s: %v", folder, err)
	}
	return names
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// golden compares text with a file, or writes the file under -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(read(t, name)); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// schemaCannotSay lists the bad documents that the schemas accept, each with the reason: it lies in the text, in the
// comparison of two values, or in arithmetic.
func schemaCannotSay() map[string]string {
	const (
		text  = "the schema sees values, not their spelling"
		two   = "the schema does not compare values"
		sums  = "the schema does not calculate"
		codec = "the schema does not decode keys"
	)
	return map[string]string{
		"policy-duplicate-identifier": two, "policy-interval-46-days": sums, "policy-interval-just-over": sums,
		"policy-interval-huge": sums, "policy-rate-too-fast": sums, "policy-rate-too-slow": sums,
		"policy-window-underscore": text, "policy-window-float": text, "policy-window-octal": text,
		"binding-kid-of-other-key": codec, "binding-key-off-curve": codec, "binding-key-loose-bits": codec,
		"binding-same-identity-twice": two, "binding-same-name-twice": two, "binding-sockets-equal": two,
		"binding-grace-8-days":          sums,
		"binding-interface-index-twice": two, "binding-interface-name-twice": two,
		"binding-source-id-twice": two, "binding-source-identifier-twice": two,
		"binding-stream-id-twice": two, "binding-stream-id-of-heartbeat": two,
		"binding-can-id-twice": two, "binding-can-id-of-heartbeat": two, "binding-can-id-of-other-node": two, "binding-extended-twice": two,
		"binding-heartbeat-missing-for-bus": two, "binding-heartbeat-twice-on-bus": two, "binding-heartbeat-on-unused-bus": two,
		"binding-escalation-raise-above-of": two, "binding-escalation-clear-not-below-raise": two,
		"binding-events-can-protected": two, "binding-events-syslog-port-0": sums,
		"binding-escalation-threshold-twice": two, "binding-escalation-kind-twice": two,
		"binding-stream-unknown-interface": two, "binding-stream-unknown-source": two,
		"binding-signal-name-twice": two, "binding-signal-beyond-body-little": sums, "binding-signal-beyond-body-big": sums,
		"binding-multiplexor-unknown": two, "binding-multiplexor-itself": two, "binding-multiplexor-loop": two,
		"binding-multiplexor-signed": two, "binding-multiplexor-long": two, "binding-multiplexor-value-too-great": two,
		"binding-256-streams-and-heartbeat": sums,
		"text-bidi":                         text, "text-byte-order-mark": text, "text-carriage-returns": text,
		"text-second-document": text, "text-second-empty-document": text, "text-utf16": text,
		"yaml-anchor": text, "yaml-alias": text, "yaml-tag": text, "yaml-own-tag": text,
	}
}

// TestBadDocuments checks that every bad document is refused with the errors that stand beside it, that the errors
// are in order and inside the file, and that the schema of its kind refuses it too unless a schema cannot.
func TestBadDocuments(t *testing.T) {
	cannot, all := schemaCannotSay(), bundled(t)
	for _, name := range documents(t, "bad") {
		base := strings.TrimSuffix(filepath.Base(name), ".yaml")
		t.Run(base, func(t *testing.T) {
			data := read(t, name)
			doc, err := Parse(base+".yaml", data)
			if err == nil || doc != nil {
				t.Fatalf("accepted: %v, %v", doc, err)
			}
			checkErrors(t, base+".yaml", data, err)
			golden(t, strings.TrimSuffix(name, ".yaml")+".golden", err.Error()+"\n")
			schemaErr := checkSchema(t, all, data)
			reason, listed := cannot[base]
			delete(cannot, base)
			switch {
			case schemaErr == nil && !listed:
				t.Error("the schema accepts it")
			case schemaErr != nil && listed:
				t.Errorf("listed as something that the schema accepts (%s), but it says: %v", reason, schemaErr)
			}
		})
	}
	for base := range cannot {
		t.Errorf("%s: listed, but there is no such document", base)
	}
}

// checkErrors checks what every error of this package promises.
func checkErrors(t testing.TB, name string, data []byte, err error) {
	t.Helper()
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("not Errors: %T %v", err, err)
	}
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("not ErrInvalid: %v", err)
	}
	lines := strings.Split(string(data), "\n")
	last := all[0]
	for _, e := range all {
		if e.Line < last.Line || e.Line == last.Line && e.Column < last.Column {
			t.Errorf("%d:%d comes after %d:%d", e.Line, e.Column, last.Line, last.Column)
		}
		last = e
		if e.File != name || e.Message == "" || !utf8.ValidString(e.Error()) {
			t.Errorf("bad error %q", e.Error())
		}
		if e.Line < 1 || e.Line > len(lines) || e.Column < 1 {
			t.Fatalf("%d:%d is outside of the file", e.Line, e.Column)
		}
		if len(data) <= MaxSize && e.Column > utf8.RuneCountInString(strings.TrimSuffix(lines[e.Line-1], "\r"))+1 {
			t.Errorf("%d:%d is behind the end of the line", e.Line, e.Column)
		}
		for _, r := range e.Error() {
			if r < 0x20 && r != '\n' || r == 0x7F {
				t.Errorf("control character %U in %q", r, e.Error())
			}
		}
	}
}

// TestGoodDocuments checks that every good document is accepted by Go and schema, and survives writing and reading.
func TestGoodDocuments(t *testing.T) {
	all := bundled(t)
	for _, name := range documents(t, "good") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data := read(t, name)
			doc, err := Parse(name, data)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkSchema(t, all, data); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
			roundTrip(t, doc)
			// The same document with other line ends and in another layout.
			crlf, err := Parse(name, bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")))
			if err != nil || !reflect.DeepEqual(doc, crlf) {
				t.Errorf("other with CR LF: %v", err)
			}
		})
	}
}

// roundTrip checks that a document that was read is the same after it was written and read again.
func roundTrip(t testing.TB, doc Document) {
	t.Helper()
	written, err := Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("written", written)
	if err != nil {
		t.Fatalf("%v\n%s", err, written)
	}
	if !reflect.DeepEqual(doc, again) {
		t.Fatalf("changed by writing and reading:\n%s\n%+v\n%+v", written, doc, again)
	}
}

// TestReferencePolicy checks that the policy in testdata is the one that the product was specified for, unchanged.
func TestReferencePolicy(t *testing.T) {
	const name = "security_policy_bms_data.yaml"
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(filepath.Join(root, "..", "shared", "mission", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("../shared/mission is absent")
	} else if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(original, read(t, filepath.Join("testdata", "good", name))) {
		t.Error("testdata/good has another version of it")
	}
}

// untyped reads YAML the way any program would, for the schema.
func untyped(data []byte) (any, error) {
	var v any
	err := yaml.Unmarshal(data, &v)
	return v, err
}
