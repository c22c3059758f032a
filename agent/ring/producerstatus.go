// SPDX-License-Identifier: Apache-2.0

package ring

import "sync/atomic"

// ProducerStatus is what the writing end says of its ring.
type ProducerStatus struct {
	Slots        int
	Published    uint64 // samples since the producer's start
	Fault        FaultState
	FaultChanges uint32
}

// Status returns the counts of now.
func (p *Producer) Status() ProducerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ProducerStatus{
		Slots: int(p.slotCount), Published: p.tail, Fault: FaultState(p.faults), FaultChanges: uint32(p.faults >> 32),
	}
}

// LastPublish returns when the newest sample of a stream was published, on CLOCK_BOOTTIME in ns. ok is false where the
// ring has had none, and when the producer is closed.
func (p *Producer) LastPublish(stream uint32) (ns int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == nil || uint64(stream) >= uint64(p.streams) {
		return 0, false
	}
	// Markers are stored under this lock. The time may be that of a sample that is about to be published, which is no older.
	s := &p.latestAt(stream).Slot
	return atomic.LoadInt64(&s.PublishTime), s.Marker != 0
}
