// SPDX-License-Identifier: Apache-2.0

package ring

import "unsafe"

// Values of the layout that every reader checks. The table in docs/ring.md describes the whole layout.
const (
	// Magic opens the header and the hello message.
	Magic = "CELLWARD"
	// MajorVersion changes when an older reader would misread the ring; a reader refuses any other.
	MajorVersion = 1
	// MinorVersion counts additions that an older reader may ignore; a reader refuses a lower one than it needs.
	MinorVersion = 2
	// leastMinor is what this reader needs, followMinor that of servers which readers may follow.
	leastMinor, followMinor = 0, 1
	// endianTag is stored in the producer's byte order: a reader of the other order sees it reversed.
	endianTag = 0x01020304
	// clockBoottime is CLOCK_BOOTTIME of <linux/time.h>, the clock of every time stamp in the ring.
	clockBoottime = 7

	stateReady  = 1 // everything above the hot words is final
	stateClosed = 2 // the producer ended in an orderly way

	lineSize = 64
	// noMultiplexor marks a signal that is present in every body.
	noMultiplexor = 0xffffffff
)

// Limits that keep every offset of the layout far below 2^31.
const (
	maxStreams = 4096 // protocol limit for one gateway
	maxSignals = 1 << 18
	maxStrings = 1 << 24
	maxSlots   = 1 << 24
	maxBody    = 1<<16 - 1 // slot.length has 16 bits
	maxSize    = 1 << 30
)

// headerLayout is the start of the shared memory. The hot words (intent, tail, heartbeat, fault) are 128 bytes apart:
// a cache line each, and a pair of lines each for processors that fetch lines in pairs.
type headerLayout struct {
	Magic             [8]byte
	EndianTag         uint32
	Major             uint16
	Minor             uint16
	HeaderLength      uint32
	ClockID           uint32
	Generation        uint64
	FileSize          uint64
	CreatedNs         int64
	HeartbeatPeriodNs uint64
	ProducerPID       uint32
	BodyMax           uint32
	SlotsOffset       uint64
	SlotSize          uint32
	SlotCount         uint32
	LatestOffset      uint64
	LatestSize        uint32
	StreamCount       uint32
	StreamsOffset     uint64
	StreamSize        uint32
	SignalCount       uint32
	SignalsOffset     uint64
	SignalSize        uint32
	StringsLength     uint32
	StringsOffset     uint64
	Checksum          uint32
	_                 [116]byte
	State             uint32
	_                 [252]byte
	Intent            uint64
	_                 [120]byte
	Tail              uint64 // its low 32 bits are the futex word
	_                 [120]byte
	Heartbeat         int64
	_                 [120]byte
	Fault             uint64
	RecordBegin       uint64 // of the fault record that is being written, or was last
	RecordEnd         uint64 // of the one that was written last
	RecordTime        int64  // from here on as FaultRecord
	RecordCauses      uint32
	RecordSources     uint32
	RecordSourceIDs   [FaultSources]uint32
	RecordKinds       uint32
	RecordKind        [FaultKinds]uint16
	RecordCount       [FaultKinds]uint64
	_                 [8]byte
}

// streamLayout is one entry of the stream table. Strings are {offset, length} pairs into the string area.
type streamLayout struct {
	StreamID        uint32
	SourceID        uint32
	CANID           uint32
	FirstSignal     uint32
	SignalCount     uint32
	Sensitivity     uint8
	_               [3]byte
	PeriodNs        uint64
	NameOffset      uint32
	NameLength      uint32
	SourceOffset    uint32
	SourceLength    uint32
	InterfaceOffset uint32
	InterfaceLength uint32
	_               [8]byte
	SchemaHash      [32]byte
	_               [32]byte
}

// signalLayout is one entry of the signal table.
type signalLayout struct {
	NameOffset  uint32
	NameLength  uint32
	UnitOffset  uint32
	UnitLength  uint32
	Start       uint16
	Length      uint16
	ByteOrder   uint8
	ValueType   uint8
	_           [2]byte
	Multiplexor uint32
	MuxValue    uint32
	Factor      float64
	Offset      float64
	_           [16]byte
}

// slotLayout is the head of a slot; the body follows it.
type slotLayout struct {
	Marker      uint64
	Stream      uint32
	Epoch       uint32
	Counter     uint64
	SourceTime  uint32
	Flags       uint16
	Length      uint16
	ReceiveTime int64
	PublishTime int64
}

// latestLayout is the head of an entry of the latest-value area; the body follows it. Slot.Marker is the closing half
// of its sequence lock, Begin the opening half.
type latestLayout struct {
	Begin uint64
	Slot  slotLayout
}

// helloLayout is the one message that the server sends on the socket.
type helloLayout struct {
	Magic      [8]byte
	Major      uint16
	Minor      uint16
	Status     uint32
	Generation uint64
	FileSize   uint64
}

const (
	headerSize     = int(unsafe.Sizeof(headerLayout{}))
	streamSize     = int(unsafe.Sizeof(streamLayout{}))
	signalSize     = int(unsafe.Sizeof(signalLayout{}))
	slotHeadSize   = int(unsafe.Sizeof(slotLayout{}))
	latestHeadSize = int(unsafe.Sizeof(latestLayout{}))
	helloSize      = int(unsafe.Sizeof(helloLayout{}))

	slotHeadWords = slotHeadSize / 8
	// checksumStart is where the checksum itself lies: it covers the header before it and the tables.
	checksumStart = int(unsafe.Offsetof(headerLayout{}.Checksum))
)

// roundUp rounds n up to a multiple of unit.
func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// slotSizeFor returns the size of a slot for bodies of up to body bytes: the fewest cache lines that hold it, because
// the transfer of lines between cores is the latency of the ring.
func slotSizeFor(body int) int { return roundUp(slotHeadSize+body, lineSize) }

func latestSizeFor(body int) int { return roundUp(latestHeadSize+body, lineSize) }
