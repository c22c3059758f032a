// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPublishAndRead(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(3), Slots: 8})
	r := attach(t, p, Options{})
	before := boottime()
	in := []Sample{
		{Stream: 0, Epoch: 1, Counter: 1, SourceTime: 5, Flags: FlagFirstOfEpoch, ReceiveTime: before - 10, Body: []byte{}},
		{Stream: 2, Epoch: 0xffffffff, Counter: 1<<48 - 1, SourceTime: 0xffffffff, Flags: 0xffff, ReceiveTime: before, Body: bytes.Repeat([]byte{0xab}, 36)},
		{Stream: 1, Epoch: 2, Counter: 9, ReceiveTime: before, Body: []byte("0123456")},
	}
	if err := p.Publish(in); err != nil {
		t.Fatal(err)
	}
	batch := make([]Sample, 8)
	n, err := r.Next(context.Background(), batch)
	if err != nil || n != len(in) {
		t.Fatalf("Next: %d, %v", n, err)
	}
	after := boottime()
	for i := range in {
		got := batch[i]
		if got.PublishTime < before-int64(time.Millisecond) || got.PublishTime > after+int64(time.Millisecond) {
			t.Errorf("sample %d: published at %d, not between %d and %d", i, got.PublishTime, before, after)
		}
		want := in[i]
		want.PublishTime, want.Position = got.PublishTime, uint64(i)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("sample %d: %+v, want %+v", i, got, want)
		}
	}
	if p.Published() != 3 || r.Missed() != 0 {
		t.Errorf("published %d, missed %d", p.Published(), r.Missed())
	}
}

// TestPublishAllOrNothing: a batch with one bad sample changes nothing.
func TestPublishAllOrNothing(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(2), Slots: 8, BodyMax: 8})
	for name, bad := range map[string]Sample{
		"stream": {Stream: 2},
		"body":   {Stream: 1, Body: make([]byte, 9)},
	} {
		memory := bytes.Clone(p.memory.bytes)
		err := p.Publish([]Sample{{Stream: 1, Body: []byte{1}}, bad})
		if err == nil || !strings.Contains(err.Error(), "sample 1 of 2") {
			t.Errorf("%s: error %v does not name the sample", name, err)
		}
		if !bytes.Equal(memory, p.memory.bytes) || p.Published() != 0 {
			t.Errorf("%s: the ring changed", name)
		}
	}
	if err := p.Publish(nil); err != nil {
		t.Errorf("empty batch: %v", err)
	}
}

func TestPublishMoreThanTheRing(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 8})
	r := attach(t, p, Options{})
	if err := p.Publish(stampedBatch(nil, 0, 100, 1, 36)); err != nil {
		t.Fatal(err)
	}
	batch := make([]Sample, 100)
	n, err := r.Next(context.Background(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if n != 8 || r.Missed() != 92 || batch[0].Position != 92 {
		t.Fatalf("read %d from %d, missed %d", n, batch[0].Position, r.Missed())
	}
	for i := range batch[:n] {
		if err := verify(&batch[i], 1, 36); err != nil {
			t.Error(err)
		}
	}
}

func TestFrom(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
	if err := p.Publish(stampedBatch(nil, 0, 6, 1, 36)); err != nil {
		t.Fatal(err)
	}
	oldest, now := attach(t, p, Options{From: FromOldest}), attach(t, p, Options{From: FromNow})
	if err := p.Publish(stampedBatch(nil, 6, 1, 1, 36)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		r             *Reader
		n             int
		first, missed uint64
	}{{"oldest", oldest, 4, 3, 1}, {"now", now, 1, 6, 0}} {
		batch := make([]Sample, 10)
		n, err := c.r.Next(context.Background(), batch)
		if err != nil || n != c.n || batch[0].Position != c.first || c.r.Missed() != c.missed {
			t.Errorf("%s: %d from %d, missed %d, %v", c.name, n, batch[0].Position, c.r.Missed(), err)
		}
	}
}

func TestStreamTable(t *testing.T) {
	streams := []Stream{
		{
			ID: 17, SourceID: 3, Name: "cells", Source: "cell_voltage_array", Interface: "vcan0", CANID: 0x18ff50e5 | ExtendedID,
			Period: 100 * time.Millisecond, Sensitivity: SensitivityCritical,
			Signals: []Signal{
				{Name: "U1", Unit: "V", Start: 8, Length: 14, Factor: 0.000305, Multiplexor: "Mux", MuxValue: 3},
				{Name: "Mux", Length: 8, Factor: 1},
				{Name: "T", Unit: "°C", Start: 39, Length: 16, ByteOrder: BigEndian, ValueType: Signed, Factor: 0.1, Offset: -40},
			},
		},
		{ID: 4, Name: "opaque", Interface: "vcan0", CANID: 0x7ff},
	}
	p := newProducer(t, Config{Streams: streams})
	r := attach(t, p, Options{})
	got := slices.Clone(r.Streams())
	if len(got) != 2 {
		t.Fatalf("%d streams", len(got))
	}
	for i := range got {
		if got[i].SchemaHash == [32]byte{} {
			t.Errorf("stream %d has no schema hash", i)
		}
		got[i].SchemaHash = [32]byte{}
	}
	if !reflect.DeepEqual(got, streams) {
		t.Errorf("table %+v, want %+v", got, streams)
	}
	if i, ok := r.Lookup(4); !ok || i != 1 {
		t.Errorf("Lookup(4) = %d, %v", i, ok)
	}
	if _, ok := r.Lookup(5); ok {
		t.Error("Lookup found a stream that is not there")
	}
	if !r.Stream(0).Extended() || r.Stream(1).Extended() {
		t.Error("kind of identifier lost")
	}
}

// TestSchemaHash: every field of every signal counts, and so does nothing else.
func TestSchemaHash(t *testing.T) {
	base := func() []Signal {
		return []Signal{{Name: "m", Length: 4}, {Name: "a", Unit: "V", Start: 8, Length: 32, Multiplexor: "m", MuxValue: 1, Factor: 2, Offset: 3}}
	}
	want := hashSchema(base())
	for name, change := range map[string]func(*Signal){
		"name":        func(s *Signal) { s.Name = "b" },
		"unit":        func(s *Signal) { s.Unit = "A" },
		"start":       func(s *Signal) { s.Start++ },
		"length":      func(s *Signal) { s.Length++ },
		"order":       func(s *Signal) { s.ByteOrder = BigEndian },
		"type":        func(s *Signal) { s.ValueType = Float32 },
		"multiplexor": func(s *Signal) { s.Multiplexor = "" },
		"mux value":   func(s *Signal) { s.MuxValue++ },
		"factor":      func(s *Signal) { s.Factor++ },
		"offset":      func(s *Signal) { s.Offset++ },
		"boundary":    func(s *Signal) { s.Name, s.Unit = "aV", "" },
	} {
		s := base()
		change(&s[1])
		if hashSchema(s) == want {
			t.Errorf("%s does not change the hash", name)
		}
	}
	if hashSchema(base()) != want {
		t.Error("hash is not stable")
	}
}

func TestConfigRefused(t *testing.T) {
	with := func(change func(*Stream)) Config {
		s := testStreams(2)
		change(&s[1])
		return Config{Streams: s, BodyMax: 8}
	}
	signal := func(s ...Signal) Config { return with(func(st *Stream) { st.Signals = s }) }
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"slots":             {Config{Slots: 1 << 25}, "33554432 slots"},
		"negative slots":    {Config{Slots: -1}, "-1 slots"},
		"body":              {Config{BodyMax: 1 << 16}, "65536 bytes"},
		"heartbeat":         {Config{HeartbeatPeriod: time.Nanosecond}, "heartbeat period"},
		"size":              {Config{Slots: 1 << 24, BodyMax: 2000}, "need"},
		"streams":           {Config{Streams: testStreams(4097)}, "4097 streams"},
		"id 0":              {with(func(s *Stream) { s.ID = 0 }), "streams[1].stream_id"},
		"id reserved":       {with(func(s *Stream) { s.ID = 0xffffffff }), "streams[1].stream_id"},
		"id twice":          {with(func(s *Stream) { s.ID = 1 }), "streams[1].stream_id"},
		"name twice":        {with(func(s *Stream) { s.Name = "stream 0" }), "streams[1].name"},
		"no name":           {with(func(s *Stream) { s.Name = "" }), "streams[1].name"},
		"escape in name":    {with(func(s *Stream) { s.Name = "a\x1b[2J" }), "unprintable"},
		"newline in source": {with(func(s *Stream) { s.Source = "a\nb" }), "streams[1].source"},
		"not UTF-8":         {with(func(s *Stream) { s.Source = "\xff" }), "UTF-8"},
		"no interface":      {with(func(s *Stream) { s.Interface = "" }), "streams[1].interface"},
		"long interface":    {with(func(s *Stream) { s.Interface = "abcdefghijklmnop" }), "streams[1].interface"},
		"blank interface":   {with(func(s *Stream) { s.Interface = "a b" }), "streams[1].interface"},
		"11 bits":           {with(func(s *Stream) { s.CANID = 0x800 }), "streams[1].can_id"},
		"29 bits":           {with(func(s *Stream) { s.CANID = 0x20000000 | ExtendedID }), "streams[1].can_id"},
		"period":            {with(func(s *Stream) { s.Period = -1 }), "streams[1].period_ns"},
		"sensitivity":       {with(func(s *Stream) { s.Sensitivity = 5 }), "streams[1].sensitivity"},
		"signal name":       {signal(Signal{Length: 1}), "streams[1].signals[0].name"},
		"signal twice":      {signal(Signal{Name: "a", Length: 1}, Signal{Name: "a", Length: 1}), "signals[1].name"},
		"unit":              {signal(Signal{Name: "a", Unit: "\x00", Length: 1}), "signals[0].unit"},
		"no bits":           {signal(Signal{Name: "a"}), "signals[0].length"},
		"65 bits":           {signal(Signal{Name: "a", Length: 65}), "signals[0].length"},
		"order":             {signal(Signal{Name: "a", Length: 1, ByteOrder: 2}), "signals[0].byte_order"},
		"type":              {signal(Signal{Name: "a", Length: 1, ValueType: 4}), "signals[0].value_type"},
		"float32":           {signal(Signal{Name: "a", Length: 31, ValueType: Float32}), "signals[0].length"},
		"float64":           {signal(Signal{Name: "a", Length: 32, ValueType: Float64}), "signals[0].length"},
		"past the body":     {signal(Signal{Name: "a", Start: 57, Length: 8}), "signals[0].start"},
		"past, big endian":  {signal(Signal{Name: "a", Start: 62, Length: 8, ByteOrder: BigEndian}), "signals[0].start"},
		"mux":               {signal(Signal{Name: "a", Length: 1, Multiplexor: "b"}), "signals[0].multiplexor"},
		"mux of itself":     {signal(Signal{Name: "a", Length: 1, Multiplexor: "a"}), "signals[0].multiplexor"},
		"mux in a circle":   {signal(Signal{Name: "a", Length: 1, Multiplexor: "b"}, Signal{Name: "b", Length: 1, Multiplexor: "a"}), "multiplexor"},
		"signed mux":        {signal(Signal{Name: "a", Length: 1, Multiplexor: "b"}, Signal{Name: "b", Length: 1, ValueType: Signed}), "not unsigned"},
	} {
		p, err := NewProducer(c.cfg)
		if err == nil {
			_ = p.Close()
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not contain %q", name, err, c.want)
		}
	}
}

func TestLatest(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(3), Slots: 2})
	r := attach(t, p, Options{From: FromNow})
	var s Sample
	if ok, err := r.Latest(0, &s); ok || err != nil {
		t.Fatalf("of a stream without samples: %v, %v", ok, err)
	}
	if _, err := r.Latest(3, &s); err == nil {
		t.Fatal("of a stream that is not there: no error")
	}
	// Stream 0 is far behind the end of the history, stream 1 comes twice in one batch, stream 2 never.
	publish := func(samples ...Sample) {
		t.Helper()
		if err := p.Publish(samples); err != nil {
			t.Fatal(err)
		}
	}
	publish(Sample{Stream: 0, Counter: 1, Body: []byte("first")})
	for i := range 10 {
		publish(Sample{Stream: 1, Counter: uint64(10 * i), Body: []byte("old")}, Sample{Stream: 1, Counter: uint64(10*i + 1), Body: []byte("newest")})
	}
	if ok, err := r.Latest(0, &s); !ok || err != nil || string(s.Body) != "first" || s.Counter != 1 || s.Position != 0 {
		t.Errorf("stream 0: %v, %v, %+v", ok, err, s)
	}
	if ok, err := r.Latest(1, &s); !ok || err != nil || string(s.Body) != "newest" || s.Counter != 91 || s.Position != 20 {
		t.Errorf("stream 1: %v, %v, %+v", ok, err, s)
	}
	if ok, err := r.Latest(2, &s); ok || err != nil {
		t.Errorf("stream 2: %v, %v", ok, err)
	}
}

// TestLatestBeingWritten stops the producer between its steps: the value is either whole or reported as busy.
func TestLatestBeingWritten(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
	r := attach(t, p, Options{})
	if err := p.Publish([]Sample{{Counter: 1, Body: []byte("old")}}); err != nil {
		t.Fatal(err)
	}
	batch := []Sample{{Counter: 2, Body: []byte("new")}}
	var s Sample
	d := p.announce(1, 1)
	d.put(0, &batch[0])
	newest := p.findNewest(batch)
	p.announceLatest(&d, p.tail+1, newest, p.places)
	if _, err := r.Latest(0, &s); !errors.Is(err, ErrLatestBusy) {
		t.Errorf("announced: %v, %+v", err, s)
	}
	p.copyLatest(&d, newest, p.places[:1])
	if _, err := r.Latest(0, &s); !errors.Is(err, ErrLatestBusy) {
		t.Errorf("filled: %v, %+v", err, s)
	}
	p.commit(&d, 1, newest)
	if ok, err := r.Latest(0, &s); !ok || err != nil || string(s.Body) != "new" {
		t.Errorf("committed: %v, %v, %+v", ok, err, s)
	}
}

func TestFaultWord(t *testing.T) {
	p := newProducer(t, Config{})
	r := attach(t, p, Options{})
	for i, c := range []struct {
		set     FaultState
		changes uint32
	}{{FaultNone, 0}, {FaultSuspect, 1}, {FaultSuspect, 1}, {FaultRaised, 2}, {FaultLatched, 3}, {FaultNone, 4}} {
		p.SetFault(c.set)
		st, err := r.Status()
		if err != nil || st.Fault != c.set || st.FaultChanges != c.changes {
			t.Errorf("step %d: %v (%d changes), %v", i, st.Fault, st.FaultChanges, err)
		}
	}
}

func TestStatus(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 5, BodyMax: 20})
	r := attach(t, p, Options{})
	if err := p.Publish(stampedBatch(nil, 0, 3, 1, 20)); err != nil {
		t.Fatal(err)
	}
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Generation != p.Generation() || st.Generation == 0 || st.Slots != 8 || st.BodyMax != 20 || st.Published != 3 ||
		st.HeartbeatPeriod != time.Second || st.Major != 1 || st.ProducerPID == 0 || st.Closed || st.Gone {
		t.Errorf("status %+v", st)
	}
}

func TestClosed(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1)})
	r := attach(t, p, Options{})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := p.Publish([]Sample{{}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish: %v", err)
	}
	p.Beat()
	p.SetFault(FaultRaised)
	if _, err := Serve(p, ServerConfig{Socket: socketPath(t)}); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	if st, err := r.Status(); err != nil || !st.Closed {
		t.Errorf("reader's status: %+v, %v", st, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	var s Sample
	if _, err := r.Next(context.Background(), make([]Sample, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %v", err)
	}
	if _, err := r.Latest(0, &s); !errors.Is(err, ErrClosed) {
		t.Errorf("Latest: %v", err)
	}
	if _, err := r.Status(); !errors.Is(err, ErrClosed) {
		t.Errorf("Status: %v", err)
	}
	if len(r.Streams()) != 1 {
		t.Error("stream table gone")
	}
}

func TestWords(t *testing.T) {
	if got := Flags(0b1111).String(); got != "gap_before|first_of_epoch|stale|fault" {
		t.Errorf("flags %q", got)
	}
	if got := FlagStale.Names(); !slices.Equal(got, []string{"stale"}) {
		t.Errorf("flags %q", got)
	}
	if got := Flags(0).String(); got != "" {
		t.Errorf("no flags %q", got)
	}
	for s, want := range map[FaultState]string{FaultNone: "ok", FaultSuspect: "suspect", FaultRaised: "fault", FaultLatched: "latched", 9: "unknown"} {
		if s.String() != want {
			t.Errorf("fault %d: %q", s, s)
		}
	}
	for s, want := range map[Sensitivity]string{0: "UNSPECIFIED", 1: "LOW", 2: "MEDIUM", 3: "HIGH", 4: "CRITICAL", 5: "Sensitivity(5)"} {
		if s.String() != want {
			t.Errorf("sensitivity %d: %q", s, s)
		}
	}
	for _, word := range []string{"oldest", "now"} {
		var f From
		if err := f.Set(word); err != nil || f.String() != word {
			t.Errorf("From %q: %v, %v", word, f, err)
		}
	}
	var f From
	if err := f.Set("newest"); err == nil {
		t.Error("From accepts newest")
	}
}

// TestClock compares the clock with the kernel's, and makes it notice a suspend by a time stamp from after it.
func TestClock(t *testing.T) {
	c := NewClock()
	before := boottime()
	now := c.Now()
	after := boottime()
	if now < before-clockNoise || now > after+clockNoise {
		t.Errorf("clock says %d, the kernel %d to %d", now, before, after)
	}
	const suspend = int64(time.Hour)
	c.offset.Add(-suspend) // as if an hour of suspend had not been noticed
	if got := c.Now(); got > boottime()-suspend/2 {
		t.Fatalf("clock noticed by itself: %d", got)
	}
	past := boottime()
	if got := c.NowAfter(past); got < past {
		t.Errorf("clock says %d, before %d", got, past)
	}
	c.offset.Add(-suspend)
	c.checked.Add(-2 * clockCheckEvery) // as if two seconds had passed
	if got, kernel := c.Now(), boottime(); got < kernel-int64(time.Minute) {
		t.Errorf("clock does not look again: %d, the kernel says %d", got, kernel)
	}
}

func TestAllocations(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(4), Slots: 256})
	r := attach(t, p, Options{})
	in := stampedBatch(nil, 0, 64, 4, 36)
	out := make([]Sample, 64)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Publish(in); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Next(ctx, out); n != 64 || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("publish and read: %v allocations for a batch", n)
	}
	s := Sample{Body: make([]byte, 36)}
	if n := testing.AllocsPerRun(100, func() {
		if ok, err := r.Latest(in[0].Stream, &s); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}); n != 0 {
		t.Errorf("latest value: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		r.watchContext(ctx)
		if err := r.waiter.wait(tailFutex(r.link.view.header), uint32(r.position.Load()), &r.kicks, r.kicks, time.Nanosecond); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("waiting: %v allocations", n)
	}
}
