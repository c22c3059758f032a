// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"structs"
	"sync/atomic"
)

// FramesWanted is struct cw_frames_wanted in shared memory: which of one stream's refused frames the filters hand over. A stream of which
// nothing was wanted yet has none handed over. Safe for concurrent use; only agents write.
type FramesWanted struct {
	_     structs.HostLayout
	until [16]atomic.Uint32
}

// Shown says whether frames of a verdict can be wanted: of those that are refused for what is in them.
func Shown(v Verdict) bool { return v >= PlaintextOnProtected && v <= Replay }

// Want has the filters hand over frames of the verdict v while the stream's counter of it ([StreamRefused]) is below until. Only the low 32
// bits of the two are compared, around: until must be less than 2^31 above the counter, and a want that has been met for 2^31 frames
// comes back. Without effect for a verdict that is not [Shown].
func (w *FramesWanted) Want(v Verdict, until uint64) {
	if Shown(v) {
		w.until[refusedIndex(v)].Store(uint32(until))
	}
}

// reset has no frame handed over of a stream of which none was counted. Nobody counts meanwhile.
func (w *FramesWanted) reset() {
	for i := range w.until {
		w.until[i].Store(0)
	}
}

// Offsets in struct cw_refused_frame.
const (
	refusedFrameAt   = recordAAD
	refusedVerdictAt = refusedFrameAt + CANFDMTU
	refusedFrameLen  = refusedVerdictAt + 8
)

// RefusedFrame is a frame that a filter has refused, as it was on the bus. Everything in it is unauthenticated.
type RefusedFrame struct {
	TimeNS   uint64 // CLOCK_BOOTTIME at the hook
	Slot     uint32 // of the stream
	StreamID uint32
	Iface    uint32 // interface slot
	Epoch    uint32 // 0 if the verdict came before the epoch was found
	Verdict  Verdict
	Frame    CANFrame // CANFDFDF is set in the flags of CAN FD
}

// RefusedFrame reads a record of [Bus.RefusedFrames]; ok is false for one of another layout.
func (r Record) RefusedFrame() (f RefusedFrame, ok bool) {
	n := r.SPDULen()
	if len(r) != refusedFrameLen || n != CANMTU && n != CANFDMTU {
		return f, false
	}
	f = RefusedFrame{
		TimeNS: r.TimeNS(), Slot: r.Slot(), StreamID: r.StreamID(), Iface: r.Iface(), Epoch: r.Epoch(),
		Verdict: Verdict(binary.LittleEndian.Uint32(r[refusedVerdictAt:])),
	}
	copy(f.Frame.view(n), r[refusedFrameAt:])
	f.Frame.Len = min(f.Frame.Len, uint8(n-8))
	if n == CANFDMTU {
		f.Frame.Flags |= CANFDFDF
	} else {
		f.Frame.Flags = 0 // padding there
	}
	return f, Shown(f.Verdict)
}
