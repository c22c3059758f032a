// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// Status is what the header of a ring says now.
type Status struct {
	Generation      uint64
	Major, Minor    uint16
	ProducerPID     int
	Created         int64 // CLOCK_BOOTTIME in ns
	Slots           int
	BodyMax         int
	Published       uint64        // samples since the producer's start
	Heartbeat       time.Duration // age
	HeartbeatPeriod time.Duration
	Fault           FaultState
	FaultChanges    uint32
	Closed          bool // the producer ended in an orderly way
	Gone            bool // the socket has ended
}

// Missed returns how many samples were overwritten before this reader could read them: since Dial, every position was
// either returned by Next or counted here.
func (r *Reader) Missed() uint64 { return r.missed.Load() }

// Reconnects returns how often a new connection replaced one that had ended.
func (r *Reader) Reconnects() uint64 { return r.reconnects.Load() }

// Generation returns the random number of the present ring. It changes with the producer.
func (r *Reader) Generation() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.link.view.generation
}

// Streams returns the stream table of the present ring. The caller must not change it.
func (r *Reader) Streams() []Stream {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.link.view.streams
}

// Stream returns the entry for Sample.Stream. The index of a sample of the present ring is always in range.
func (r *Reader) Stream(index uint32) *Stream { return &r.Streams()[index] }

// Lookup returns the index of the stream with the given id.
func (r *Reader) Lookup(id uint32) (index uint32, ok bool) {
	streams := r.Streams()
	for i := range streams {
		if streams[i].ID == id {
			return uint32(i), true
		}
	}
	return 0, false
}

// Status reads the header.
func (r *Reader) Status() (Status, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed.Load() {
		return Status{}, fmt.Errorf("get status of ring: %w", ErrClosed)
	}
	v := r.link.view
	fault := atomic.LoadUint64(&v.header.Fault)
	return Status{
		Generation:      v.generation,
		Major:           MajorVersion,
		Minor:           v.minor,
		ProducerPID:     v.producerPID,
		Created:         v.created,
		Slots:           int(v.slotCount),
		BodyMax:         v.bodyMax,
		Published:       v.tail(),
		Heartbeat:       time.Duration(boottime() - atomic.LoadInt64(&v.header.Heartbeat)),
		HeartbeatPeriod: v.heartbeatPeriod,
		Fault:           FaultState(fault),
		FaultChanges:    uint32(fault >> 32),
		Closed:          atomic.LoadUint32(&v.header.State) == stateClosed,
		Gone:            r.link.gone.Load(),
	}, nil
}

// Latest copies the newest sample of a stream into dst, whatever has been read or overwritten, and reports whether
// there is one. dst.Body is overwritten and grown as needed. ErrLatestBusy means that the producer kept writing the
// value, or died in the middle of it.
func (r *Reader) Latest(stream uint32, dst *Sample) (bool, error) {
	const attempts = 100
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed.Load() {
		return false, fmt.Errorf("read latest value: %w", ErrClosed)
	}
	v := r.link.view
	if uint64(stream) >= uint64(len(v.streams)) {
		return false, fmt.Errorf("read latest value: stream %d of %d", stream, len(v.streams))
	}
	r.latestMu.Lock()
	defer r.latestMu.Unlock()
	if len(r.latestBuf) < v.words {
		r.latestBuf = make([]uint64, v.words)
	}
	body := dst.Body[:0]
	for try := 1; ; try++ {
		ok, err := v.readLatest(stream, r.latestBuf, dst)
		if err == ErrLatestBusy && try < attempts {
			runtime.Gosched() // the producer may be waiting for this very processor
			continue
		}
		if err != nil || !ok {
			dst.Body = body
			if err != nil {
				err = fmt.Errorf("read latest value: %w", err)
			}
			return false, err
		}
		dst.Body = append(body, dst.Body...)
		return true, nil
	}
}
