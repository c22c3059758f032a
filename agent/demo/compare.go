// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
)

// comparison holds what came out against what went in. A node's counters follow each other on each stream from its start's
// first one on, so that stream and counter say which frame of the log a sample is.
type comparison struct {
	mu        sync.Mutex
	offered   map[uint32][][]byte // bodies by stream id, in the order of the log
	seen      map[uint32][]bool
	total     uint64
	first     uint64
	known     bool
	waiting   []sample // read before the start's first counter was known
	read      uint64
	identical uint64
	changed   uint64
	foreign   uint64
	latencies []int64
}

// sample is what this package needs of a line of `cellward read -o json`.
type sample struct {
	Stream    uint32 `json:"stream"`
	Counter   uint64 `json:"counter"`
	Body      string `json:"body"`
	LatencyNS int64  `json:"latency_ns"`
}

// newComparison reads the whole source and keeps the bodies of all frames that a stream of the binding claims.
func newComparison(b *policy.Binding, names map[string]string, src trace.Source) (*comparison, error) {
	streams := make(map[trace.StreamKey]uint32)
	for _, n := range b.Nodes {
		for _, s := range n.Streams {
			streams[trace.StreamKey{Bus: s.Interface, ID: s.CANID.Number(), Extended: s.CANID.Extended()}] = s.StreamID
		}
	}
	c := &comparison{offered: make(map[uint32][][]byte), seen: make(map[uint32][]bool)}
	var f trace.Frame
	for {
		err := src.Next(&f)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if f.RTR || f.Error {
			continue
		}
		k := f.Key()
		if name, ok := names[k.Bus]; ok {
			k.Bus = name
		}
		if id, ok := streams[k]; ok {
			c.offered[id] = append(c.offered[id], bytes.Clone(f.Body()))
			c.total++
		}
	}
	for id, bodies := range c.offered {
		c.seen[id] = make([]bool, len(bodies))
	}
	return c, nil
}

// follow takes the lines of a reader until it ends.
func (c *comparison) follow(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("read line of the reader %q: %w", lines.Text(), err)
		}
		c.mu.Lock()
		c.read++
		c.latencies = append(c.latencies, s.LatencyNS)
		if c.known {
			c.judge(s)
		} else {
			c.waiting = append(c.waiting, s)
		}
		c.mu.Unlock()
	}
	return lines.Err()
}

// start tells the first counter of the run, as the edge says it.
func (c *comparison) start(first uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first, c.known = first, true
	for _, s := range c.waiting {
		c.judge(s)
	}
	c.waiting = nil
}

func (c *comparison) judge(s sample) {
	bodies, seen := c.offered[s.Stream], c.seen[s.Stream]
	i := s.Counter - c.first
	if s.Counter < c.first || i >= uint64(len(bodies)) || seen[i] {
		c.foreign++
		return
	}
	seen[i] = true
	if s.Body != hex.EncodeToString(bodies[i]) {
		c.changed++
		return
	}
	c.identical++
}

func (c *comparison) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read
}

// fill puts what was found into a result whose Frames are complete.
func (c *comparison) fill(r *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Samples.Read, r.Samples.Identical, r.Samples.Mismatched = c.read, c.identical, c.changed
	r.Samples.Lost = int64(r.Frames.Sealed) - int64(c.identical) - int64(c.changed)
	r.Attacks.Accepted = c.foreign
	slices.Sort(c.latencies)
	if n := len(c.latencies); n > 0 {
		r.Latency = Latency{P50: c.latencies[n/2], P99: c.latencies[n*99/100], Max: c.latencies[n-1]}
	}
}
