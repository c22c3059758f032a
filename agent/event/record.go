// SPDX-License-Identifier: Apache-2.0

package event

import (
	"time"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// Record is one security event, or several of one kind about one subject. Fields that say nothing are zero.
type Record struct {
	Kind        kind.Kind
	Severity    kind.Severity
	Subject     Subject
	Sensitivity policy.Sensitivity // of the source, or the most sensitive of several

	Interface string
	Bus       uint8 // stable number of the interface
	Carrier   string
	CANID     policy.CANID
	HasCANID  bool // 0 is an identifier
	Stream    uint32
	Source    string
	Node      string

	Epoch       uint32
	Counter     uint64 // of the first; for a deletion the first that is missing
	LastCounter uint64 // of the last
	Window      Window
	Verdict     string // name of the verdict behind the event

	Count       uint64 // at least 1
	First, Last Instant

	BootID     [16]byte
	PolicyHash [32]byte

	// Frame is one of the frames, as it was on the bus; nil if none was kept.
	Frame *loader.CANFrame
	// Detail is one line of further text.
	Detail string
	// Fault is set for events about the BMS Security Fault.
	Fault *Fault
}

// Window is the state of a stream's replay window when the first of the events was noted.
type Window struct {
	Highest uint64 // highest counter that has verified
	Size    int    // counters
}

// Instant is a point in time on both clocks, each in ns: CLOCK_BOOTTIME, and the wall clock since 1970.
type Instant struct {
	Boot int64
	Wall int64
}

// Time returns the wall clock time in UTC.
func (i Instant) Time() time.Time { return time.Unix(0, i.Wall).UTC() }

// FaultName is what the fault is called wherever people read of it.
const FaultName = "BMS Security Fault"

// Fault is what a record says about the fault.
type Fault struct {
	From, To string // states
	Cause    kind.Cause
	Sources  []string // that cannot be trusted
	Advice   string
	Reason   string // of the operator who has cleared it
	Evidence []Evidence
}

// Evidence is what speaks for a fault: how often one kind of event was seen, and where.
type Evidence struct {
	Kind       kind.Kind
	Count      uint64
	Interfaces []string
	CANIDs     []policy.CANID
}

// severity derives the severity of an event: that of its kind where the most sensitive data is concerned, and one step lower
// for each step that the source is less sensitive. Of unknown sensitivity counts as the highest.
func severity(k kind.Kind, s policy.Sensitivity) kind.Severity {
	if s == 0 {
		return k.Severity()
	}
	return k.Severity().Lowered(int(policy.Critical) - int(s))
}

// Key is what records may be summed by.
type Key struct {
	Kind    kind.Kind
	Subject Subject
}

// Key returns kind and subject.
func (r *Record) Key() Key { return Key{r.Kind, r.Subject} }

// Merge adds a later record of the same key: counts are summed, the first frame and detail are kept.
func (r *Record) Merge(later *Record) {
	r.Count += later.Count
	if later.First.Boot < r.First.Boot {
		r.First, r.Counter = later.First, later.Counter
	}
	if later.Last.Boot >= r.Last.Boot {
		r.Last, r.LastCounter = later.Last, later.LastCounter
	}
	if r.Frame == nil {
		r.Frame = later.Frame
	}
	if r.Detail == "" {
		r.Detail = later.Detail
	}
	if later.Fault != nil {
		r.Fault = later.Fault
	}
}
