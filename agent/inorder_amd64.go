// SPDX-License-Identifier: Apache-2.0

//go:build !race

//lint:file-ignore U1000 the constants are those of inorder_amd64.s

package agent

import (
	"unsafe"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// Offsets for inorder_amd64.s in what other packages declare.
const (
	opRecord   = unsafe.Offsetof(aead.Op{}.Record)
	opKey      = unsafe.Offsetof(aead.Op{}.Key)
	sizeofOp   = unsafe.Sizeof(aead.Op{})
	sizeofText = unsafe.Sizeof(spdu.TextFD{})
	textFront  = spdu.TextFrontFD

	slotMarker      = unsafe.Offsetof(ring.Slot{}.Marker)
	slotStream      = unsafe.Offsetof(ring.Slot{}.Stream)
	slotCounter     = unsafe.Offsetof(ring.Slot{}.Counter)
	slotSourceTime  = unsafe.Offsetof(ring.Slot{}.SourceTime)
	slotReceiveTime = unsafe.Offsetof(ring.Slot{}.ReceiveTime)
	slotPublishTime = unsafe.Offsetof(ring.Slot{}.PublishTime)
	sizeofSlot      = unsafe.Sizeof(ring.Slot{})

	sharedHint      = unsafe.Offsetof(loader.Window{}.HighestHint)
	sharedCommitted = unsafe.Offsetof(loader.Window{}.Committed)
	sharedWords     = unsafe.Offsetof(loader.Window{}.Words)
	knownHighest    = unsafe.Offsetof(loader.StartTable{}.HighestVerified)
	windowHighest   = replay.WindowHighest
	windowTop       = replay.WindowTop
	gapsNext        = replay.GapsNext
	gapsHighest     = replay.GapsHighest
	gapsNow         = replay.GapsNow

	spanFirst       = unsafe.Offsetof(ring.Span{}.First)
	spanStride      = unsafe.Offsetof(ring.Span{}.Stride)
	spanN           = unsafe.Offsetof(ring.Span{}.N)
	spanMarker      = unsafe.Offsetof(ring.Span{}.Marker)
	spanPublishTime = unsafe.Offsetof(ring.Span{}.PublishTime)
)

// The assembly steps through lanes and candidates by shifts: another size of either must not compile.
const (
	_ = 128 - unsafe.Sizeof(lane{})
	_ = unsafe.Sizeof(lane{}) - 128
	_ = 32 - unsafe.Sizeof(candidate{})
	_ = unsafe.Sizeof(candidate{}) - 32
)

// lookUpInOrder is lookUpInOrderPlain. It stores pointers without telling the garbage collector, which is right for these two: as
// long as a batch is on its way the lane refers to the key as well, and the caller to the record.
func (c *core) lookUpInOrder(batch []loader.Record, n int, since int64) int {
	room := min(len(batch), BatchSize-n)
	if room <= 0 || len(c.lanes) == 0 {
		return 0
	}
	return lookUpAMD64(c, &batch[0], room, n, since)
}

// fetchesAhead says that layDownInOrder asks for the places of the next batch.
const fetchesAhead = true

// layDownInOrder is layDownInOrderPlain.
func layDownInOrder(span *ring.Span, candidates []candidate, text []spdu.TextFD, padding *spdu.PaddingFD) int {
	if span.N <= 0 {
		return 0
	}
	return layDownAMD64(span, &candidates[:span.N][0], &text[:span.N][0], padding, span.Ahead())
}

// settleInOrder is settleInOrderPlain. The runs that leave the word in which their window's highest counter is, one in ten, are committed
// behind the others.
func (c *core) settleInOrder() {
	far := settleAMD64(c)
	for _, slot := range c.far[:far] {
		l := &c.lanes[slot]
		l.stream.window.CommitRun(l.next - 1)
		l.stream.shared.HighestHint.Store(l.next - 1)
	}
	c.touched, c.newest = c.touchedRoom[:c.nRuns], c.newestRoom[:c.nRuns]
}

//go:noescape
func settleAMD64(c *core) (far int)

//go:noescape
func lookUpAMD64(c *core, batch *loader.Record, records, n int, since int64) (taken int)

//go:noescape
func layDownAMD64(span *ring.Span, candidates *candidate, text *spdu.TextFD, padding *spdu.PaddingFD, ahead uintptr) (done int)
