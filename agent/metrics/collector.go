// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

// Collector makes metrics of what its source returns, once for each collection, so that the values of one scrape belong
// together. It is safe for concurrent use if the source is.
type Collector struct {
	source func() agent.Status
	build  agent.BuildInfo
	descs  []*prometheus.Desc // by metric
	kinds  []prometheus.ValueType
}

// NewCollector returns a collector over a source of states. build is what the running binary was built from.
func NewCollector(source func() agent.Status, build agent.BuildInfo) *Collector {
	c := &Collector{source: source, build: build}
	for _, f := range families() {
		c.descs = append(c.descs, prometheus.NewDesc(namespace+f.name, f.help, strings.Fields(f.labels), nil))
		c.kinds = append(c.kinds, f.kind)
	}
	return c
}

// Describe sends nothing, which makes the collector an unchecked one: which series there are is up to the binding.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of one state.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	s := c.source()
	m := sender{c, out}
	c.agent(m, &s)
	for i := range s.Interfaces {
		bus(m, &s.Interfaces[i])
	}
	for i := range s.Nodes {
		node(m, &s.Nodes[i])
	}
	for i := range s.Streams {
		stream(m, &s.Streams[i], s.UptimeS)
	}
}

// sender turns numbers into metrics.
type sender struct {
	c   *Collector
	out chan<- prometheus.Metric
}

func (m sender) send(f metric, value float64, labels ...string) {
	m.out <- prometheus.MustNewConstMetric(m.c.descs[f], m.c.kinds[f], value, labels...)
}

// oneOf sends a series for every state that there is, 1 for the present one and 0 for the others.
func (m sender) oneOf(f metric, present string, states []string, labels ...string) {
	for _, s := range states {
		m.send(f, flag(s == present), append(append([]string{}, labels...), s)...)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (c *Collector) agent(m sender, s *agent.Status) {
	m.send(buildInfo, 1, c.build.Version, c.build.Commit, c.build.Go, c.build.Arch, strconv.FormatUint(uint64(c.build.Filter.LayoutVersion), 10))
	m.send(engineInfo, 1, s.Engine)
	m.send(documentsInfo, 1, s.Policy, s.Binding)
	m.send(uptime, float64(s.UptimeS))

	m.send(stateWrites, float64(s.Saves.Done))
	m.send(stateWriteFailures, float64(s.Saves.Failed))
	m.send(stateWritten, flag(s.SaveError == ""))
	m.send(tpmErrors, float64(s.Saves.TPMErrors))

	m.send(keyInterval, float64(s.Keys.IntervalS))
	m.send(keyLimit, float64(s.Keys.LimitS))

	m.send(ringSlots, float64(s.Ring.Slots))
	m.send(ringPublished, float64(s.Ring.Published))
	m.send(ringReaders, float64(s.Readers))
	m.send(ringServed, float64(s.Ring.Served))
	m.send(ringRefused, float64(s.Ring.Unauthorized), "unauthorized")
	m.send(ringRefused, float64(s.Ring.TooMany), "too_many")

	// Suspect is not a fault yet: it is told by the state.
	m.send(fault, flag(s.Ring.Fault == ring.FaultRaised.String() || s.Ring.Fault == ring.FaultLatched.String()))
	m.oneOf(faultState, s.Ring.Fault, faultStates())
	m.send(faultChanges, float64(s.Ring.FaultChanges))
	faults(m, s)
}

// faults sends what is known of events, and which sources cannot be trusted. Kinds are a fixed list, destinations and sources those of the
// binding.
func faults(m sender, s *agent.Status) {
	raised := make(map[string]bool)
	for i := range s.Streams {
		if source := s.Streams[i].Source; source != "" {
			raised[source] = false
		}
	}
	for _, f := range s.Fault.Faults {
		if _, known := raised[f.Name]; known && f.Advice != "" {
			raised[f.Name] = true
		}
	}
	for source, yes := range raised {
		m.send(sourceFault, flag(yes), source)
	}
	for _, k := range kind.All() {
		m.send(events, float64(s.Events.Counts[k.String()]), k.String())
	}
	for _, d := range s.Events.Destinations {
		m.send(eventsDelivered, float64(d.Delivered), d.Name)
		m.send(eventsWaiting, float64(d.Waiting), d.Name)
		m.send(eventFailures, float64(d.Failures), d.Name)
	}
}

func bus(m sender, i *agent.InterfaceStatus) {
	for v := range loader.NumVerdicts {
		f := filterFrames
		if loader.Verdict(v) >= loader.Accepted {
			f = agentFrames
		}
		name := loader.Verdict(v).String()
		m.send(f, float64(i.Verdicts[name]), i.Name, name)
	}
	m.send(candidatesUsed, float64(i.RingUsed), i.Name)
	m.send(candidatesSize, float64(i.RingSize), i.Name)
	m.send(controlUsed, float64(i.Control.Used), i.Name)
	m.send(controlSize, float64(i.Control.Size), i.Name)
	m.send(interfaceUp, flag(i.Link.State == agent.LinkUp), i.Name)
	m.oneOf(interfaceState, i.Link.State, []string{agent.LinkUp, agent.LinkDown, agent.LinkAbsent}, i.Name)
	m.send(interfaceAttached, flag(i.Link.Attached), i.Name)
	m.send(interfaceReattached, float64(i.Link.Reattached), i.Name)
	m.oneOf(controllerState, i.Link.Controller, controllerStates(), i.Name)
}

func node(m sender, n *agent.NodeStatus) {
	m.send(nodeInfo, 1, n.Name, n.KID)
	m.send(nodeHighest, float64(n.Verified), n.Name)
	m.send(nodeEpochs, float64(len(n.Epochs)), n.Name)
	if len(n.Epochs) == 0 {
		return // there is no age of no key; node_epochs tells it
	}
	newest := n.Epochs[len(n.Epochs)-1]
	m.send(nodeEpoch, float64(newest.Number), n.Name)
	m.send(nodeKeyAge, float64(newest.AgeS), n.Name)
}

func stream(m sender, t *agent.StreamStatus, uptimeS int64) {
	labels := []string{strconv.FormatUint(uint64(t.Stream), 10), t.Interface, t.Node, t.Source}
	m.send(streamInfo, 1, append(labels, t.CANID, t.Role, t.Sensitivity, t.SamplingRate)...)
	m.send(streamHighest, float64(t.Highest), labels...)
	m.send(streamCeiling, float64(t.Ceiling), labels...)
	m.send(streamMissing, float64(t.Missing), labels...)
	m.send(streamDeleted, float64(t.Deleted), labels...)
	m.send(streamCorrected, float64(t.Corrected), labels...)
	m.send(streamShed, float64(t.Shed), labels...)
	// All of them, so that nobody who can send frames makes a series.
	for _, v := range loader.StreamVerdicts() {
		m.send(streamRefused, float64(t.Refused[v.String()]), append(labels, v.String())...)
	}
	m.send(streamPeriod, t.PeriodMS/1e3, labels...)
	if t.Source == "" {
		return // heartbeats are not published
	}
	m.send(streamCommitted, float64(t.Committed), labels...)
	m.send(streamPublished, float64(t.Published), labels...)
	m.send(streamLost, float64(t.Lost), labels...)
	// A stream that has been silent since the agent began is as old as the agent, so that an alert needs no second rule for it.
	age := (time.Duration(uptimeS) * time.Second).Seconds()
	if t.SampleAgeMS != nil {
		age = float64(*t.SampleAgeMS) / 1e3
	}
	m.send(streamAge, age, labels...)
}

func faultStates() []string {
	return []string{ring.FaultNone.String(), ring.FaultSuspect.String(), ring.FaultRaised.String(), ring.FaultLatched.String()}
}

func controllerStates() (all []string) {
	for s := loader.CANErrorActive; s <= loader.CANSleeping; s++ {
		all = append(all, s.String())
	}
	return all
}
