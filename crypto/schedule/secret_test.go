// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestSecretsDoNotPrint sends each type, as a value, a pointer and inside other
// values, through everything that turns values into text.
func TestSecretsDoNotPrint(t *testing.T) {
	const fill = 0xA7 // 167 in decimal, a7 in hex
	var prk PRK
	var start StartKey
	var control ControlKey
	var traffic TrafficKey
	for _, b := range [][]byte{prk[:], start[:], control[:], traffic.Key[:], traffic.IV[:]} {
		for i := range b {
			b[i] = fill
		}
	}
	type holder struct {
		Secret any
		PRK    PRK
		Key    *TrafficKey
	}
	leaks := func(s string) bool {
		s = strings.ToLower(s)
		for _, mark := range []string{"a7a7", "a7 a7", "167", "0xa7", "\xa7", "\\xa7", "247", "10100111", "p6en", "§"} {
			if strings.Contains(s, mark) {
				return true
			}
		}
		return false
	}
	for _, v := range []any{prk, &prk, start, &start, control, &control, traffic, &traffic} {
		for _, arg := range []any{v, []any{v}, map[string]any{"k": v}, holder{v, prk, &traffic}, &holder{v, prk, &traffic}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%100.90x", "% x"} {
				out := fmt.Sprintf(verb, arg)
				if leaks(out) {
					t.Errorf("%T: %s prints %.60s", v, verb, out)
				}
			}
		}
		if out := fmt.Sprint(v); out != redacted {
			t.Errorf("%T: Sprint gives %q", v, out)
		}
		if s := v.(fmt.Stringer).String(); s != redacted {
			t.Errorf("%T: String gives %q", v, s)
		}
		if s := v.(fmt.GoStringer).GoString(); s != redacted {
			t.Errorf("%T: GoString gives %q", v, s)
		}
		if out, err := json.Marshal(v); !errors.Is(err, ErrSecret) {
			t.Errorf("%T: json.Marshal gives %.60s, %v", v, out, err)
		}
		if _, err := json.Marshal(map[string]any{"k": v}); !errors.Is(err, ErrSecret) {
			t.Errorf("%T: nested json.Marshal: %v", v, err)
		}
		var text, object bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "k", v, "h", []any{v})
		slog.New(slog.NewJSONHandler(&object, nil)).Info("m", "k", v)
		for _, out := range []string{text.String(), object.String()} {
			if leaks(withoutTime(out)) || !strings.Contains(out, redacted) {
				t.Errorf("%T: slog gives %q", v, out)
			}
		}
	}
	if err := Traffic(&PRK{}, 1, 1, (*[StartSize]byte)(prk[:StartSize]), &traffic); err == nil || leaks(err.Error()) {
		t.Errorf("error %v", err)
	}
}

// withoutTime cuts the time stamp of a log line, whose digits could look like a
// secret's.
func withoutTime(line string) string {
	if i := strings.Index(line, "level"); i >= 0 {
		return line[i:]
	}
	return line
}

func TestWipe(t *testing.T) {
	prk := *testPRK()
	start, control := StartKey(prk), ControlKey(prk)
	traffic := TrafficKey{Key: [KeySize]byte(prk[:]), IV: [IVSize]byte(prk[:])}
	prk.Wipe()
	start.Wipe()
	control.Wipe()
	traffic.Wipe()
	if prk != (PRK{}) || start != (StartKey{}) || control != (ControlKey{}) || traffic != (TrafficKey{}) {
		t.Fatal("a secret is left after Wipe")
	}
}
