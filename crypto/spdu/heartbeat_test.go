// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"bytes"
	"errors"
	"testing"
)

func TestHeartbeatRoundTrip(t *testing.T) {
	for form, limit := range map[Form]int{FormFD: 4, FormClassic: 36, FormGeneric: 202} {
		if n, err := MaxEntries(form); n != limit || err != nil {
			t.Fatalf("form %d: %d entries, %v, want %d", form, n, err, limit)
		}
		for count := 1; count <= limit; count++ {
			var entries []Entry
			for i := range count {
				entries = append(entries, Entry{uint32(i) + 1, MaxCounter - uint64(i)})
			}
			record := bytes.Repeat([]byte{0xEE}, MaxRecord)
			n, err := PutHeartbeat(record, form, ID{9, 1, 5}, entries)
			if err != nil {
				t.Fatalf("form %d, %d entries: %v", form, count, err)
			}
			h, err := Parse(form, record[PrefixSize:n])
			if err != nil || h.Kind != KindHeartbeat {
				t.Fatalf("form %d, %d entries: %+v, %v", form, count, h, err)
			}
			hb, err := ParseHeartbeat(record[AADSize:n-TagSize], h.Pad)
			if err != nil || hb.Len() != count {
				t.Fatalf("form %d: %d entries, %v, want %d", form, hb.Len(), err, count)
			}
			for i, want := range entries {
				if got := hb.Entry(i); got != want {
					t.Fatalf("form %d, %d entries: entry %d is %+v, want %+v", form, count, i, got, want)
				}
			}
		}
	}
}

func TestHeartbeatRefusals(t *testing.T) {
	record := make([]byte, MaxRecord)
	good := Entry{1, 1}
	for _, c := range []struct {
		name    string
		entries []Entry
	}{
		{"none", nil},
		{"five", []Entry{good, good, good, good, good}},
		{"stream 0", []Entry{good, {0, 1}}},
		{"stream 0xFFFFFFFF", []Entry{{0xFFFFFFFF, 1}}},
		{"next 0", []Entry{{1, 0}}},
		{"next over 48 bits", []Entry{{1, MaxCounter + 1}}},
	} {
		if _, err := PutHeartbeat(record, FormFD, ID{9, 1, 5}, c.entries); !errors.Is(err, ErrEntries) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := PutHeartbeat(record, 0, ID{9, 1, 5}, []Entry{good}); !errors.Is(err, ErrForm) {
		t.Errorf("no form: %v", err)
	}
	for _, c := range []struct {
		name  string
		plain string
		pad   uint8
		ok    bool
	}{
		{"one entry", "01000000020000000000" + "0000000000000000000000000000", 14, true},
		{"padding not zero", "01000000020000000000" + "0000000000000000000000000001", 14, false},
		{"pad cuts an entry", "01000000020000000000" + "0000000000000000000000000000", 15, false},
		{"padding taken for an entry", "01000000020000000000" + "0000000000000000000000000000", 4, false},
		{"no entry", "0000000000000000", 8, false},
		{"nothing", "", 0, false},
		{"half an entry", "0100000002000000", 0, false},
		{"first entry reserved", "00000000020000000000" + "01000000020000000000", 0, false},
		{"first entry without a next counter", "01000000000000000000" + "01000000020000000000", 0, false},
		{"second entry reserved", "01000000020000000000" + "ffffffff020000000000", 0, false},
	} {
		hb, err := ParseHeartbeat(unhex(t, c.plain), c.pad)
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrBadPlaintext) || hb.Len() != 0) {
			t.Errorf("%s: %d entries, %v", c.name, hb.Len(), err)
		}
	}
}
