// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
)

// lab is a laboratory for one log whose edge and gateway are the two ends of a vxcan pair.
type lab struct {
	*demo.Lab
	log   string
	names map[string]string          // from the log's buses to interfaces
	want  map[uint32][]string        // bodies by stream, in the order of the log
	total int                        // of them
	ids   map[uint32]bool            // protected identifiers, with flags
	key   map[trace.StreamKey]uint32 // stream ids
}

// newLab makes a laboratory for a log, with keys agreed.
func newLab(t *testing.T, o demo.LabOptions, log string) *lab {
	t.Helper()
	needVXCAN(t)
	o.Program, o.Policy, o.Direct = program(), must[*policy.Policy](t)(demo.DefaultPolicy()), true
	src := must[*trace.Reader](t)(trace.Open(log))
	sum, err := trace.Summarize(src)
	ok(t, errors.Join(err, src.Close()))
	l := &lab{log: log, want: make(map[uint32][]string), ids: make(map[uint32]bool), key: make(map[trace.StreamKey]uint32)}
	if o.Binding, l.names, err = demo.BindingFor(o.Policy, sum, nil); err != nil {
		t.Fatal(err)
	}
	if o.Frames == 0 {
		o.Frames = 100_000
	}
	l.Lab = must[*demo.Lab](t)(demo.NewLab(t.Context(), o))
	t.Cleanup(func() { ok(t, l.Close()) })
	ok(t, l.AgreeKeys(t.Context()))
	n := l.Binding().Nodes[0]
	for _, s := range n.Streams {
		l.ids[uint32(s.CANID)] = true
		l.key[trace.StreamKey{Bus: s.Interface, ID: s.CANID.Number(), Extended: s.CANID.Extended()}] = s.StreamID
	}
	for _, h := range n.Heartbeats {
		l.ids[uint32(h.CANID)] = true
	}
	l.readLog(t)
	return l
}

// readLog takes from the log what is to come out.
func (l *lab) readLog(t *testing.T) {
	t.Helper()
	src := must[*trace.Reader](t)(trace.Open(l.log))
	defer src.Close()
	var f trace.Frame
	for {
		err := src.Next(&f)
		if err == io.EOF {
			return
		}
		ok(t, err)
		k := f.Key()
		k.Bus = l.names[k.Bus]
		if id, found := l.key[k]; found && !f.RTR && !f.Error {
			l.want[id] = append(l.want[id], hex.EncodeToString(f.Body()))
			l.total++
		}
	}
}

// foreignID returns an 11-bit identifier that is not protected.
func (l *lab) foreignID() uint32 {
	for id := uint32(0x300); ; id++ {
		if !l.ids[id] {
			return id
		}
	}
}

// edge starts the edge's node on the log, as fast as it goes.
func (l *lab) edge(t *testing.T) *demo.Process {
	t.Helper()
	return must[*demo.Process](t)(l.StartEdge("", l.names, 0, "--log", l.log))
}

func (l *lab) agent(t *testing.T) *demo.Process {
	t.Helper()
	p := must[*demo.Process](t)(l.StartAgent(t.Context()))
	t.Cleanup(func() {
		if t.Failed() { // what it has to say about that
			t.Logf("the agent's end: %v", p.Stop())
		}
	})
	return p
}

// report decodes what an edge says at its end.
func report(t *testing.T, p *demo.Process) (c demo.SealCounts) {
	t.Helper()
	if err := json.Unmarshal(p.Output(), &c); err != nil {
		t.Fatalf("report of the edge %q: %v", p.Output(), err)
	}
	return c
}

// settle waits until every candidate has its verdict.
func (l *lab) settle(t *testing.T) (s agent.Status) {
	t.Helper()
	eventually(t, "every candidate has its verdict", func() bool {
		var err error
		s, err = l.Status(t.Context())
		ok(t, err)
		return s.Settled()
	})
	return s
}

// sample is a line of a reader.
type sample struct {
	Stream  uint32 `json:"stream"`
	Counter uint64 `json:"counter"`
	Body    string `json:"body"`
}

// readings collects what a reader says. Its methods are safe for concurrent use.
type readings struct {
	mu   sync.Mutex
	all  []sample
	done chan error
}

// read starts a reader of the ring; args are further flags of the verb.
func (l *lab) read(t *testing.T, args ...string) *readings {
	t.Helper()
	p := must[*demo.Process](t)(l.StartReader(t.Context(), args...))
	r := &readings{done: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(p.Lines)
		for lines.Scan() {
			var x sample
			if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
				r.done <- fmt.Errorf("line of the reader %q: %w", lines.Text(), err)
				return
			}
			r.mu.Lock()
			r.all = append(r.all, x)
			r.mu.Unlock()
		}
		r.done <- lines.Err()
	}()
	return r
}

func (r *readings) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// wait waits until all that was published has been read.
func (r *readings) wait(t *testing.T, l *lab) agent.Status {
	t.Helper()
	var status agent.Status
	defer func() {
		if t.Failed() {
			select {
			case err := <-r.done:
				t.Logf("the reader has ended: %v", err)
			default:
			}
			t.Logf("read %d of %d; verdicts %+v", r.count(), status.Published(), status.Interfaces)
		}
	}()
	eventually(t, "every sample is read", func() bool {
		status = l.settle(t)
		return r.count() >= l.total && uint64(r.count()) >= status.Published()
	})
	return status
}

// check sees that what was read is what the log holds: each frame once, identical, and nothing else. first is the edge's first
// counter: counters follow each other on each stream from there.
func (r *readings) check(t *testing.T, l *lab, first uint64) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	type place struct {
		stream uint32
		i      uint64
	}
	seen := make(map[place]bool)
	for _, s := range r.all {
		p := place{s.Stream, s.Counter - first}
		want := l.want[s.Stream]
		if s.Counter < first || p.i >= uint64(len(want)) || seen[p] || want[p.i] != s.Body {
			t.Fatalf("not what was sealed, or twice: %+v", s)
		}
		seen[p] = true
	}
	if len(seen) != l.total {
		t.Errorf("%d samples came out, the log holds %d", len(seen), l.total)
	}
}

// cellward runs the program and returns its output; it fails the test if the program fails.
func cellward(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := try(t.Context(), args...)
	ok(t, err)
	return out
}

func try(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program(), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("cellward %v: %w\n%s%s", args, err, out, errs.String())
	}
	return out, err
}

// shortLog writes a candump log of n frames on a few identifiers of bus can0.
func shortLog(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "(%d.%06d) can0 %03X#%02X%02X\n", 1+i/1000, i%1000*1000, 0x100+i%5, i>>8&0xFF, i&0xFF)
	}
	path := filepath.Join(t.TempDir(), "short.log")
	ok(t, os.WriteFile(path, b.Bytes(), 0o644))
	return path
}
