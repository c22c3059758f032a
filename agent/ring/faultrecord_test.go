// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// numbered is a record all of whose words say the same number.
func numbered(n uint64) (r FaultRecord) {
	r.Time, r.Causes, r.Sources, r.Kinds = int64(n), FaultCauses(uint32(n)), uint32(n), uint32(n)
	for i := range r.SourceIDs {
		r.SourceIDs[i] = uint32(n)
	}
	for i := range r.Kind {
		r.Kind[i], r.Count[i] = uint16(n), n
	}
	return r
}

// TestFaultRecord writes records while two readers look: each of them sees whole ones, none older than one that it has seen.
func TestFaultRecord(t *testing.T) {
	p := newProducer(t, Config{Slots: 64, Streams: testStreams(1)})
	readers := []*Reader{attach(t, p, Options{}), attach(t, p, Options{})}
	for _, r := range readers {
		if f, err := r.FaultRecord(); err != nil || f != (FaultRecord{}) {
			t.Fatalf("at first %+v, %v", f, err)
		}
	}
	const last = 20_000
	var over atomic.Bool
	var wg sync.WaitGroup
	for _, r := range readers {
		wg.Go(func() {
			for seen := uint64(0); !over.Load(); {
				f, err := r.FaultRecord()
				if errors.Is(err, ErrFaultBusy) {
					continue
				}
				if err != nil || f != numbered(uint64(f.Time)) || uint64(f.Time) < seen {
					t.Errorf("behind %d: %+v, %v", seen, f, err)
					return
				}
				seen = uint64(f.Time)
			}
		})
	}
	for n := range uint64(last) {
		p.SetFaultRecord(numbered(n + 1))
	}
	over.Store(true)
	wg.Wait()
	before := p.header.RecordBegin
	again := numbered(last)
	again.Time++
	p.SetFaultRecord(again)
	if p.header.RecordBegin != before {
		t.Error("a record that says the same was written again")
	}
	// A writer that died in between is told from one that has not begun.
	atomic.AddUint64(&p.header.RecordBegin, 1)
	if _, err := readers[0].FaultRecord(); !errors.Is(err, ErrFaultBusy) {
		t.Errorf("half a record: %v", err)
	}
}
