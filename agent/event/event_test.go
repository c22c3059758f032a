// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// TestVerdicts: each verdict is the event of its own name, but for those of traffic as it should be.
func TestVerdicts(t *testing.T) {
	accepting := map[loader.Verdict]bool{loader.Passed: true, loader.ErrorFrame: true, loader.Candidate: true, loader.Control: true, loader.Accepted: true}
	for v := range loader.Verdict(loader.NumVerdicts) {
		k := OfVerdict(v)
		switch {
		case accepting[v]:
			if k != kind.None {
				t.Errorf("%v is the event %v", v, k)
			}
		case v == loader.StartAccepted:
			if k != kind.NodeRestart || verdictOf(k) != "start_accepted" {
				t.Errorf("%v is the event %v", v, k)
			}
		case k.String() != v.String() || verdictOf(k) != v.String():
			t.Errorf("%v is the event %v of verdict %q", v, k, verdictOf(k))
		}
	}
	if verdictOf(kind.Silence) != "" || verdictOf(kind.None) != "" {
		t.Error("a kind that is no verdict has one")
	}
}

func TestDirectory(t *testing.T) {
	d := directory(t)
	set := d.Set()
	seen := make(map[int]bool)
	subjects := []Subject{{}}
	for i := range set.Streams {
		subjects = append(subjects, Stream(i))
	}
	for _, f := range set.Interfaces {
		subjects = append(subjects, Bus(f.Index))
	}
	for i := range set.Nodes {
		subjects = append(subjects, Node(i))
	}
	for i := range set.Binding.Sources {
		subjects = append(subjects, Source(i))
	}
	for _, s := range subjects {
		row, ok := d.row(s)
		if !ok || seen[row] || row >= d.rows() || d.subject(row) != s {
			t.Errorf("%+v: row %d, %v, back %+v", s, row, ok, d.subject(row))
		}
		seen[row] = true
		if len(d.Sources(s)) == 0 {
			t.Errorf("%+v concerns no source", s)
		}
	}
	if len(seen) != d.rows() {
		t.Errorf("%d of %d rows", len(seen), d.rows())
	}
	for _, s := range []Subject{{Index: 1}, Stream(len(set.Streams)), Bus(0), Bus(2), Bus(63), {ScopeBus, 1 << 20}, Node(len(set.Nodes)), Source(99), {Scope: 9}} {
		if _, ok := d.row(s); ok || d.Sources(s) != nil {
			t.Errorf("%+v is known", s)
		}
	}
	// A less sensitive source, a lower severity; a heartbeat stream and a node are as sensitive as their most sensitive source.
	for i, s := range set.Streams {
		r := Record{Kind: kind.BadTag, Subject: Stream(i)}
		d.describe(&r)
		want := kind.High
		if s.Sensitivity == policy.High {
			want = kind.Medium
		}
		if r.Severity != want || r.Stream != s.ID || r.CANID != s.CANID || r.Interface != s.Interface.Name || r.Node == "" {
			t.Errorf("stream %d: %+v", s.ID, r)
		}
	}
}

func TestCell(t *testing.T) {
	if n := unsafe.Sizeof(cell{}); n != 64 {
		t.Errorf("a cell has %d bytes", n)
	}
}

func sealed(n byte) *loader.CANFrame {
	f := &loader.CANFrame{ID: 0x6F2, Len: 64, Flags: loader.CANFDFDF}
	f.Data[0] = n
	return f
}

func TestCollect(t *testing.T) {
	c, d, out := newClock(), directory(t), new(store)
	table := NewTable(d)
	col := NewCollector(CollectorOptions{Table: table, Clock: c, BootID: [16]byte{1}, PolicyHash: [32]byte{2}, Destinations: []Destination{out}})
	note := func(n Note) {
		n.Time = c.now.Boot
		table.Note(&n)
	}
	// The first at once, with what belongs to it.
	note(Note{Kind: kind.BadTag, Subject: Stream(2), Epoch: 3, Counter: 40, Highest: 39, Frame: sealed(1)})
	if col.Turn() != 1 {
		t.Fatal(out.records)
	}
	r := out.records[0]
	if r.Count != 1 || r.Epoch != 3 || r.Counter != 40 || r.LastCounter != 40 || r.Window.Highest != 39 || r.Window.Size != 1024 || r.Verdict != "bad_tag" ||
		r.First != c.now || r.Last != c.now || r.BootID[0] != 1 || r.PolicyHash[0] != 2 || r.Frame == nil || r.Frame.Data[0] != 1 || r.Sensitivity == 0 {
		t.Errorf("%+v", r)
	}
	// A flood of 60 s: records at 1, 3, 7, 15 and 31 s, with every count in one of them or waiting.
	key := Key{kind.BadTag, Stream(2)}
	sent := uint64(1)
	for i := range 600 {
		c.pass(100 * time.Millisecond)
		for range 100 {
			note(Note{Kind: kind.BadTag, Subject: Stream(2), Counter: uint64(i), Frame: sealed(2)})
			sent++
		}
		if i == 300 { // a single event of another kind on the same stream, and of the same kind on another, in its midst
			note(Note{Kind: kind.Deletion, Subject: Stream(2), Counter: 7, LastCounter: 9, Count: 3, Frame: sealed(3)})
			note(Note{Kind: kind.BadTag, Subject: Stream(3), Frame: sealed(4)})
			if col.Turn() != 2 {
				t.Errorf("%+v", out.records)
			}
		}
		col.Turn()
	}
	if n := len(out.records); n != 8 {
		t.Errorf("%d records", n)
	}
	col.Flush()
	if got := out.count(key); got != sent {
		t.Errorf("%d events noted, %d in records", sent, got)
	}
	if out.count(Key{kind.Deletion, Stream(2)}) != 3 || out.count(Key{kind.BadTag, Stream(3)}) != 1 {
		t.Error("hidden by the flood")
	}
	found, last := make(map[byte]bool), int64(0)
	for _, r := range col.Frames() {
		found[r.Frame.Data[0]] = true
		if r.Count != 1 || r.Kind != kind.BadTag && r.Kind != kind.Deletion || r.Interface == "" || r.Severity == 0 || r.First != r.Last ||
			r.First.Boot < last || r.First.Wall-r.First.Boot != c.now.Wall-c.now.Boot {
			t.Errorf("frame %+v", r)
		}
		last = r.First.Boot
	}
	if !found[3] || !found[4] || len(table.Frames()) > 2*framesPerKind || len(col.Frames()) != len(table.Frames()) {
		t.Errorf("frames %v", found)
	}
	// Quiet for long enough, the next is at once again.
	c.pass(10 * time.Minute)
	col.Turn()
	note(Note{Kind: kind.BadTag, Subject: Stream(2)})
	if col.Turn() != 1 || len(col.paces) != 1 {
		t.Errorf("%d paces", len(col.paces))
	}
}

func TestMisdirected(t *testing.T) {
	c, out := newClock(), new(store)
	table := NewTable(directory(t))
	col := NewCollector(CollectorOptions{Table: table, Clock: c, Destinations: []Destination{out}})
	for _, n := range []Note{{Kind: kind.BadTag, Subject: Stream(9999)}, {Kind: kind.None}, {Kind: 250, Count: 3}} {
		table.Note(&n)
	}
	col.Turn()
	if len(out.records) != 1 || out.count(Key{kind.Misdirected, Subject{}}) != 5 {
		t.Errorf("%+v", out.records)
	}
}

// TestTurns: with more cells than a turn may have records, all get their turn, and none twice before.
func TestTurns(t *testing.T) {
	c, d, out := newClock(), directory(t), new(store)
	table := NewTable(d)
	col := NewCollector(CollectorOptions{Table: table, Clock: c, MaxPerTurn: 7, Destinations: []Destination{out}})
	notes := 0
	for slot := range d.Set().Streams {
		for _, k := range []kind.Kind{kind.BadTag, kind.Replay, kind.TooOld, kind.Malformed, kind.Silence, kind.Misdirected - 1} {
			table.Note(&Note{Kind: k, Subject: Stream(slot), Time: c.now.Boot})
			notes++
		}
	}
	turns := 0
	for len(out.records) < notes {
		if n := col.Turn(); n > 7 || n == 0 {
			t.Fatalf("%d records in a turn, %d of %d so far", n, len(out.records), notes)
		}
		turns++
	}
	seen := make(map[Key]bool)
	for i := range out.records {
		if k := out.records[i].Key(); seen[k] {
			t.Errorf("%+v twice", k)
		} else {
			seen[k] = true
		}
	}
	if turns != (notes+6)/7 {
		t.Errorf("%d turns", turns)
	}
}

func TestReport(t *testing.T) {
	c, out := newClock(), new(store)
	table := NewTable(directory(t))
	col := NewCollector(CollectorOptions{Table: table, Clock: c, Destinations: []Destination{out}})
	col.Report(Record{Kind: kind.StateRefused, Detail: strings.Repeat("x", 2*maxDetail)})
	col.Report(Record{Kind: kind.FaultRaised, Subject: Source(1), First: Instant{Boot: 5}, Last: Instant{Boot: 5}, Fault: &Fault{}})
	if col.Turn() != 2 || len(out.records[0].Detail) != maxDetail || out.records[0].Severity != kind.Critical || out.records[1].Last.Wall == 0 || out.records[1].Source == "" {
		t.Errorf("%+v", out.records)
	}
	for range maxReported + 10 {
		col.Report(Record{Kind: kind.KeyAgreed, Subject: Node(0)})
	}
	col.Turn()
	if n := out.count(Key{kind.KeyAgreed, Node(0)}); n != maxReported+10 {
		t.Errorf("%d of %d", n, maxReported+10)
	}
}

func TestLogFails(t *testing.T) {
	c, out, log := newClock(), new(store), &store{fail: errFull}
	table := NewTable(directory(t))
	col := NewCollector(CollectorOptions{Table: table, Clock: c, Log: log, Destinations: []Destination{out}})
	for range 5 {
		table.Note(&Note{Kind: kind.Replay, Subject: Stream(1), Time: c.now.Boot, Count: 10})
		c.pass(time.Minute)
		col.Turn()
	}
	// Once because nothing could be written, once because nothing could be made durable.
	if out.count(Key{kind.LogWriteFailed, Subject{}}) != 2 || out.count(Key{kind.Replay, Stream(1)}) != 50 || col.Unlogged() != 50 {
		t.Errorf("%d unlogged, %+v", col.Unlogged(), out.records)
	}
	log.fail = nil
	log.notices = []Record{{Kind: kind.LogTorn, Count: 1, First: c.now, Last: c.now}}
	col.Turn()
	if log.count(Key{kind.Replay, Stream(1)}) != 50 || col.Unlogged() != 0 || log.count(Key{kind.LogTorn, Subject{}}) != 1 || out.count(Key{kind.LogTorn, Subject{}}) != 1 || log.settled == 0 {
		t.Errorf("%d unlogged, %+v", col.Unlogged(), log.records)
	}
}

// TestFacts: escalation learns of everything at every turn, whatever the rate of records, and of nothing twice.
func TestFacts(t *testing.T) {
	c, out := newClock(), new(store)
	table := NewTable(directory(t))
	sum := make(map[Key]uint64)
	col := NewCollector(CollectorOptions{Table: table, Clock: c, Destinations: []Destination{out}, MaxPerTurn: 1, Facts: func(all []Fact) {
		for _, f := range all {
			sum[Key{f.Kind, f.Subject}] += f.Count
		}
	}})
	for i := range 100 {
		for slot := range 4 {
			table.Note(&Note{Kind: kind.Replay, Subject: Stream(slot), Time: c.now.Boot, Count: 3})
		}
		c.pass(100 * time.Millisecond)
		col.Turn()
		for slot := range 4 {
			if got, want := sum[Key{kind.Replay, Stream(slot)}], uint64(i+1)*3; got != want {
				t.Fatalf("turn %d: %d facts, want %d", i, got, want)
			}
		}
	}
}

// TestConcurrent notes from several goroutines while the collector takes: every count arrives once.
func TestConcurrent(t *testing.T) {
	d, out := directory(t), new(store)
	table := NewTable(d)
	col := NewCollector(CollectorOptions{Table: table, MinInterval: 1, MaxInterval: 1, Destinations: []Destination{out}})
	var noting sync.WaitGroup
	const each = 20000
	for g := range 4 {
		noting.Go(func() {
			f := sealed(byte(g))
			for i := range each {
				table.Note(&Note{Kind: kind.BadTag, Subject: Stream(i % 3), Time: int64(i), Counter: uint64(i), Frame: f})
			}
		})
	}
	done := make(chan struct{})
	go func() { noting.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		col.Turn()
		table.Frames()
	}
	col.Flush()
	total := uint64(0)
	for slot := range 3 {
		total += out.count(Key{kind.BadTag, Stream(slot)})
	}
	if total != 4*each {
		t.Errorf("%d of %d", total, 4*each)
	}
}

func TestNoteDoesNotAllocate(t *testing.T) {
	table := NewTable(directory(t))
	f := sealed(1)
	if n := testing.AllocsPerRun(1000, func() {
		table.Note(&Note{Kind: kind.BadTag, Subject: Stream(1), Time: 1, Counter: 2, Frame: f})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBacklog: however records are merged, the sum of their counts stays.
func TestBacklog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b Backlog
		want := make(map[Key]uint64)
		total, seen := uint64(0), uint64(0)
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "take") {
				if r := b.Next(); r != nil {
					if r.Count != want[r.Key()] || r.First.Boot > r.Last.Boot {
						rt.Fatalf("%+v, want %d", r, want[r.Key()])
					}
					seen += r.Count
					delete(want, r.Key())
					b.Done()
				}
				continue
			}
			n := uint64(rapid.IntRange(1, 100).Draw(rt, "count"))
			at := Instant{Boot: rapid.Int64Range(0, 50).Draw(rt, "at")}
			r := Record{Kind: kind.BadTag, Subject: Stream(rapid.IntRange(0, 5).Draw(rt, "slot")), Count: n, First: at, Last: at}
			b.Add(&r)
			want[r.Key()] += n
			total += n
		}
		if b.Count()+seen != total || b.Len() != len(want) {
			rt.Fatalf("%d + %d of %d", b.Count(), seen, total)
		}
	})
}

func TestParseBootID(t *testing.T) {
	id, err := ParseBootID("0fc51a7e-9f3c-4c5e-8f3d-000102030405\n")
	if err != nil || id[0] != 0x0F || id[15] != 5 {
		t.Errorf("%x, %v", id, err)
	}
	for _, s := range []string{"", "0fc5", strings.Repeat("0", 33), strings.Repeat("g", 32), strings.Repeat("A", 32)} {
		if _, err := ParseBootID(s); err == nil {
			t.Errorf("%q is one", s)
		}
	}
}

func BenchmarkNote(b *testing.B) {
	table := NewTable(directory(b))
	n := Note{Kind: kind.BadTag, Subject: Stream(1), Frame: sealed(1)}
	b.ReportAllocs()
	for i := range b.N {
		n.Time, n.Counter = int64(i), uint64(i)
		table.Note(&n)
	}
}

// BenchmarkNoteFirst is the first note after each collection, the dearest: it has details and a frame.
func BenchmarkNoteFirst(b *testing.B) {
	table := NewTable(directory(b))
	n := Note{Kind: kind.BadTag, Subject: Stream(1), Frame: sealed(1)}
	row, _ := table.dir.row(n.Subject)
	b.ReportAllocs()
	for i := range b.N {
		n.Time, n.Counter = int64(i), uint64(i)
		table.Note(&n)
		c := table.cell(row, n.Kind)
		c.count.Store(0)
		c.state.Store(cellFree)
	}
}
