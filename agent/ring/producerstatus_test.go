// SPDX-License-Identifier: Apache-2.0

package ring

import "testing"

func TestProducerStatus(t *testing.T) {
	p, err := NewProducer(Config{Slots: 64, Streams: []Stream{{ID: 1, Name: "a", Interface: "can0"}, {ID: 2, Name: "b", Interface: "can0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Status(); got != (ProducerStatus{Slots: 64}) {
		t.Errorf("new: %+v", got)
	}
	if _, ok := p.LastPublish(0); ok {
		t.Error("an empty ring has a last sample")
	}
	before := boottime()
	if err := p.Publish([]Sample{{Stream: 1, Counter: 7}, {Stream: 1, Counter: 8}}); err != nil {
		t.Fatal(err)
	}
	// Drawn up where readers find it, as an agent does.
	d, err := p.Begin(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := d.At(0)
	d.Stamp(s, 0)
	s.Stream = 0
	s.Describe(0, 0, 0)
	if _, ok := p.LastPublish(0); ok {
		t.Error("a draft is a last sample")
	}
	if err := p.End(&d, 1, []uint32{0}); err != nil {
		t.Fatal(err)
	}
	if ns, ok := p.LastPublish(0); !ok || ns < before || ns > boottime() {
		t.Errorf("drawn up and published at %d, %v", ns, ok)
	}
	p.SetFault(FaultSuspect)
	p.SetFault(FaultLatched)
	if got := p.Status(); got != (ProducerStatus{Slots: 64, Published: 3, Fault: FaultLatched, FaultChanges: 2}) {
		t.Errorf("after three samples and two changes: %+v", got)
	}
	if ns, ok := p.LastPublish(1); !ok || ns < before || ns > boottime() {
		t.Errorf("published at %d, %v", ns, ok)
	}
	for _, stream := range []uint32{2, 1 << 31} {
		if ns, ok := p.LastPublish(stream); ok {
			t.Errorf("stream %d has a sample of %d", stream, ns)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.LastPublish(1); ok {
		t.Error("a closed ring has a last sample")
	}
}
