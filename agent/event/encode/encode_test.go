// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/leodido/go-syslog/v4/rfc5424"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
)

func TestJSON(t *testing.T) {
	for _, r := range examples() {
		b := JSON([]byte("x"), r)[1:]
		back, err := ParseJSON(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !reflect.DeepEqual(back, r) {
			t.Errorf("%v: got %+v, want %+v", r.Kind, back, r)
		}
	}
	b := JSON(nil, hostile())
	if !json.Valid(b) || bytes.ContainsAny(b, "\n\x00") {
		t.Errorf("%s", b)
	}
	if _, err := ParseJSON(b); err != nil {
		t.Errorf("%s: %v", b, err)
	}
	good := string(JSON(nil, forged()))
	for name, s := range map[string]string{
		"empty": "", "more": good + " ", "two": good + good, "unknown": strings.Replace(good, `"time"`, `"x":1,"time"`, 1),
		"twice": strings.Replace(good, `"count":201`, `"count":1,"count":201`, 1), "spaced": strings.Replace(good, `":`, `": `, 1),
		"kind": strings.Replace(good, `"kind":"bad_tag"`, `"kind":"bad_tags"`, 1), "alias": strings.Replace(good, "SECOC", "SECUC", 1),
		"id": strings.Replace(good, `"id":"6F2"`, `"id":"6f2"`, 1), "id too great": strings.Replace(good, `"id":"6F2"`, `"id":"8F2"`, 1),
		"frame": strings.Replace(good, `6F2##1`, `6F2##9`, 1), "boot id": strings.Replace(good, `"0fc51a`, `"0fc51`, 1),
		"wall": strings.Replace(good, `Z"`, `+01:00"`, 1), "long": `"` + strings.Repeat("a", MaxJSON) + `"`,
	} {
		if _, err := ParseJSON([]byte(s)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, r := range examples()[:6] {
		f.Add(JSON(nil, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseJSON(b)
		if err != nil {
			return
		}
		for _, e := range []Encoding{JSON, OCSF, CEF, Journal, Text, Syslog{}.Append} {
			if len(e(nil, r)) == 0 {
				t.Error("nothing written")
			}
		}
	})
}

// TestSyslog has an independent parser read every message.
func TestSyslog(t *testing.T) {
	s := Syslog{Host: "gateway 1\n", PID: 4711}
	for _, r := range append(examples(), hostile()) {
		text := s.Append(nil, r)
		m, err := rfc5424.NewParser().Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got := m.(*rfc5424.SyslogMessage)
		data := (*got.StructuredData)["cellward@32473"]
		if *got.Facility != Facility || int(*got.Severity) != syslogSeverity(r.Severity) || *got.MsgID != r.Kind.String() || *got.Hostname != "gateway1" ||
			*got.Appname != "cellward" || *got.ProcID != "4711" || got.Timestamp.UnixMicro() != r.Last.Wall/1000 || *got.Message != message(r) {
			t.Errorf("%s", text)
		}
		want := pairs(r)
		for _, p := range want {
			// The parser hands values out as they are written.
			if v := strings.NewReplacer(`\]`, `]`, `\"`, `"`, `\\`, `\`).Replace(data[p.name]); v != p.value {
				t.Errorf("%s: %q, want %q", p.name, v, p.value)
			}
			if len(p.name) > 32 {
				t.Errorf("name %s is too long", p.name)
			}
		}
		if len(data) != len(want) {
			t.Errorf("%d fields, want %d", len(data), len(want))
		}
	}
}

const ocsfSchema = "../../../docs/ocsf-detection-finding.schema.json"

// TestOCSF checks every finding against a schema of the class, and that the schema refuses what the class does not allow.
func TestOCSF(t *testing.T) {
	data, err := os.ReadFile(ocsfSchema)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("ocsf", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("ocsf")
	if err != nil {
		t.Fatal(err)
	}
	check := func(b []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			return err
		}
		return schema.Validate(v)
	}
	for _, r := range append(examples(), hostile()) {
		if err := check(OCSF(nil, r)); err != nil {
			t.Errorf("%v: %v", r.Kind, err)
		}
	}
	good := string(OCSF(nil, forged()))
	for _, change := range [][2]string{
		{`"class_uid":2004`, `"class_uid":2003`}, {`"type_uid":200401`, `"type_uid":200402`}, {`"severity_id":4`, `"severity_id":7`},
		{`"severity":"High"`, `"severity":"Low"`}, {`"uid":"cellward:`, `"id":"cellward:`}, {`"time":1795000001500`, `"time":"now"`},
		{`"product":{"name":"cellward",`, `"product":{`}, {`"count":201`, `"count":0`}, {`"activity_name":"Create"`, `"activity_name":"Close"`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s is not in %s", change[0], good)
		}
		if check([]byte(bad)) == nil {
			t.Errorf("%s passes", change[1])
		}
	}
	// What is reported of one standing fault is one finding.
	uid := func(k kind.Kind) string {
		r := raised()
		r.Kind = k
		return ocsfUID(r)
	}
	if uid(kind.FaultRaised) != uid(kind.FaultCleared) || ocsfUID(forged()) == uid(kind.FaultRaised) {
		t.Error("finding uids")
	}
}

// cefParse reads a CEF line by its own rules.
func cefParse(t *testing.T, line string) (head []string, ext map[string]string) {
	t.Helper()
	field := ""
	for i := 0; i < len(line) && len(head) < 7; i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			field += line[i : i+1]
		case line[i] == '|':
			head, line, field, i = append(head, field), line[i+1:], "", -1
		default:
			field += line[i : i+1]
		}
	}
	ext = make(map[string]string)
	key, value, pending := "", "", ""
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			value += pending + line[i:i+1]
			pending = ""
		case line[i] == '=':
			if key != "" {
				ext[key] = value
			}
			if key = strings.TrimSpace(pending); key == "" {
				t.Fatalf("no key in front of %q", line[i:])
			}
			value, pending = "", ""
		case line[i] == ' ':
			value += pending
			pending = " "
		default:
			if pending == "" && value != "" && value[len(value)-1] != ' ' {
				value += line[i : i+1]
				continue
			}
			pending += line[i : i+1]
		}
	}
	ext[key] = value + pending
	return head, ext
}

func TestCEF(t *testing.T) {
	head, ext := cefParse(t, string(CEF(nil, forged())))
	if strings.Join(head, "/") != "CEF:0/cellward/cellward/1/bad_tag/authentication tag that does not verify/8" {
		t.Errorf("%q", head)
	}
	for key, want := range map[string]string{
		"rt": "1795000001500", "cnt": "201", "cat": "forgeable", "act": "bad_tag", "cs1": "cell_voltage_array", "cs1Label": "source",
		"cs3": "6F2", "cs5": "U1CB1-83", "cs6": "SECOC_SEV_MAC_VERIFICATION_FAILED", "cn2": "4711", "cn2Label": "counter",
	} {
		if ext[key] != want {
			t.Errorf("%s: %q, want %q", key, ext[key], want)
		}
	}
	b := CEF(nil, hostile())
	if bytes.ContainsAny(b, "\n\r\x00") || bytes.Count(b, []byte("|")) < 7 {
		t.Errorf("%q", b)
	}
	if head, _ := cefParse(t, string(b)); len(head) != 7 {
		t.Errorf("%q", head)
	}
}

func TestJournal(t *testing.T) {
	for _, r := range append(examples(), hostile()) {
		fields := make(map[string]string)
		for b := Journal(nil, r); len(b) > 0; {
			line, rest, ok := bytes.Cut(b, []byte("\n"))
			if !ok {
				t.Fatalf("no line end behind %q", b)
			}
			name, value, short := bytes.Cut(line, []byte("="))
			if !short {
				n := binary.LittleEndian.Uint64(rest)
				value, rest = rest[8:8+n], rest[8+n+1:]
			}
			fields[string(name)] = string(value)
			b = rest
		}
		if fields["MESSAGE_ID"] != r.Kind.MessageID() || fields["MESSAGE"] != message(r) || fields["CELLWARD_KIND"] != r.Kind.String() || fields["PRIORITY"] == "" {
			t.Errorf("%v", fields)
		}
	}
	if got := string(journalField(nil, "A", "b\nc")); got != "A\n\x03\x00\x00\x00\x00\x00\x00\x00b\nc\n" {
		t.Errorf("%q", got)
	}
}

func TestIdsM(t *testing.T) {
	o := IdsM{CANID: 0x123, Instance: 0x2A5, Sensor: 0x15}
	for _, r := range examples() {
		f := o.Frame(r)
		q, err := ParseIdsM(&f)
		if err != nil {
			t.Fatal(err)
		}
		id := policy.CANID(0xFFFFFFFF)
		if r.HasCANID {
			id = r.CANID
		}
		want := QualifiedEvent{
			Instance: 0x2A5, Sensor: 0x15, Kind: r.Kind, Wall: r.Last.Wall, Severity: r.Severity, Sensitivity: r.Sensitivity, Subject: r.Subject,
			Bus: r.Bus, Stream: r.Stream, CANID: id, DTC: r.Kind.DTC(), Epoch: r.Epoch, Counter: r.Counter, Count: r.Count,
		}
		if q != want || f.ID != 0x123 || f.Len != 64 {
			t.Errorf("got %+v, want %+v", q, want)
		}
	}
	many := forged()
	many.Count = 1 << 40
	f := o.Frame(many)
	if got := binary.BigEndian.Uint16(f.Data[5:]); got != 0xFFFF {
		t.Errorf("count %d", got)
	}
	if q, err := ParseIdsM(&f); err != nil || q.Count != 1<<40 {
		t.Errorf("%+v, %v", q, err)
	}
	for _, at := range []int{0, 3, 7, 8, 16, 17, 55, 63} {
		bad := f
		bad.Data[at] ^= 0xFF
		if _, err := ParseIdsM(&bad); !errors.Is(err, ErrIdsM) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	f.Len = 48
	if _, err := ParseIdsM(&f); !errors.Is(err, ErrIdsM) {
		t.Error(err)
	}
}

func TestText(t *testing.T) {
	got := string(Text(nil, raised()))
	for _, want := range []string{"critical", "fault_raised", "BMS Security Fault: suspect -> fault", "do not trust: cell_voltage_array",
		"inspect communication integrity and controller hardware", "bad_tag x 201"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if s := string(Text(nil, hostile())); strings.ContainsAny(s, "\n\r\x00\u202e\u2028") {
		t.Errorf("%q", s)
	}
}
