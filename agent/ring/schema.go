// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"unsafe"
)

// tables is the stream table, the signal table and the string area in the form in which they lie in the memory.
type tables struct {
	streams []streamLayout
	signals []signalLayout
	strings []byte
}

// text puts s into the string area, once for equal strings: units repeat hundreds of times.
func (t *tables) text(seen map[string]uint32, s string) (offset, length uint32) {
	at, ok := seen[s]
	if !ok {
		at = uint32(len(t.strings))
		t.strings = append(t.strings, s...)
		seen[s] = at
	}
	return at, uint32(len(s))
}

// encodeTables lays out checked streams.
func encodeTables(streams []Stream) *tables {
	t := &tables{}
	seen := make(map[string]uint32)
	for i := range streams {
		s := &streams[i]
		e := streamLayout{
			StreamID:    s.ID,
			SourceID:    s.SourceID,
			CANID:       s.CANID,
			FirstSignal: uint32(len(t.signals)),
			SignalCount: uint32(len(s.Signals)),
			Sensitivity: uint8(s.Sensitivity),
			PeriodNs:    uint64(s.Period),
			SchemaHash:  hashSchema(s.Signals),
		}
		e.NameOffset, e.NameLength = t.text(seen, s.Name)
		e.SourceOffset, e.SourceLength = t.text(seen, s.Source)
		e.InterfaceOffset, e.InterfaceLength = t.text(seen, s.Interface)
		index := signalIndex(s.Signals)
		for j := range s.Signals {
			sig := &s.Signals[j]
			l := signalLayout{
				Start: sig.Start, Length: sig.Length,
				ByteOrder: uint8(sig.ByteOrder), ValueType: uint8(sig.ValueType),
				Multiplexor: noMultiplexor, MuxValue: sig.MuxValue,
				Factor: sig.factor(), Offset: sig.Offset,
			}
			l.NameOffset, l.NameLength = t.text(seen, sig.Name)
			l.UnitOffset, l.UnitLength = t.text(seen, sig.Unit)
			if sig.Multiplexor != "" {
				l.Multiplexor = uint32(index[sig.Multiplexor])
			}
			t.signals = append(t.signals, l)
		}
		t.streams = append(t.streams, e)
	}
	return t
}

// hashSchema is SHA-256 over the canonical form of a stream's signals as docs/ring.md defines it: what a reader needs
// to know that bodies still have the layout it was written for.
func hashSchema(signals []Signal) [32]byte {
	index := signalIndex(signals)
	var b []byte
	for i := range signals {
		s := &signals[i]
		mux := uint32(noMultiplexor)
		if s.Multiplexor != "" {
			mux = uint32(index[s.Multiplexor])
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Name)))
		b = append(b, s.Name...)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Unit)))
		b = append(b, s.Unit...)
		b = binary.LittleEndian.AppendUint16(b, s.Start)
		b = binary.LittleEndian.AppendUint16(b, s.Length)
		b = append(b, byte(s.ByteOrder), byte(s.ValueType))
		b = binary.LittleEndian.AppendUint32(b, mux)
		b = binary.LittleEndian.AppendUint32(b, s.MuxValue)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.factor()))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.Offset))
	}
	return sha256.Sum256(b)
}

// bytesOf returns the memory of a slice of layout structures.
func bytesOf[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(s[0])))
}
