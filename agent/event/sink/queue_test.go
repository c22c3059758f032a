// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
)

func TestQueue(t *testing.T) {
	w := new(writer)
	q := New(w, Options{Name: "a"})
	for i := range 100 {
		q.Offer(record(kind.BadTag, i%3, uint64(i)+1))
	}
	if err := q.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.Offered != 5050 || s.Delivered != 5050 || s.Waiting != 0 || s.Records != 100 || !w.closed || s.Name != "a" {
		t.Errorf("%+v", s)
	}
	for i := range w.records {
		if w.records[i].Count != uint64(i)+1 {
			t.Fatalf("record %d has count %d", i, w.records[i].Count)
		}
	}
}

// TestBlocked: a destination that takes nothing during a flood of 200,000 events holds nobody up, costs bounded memory, and
// gets exact counts when it takes something again. A second attack and a fault under the flood come out.
func TestBlocked(t *testing.T) {
	w := &writer{block: make(chan struct{})}
	q := New(w, Options{Size: 16})
	for i := range 200000 {
		q.Offer(record(kind.BadTag, i%5, 1))
		if i == 100000 {
			q.Offer(record(kind.Deletion, 1, 7))
			r := record(kind.FaultRaised, 0, 1)
			r.Fault = &event.Fault{To: "fault"}
			q.Offer(r)
		}
	}
	s := q.Stats()
	if s.Offered != 200008 || s.Delivered != 0 || s.Waiting != 200008 || len(q.records) > 16+reserve || q.backlog.Len() > 6 {
		t.Errorf("%+v, %d records, backlog %d", s, len(q.records), q.backlog.Len())
	}
	close(w.block)
	until(t, "delivery", func() bool { return q.Stats().Waiting == 0 })
	if err := q.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	if w.count(kind.BadTag) != 200000 || w.count(kind.Deletion) != 7 || w.count(kind.FaultRaised) != 1 || w.count(kind.DeliveryDelayed) == 0 || len(w.records) > 30 {
		t.Errorf("%d records: bad_tag %d, deletion %d, fault %d", len(w.records), w.count(kind.BadTag), w.count(kind.Deletion), w.count(kind.FaultRaised))
	}
}

func TestDown(t *testing.T) {
	w := &writer{fail: errDown}
	q := New(w, Options{Name: "b", Size: 2, RetryMin: time.Microsecond, RetryMax: time.Millisecond})
	for range 50 {
		q.Offer(record(kind.Replay, 0, 2))
	}
	until(t, "several tries", func() bool { return q.Stats().Failures > 3 })
	if s := q.Stats(); s.Delivered != 0 || s.Waiting != 100 || s.LastError != errDown.Error() {
		t.Errorf("%+v", s)
	}
	w.set(nil)
	until(t, "delivery", func() bool { return q.Stats().Waiting == 0 })
	if w.count(kind.Replay) != 100 {
		t.Errorf("%d of 100", w.count(kind.Replay))
	}
	w.set(errDown)
	q.Offer(record(kind.Replay, 0, 3))
	if err := q.Close(soon(t)); !errors.Is(err, ErrUndelivered) || !strings.Contains(err.Error(), "3 events for b") {
		t.Errorf("%v", err)
	}
	// One that never returns is given up when the context ends.
	stuck := New(&writer{block: make(chan struct{})}, Options{})
	stuck.Offer(record(kind.Replay, 0, 3))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := stuck.Close(ctx); !errors.Is(err, ErrUndelivered) {
		t.Errorf("%v", err)
	}
}

// parts is a writer that takes few bytes at a time and fails in between.
type parts struct {
	bytes.Buffer
	n int
}

func (p *parts) Write(b []byte) (int, error) {
	if p.n++; p.n%2 == 0 {
		return 0, io.ErrShortWrite
	}
	n, _ := p.Buffer.Write(b[:min(len(b), 50)])
	return n, io.ErrShortWrite
}

func TestLinesAreWhole(t *testing.T) {
	w := new(parts)
	q := New(NewLines(w, encode.JSON), Options{RetryMin: time.Nanosecond, RetryMax: time.Nanosecond})
	for i := range 20 {
		q.Offer(record(kind.BadTag, i, 1))
	}
	until(t, "delivery", func() bool { return q.Stats().Waiting == 0 })
	if err := q.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(w.String(), "\n"), "\n")
	if len(lines) != 20 {
		t.Errorf("%d lines", len(lines))
	}
	for i, l := range lines {
		r, err := encode.ParseJSON([]byte(l))
		if err != nil || r.Stream != uint32(i)+1 {
			t.Errorf("line %d: %v", i, err)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	f := NewFile(path, encode.JSON)
	write := func(slot int) {
		t.Helper()
		if err := f.Write(record(kind.BadTag, slot, 1)); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	write(1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(2)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{path: 1, path + ".1": 2} {
		b, err := os.ReadFile(name)
		if err != nil || bytes.Count(b, []byte("\n")) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Error(st.Mode(), err)
		}
	}
	// Neither a link nor a folder is written to.
	if err := os.Symlink(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path + ".link", filepath.Dir(path)} {
		if err := NewFile(p, encode.JSON).Write(record(kind.BadTag, 0, 1)); err == nil {
			t.Errorf("%s was written to", p)
		}
	}
}

func ExampleQueue() {
	q := New(NewLines(os.Stdout, encode.Text), Options{Name: "stdout"})
	r := &event.Record{Kind: kind.Silence, Severity: kind.High, Count: 1, Source: "pack_current", Last: event.Instant{Wall: 1_795_000_000_000_000_000}}
	q.Offer(r)
	fmt.Print(q.Close(context.Background()) != nil, "\n")
	// Output:
	// 2026-11-18T11:06:40.000Z high          silence                no verified frame for longer than the sampling rate allows: count=1 source=pack_current dtc=U1CB3-87
	// false
}
