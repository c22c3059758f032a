// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"os"
	"time"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// Status is the agent's state as `cellward status -o json` prints it.
type Status struct {
	PID        int               `json:"pid"`
	Version    string            `json:"version"`
	UptimeS    int64             `json:"uptime_s"`
	Policy     string            `json:"policy"`
	Binding    string            `json:"binding"`
	Engine     string            `json:"engine"`
	SaveError  string            `json:"save_error,omitempty"`
	Saves      SaveStatus        `json:"saves"`
	KeyMemory  KeyMemoryStatus   `json:"key_memory"`
	Readers    int               `json:"readers"` // of the ring, connected now
	Documents  DocumentsStatus   `json:"documents"`
	Ring       RingStatus        `json:"ring"`
	Keys       KeyTimes          `json:"keys"`
	Fault      Fault             `json:"fault"`
	Events     Events            `json:"events"`
	Interfaces []InterfaceStatus `json:"interfaces"`
	Nodes      []NodeStatus      `json:"nodes"`
	Streams    []StreamStatus    `json:"streams"`
}

// InterfaceStatus holds the verdicts of filter and agent together, by name, and how full the candidate ring is in bytes.
// Since the maps were pinned every frame has exactly one verdict of the filter, and every candidate and start record that was
// taken one more.
type InterfaceStatus struct {
	Name     string            `json:"name"`
	Slot     uint32            `json:"slot"`
	Carrier  string            `json:"carrier"`
	RingUsed uint64            `json:"ring_used"`
	RingSize uint64            `json:"ring_size"`
	Control  ControlFill       `json:"control"`
	Link     LinkStatus        `json:"link"`
	Verdicts map[string]uint64 `json:"verdicts"`
}

// NodeStatus is one transmitting controller.
type NodeStatus struct {
	Name     string        `json:"name"`
	KID      string        `json:"kid"`
	Verified uint64        `json:"highest_verified"`
	Epochs   []EpochStatus `json:"epochs"`
}

// EpochStatus is one acceptable epoch of a node.
type EpochStatus struct {
	Number   uint32   `json:"epoch"`
	Base     uint64   `json:"base"`
	Method   string   `json:"method"`
	AgeS     int64    `json:"age_s"`
	Starts   []uint64 `json:"starts"`
	Promoted bool     `json:"promoted"`
}

// StreamStatus is one stream. Lost is what an agent had committed and not published when it was killed.
type StreamStatus struct {
	Stream       uint32  `json:"stream"`
	Node         string  `json:"node"`
	Role         string  `json:"role"`
	Interface    string  `json:"interface"`
	CANID        string  `json:"id"`
	Source       string  `json:"source,omitempty"`
	Sensitivity  string  `json:"sensitivity,omitempty"`
	SamplingRate string  `json:"sampling_rate,omitempty"`
	PeriodMS     float64 `json:"period_ms"`
	Highest      uint64  `json:"highest"`
	Committed    uint64  `json:"committed"`
	Published    uint64  `json:"published"`
	Lost         uint64  `json:"lost"`
	Missing      uint64  `json:"missing"`
	Deleted      uint64  `json:"deleted"`
	Corrected    uint64  `json:"corrected"`
	Shed         uint64  `json:"shed"`
	// Refused is how many frames of the stream the filter has refused otherwise, by verdict, where there were any.
	Refused map[string]uint64 `json:"refused"`
	// Ceiling is the counter above which nothing takes effect before a higher one is durable.
	Ceiling uint64 `json:"ceiling"`
	// SampleAgeMS is the age of the newest sample in the ring; null where this agent has published none.
	SampleAgeMS *int64 `json:"sample_age_ms"`
	// LateParts are the values of the multiplexor for which the stream is incomplete_set.
	LateParts []uint32 `json:"late_parts,omitempty"`
}

// Status reads the state of the pipeline between two batches.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, wall := a.now(), time.Now().UnixNano()
	s := Status{
		PID: os.Getpid(), Version: a.opts.Version, UptimeS: int64(time.Since(a.began).Seconds()),
		Policy: a.opts.Set.Policy.Name, Binding: a.opts.Set.Binding.Name, Engine: a.engine.Name(),
	}
	s.Readers, s.Ring = a.ringStatus()
	s.Documents, s.Saves, s.Keys = a.documents, a.saveStatus(), a.keyTimes()
	if err := cmp.Or(a.saveError(), a.retireError()); err != nil {
		s.SaveError = err.Error()
	}
	s.KeyMemory = a.keyMemory()
	s.Events, s.Fault = a.monitor.status()
	carriers := make(map[uint32]policy.Carrier)
	for _, i := range a.opts.Set.Interfaces {
		carriers[uint32(i.Index)] = i.Carrier
	}
	for _, b := range a.buses {
		i := InterfaceStatus{
			Name: b.Name(), Slot: b.Slot(), Carrier: string(carriers[b.Slot()]),
			RingUsed: b.Candidates().Used(), RingSize: b.Candidates().Size(), Link: a.links.status(b.Slot()),
			Control:  ControlFill{Used: b.Control().Used(), Size: b.Control().Size()},
			Verdicts: make(map[string]uint64),
		}
		for v, n := range a.counts(b) {
			i.Verdicts[loader.Verdict(v).String()] = n
		}
		s.Interfaces = append(s.Interfaces, i)
	}
	for _, n := range a.core.nodes {
		ns := NodeStatus{Name: n.name, KID: n.state.Kid.String(), Verified: n.verified, Epochs: []EpochStatus{}}
		for _, l := range n.live {
			e := EpochStatus{Number: l.state.Number, Base: l.state.Base, Method: string(l.state.Method), AgeS: l.age(now, wall) / 1e9, Promoted: l.promoted != 0, Starts: []uint64{}}
			for _, st := range l.starts {
				e.Starts = append(e.Starts, st.F)
			}
			ns.Epochs = append(ns.Epochs, e)
		}
		s.Nodes = append(s.Nodes, ns)
	}
	for _, t := range a.core.streams {
		c, p := t.shared.Committed.Load(), t.shared.Published.Load()
		refused := a.maps.StreamCounts(t.slot)
		st := StreamStatus{
			Stream: t.ID, Node: t.node.name, Role: t.Role.String(), Interface: t.Interface.Name, CANID: t.CANID.String(),
			Source: t.Source, PeriodMS: float64(t.Period) / 1e6, Highest: t.window.Highest(), Committed: c, Published: p,
			Lost: c - p, Missing: t.gaps.Missing(), Deleted: t.gaps.Deleted(), Corrected: t.gaps.Corrected(), Shed: refused[loader.Shed],
			Refused: refusedByName(&refused),
			Ceiling: a.core.ceilings.durable[t.Slot].Load(), SampleAgeMS: a.sampleAge(t, now),
			LateParts: t.times.LateParts(now),
		}
		if !t.heartbeat {
			st.Sensitivity, st.SamplingRate = t.Sensitivity.String(), t.Rate.String()
		}
		s.Streams = append(s.Streams, st)
	}
	return s
}

// refusedByName names what was refused of a stream, but for what was shed.
func refusedByName(c *loader.StreamCounts) map[string]uint64 {
	all := make(map[string]uint64)
	for v, n := range c {
		if n > 0 && loader.Verdict(v) != loader.Shed {
			all[loader.Verdict(v).String()] = n
		}
	}
	return all
}

// refusedInAll adds up what refusedByName has named.
func refusedInAll(byVerdict map[string]uint64) (sum uint64) {
	for _, n := range byVerdict {
		sum += n
	}
	return sum
}

// Settled reports whether every candidate and every start record has been dealt with: each that the filter let through has
// one more verdict, the agent's.
func (s *Status) Settled() bool {
	for _, i := range s.Interfaces {
		var agent uint64
		for v := loader.Accepted; int(v) < loader.NumVerdicts; v++ {
			agent += i.Verdicts[v.String()]
		}
		if agent < i.Verdicts[loader.Candidate.String()]+i.Verdicts[loader.Control.String()] {
			return false
		}
	}
	return true
}

// Verdict returns the count of a verdict over all interfaces.
func (s *Status) Verdict(v loader.Verdict) (sum uint64) {
	for _, i := range s.Interfaces {
		sum += i.Verdicts[v.String()]
	}
	return sum
}

// Published returns how many samples were published since the tables were pinned.
func (s *Status) Published() (sum uint64) {
	for _, t := range s.Streams {
		sum += t.Published
	}
	return sum
}
