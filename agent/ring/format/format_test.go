// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/ring"
)

func streams() []ring.Stream {
	return []ring.Stream{
		{
			ID: 17, SourceID: 1, Name: "cells", Source: "cell_voltage_array", Interface: "can0", CANID: 0x6f2,
			Signals: []ring.Signal{
				{Name: "mux", Length: 8},
				{Name: "U0", Unit: "V", Start: 8, Length: 14, Factor: 0.000305, Multiplexor: "mux"},
				{Name: "bad", Start: 32, Length: 32, ValueType: ring.Float32, Multiplexor: "mux"},
			},
		},
		{ID: 4, Name: `a "b", c`, Source: "pack_current", Interface: "vcan1", CANID: 0x18ff50e5 | ring.ExtendedID},
	}
}

func samples() []ring.Sample {
	nan := math.Float32bits(float32(math.NaN()))
	return []ring.Sample{
		{
			Stream: 0, Epoch: 2, Counter: 1<<48 - 1, SourceTime: 1500, Flags: ring.FlagGapBefore | ring.FlagFault,
			ReceiveTime: 5_000_001_234, PublishTime: 5_000_010_000,
			Body: []byte{0, 0x3f, 0x33, 0, byte(nan), byte(nan >> 8), byte(nan >> 16), byte(nan >> 24)},
		},
		{Stream: 1, Epoch: 1, Counter: 1, ReceiveTime: 6_000_000_000, PublishTime: 6_000_000_001, Body: []byte("123456789")},
		{Stream: 1, Epoch: 1, Counter: 2, ReceiveTime: 6_999_999_999, PublishTime: 7_000_000_000},
	}
}

// offset is chosen so that boot was on 2023-11-09 at 20:36:33.
func offset() int64 { return time.Date(2023, 11, 9, 20, 36, 33, 0, time.UTC).UnixNano() }

func write(t testing.TB, kind Kind, decode bool) string {
	t.Helper()
	var out bytes.Buffer
	w, err := New(&out, kind, Options{WallOffset: offset(), Decode: decode})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SetStreams(streams()); err != nil {
		t.Fatal(err)
	}
	for _, s := range samples() {
		if err := w.Append(&s, s.ReceiveTime+21_000); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() != 0 {
		t.Error("written before Flush")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		decode bool
		want   string
	}{
		{Text, false, "" +
			"20:36:38.000001  can0  6F2  cells  2/281474976710655  [8] 00 3F 33 00 00 00 C0 7F  gap_before  fault\n" +
			"20:36:39.000000  vcan1  18FF50E5  a \"b\", c  1/1  [9] 31 32 33 34 35 36 37 38 39\n" +
			"20:36:39.999999  vcan1  18FF50E5  a \"b\", c  1/2  [0]\n"},
		{Text, true, "" +
			"20:36:38.000001  can0  6F2  cells  2/281474976710655  [8] 00 3F 33 00 00 00 C0 7F  gap_before  fault  mux=0  U0=4.00129 V  bad=NaN\n" +
			"20:36:39.000000  vcan1  18FF50E5  a \"b\", c  1/1  [9] 31 32 33 34 35 36 37 38 39\n" +
			"20:36:39.999999  vcan1  18FF50E5  a \"b\", c  1/2  [0]\n"},
		{Candump, false, "" +
			"(1699562198.000001) can0 6F2#003F33000000C07F\n" +
			"(1699562199.000000) vcan1 18FF50E5##0313233343536373839\n" +
			"(1699562199.999999) vcan1 18FF50E5#\n"},
		{CSV, false, "" +
			"time,receive_ns,latency_ns,interface,id,extended,stream,name,source,epoch,counter,source_time_ms,flags,length,body\r\n" +
			"2023-11-09T20:36:38.000001234Z,5000001234,21000,can0,6F2,false,17,cells,cell_voltage_array,2,281474976710655,1500,gap_before|fault,8,003f33000000c07f\r\n" +
			"2023-11-09T20:36:39.000000000Z,6000000000,21000,vcan1,18FF50E5,true,4,\"a \"\"b\"\", c\",pack_current,1,1,0,,9,313233343536373839\r\n" +
			"2023-11-09T20:36:39.999999999Z,6999999999,21000,vcan1,18FF50E5,true,4,\"a \"\"b\"\", c\",pack_current,1,2,0,,0,\r\n"},
		{JSON, false, "" +
			`{"time":"2023-11-09T20:36:38.000001234Z","receive_ns":5000001234,"publish_ns":5000010000,"latency_ns":21000,"interface":"can0","id":1778,"extended":false,"stream":17,"name":"cells","source":"cell_voltage_array","epoch":2,"counter":281474976710655,"source_time_ms":1500,"flags":["gap_before","fault"],"length":8,"body":"003f33000000c07f"}` + "\n" +
			`{"time":"2023-11-09T20:36:39.000000000Z","receive_ns":6000000000,"publish_ns":6000000001,"latency_ns":21000,"interface":"vcan1","id":419385573,"extended":true,"stream":4,"name":"a \"b\", c","source":"pack_current","epoch":1,"counter":1,"source_time_ms":0,"flags":[],"length":9,"body":"313233343536373839"}` + "\n" +
			`{"time":"2023-11-09T20:36:39.999999999Z","receive_ns":6999999999,"publish_ns":7000000000,"latency_ns":21000,"interface":"vcan1","id":419385573,"extended":true,"stream":4,"name":"a \"b\", c","source":"pack_current","epoch":1,"counter":2,"source_time_ms":0,"flags":[],"length":0,"body":""}` + "\n"},
	} {
		if got := write(t, c.kind, c.decode); got != c.want {
			t.Errorf("%s, decode %v:\n%s\nwant\n%s", c.kind, c.decode, got, c.want)
		}
	}
}

// TestMachineReadable: JSON and CSV are what their parsers accept.
func TestMachineReadable(t *testing.T) {
	for i, line := range strings.Split(strings.TrimSpace(write(t, JSON, true)), "\n") {
		var object struct {
			Body   string
			ID     uint32
			Values map[string]*float64
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if want := samples()[i]; object.Body != hex.EncodeToString(want.Body) || object.ID != streams()[want.Stream].CANID&^ring.ExtendedID {
			t.Errorf("line %d: %+v", i, object)
		}
		switch {
		case i > 0 && len(object.Values) != 0:
			t.Errorf("line %d: values of an opaque body: %v", i, object.Values)
		case i == 0 && (len(object.Values) != 3 || object.Values["bad"] != nil || *object.Values["U0"] != 13119*0.000305 || *object.Values["mux"] != 0):
			t.Errorf("line %d: values %v", i, object.Values)
		}
	}
	records, err := csv.NewReader(strings.NewReader(write(t, CSV, false))).ReadAll()
	if err != nil || len(records) != 4 || records[2][7] != `a "b", c` {
		t.Errorf("%v, %v", records, err)
	}
}

// TestCandumpRoundTrip: identifier and payload come back from the line.
func TestCandumpRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := ring.Stream{ID: 1, Name: "x", Interface: "can0", CANID: rapid.Uint32Range(0, 0x7ff).Draw(rt, "id")}
		if rapid.Bool().Draw(rt, "extended") {
			st.CANID = rapid.Uint32Range(0, 0x1fffffff).Draw(rt, "id") | ring.ExtendedID
		}
		body := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(rt, "body")
		receive := rapid.Int64Range(0, 1<<60).Draw(rt, "time")
		var out bytes.Buffer
		w, err := New(&out, Candump, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		if err := w.SetStreams([]ring.Stream{st}); err != nil {
			rt.Fatal(err)
		}
		if err := w.Append(&ring.Sample{Body: body, ReceiveTime: receive}, 0); err != nil {
			rt.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			rt.Fatal(err)
		}
		line := strings.TrimSuffix(out.String(), "\n")
		var sec, usec int64
		var iface, frame string
		if n, err := fmt.Sscanf(line, "(%d.%d) %s %s", &sec, &usec, &iface, &frame); n != 4 || err != nil {
			rt.Fatalf("%q: %v", line, err)
		}
		id, data, _ := strings.Cut(frame, "#")
		if fd := strings.HasPrefix(data, "#0"); fd != (len(body) > 8) {
			rt.Fatalf("%q for %d bytes", line, len(body))
		}
		data = strings.TrimPrefix(data, "#0")
		var number uint32
		if _, err := fmt.Sscanf(id, "%X", &number); err != nil {
			rt.Fatal(err)
		}
		if len(id) == 8 {
			number |= ring.ExtendedID
		} else if len(id) != 3 {
			rt.Fatalf("identifier %q", id)
		}
		got, err := hex.DecodeString(data)
		if err != nil || !bytes.Equal(got, body) || number != st.CANID || iface != "can0" || sec*1e6+usec != receive/1000 {
			rt.Fatalf("%q: %v, %v", line, got, err)
		}
	})
}

func TestRefused(t *testing.T) {
	if _, err := New(nil, 9, Options{}); err == nil {
		t.Error("unknown format accepted")
	}
	for _, kind := range []Kind{CSV, Candump} {
		if _, err := New(nil, kind, Options{Decode: true}); err == nil || !strings.Contains(err.Error(), kind.String()) {
			t.Errorf("%s with decoded values: %v", kind, err)
		}
	}
	var out bytes.Buffer
	w, err := New(&out, Candump, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(&ring.Sample{}, 0); err == nil {
		t.Error("sample of an unknown stream accepted")
	}
	if err := w.SetStreams(streams()); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(&ring.Sample{Body: make([]byte, 65)}, 0); err == nil || !strings.Contains(err.Error(), `"cells"`) {
		t.Errorf("65 bytes for candump: %v", err)
	}
	if err := w.Flush(); err != nil || out.Len() != 0 {
		t.Errorf("a refused sample left %q, %v", out.String(), err)
	}
	d, err := New(&out, JSON, Options{Decode: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetStreams([]ring.Stream{{Name: "x", Signals: []ring.Signal{{}}}}); err == nil {
		t.Error("a stream that cannot be decoded is accepted")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteFails(t *testing.T) {
	w, err := New(failing{}, CSV, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("%v", err)
	}
}

func TestKind(t *testing.T) {
	for _, word := range []string{"text", "json", "csv", "candump"} {
		k := Kind(99)
		if err := k.Set(word); err != nil || k.String() != word {
			t.Errorf("%s: %v, %v", word, k, err)
		}
	}
	var k Kind
	if err := k.Set("xml"); err == nil {
		t.Error("xml accepted")
	}
}
