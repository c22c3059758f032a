// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"time"
	"unsafe"
)

// geometry is a checked, private copy of everything in the memory that does not change. Nothing read after the check
// comes from the shared header again, so no later change there can lead an access out of bounds.
type geometry struct {
	minor           uint16
	generation      uint64
	created         int64
	heartbeatPeriod time.Duration
	producerPID     int
	bodyMax         int
	slotsOffset     int
	slotSize        int
	slotCount       uint64
	latestOffset    int
	latestSize      int
	streams         []Stream
}

// parse checks the memory of a ring against docs/ring.md. It returns ErrVersion for an unknown layout and a LayoutError
// which names the field for anything else. mem must be aligned to 8 bytes.
func parse(mem []byte) (*geometry, error) {
	if len(mem) < headerSize {
		return nil, damaged("file_size", "%d bytes cannot hold the header of %d", len(mem), headerSize)
	}
	shared := (*headerLayout)(unsafe.Pointer(unsafe.SliceData(mem)))
	// The state is the last word that a producer writes before it hands the memory over: loaded first, it orders
	// the rest of the header.
	state := atomic.LoadUint32(&shared.State)
	var h headerLayout
	copy(bytesOf(unsafe.Slice(&h, 1))[:checksumStart+4], mem)

	switch {
	case string(h.Magic[:]) != Magic:
		return nil, damaged("magic", "%q", h.Magic[:])
	case h.EndianTag != endianTag:
		return nil, damaged("endian_tag", "%#x, want %#x: another byte order", h.EndianTag, uint32(endianTag))
	case h.Major != MajorVersion || h.Minor < leastMinor:
		return nil, fmt.Errorf("%w: %d.%d, this reader knows %d and needs %d.%d or later",
			ErrVersion, h.Major, h.Minor, MajorVersion, MajorVersion, leastMinor)
	case state != stateReady && state != stateClosed:
		return nil, damaged("state", "%d: not ready", state)
	case int64(h.HeaderLength) < int64(headerSize) || int64(h.HeaderLength) > int64(len(mem)) || h.HeaderLength%lineSize != 0:
		return nil, damaged("header_length", "%d", h.HeaderLength)
	case h.ClockID != clockBoottime:
		return nil, damaged("clock_id", "%d, want %d (CLOCK_BOOTTIME)", h.ClockID, clockBoottime)
	case h.FileSize != uint64(len(mem)):
		return nil, damaged("file_size", "%d, but the memory has %d bytes", h.FileSize, len(mem))
	case h.HeartbeatPeriodNs == 0 || h.HeartbeatPeriodNs > uint64(time.Hour):
		return nil, damaged("heartbeat_period_ns", "%d", h.HeartbeatPeriodNs)
	case h.BodyMax > maxBody:
		return nil, damaged("body_max", "%d", h.BodyMax)
	case int64(h.SlotSize) != int64(slotSizeFor(int(h.BodyMax))):
		return nil, damaged("slot_size", "%d for bodies of up to %d bytes", h.SlotSize, h.BodyMax)
	case h.SlotCount < 2 || h.SlotCount > maxSlots || h.SlotCount&(h.SlotCount-1) != 0:
		return nil, damaged("slot_count", "%d", h.SlotCount)
	case int64(h.LatestSize) != int64(latestSizeFor(int(h.BodyMax))):
		return nil, damaged("latest_size", "%d for bodies of up to %d bytes", h.LatestSize, h.BodyMax)
	case h.StreamCount > maxStreams:
		return nil, damaged("stream_count", "%d", h.StreamCount)
	case int(h.StreamSize) != streamSize:
		return nil, damaged("stream_size", "%d, want %d", h.StreamSize, streamSize)
	case h.SignalCount > maxSignals:
		return nil, damaged("signal_count", "%d", h.SignalCount)
	case int(h.SignalSize) != signalSize:
		return nil, damaged("signal_size", "%d, want %d", h.SignalSize, signalSize)
	case h.StringsLength > maxStrings:
		return nil, damaged("strings_length", "%d", h.StringsLength)
	}

	// The regions follow one another in this order, each aligned to a line, so that none overlaps another.
	at := uint64(h.HeaderLength)
	for _, r := range []struct {
		field          string
		offset, length uint64
	}{
		{"streams_offset", h.StreamsOffset, uint64(h.StreamCount) * uint64(h.StreamSize)},
		{"signals_offset", h.SignalsOffset, uint64(h.SignalCount) * uint64(h.SignalSize)},
		{"strings_offset", h.StringsOffset, uint64(h.StringsLength)},
		{"latest_offset", h.LatestOffset, uint64(h.StreamCount) * uint64(h.LatestSize)},
		{"slots_offset", h.SlotsOffset, uint64(h.SlotCount) * uint64(h.SlotSize)},
	} {
		size := uint64(len(mem))
		if r.offset%lineSize != 0 || r.offset < at || r.offset > size || r.length > size-r.offset {
			return nil, damaged(r.field, "%d bytes at %d, after %d, in memory of %d", r.length, r.offset, at, size)
		}
		at = r.offset + r.length
	}

	// Private copies: what is checked is what is used.
	streamBytes := bytes.Clone(mem[h.StreamsOffset:][:int(h.StreamCount)*streamSize])
	signalBytes := bytes.Clone(mem[h.SignalsOffset:][:int(h.SignalCount)*signalSize])
	text := string(mem[h.StringsOffset:][:h.StringsLength])
	streams, err := decodeTables(&h, streamBytes, signalBytes, text)
	if err != nil {
		return nil, err
	}
	// Last, because the checks above say more about what is wrong.
	if sum := checksum(&h, streamBytes, signalBytes, []byte(text)); sum != h.Checksum {
		return nil, damaged("checksum", "%#x, want %#x", h.Checksum, sum)
	}
	// The tail is loaded first: the intent only grows, so a later reading of it is never below.
	tail := atomic.LoadUint64(&shared.Tail)
	if intent := atomic.LoadUint64(&shared.Intent); intent < tail || intent > 1<<62 {
		return nil, damaged("intent", "%d with a tail of %d", intent, tail)
	}
	return &geometry{
		minor:           h.Minor,
		generation:      h.Generation,
		created:         h.CreatedNs,
		heartbeatPeriod: time.Duration(h.HeartbeatPeriodNs),
		producerPID:     int(h.ProducerPID),
		bodyMax:         int(h.BodyMax),
		slotsOffset:     int(h.SlotsOffset),
		slotSize:        int(h.SlotSize),
		slotCount:       uint64(h.SlotCount),
		latestOffset:    int(h.LatestOffset),
		latestSize:      int(h.LatestSize),
		streams:         streams,
	}, nil
}

// checksum is CRC-32 (IEEE 802.3) over the header in front of the checksum and the three tables.
func checksum(h *headerLayout, streams, signals, text []byte) uint32 {
	sum := crc32.ChecksumIEEE(bytesOf(unsafe.Slice(h, 1))[:checksumStart])
	for _, b := range [][]byte{streams, signals, text} {
		sum = crc32.Update(sum, crc32.IEEETable, b)
	}
	return sum
}

func decodeTables(h *headerLayout, streamBytes, signalBytes []byte, text string) ([]Stream, error) {
	entries := make([]streamLayout, h.StreamCount)
	copy(bytesOf(entries), streamBytes)
	layouts := make([]signalLayout, h.SignalCount)
	copy(bytesOf(layouts), signalBytes)

	cut := func(field string, offset, length uint32, dst *string) error {
		if uint64(offset)+uint64(length) > uint64(len(text)) {
			return damaged(field, "%d bytes at %d in a string area of %d", length, offset, len(text))
		}
		*dst = text[offset:][:length]
		return nil
	}
	streams := make([]Stream, len(entries))
	next := uint32(0) // signals belong to the streams in order, each to one
	for i := range entries {
		e := &entries[i]
		place := fmt.Sprintf("streams[%d]", i)
		s := Stream{
			ID: e.StreamID, SourceID: e.SourceID, CANID: e.CANID,
			Period: time.Duration(e.PeriodNs), Sensitivity: Sensitivity(e.Sensitivity), SchemaHash: e.SchemaHash,
		}
		if err := errors.Join(
			cut(place+".name_offset", e.NameOffset, e.NameLength, &s.Name),
			cut(place+".source_offset", e.SourceOffset, e.SourceLength, &s.Source),
			cut(place+".interface_offset", e.InterfaceOffset, e.InterfaceLength, &s.Interface),
		); err != nil {
			return nil, err
		}
		if e.FirstSignal != next {
			return nil, damaged(place+".first_signal", "%d, want %d", e.FirstSignal, next)
		}
		if e.SignalCount > h.SignalCount-next {
			return nil, damaged(place+".signal_count", "%d, but %d are left", e.SignalCount, h.SignalCount-next)
		}
		mine := layouts[next:][:e.SignalCount]
		next += e.SignalCount
		if len(mine) > 0 {
			s.Signals = make([]Signal, len(mine))
		}
		for j := range mine {
			l, sig := &mine[j], &s.Signals[j]
			field := fmt.Sprintf("%s.signals[%d]", place, j)
			*sig = Signal{
				Start: l.Start, Length: l.Length, ByteOrder: ByteOrder(l.ByteOrder), ValueType: ValueType(l.ValueType),
				MuxValue: l.MuxValue, Factor: l.Factor, Offset: l.Offset,
			}
			if err := errors.Join(
				cut(field+".name_offset", l.NameOffset, l.NameLength, &sig.Name),
				cut(field+".unit_offset", l.UnitOffset, l.UnitLength, &sig.Unit),
			); err != nil {
				return nil, err
			}
			if l.Factor == 0 {
				return nil, damaged(field+".factor", "is 0")
			}
		}
		// A second round, because a multiplexor may stand behind the signals that it selects.
		for j := range mine {
			switch m := mine[j].Multiplexor; {
			case m == noMultiplexor:
			case m < uint32(len(mine)):
				s.Signals[j].Multiplexor = s.Signals[m].Name
			default:
				return nil, damaged(fmt.Sprintf("%s.signals[%d].multiplexor", place, j), "%d of %d signals", m, len(mine))
			}
		}
		streams[i] = s
	}
	if next != h.SignalCount {
		return nil, damaged("signal_count", "%d, but the streams have %d", h.SignalCount, next)
	}
	if err := checkStreams(streams, int(h.BodyMax)); err != nil {
		var f fieldError
		if errors.As(err, &f) {
			return nil, damaged(f.field, "%s", f.reason)
		}
		return nil, err
	}
	for i := range streams {
		if hashSchema(streams[i].Signals) != streams[i].SchemaHash {
			return nil, damaged(fmt.Sprintf("streams[%d].schema_hash", i), "is not that of the signals")
		}
	}
	return streams, nil
}
