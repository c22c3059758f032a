// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Defaults of Config.
const (
	DefaultSlots           = 1 << 15
	DefaultBodyMax         = 36 // the longest body in one CAN FD frame
	DefaultHeartbeatPeriod = time.Second
)

// Config describes a ring. Streams is all that has no default.
type Config struct {
	// Streams becomes the stream table; a sample names its stream by the position here. At most 4,096.
	Streams []Stream
	// Slots is the number of samples that the ring keeps, rounded up to a power of two. 0: DefaultSlots.
	Slots int
	// BodyMax is the length of the longest body in bytes, at most 65,535. 0: DefaultBodyMax.
	BodyMax int
	// HeartbeatPeriod is the time within which the producer promises to publish or to beat. 0: DefaultHeartbeatPeriod.
	HeartbeatPeriod time.Duration
}

// Producer is the writing end of a ring. Its methods are safe for concurrent use, one at a time goes through.
type Producer struct {
	// drafting is held from Begin to End, and by whoever ends the ring: its memory stays while somebody writes there. mu
	// is for everything that changes without a batch, and is taken behind it. A batch changes tail, news and beat under drafting
	// alone, so these are read and written as words that several have.
	drafting   sync.Mutex
	mu         sync.Mutex
	memory     *memory
	base       unsafe.Pointer // nil when closed
	header     *headerLayout
	clock      *Clock
	generation uint64
	streams    int
	bodyMax    int
	slots      unsafe.Pointer
	slotSize   uintptr
	slotCount  uint64
	latest     unsafe.Pointer
	latestSize uintptr

	tail      uint64       // private copy of the shared word: this side never reads what it decides by from there
	newest    []uint64     // per stream: position + 1 of its newest sample
	lasts     []uint32     // of the part in progress: where the newest sample of each of its streams stands
	places    []place      // of the part in progress: those of these samples
	beat      atomic.Int64 // last heartbeat written
	beatEvery int64
	faults    uint64 // fault word
	record    FaultRecord
	finished  bool   // nothing more is published
	news      uint64 // 1: something was appended of which nobody was told

	listeners atomic.Int32 // readers that may be waiting; the server counts them
}

// NewProducer makes a ring of its own: a new generation with an empty history. Nobody sees it before Serve.
func NewProducer(cfg Config) (*Producer, error) {
	slots, bodyMax, period := cfg.Slots, cfg.BodyMax, cfg.HeartbeatPeriod
	if slots == 0 {
		slots = DefaultSlots
	}
	if bodyMax == 0 {
		bodyMax = DefaultBodyMax
	}
	if period == 0 {
		period = DefaultHeartbeatPeriod
	}
	switch {
	case slots < 0 || slots > maxSlots:
		return nil, fmt.Errorf("make ring: %d slots, at most %d are possible", slots, maxSlots)
	case bodyMax < 0 || bodyMax > maxBody:
		return nil, fmt.Errorf("make ring: bodies of %d bytes, at most %d are possible", bodyMax, maxBody)
	case period < time.Millisecond || period > time.Hour:
		return nil, fmt.Errorf("make ring: heartbeat period of %v is not between 1ms and 1h", period)
	case len(cfg.Streams) > maxStreams:
		return nil, fmt.Errorf("make ring: %d streams, at most %d are possible", len(cfg.Streams), maxStreams)
	}
	slots = 1 << bits.Len(uint(max(slots, 2)-1))
	if err := checkStreams(cfg.Streams, bodyMax); err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	t := encodeTables(cfg.Streams)
	if len(t.signals) > maxSignals {
		return nil, fmt.Errorf("make ring: %d signals, at most %d are possible", len(t.signals), maxSignals)
	}
	if len(t.strings) > maxStrings {
		return nil, fmt.Errorf("make ring: %d bytes of names and units, at most %d are possible", len(t.strings), maxStrings)
	}

	streamsOffset := headerSize
	signalsOffset := roundUp(streamsOffset+len(t.streams)*streamSize, lineSize)
	stringsOffset := roundUp(signalsOffset+len(t.signals)*signalSize, lineSize)
	latestOffset := roundUp(stringsOffset+len(t.strings), 2*lineSize)
	slotsOffset := roundUp(latestOffset+len(t.streams)*latestSizeFor(bodyMax), 2*lineSize)
	size := pageRound(slotsOffset + slots*slotSizeFor(bodyMax))
	if size > maxSize {
		return nil, fmt.Errorf("make ring: %d slots of %d bytes and %d streams need %d bytes, at most %d are possible",
			slots, slotSizeFor(bodyMax), len(t.streams), size, maxSize)
	}

	// Two rings never share a generation by chance, so a reader that comes back knows whether its position still means
	// something.
	var generation [8]byte
	if _, err := rand.Read(generation[:]); err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	m, err := newMemory(size)
	if err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	base := unsafe.Pointer(unsafe.SliceData(m.bytes))
	p := &Producer{
		memory:     m,
		base:       base,
		header:     (*headerLayout)(base),
		clock:      NewClock(),
		generation: binary.NativeEndian.Uint64(generation[:]),
		streams:    len(t.streams),
		bodyMax:    bodyMax,
		slots:      unsafe.Add(base, slotsOffset),
		slotSize:   uintptr(slotSizeFor(bodyMax)),
		slotCount:  uint64(slots),
		latest:     unsafe.Add(base, latestOffset),
		latestSize: uintptr(latestSizeFor(bodyMax)),
		newest:     make([]uint64, len(t.streams)),
		lasts:      make([]uint32, 0, len(t.streams)),
		places:     make([]place, len(t.streams)),
		// Publishing writes the heartbeat too, but not for every batch: it is one more line to transfer.
		beatEvery: int64(period) / 8,
	}
	created := p.clock.Now()
	p.beat.Store(created)

	copy(m.bytes[streamsOffset:], bytesOf(t.streams))
	copy(m.bytes[signalsOffset:], bytesOf(t.signals))
	copy(m.bytes[stringsOffset:], t.strings)
	h := p.header
	copy(h.Magic[:], Magic)
	h.EndianTag = endianTag
	h.Major, h.Minor = MajorVersion, MinorVersion
	h.HeaderLength = uint32(headerSize)
	h.ClockID = clockBoottime
	h.Generation = p.generation
	h.FileSize = uint64(size)
	h.CreatedNs = created
	h.HeartbeatPeriodNs = uint64(period)
	h.ProducerPID = uint32(os.Getpid())
	h.BodyMax = uint32(bodyMax)
	h.SlotsOffset, h.SlotSize, h.SlotCount = uint64(slotsOffset), uint32(p.slotSize), uint32(slots)
	h.LatestOffset, h.LatestSize = uint64(latestOffset), uint32(p.latestSize)
	h.StreamsOffset, h.StreamSize, h.StreamCount = uint64(streamsOffset), uint32(streamSize), uint32(len(t.streams))
	h.SignalsOffset, h.SignalSize, h.SignalCount = uint64(signalsOffset), uint32(signalSize), uint32(len(t.signals))
	h.StringsOffset, h.StringsLength = uint64(stringsOffset), uint32(len(t.strings))
	h.Checksum = checksum(h, bytesOf(t.streams), bytesOf(t.signals), t.strings)
	atomic.StoreInt64(&h.Heartbeat, created)
	atomic.StoreUint32(&h.State, stateReady) // last: whoever sees it sees everything above
	return p, nil
}

// Generation returns the random number of this ring.
func (p *Producer) Generation() uint64 { return p.generation }

// Published returns how many samples have been published.
func (p *Producer) Published() uint64 {
	return atomic.LoadUint64(&p.tail)
}

// Publish publishes a batch: all of it when it returns nil, nothing of it when it returns an error. On return the tail
// has been stored, so that every reader can see the samples and no crash of this process takes them back. A batch of
// more than half the ring is published in parts. The samples are copied. It allocates nothing.
func (p *Producer) Publish(batch []Sample) error {
	err := p.Append(batch)
	if err == nil && len(batch) > 0 {
		p.Wake()
	}
	return err
}

// Wake wakes the readers that wait, if anything was appended since they were woken last. Nobody but a connected reader can wait: the server counts a reader before it hands the
// memory over, so a reader that is not counted here maps the ring after the tail was stored and sees it without being woken.
// The lock is a full barrier: the tail has left this processor before the readers are counted.
func (p *Producer) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if atomic.SwapUint64(&p.news, 0) == 0 {
		return
	}
	if p.base != nil && p.listeners.Load() > 0 {
		wakeShared(tailFutex(p.header))
	}
}

// Append is Publish without waking anybody, for a caller that has a note to make in between: every reader that looks sees
// the samples, one that waits does so until Wake.
func (p *Producer) Append(batch []Sample) error {
	p.drafting.Lock()
	defer p.drafting.Unlock()
	if p.base == nil || p.finished {
		return fmt.Errorf("publish: %w", ErrClosed)
	}
	if err := p.check(batch); err != nil {
		return err
	}
	for most := p.most(); len(batch) > 0; {
		part := batch[:min(len(batch), most)]
		d := p.announce(len(part), batch[len(batch)-1].ReceiveTime)
		d.FetchAhead()
		for i := range part {
			d.put(i, &part[i])
		}
		p.commit(&d, len(part), p.findNewest(part))
		batch = batch[len(part):]
	}
	return nil
}

// aheadMost is how many slots are fetched ahead: as many as a batch of the agent has.
const aheadMost = 64

// check says what is wrong with a batch, before anything of it is stored.
func (p *Producer) check(batch []Sample) error {
	streams, bodyMax := uint64(p.streams), p.bodyMax
	for i := range batch {
		if s := &batch[i]; uint64(s.Stream) >= streams || len(s.Body) > bodyMax {
			return fmt.Errorf("publish sample %d of %d: stream %d of %d, body of %d bytes, at most %d",
				i, len(batch), s.Stream, streams, len(s.Body), bodyMax)
		}
	}
	return nil
}

func (p *Producer) slotAt(pos uint64) *slotLayout {
	return (*slotLayout)(unsafe.Add(p.slots, uintptr(pos&(p.slotCount-1))*p.slotSize))
}

func (p *Producer) latestAt(stream uint32) *latestLayout {
	return (*latestLayout)(unsafe.Add(p.latest, uintptr(stream)*p.latestSize))
}

// tailFutex returns the low half of the tail: a word that changes with every batch and costs no store of its own. A
// waiter would have to sleep through exactly a multiple of 2^32 samples to miss a change.
func tailFutex(h *headerLayout) *uint32 {
	p := unsafe.Pointer(&h.Tail)
	var probe uint16 = 1
	if *(*uint8)(unsafe.Pointer(&probe)) == 0 { // big endian
		p = unsafe.Add(p, 4)
	}
	return (*uint32)(p)
}

// Beat tells readers that the pipeline runs although it has nothing to publish. The pipeline itself calls it, at least
// once per heartbeat period: a heartbeat by anybody else would say nothing about the pipeline.
func (p *Producer) Beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base != nil {
		p.setHeartbeat(p.clock.Now())
	}
}

func (p *Producer) setHeartbeat(now int64) {
	p.beat.Store(now)
	atomic.StoreInt64(&p.header.Heartbeat, now)
}

// SetFault sets the state of the fault word. Its upper half counts the changes, so that a reader learns of a fault that
// came and went between two looks.
func (p *Producer) SetFault(state FaultState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == nil || FaultState(p.faults) == state {
		return
	}
	p.faults = (p.faults>>32+1)<<32 | uint64(state)
	atomic.StoreUint64(&p.header.Fault, p.faults)
}

// Fault returns the state of the fault word.
func (p *Producer) Fault() FaultState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return FaultState(p.faults)
}

// Finish marks the ring as ended in an orderly way: nothing more will be published. It comes before the server is closed, so
// that a reader whose connection ends can tell this end from a crash.
func (p *Producer) Finish() {
	p.drafting.Lock()
	defer p.drafting.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
}

func (p *Producer) finish() {
	if p.base == nil || p.finished {
		return
	}
	p.finished = true
	atomic.StoreUint32(&p.header.State, stateClosed)
	wakeShared(tailFutex(p.header))
}

// Close finishes the ring and releases this side's memory; readers keep theirs until they have read what is left. Close the
// server first. Closing twice is harmless.
func (p *Producer) Close() error {
	p.drafting.Lock()
	defer p.drafting.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == nil {
		return nil
	}
	p.finish()
	p.base, p.header, p.slots, p.latest = nil, nil, nil, nil
	p.memory.close()
	return nil
}
