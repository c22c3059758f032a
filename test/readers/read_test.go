// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/tooltest"
)

// readAll reads a whole ring with the Go reader.
func readAll(t *testing.T, path string, count int) []ring.Sample {
	t.Helper()
	r, err := ring.Dial(context.Background(), path, ring.Options{StaleAfter: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []ring.Sample
	batch := make([]ring.Sample, 256)
	for len(all) < count {
		n, err := r.Next(context.Background(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range batch[:n] {
			s.Body = append([]byte(nil), s.Body...)
			all = append(all, s)
		}
	}
	return all
}

// TestIdentical: every reader delivers what was published, bit for bit, and what the Go reader delivers.
func TestIdentical(t *testing.T) {
	const count = 5000
	w, _, path := stampedRing(t, 8192)
	if err := w.publish(count); err != nil {
		t.Fatal(err)
	}
	want := readAll(t, path, count)
	for i := range want {
		if err := checkStamp(&want[i], stampStreams, stampBody); err != nil {
			t.Fatal(err)
		}
	}
	each(t, func(t *testing.T, s subject) {
		p := s.shell(t)
		p.want("ok", "open %s oldest 0 -1", path)
		for i := 0; i < count; {
			lines := p.ask("next %d -1", 1+i%700)
			if lines[0] != "samples" {
				t.Fatal(lines)
			}
			for _, line := range lines[1:] {
				if line != sampleLine(&want[i]) {
					t.Fatalf("%q, want %q", line, sampleLine(&want[i]))
				}
				i++
			}
		}
		p.want(fmt.Sprintf("count %d 0 0 %x", count, w.producer.Generation()), "count")
		p.want("timeout", "next 1 0")
		for stream := range stampStreams {
			newest := count - 1
			for want[newest].Stream != uint32(stream) {
				newest--
			}
			p.want(sampleLine(&want[newest]), "latest %d", stream)
		}
		p.want("ok", "close")
	})
}

// TestLongBodies: the longest and the empty body, and slots of more than two lines; the end of the ring lies within a
// copied batch.
func TestLongBodies(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	type example struct {
		bodyMax int
		path    string
		want    []ring.Sample
	}
	var examples []example
	for _, bodyMax := range []int{1, 16, 17, 80, 2020, 65535} {
		p := newProducer(t, ring.Config{Streams: plainStreams(1), Slots: 8, BodyMax: bodyMax})
		path := socketPath(t)
		serve(t, p, path)
		var batch []ring.Sample
		for _, n := range []int{0, bodyMax, 1, bodyMax - 1, bodyMax / 2, bodyMax, 0, 1, bodyMax, bodyMax} {
			body := make([]byte, n)
			for i := range body {
				body[i] = byte(rng.Uint32())
			}
			batch = append(batch, ring.Sample{Counter: rng.Uint64() >> 16, Body: body})
		}
		if err := p.Publish(batch); err != nil {
			t.Fatal(err)
		}
		examples = append(examples, example{bodyMax, path, readAll(t, path, 8)})
	}
	each(t, func(t *testing.T, s subject) {
		c := s.shell(t)
		for _, e := range examples {
			c.want("ok", "open %s oldest 0 -1", e.path)
			lines := c.ask("next 8 -1")
			if len(lines) != 9 {
				t.Fatal(len(lines), lines[0])
			}
			for i := range e.want {
				if lines[1+i] != sampleLine(&e.want[i]) {
					t.Fatalf("bodies of up to %d bytes: position %d differs", e.bodyMax, e.want[i].Position)
				}
			}
			c.want(sampleLine(&e.want[7]), "latest 0")
		}
	})
}

// TestStreams: every reader shows the stream table that the Go reader shows.
func TestStreams(t *testing.T) {
	streams := randomStreams(rand.New(rand.NewPCG(7, 7)), 30, 36)
	streams[3].CANID, streams[3].Name = 0x18ff50e5|ring.ExtendedID, "Zelle № 7 — °C 電圧 🔋"
	p := newProducer(t, ring.Config{Streams: streams})
	path := socketPath(t)
	serve(t, p, path)
	r, err := ring.Dial(context.Background(), path, ring.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []string
	for _, s := range r.Streams() {
		want = append(want, fmt.Sprintf("stream\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t%d\t%s", s.ID, s.SourceID, s.CANID, s.Name, s.Source,
			s.Interface, s.Period.Nanoseconds(), s.Sensitivity, hex.EncodeToString(s.SchemaHash[:])))
		for _, g := range s.Signals {
			mux := -1
			for i := range s.Signals {
				if s.Signals[i].Name == g.Multiplexor {
					mux = i
				}
			}
			want = append(want, fmt.Sprintf("signal\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.17g\t%.17g", g.Name, g.Unit, g.Start, g.Length,
				g.ByteOrder, g.ValueType, mux, g.MuxValue, g.Factor, g.Offset))
		}
	}
	each(t, func(t *testing.T, s subject) {
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		got := c.ask("streams")
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("line %d of %d and %d: %q, want %q", i, len(got), len(want), got[min(i, len(got)-1)], want[min(i, len(want)-1)])
			}
		}
		// And a stream that has no value yet, and one that is not there.
		c.want("none", "latest 0")
		c.want("refused other", "latest 30")
	})
}

// TestOverrunExact: a reader that stands still while the ring turns over three times knows exactly what it missed.
func TestOverrunExact(t *testing.T) {
	const slots, first, second = 256, 100, 3*256 + 17
	each(t, func(t *testing.T, s subject) {
		w, server, path := stampedRing(t, slots)
		if err := w.publish(first); err != nil {
			t.Fatal(err)
		}
		c := s.follow(t, path, "oldest", 10, 40)
		c.expect("paused")
		if err := w.publish(second); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		c.say("")
		const all = first + second
		want := account{Start: 0, Read: 40 + slots, Missed: all - slots - 40, Jumped: all - slots - 40, Next: all}
		if got := c.account(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// TestFrom: where reading begins.
func TestFrom(t *testing.T) {
	w, _, path := stampedRing(t, 64)
	if err := w.publish(100); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, s subject) {
		published := w.next
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		c.want(fmt.Sprintf("count %d 0 0 %x", published-64, w.producer.Generation()), "count")
		c.want("ok", "open %s now 0 -1", path)
		c.want(fmt.Sprintf("count %d 0 0 %x", published, w.producer.Generation()), "count")
		if err := w.publish(1); err != nil {
			t.Fatal(err)
		}
		if got := c.ask("next 10 -1"); len(got) != 2 || !strings.HasPrefix(got[1], fmt.Sprintf("sample %d ", published)) {
			t.Fatal(got)
		}
	})
}

// TestTogether: readers of all languages follow one producer at the same time.
func TestTogether(t *testing.T) {
	w, server, path := stampedRing(t, 256)
	var all []*process
	for _, s := range subjects(t) {
		if s.skip != "" {
			t.Logf("without %s: %s", s.name, s.skip)
			continue
		}
		all = append(all, s.follow(t, path, "now", 32, 0), s.follow(t, path, "now", 1000, 0))
	}
	all = append(all, startRole(t, roleFollow, path))
	const total = 60_000
	if err := w.publish(total); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		checkAccount(t, strings.Join(c.cmd.Args, " "), c.account(), total)
	}
}

// checkAccount checks a reader that began with the first sample and followed to the end.
func checkAccount(t *testing.T, name string, a account, total uint64) {
	t.Helper()
	if a.Bad != "" || a.Start != 0 || a.Next != total || a.Read+a.Missed != total || a.Missed != a.Jumped || a.Read == 0 {
		t.Errorf("%s: %+v, published %d", name, a, total)
	}
}

// TestWaitEnds: a publication ends every wait, at whatever phase of it. One that is lost hangs the test, since the
// heartbeat is never stale.
func TestWaitEnds(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		w, server, path := stampedRing(t, 64)
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		for i := range 200 {
			c.say("next 1 -1")
			if i%4 == 3 {
				time.Sleep(time.Millisecond) // so that the wait has begun; otherwise it is about to
			}
			if err := w.publish(1); err != nil {
				t.Fatal(err)
			}
			if got := c.answer(); len(got) != 2 {
				t.Fatal(i, got)
			}
		}
		// And the end of the producer ends one too.
		c.say("next 1 -1")
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if got := c.answer(); got[0] != "gone unclean" { // the server's end, not the ring's
			t.Fatal(got)
		}
	})
}

// TestInterrupt: other threads, and in C signal handlers, end a wait.
func TestInterrupt(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		_, _, path := stampedRing(t, 64)
		rounds := 400
		if s.polls {
			rounds = 40
		}
		start(t, s.env, append(append([]string{}, s.command...), "interrupts", path, fmt.Sprint(rounds))...).expect("ok")
	})
}

// TestWaitSleeps: a reader that waits is not woken up by anything but its producer. A thread that sleeps makes no
// context switches, so their number stands still.
func TestWaitSleeps(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		if s.polls {
			t.Skip("this one wakes up now and then, as it says")
		}
		w, _, path := stampedRing(t, 64)
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		c.say("next 1 -1")
		still := false
		for range 40 {
			before := switches(t, c.cmd.Process.Pid)
			time.Sleep(150 * time.Millisecond)
			if still = switches(t, c.cmd.Process.Pid) == before; still {
				break
			}
		}
		if !still {
			t.Error("the threads of a reader that waits never stand still")
		}
		if err := w.publish(1); err != nil {
			t.Fatal(err)
		}
		if got := c.answer(); len(got) != 2 {
			t.Fatal(got)
		}
	})
}

// switches returns the context switches of all threads of a process, as text.
func switches(t *testing.T, pid int) string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "ctxt_switches") {
				all = append(all, line)
			}
		}
	}
	return strings.Join(all, "")
}

// TestValgrind runs the C reader under valgrind, which also shows it a kernel without futex_waitv(2) in the versions
// that do not know the call.
func TestValgrind(t *testing.T) {
	c := cSubject(t)
	tooltest.Path(t, "Debian packages valgrind and libc6-dbg", "valgrind")
	c.command = append([]string{"valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all",
		"--errors-for-leak-kinds=all", "--track-fds=no"}, c.command...)
	w, server, path := stampedRing(t, 256)
	f := c.follow(t, path, "oldest", 16, 100)
	p := c.shell(t)
	p.want("ok", "open %s oldest 0 -1", path)
	if err := w.publish(2000); err != nil {
		t.Fatal(err)
	}
	f.expect("paused")
	if err := w.publish(2000); err != nil {
		t.Fatal(err)
	}
	f.say("")
	for range 5 {
		p.ask("next 50 -1")
		p.ask("latest 1")
		p.ask("status")
		p.ask("streams")
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	checkAccount(t, "valgrind", f.account(), 4000)
	if got := p.ask("drain"); !strings.HasSuffix(got[0], "gone") {
		t.Error(got)
	}
	p.want("refused system", "open %s oldest 0 -1", path)
	p.end()
	f.end()
}
