// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// ErrFaultBusy says that the fault record was being written each time that it was looked at, or that its writer died in between.
var ErrFaultBusy = errors.New("the fault record is being written")

// What a fault record has room for.
const (
	FaultSources = 4
	FaultKinds   = 6
)

// faultMinor is the minor version from which on a ring has a fault record.
const faultMinor = 2

// FaultCauses is a set of causes of the evidence for a fault.
type FaultCauses uint32

// The causes.
const (
	FaultForgeable     FaultCauses = 1 << iota // evidence that anyone on the bus can bring about
	FaultAuthenticated                         // evidence that only frames give that have verified, or their absence
	FaultLocal                                 // evidence against the gateway itself
)

// FaultRecord says which data sources a standing security fault is about and what speaks for it, in what fits into the ring: the rest is asked of
// the agent. The zero value says that there is no fault.
type FaultRecord struct {
	Time    int64 // CLOCK_BOOTTIME in ns when it was so
	Causes  FaultCauses
	Sources uint32 // how many data sources cannot be trusted
	// SourceIDs are the first of them, by the id in the stream table.
	SourceIDs [FaultSources]uint32
	Kinds     uint32 // how many kinds of events speak for the fault
	// Kind and Count are those with most events: the number of the kind, and how many there were against one source.
	Kind  [FaultKinds]uint16
	Count [FaultKinds]uint64
}

// same reports whether two records say the same, whenever they do.
func (r FaultRecord) same(o FaultRecord) bool {
	r.Time = o.Time
	return r == o
}

const faultWords = unsafe.Sizeof(FaultRecord{}) / 8

// recordWords are the words of the record in a header. The fields stand there as in FaultRecord.
func (h *headerLayout) recordWords() *[faultWords]uint64 {
	return (*[faultWords]uint64)(unsafe.Pointer(&h.RecordTime))
}

// SetFaultRecord shows readers a record. One that says the same as the last is not written again.
func (p *Producer) SetFaultRecord(r FaultRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == nil || r.same(p.record) {
		return
	}
	p.record = r
	// A sequence lock: begin, words, end. Each is a release store, and none of them passes the one before.
	begin := p.header.RecordBegin + 1
	atomic.StoreUint64(&p.header.RecordBegin, begin)
	from, to := (*[faultWords]uint64)(unsafe.Pointer(&r)), p.header.recordWords()
	for i := range from {
		atomic.StoreUint64(&to[i], from[i])
	}
	atomic.StoreUint64(&p.header.RecordEnd, begin)
}

// FaultRecord returns which sources the standing security fault is about; the zero value if there is none, or if the producer is one that
// does not say. ErrFaultBusy means that it was being written.
func (r *Reader) FaultRecord() (FaultRecord, error) {
	const attempts = 100
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed.Load() {
		return FaultRecord{}, fmt.Errorf("read fault record: %w", ErrClosed)
	}
	v := r.link.view
	if v.minor < faultMinor {
		return FaultRecord{}, nil
	}
	for range attempts {
		var f FaultRecord
		end := atomic.LoadUint64(&v.header.RecordEnd)
		from, to := v.header.recordWords(), (*[faultWords]uint64)(unsafe.Pointer(&f))
		for i := range from {
			to[i] = atomic.LoadUint64(&from[i])
		}
		if atomic.LoadUint64(&v.header.RecordBegin) == end {
			return f, nil
		}
		runtime.Gosched() // the producer may be waiting for this very processor
	}
	return FaultRecord{}, fmt.Errorf("read fault record: %w", ErrFaultBusy)
}
