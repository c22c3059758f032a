// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/event/sink"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

var blockedFor = flag.Duration("blocked", 3*time.Second, "how long destinations are blocked in TestBlockedSinks; 200,000 forged frames come in a minute")

// floodEvery is the time between two forged frames: 200,000 in 60 s.
const floodEvery = time.Minute / 200_000

// valve is a server of datagrams that reads them, or does not: then its queue is full, and whoever sends to it waits.
type valve struct {
	t       *testing.T
	conn    *net.UnixConn
	path    string
	pattern *regexp.Regexp // with kind and count

	mu     sync.Mutex // held while it does not read
	counts map[string]uint64
	ended  chan struct{}
	wg     sync.WaitGroup
}

const filling = "filling the queue"

func openValve(t *testing.T, path, pattern string) *valve {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, demo.AgentUID, demo.AgentUID); err != nil {
		t.Fatal(err)
	}
	v := &valve{t: t, conn: conn, path: path, pattern: regexp.MustCompile(pattern), counts: make(map[string]uint64), ended: make(chan struct{})}
	t.Cleanup(func() { _ = conn.Close() })
	v.wg.Go(v.read)
	return v
}

// read takes what comes until the end, and then what still lies there.
func (v *valve) read() {
	for buf := make([]byte, 1<<16); ; {
		last := false
		select {
		case <-v.ended:
			last = true
		default:
		}
		v.mu.Lock()
		err := v.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		for n := 0; err == nil; {
			if n, err = v.conn.Read(buf); err != nil || bytes.Equal(buf[:n], []byte(filling)) {
				continue
			}
			m := v.pattern.FindSubmatch(buf[:n])
			if m == nil {
				v.t.Errorf("%s: no kind and count in %q", v.path, buf[:n])
				continue
			}
			count, _ := strconv.ParseUint(string(m[2]), 10, 64) // digits
			v.counts[string(m[1])] += count
		}
		v.mu.Unlock()
		if !errors.Is(err, os.ErrDeadlineExceeded) || last {
			return
		}
	}
}

// close has nothing read until open, and fills the queue.
func (v *valve) close() {
	v.t.Helper()
	v.mu.Lock()
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	defer unix.Close(s)
	for err == nil {
		err = unix.Sendto(s, []byte(filling), 0, &unix.SockaddrUnix{Name: v.path})
	}
	if !errors.Is(err, unix.EAGAIN) {
		v.t.Fatalf("fill %s: %v", v.path, err)
	}
}

func (v *valve) open() { v.mu.Unlock() }

// end reads what is left and returns the sums by kind.
func (v *valve) end() map[string]uint64 {
	close(v.ended)
	v.wg.Wait()
	return v.counts
}

// flood puts forged frames of several kinds on the bus, made of what was there last.
type flood struct {
	t   *testing.T
	bus *demo.Bus

	mu     sync.Mutex
	last   loader.CANFrame
	known  bool
	sent   map[string]uint64
	number uint64
}

// see takes note of a frame that goes over the wire.
func (f *flood) see(_ int, g *loader.CANFrame) {
	if h, err := spdu.ParseHeader(g.Data[:]); err != nil || h.Kind != spdu.KindSample {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.known = *g, true
}

// run goes on for so long, at the pace of floodEvery, and sends all of its frames however long that takes.
func (f *flood) run(length time.Duration) {
	begun := time.Now()
	for i := range int(length / floodEvery) {
		if wait := time.Duration(i)*floodEvery - time.Since(begun); wait > 2*time.Millisecond {
			time.Sleep(wait)
		}
		f.mu.Lock()
		g, size := f.last, loader.CANFDMTU
		f.mu.Unlock()
		f.number++
		what := ""
		switch i % 4 {
		case 0:
			what = "bad_tag"
			for b := range 6 { // a counter that nobody has used
				g.Data[2+b] = byte((1<<20 + f.number) >> (8 * b))
			}
		case 1:
			what = "unknown_epoch"
			g.Data[1] += 77
		case 2:
			what, size = "plaintext_on_protected", loader.CANMTU
			g.Flags, g.Len = 0, 8
		case 3:
			what = "malformed"
			g.Data[0] ^= 2 // a version that is none
		}
		if err := f.bus.WriteGateway(&g, size); err != nil {
			f.t.Errorf("write frame: %v", err)
			return
		}
		f.sent[what]++
	}
}

// timings collects how long samples took from the filter to publication, with when they came.
type timings struct {
	mu  sync.Mutex
	all []timing
}

type timing struct {
	Receive int64 `json:"receive_ns"`
	Publish int64 `json:"publish_ns"`
}

func (x *timings) follow(t *testing.T, p *demo.Process) {
	for s := bufio.NewScanner(p.Lines); s.Scan(); {
		var y timing
		if err := json.Unmarshal(s.Bytes(), &y); err != nil {
			t.Errorf("line %q: %v", s.Bytes(), err)
			return
		}
		x.mu.Lock()
		x.all = append(x.all, y)
		x.mu.Unlock()
	}
}

// between returns median and 99th percentile of what came from one time of CLOCK_BOOTTIME to another.
func (x *timings) between(from, to int64) (n int, p50, p99 time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var took []int64
	for _, y := range x.all {
		if y.Receive >= from && y.Receive < to {
			took = append(took, y.Publish-y.Receive)
		}
	}
	if n = len(took); n == 0 {
		return 0, 0, 0
	}
	slices.Sort(took)
	return n, time.Duration(took[n/2]), time.Duration(took[n*99/100])
}

func bootNow(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

// anonymous is how much memory of its own a process has, in bytes: what it shares with readers is not among it.
func anonymous(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// refusedEvents sums up the events of all verdicts that refuse a frame.
func refusedEvents(counts map[string]uint64) (n uint64) {
	for v := range loader.NumVerdicts {
		if agent.Refusing(loader.Verdict(v)) {
			n += counts[event.OfVerdict(loader.Verdict(v)).String()]
		}
	}
	return n
}

// TestBlockedSinks floods a running agent with forged frames while sealed samples go on, first with its destinations at work and then
// with their queues full, as those of a server that hangs. Every sample comes out, memory stays where it is, and afterwards
// each forged frame has been reported to both destinations and in the log exactly once. It prints how long publication takes open and
// blocked. With -blocked 60s it is 200,000 forged frames.
func TestBlockedSinks(t *testing.T) {
	needRoot(t)
	open := max(*blockedFor/4, 2*time.Second)
	simulated := open + *blockedFor + 2*time.Second
	l := newLab(t, demo.LabOptions{Frames: 100_000, SoftwareEdge: true}, simulated)
	dir := t.TempDir()
	openFolders(t, dir)
	syslog := openValve(t, filepath.Join(dir, "log"), ` kind="([a-z_]+)".* count="([0-9]+)"`)
	journal := openValve(t, filepath.Join(dir, "journal"), `(?s)\nCELLWARD_KIND=([a-z_]+)\n.*\nCELLWARD_COUNT=([0-9]+)\n`)
	b := *l.Binding()
	b.Destinations = []policy.Destination{
		{Type: policy.ToSyslog, Network: "unixgram", Path: filepath.Join(dir, "log")},
		{Type: policy.ToJournal, Path: filepath.Join(dir, "journal")},
	}
	doc, err := policy.Marshal(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.BindingPath(), doc, 0o644); err != nil {
		t.Fatal(err)
	}
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status := func() agent.Status {
		t.Helper()
		s, err := l.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// Frames on identifiers that are not protected are nobody's business, whatever is in them.
	unprotected(t, l)
	time.Sleep(3 * agentTurn)
	if s := status(); refusedEvents(s.Events.Counts) != 0 || s.Fault.State != "ok" {
		t.Errorf("after frames on unprotected identifiers: events %v, fault %s", s.Events.Counts, s.Fault.State)
	}

	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var took timings
	read := make(chan struct{})
	go func() {
		defer close(read)
		took.follow(t, reader)
	}()
	f := &flood{t: t, bus: l.Buses[0], sent: make(map[string]uint64)}
	wire := l.StartWire(f.see)
	edge, err := l.StartEdge("", nil, 1, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the first sample", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.known
	})
	times := [4]int64{0: bootNow(t)}
	f.run(open)
	times[1] = bootNow(t)
	until(t, "delivery", func() bool {
		for _, d := range status().Events.Destinations[1:] {
			if d.Delivered == 0 {
				return false
			}
		}
		return true
	})

	pid := status().PID
	syslog.close()
	journal.close()
	time.Sleep(3 * agentTurn) // what was being written is written or stuck
	before, memory := status(), anonymous(t, pid)
	times[2] = bootNow(t)
	f.run(*blockedFor)
	times[3] = bootNow(t)
	// Records come ever more rarely while it goes on, so there may be none yet.
	until(t, "a record that is not delivered", func() bool {
		f.run(100 * time.Millisecond)
		return !slices.ContainsFunc(status().Events.Destinations[1:], func(d sink.Stats) bool { return d.Waiting == 0 })
	})
	after, grown := status(), anonymous(t, pid)-memory
	for i, d := range after.Events.Destinations[1:] { // the first is the log
		if was := before.Events.Destinations[i+1]; d.Delivered != was.Delivered || d.Waiting == 0 {
			t.Errorf("%s is not blocked: %+v, then %+v", d.Name, was, d)
		}
	}
	const room = 16 << 20
	if grown > room {
		t.Errorf("the agent's memory has grown by %d bytes, more than %d", grown, room)
	}
	syslog.open()
	journal.open()
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	sealed := report(t, edge).Sealed
	until(t, "every event", func() bool { return refusedEvents(status().Events.Counts) >= sum(f.sent) })
	until(t, "delivery", func() bool {
		for _, d := range status().Events.Destinations[1:] {
			if d.Waiting > 0 {
				return false
			}
		}
		return true
	})
	last := status()
	if err := errors.Join(gateway.Stop(), reader.Stop()); err != nil {
		t.Fatal(err)
	}
	<-read

	if n := last.Published(); n != sealed || len(took.all) != int(sealed) {
		t.Errorf("%d samples sealed, %d published, %d read", sealed, n, len(took.all))
	}
	if n := refusedEvents(last.Events.Counts); n != sum(f.sent) {
		t.Errorf("%d frames forged, %d noticed: %v", sum(f.sent), n, last.Events.Counts)
	}
	logs := make(map[string]uint64)
	for k, n := range logged(t, filepath.Join(l.GatewayState(), agent.EventsFolder)) {
		logs[k.String()] = n
	}
	for name, counts := range map[string]map[string]uint64{"status": last.Events.Counts, "syslog": syslog.end(), "journal": journal.end(), "log": logs} {
		for what, n := range f.sent {
			if counts[what] != n {
				t.Errorf("%s: %d of %s, %d were sent", name, counts[what], what, n)
			}
		}
		if name != "status" && (counts[kind.FaultRaised.String()] == 0 || counts[kind.FaultRaised.String()] != logs[kind.FaultRaised.String()]) {
			t.Errorf("%s: %d faults raised, %d in the log", name, counts[kind.FaultRaised.String()], logs[kind.FaultRaised.String()])
		}
	}
	n1, open50, open99 := took.between(times[0], times[1])
	n2, blocked50, blocked99 := took.between(times[2], times[3])
	t.Logf("%d forged frames, %d of them in %v with blocked destinations, all noticed; %d samples sealed and published", sum(f.sent), int(*blockedFor/floodEvery), *blockedFor, sealed)
	t.Logf("from filter to publication: open %v p50, %v p99 of %d; blocked %v, %v of %d; ratio %.2f, %.2f", open50, open99, n1, blocked50, blocked99, n2,
		float64(blocked50)/float64(max(open50, 1)), float64(blocked99)/float64(max(open99, 1)))
	t.Logf("memory of the agent: %.1f MiB before, grown by %.1f MiB", float64(memory)/(1<<20), float64(grown)/(1<<20))
	if n1 == 0 || n2 == 0 {
		t.Error("no samples beside the flood")
	}
}

// agentTurn is how often an agent looks at what was counted.
const agentTurn = 100 * time.Millisecond

// unprotected sends frames of all sorts on identifiers that the binding does not have.
func unprotected(t *testing.T, l *demo.Lab) {
	t.Helper()
	taken := make(map[uint32]bool)
	for _, n := range l.Binding().Nodes {
		for _, s := range n.Streams {
			taken[uint32(s.CANID)] = true
		}
		for _, h := range n.Heartbeats {
			taken[uint32(h.CANID)] = true
		}
	}
	for id := range uint32(2048) {
		// What an extended identifier ends with is no standard one.
		for _, x := range []uint32{id, id | loader.CANEFFFlag, id | loader.CANRTRFlag} {
			if taken[x&^loader.CANRTRFlag] {
				continue
			}
			f := loader.CANFrame{ID: x, Len: 8}
			if err := l.Buses[0].WriteGateway(&f, loader.CANMTU); err != nil {
				t.Fatal(err)
			}
			if x&loader.CANRTRFlag == 0 {
				f.Len = 32
				f.Data[0] = byte(id) // now and then a sealed frame's version and kind
				if err := l.Buses[0].WriteGateway(&f, loader.CANFDMTU); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
