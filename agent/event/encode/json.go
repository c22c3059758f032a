// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/loader"
)

// ErrRecord is wrapped by every error of ParseJSON.
var ErrRecord = errors.New("not an event record")

// MaxJSON is the most bytes that ParseJSON looks at.
const MaxJSON = 64 << 10

// The form of a record in JSON. The order of the fields is part of it.
type (
	jsonRecord struct {
		Time        string      `json:"time"`
		Kind        string      `json:"kind"`
		Severity    string      `json:"severity"`
		Cause       string      `json:"cause"`
		Alias       string      `json:"autosar,omitempty"`
		DTC         string      `json:"dtc,omitempty"`
		Scope       string      `json:"scope"`
		Index       uint32      `json:"index"`
		Sensitivity string      `json:"sensitivity,omitempty"`
		Interface   string      `json:"interface,omitempty"`
		Bus         uint8       `json:"bus,omitempty"`
		Carrier     string      `json:"carrier,omitempty"`
		CANID       string      `json:"id,omitempty"`
		Stream      uint32      `json:"stream,omitempty"`
		Source      string      `json:"source,omitempty"`
		Node        string      `json:"node,omitempty"`
		Epoch       uint32      `json:"epoch,omitempty"`
		Counter     uint64      `json:"counter,omitempty"`
		LastCounter uint64      `json:"last_counter,omitempty"`
		Window      *jsonWindow `json:"window,omitempty"`
		Verdict     string      `json:"verdict,omitempty"`
		Count       uint64      `json:"count"`
		First       jsonInstant `json:"first"`
		Last        jsonInstant `json:"last"`
		BootID      string      `json:"boot_id"`
		PolicyHash  string      `json:"policy_hash"`
		Frame       string      `json:"frame,omitempty"`
		Detail      string      `json:"detail,omitempty"`
		Fault       *jsonFault  `json:"fault,omitempty"`
	}
	jsonWindow struct {
		Highest uint64 `json:"highest"`
		Size    int    `json:"size"`
	}
	jsonInstant struct {
		Boot int64  `json:"boot_ns"`
		Wall string `json:"wall"`
	}
	jsonFault struct {
		Name     string         `json:"name"`
		From     string         `json:"from"`
		To       string         `json:"to"`
		Cause    string         `json:"cause"`
		Sources  []string       `json:"sources"`
		Advice   string         `json:"advice,omitempty"`
		Reason   string         `json:"reason,omitempty"`
		Evidence []jsonEvidence `json:"evidence"`
	}
	jsonEvidence struct {
		Kind       string   `json:"kind"`
		Count      uint64   `json:"count"`
		Interfaces []string `json:"interfaces"`
		CANIDs     []string `json:"ids"`
	}
)

// JSON appends a record as one JSON object. The same record has the same bytes.
func JSON(dst []byte, r *event.Record) []byte {
	v := jsonRecord{
		Time: wall(r.Last), Kind: r.Kind.String(), Severity: r.Severity.String(), Cause: r.Kind.Cause().String(),
		Alias: r.Kind.Alias(), DTC: r.Kind.DTC().String(), Scope: r.Subject.Scope.String(), Index: r.Subject.Index,
		Sensitivity: r.Sensitivity.String(), Interface: text(r.Interface), Bus: r.Bus, Carrier: text(r.Carrier), CANID: canID(r),
		Stream: r.Stream, Source: text(r.Source), Node: text(r.Node), Epoch: r.Epoch, Counter: r.Counter, LastCounter: r.LastCounter,
		Verdict: text(r.Verdict), Count: r.Count, First: jsonInstant{r.First.Boot, wall(r.First)}, Last: jsonInstant{r.Last.Boot, wall(r.Last)},
		BootID: hex.EncodeToString(r.BootID[:]), PolicyHash: hex.EncodeToString(r.PolicyHash[:]), Frame: frame(r.Frame), Detail: text(r.Detail),
	}
	if r.Window != (event.Window{}) {
		v.Window = &jsonWindow{r.Window.Highest, r.Window.Size}
	}
	if f := r.Fault; f != nil {
		v.Fault = &jsonFault{event.FaultName, text(f.From), text(f.To), f.Cause.String(), texts(f.Sources), text(f.Advice), text(f.Reason), []jsonEvidence{}}
		for _, e := range f.Evidence {
			ids := []string{}
			for _, id := range e.CANIDs {
				ids = append(ids, id.String())
			}
			v.Fault.Evidence = append(v.Fault.Evidence, jsonEvidence{e.Kind.String(), e.Count, texts(e.Interfaces), ids})
		}
	}
	return appendJSON(dst, v)
}

// appendJSON appends a value of this package's own types, all of which have a form in JSON.
func appendJSON(dst []byte, v any) []byte {
	buf := bytes.NewBuffer(dst)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("encode event: %v", err))
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// text replaces what is not UTF-8: JSON would escape it, and what a reader makes of that is written in another way.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(all []string) []string {
	valid := []string{}
	for _, s := range all {
		valid = append(valid, text(s))
	}
	return valid
}

// wall writes the wall clock time as RFC 3339 in UTC with 9 decimals, so that lines sort.
func wall(i event.Instant) string { return i.Time().Format("2006-01-02T15:04:05.000000000Z") }

func canID(r *event.Record) string {
	if !r.HasCANID {
		return ""
	}
	return r.CANID.String()
}

// frame writes a frame in candump grammar, "" for none.
func frame(f *loader.CANFrame) string {
	if f == nil {
		return ""
	}
	t := trace.Frame{
		Extended: f.ID&loader.CANEFFFlag != 0, RTR: f.ID&loader.CANRTRFlag != 0, Error: f.ID&loader.CANERRFlag != 0,
		FD: f.Flags&loader.CANFDFDF != 0 || f.Len > trace.MaxLen, Len: min(f.Len, trace.MaxFDLen), Data: f.Data,
	}
	if t.ID = f.ID & loader.CANSFFMask; t.Extended || t.Error {
		t.ID = f.ID & loader.CANEFFMask
	}
	if t.Error {
		t.Extended, t.RTR, t.FD = false, false, false
		t.Len = min(t.Len, trace.MaxLen)
	}
	if t.FD {
		t.RTR = false
		t.BRS, t.ESI = f.Flags&loader.CANFDBRS != 0, f.Flags&loader.CANFDESI != 0
	}
	return string(trace.AppendCandumpFrame(nil, &t))
}

// parseFrame reads what frame wrote.
func parseFrame(s string) (*loader.CANFrame, error) {
	if s == "" {
		return nil, nil
	}
	t, err := trace.ParseCandumpFrame([]byte(s))
	if err != nil {
		return nil, err
	}
	f := &loader.CANFrame{ID: t.ID, Len: t.Len, Data: t.Data}
	for _, flag := range [...]struct {
		set bool
		bit uint32
	}{{t.Extended, loader.CANEFFFlag}, {t.RTR, loader.CANRTRFlag}, {t.Error, loader.CANERRFlag}} {
		if flag.set {
			f.ID |= flag.bit
		}
	}
	if t.FD {
		f.Flags = loader.CANFDFDF
	}
	if t.BRS {
		f.Flags |= loader.CANFDBRS
	}
	if t.ESI {
		f.Flags |= loader.CANFDESI
	}
	return f, nil
}

// ParseJSON reads what JSON wrote, and refuses every other text: it writes the record again and compares.
func ParseJSON(line []byte) (*event.Record, error) {
	if len(line) > MaxJSON {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(line))
	}
	var v jsonRecord
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more behind the object", ErrRecord)
	}
	r, err := v.record()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if !bytes.Equal(JSON(nil, r), line) {
		return nil, fmt.Errorf("%w: not written in its one form", ErrRecord)
	}
	return r, nil
}

// field is wrapped by errors that name the field.
var errField = errors.New("cannot read field")

func (v *jsonRecord) record() (*event.Record, error) {
	r := &event.Record{
		Interface: v.Interface, Bus: v.Bus, Carrier: v.Carrier, Stream: v.Stream, Source: v.Source, Node: v.Node,
		Epoch: v.Epoch, Counter: v.Counter, LastCounter: v.LastCounter, Verdict: v.Verdict, Count: v.Count, Detail: v.Detail,
	}
	var ok bool
	if r.Kind, ok = kind.Parse(v.Kind); !ok {
		return nil, fmt.Errorf("%w kind: %q", errField, v.Kind)
	}
	if r.Severity, ok = kind.ParseSeverity(v.Severity); !ok {
		return nil, fmt.Errorf("%w severity: %q", errField, v.Severity)
	}
	if r.Subject.Scope, ok = event.ParseScope(v.Scope); !ok {
		return nil, fmt.Errorf("%w scope: %q", errField, v.Scope)
	}
	r.Subject.Index = v.Index
	if v.Sensitivity != "" {
		if r.Sensitivity, ok = policy.ParseSensitivity(v.Sensitivity); !ok {
			return nil, fmt.Errorf("%w sensitivity: %q", errField, v.Sensitivity)
		}
	}
	if v.CANID != "" {
		id, err := parseCANID(v.CANID)
		if err != nil {
			return nil, fmt.Errorf("%w id: %w", errField, err)
		}
		r.CANID, r.HasCANID = id, true
	}
	if v.Window != nil {
		r.Window = event.Window{Highest: v.Window.Highest, Size: v.Window.Size}
	}
	for _, at := range [...]struct {
		name string
		from jsonInstant
		to   *event.Instant
	}{{"first", v.First, &r.First}, {"last", v.Last, &r.Last}} {
		t, err := time.Parse(time.RFC3339Nano, at.from.Wall)
		if err != nil {
			return nil, fmt.Errorf("%w %s: %w", errField, at.name, err)
		}
		*at.to = event.Instant{Boot: at.from.Boot, Wall: t.UnixNano()}
	}
	for _, h := range [...]struct {
		name, from string
		to         []byte
	}{{"boot_id", v.BootID, r.BootID[:]}, {"policy_hash", v.PolicyHash, r.PolicyHash[:]}} {
		if len(h.from) != 2*len(h.to) {
			return nil, fmt.Errorf("%w %s: %q", errField, h.name, h.from)
		}
		if _, err := hex.Decode(h.to, []byte(h.from)); err != nil {
			return nil, fmt.Errorf("%w %s: %w", errField, h.name, err)
		}
	}
	var err error
	if r.Frame, err = parseFrame(v.Frame); err != nil {
		return nil, fmt.Errorf("%w frame: %w", errField, err)
	}
	if v.Fault != nil {
		if r.Fault, err = v.Fault.fault(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (v *jsonFault) fault() (*event.Fault, error) {
	cause, ok := kind.ParseCause(v.Cause)
	if !ok {
		return nil, fmt.Errorf("%w fault.cause: %q", errField, v.Cause)
	}
	f := &event.Fault{From: v.From, To: v.To, Cause: cause, Sources: v.Sources, Advice: v.Advice, Reason: v.Reason}
	for _, e := range v.Evidence {
		k, ok := kind.Parse(e.Kind)
		if !ok {
			return nil, fmt.Errorf("%w fault.evidence.kind: %q", errField, e.Kind)
		}
		one := event.Evidence{Kind: k, Count: e.Count, Interfaces: e.Interfaces}
		for _, s := range e.CANIDs {
			id, err := parseCANID(s)
			if err != nil {
				return nil, fmt.Errorf("%w fault.evidence.ids: %w", errField, err)
			}
			one.CANIDs = append(one.CANIDs, id)
		}
		f.Evidence = append(f.Evidence, one)
	}
	return f, nil
}

// parseCANID reads 3 or 8 hexadecimal digits; the comparison with what is written again sees to their spelling.
func parseCANID(s string) (policy.CANID, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	switch {
	case err != nil:
		return 0, err
	case len(s) == 3 && n <= policy.MaxCANSFF:
		return policy.CANID(n), nil
	case len(s) == 8 && n <= policy.MaxCANEFF:
		return policy.CANID(n) | policy.CANEFF, nil
	}
	return 0, fmt.Errorf("%q is no CAN identifier", s)
}
