// SPDX-License-Identifier: Apache-2.0

package event

import (
	"math/bits"
	"sync/atomic"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

// Note is a fact, or several of one kind about one subject.
type Note struct {
	Kind    kind.Kind
	Subject Subject
	Count   uint64 // 0 counts as 1
	Time    int64  // CLOCK_BOOTTIME in ns, of the last
	Epoch   uint32
	Counter uint64
	// LastCounter is the end of a range of counters; 0 if Counter is the only one.
	LastCounter uint64
	Highest     uint64 // highest counter of the stream that has verified
	// Frame is copied; nil if there is none.
	Frame *loader.CANFrame
}

// States of a cell.
const (
	cellFree uint32 = iota
	cellFilling
	cellReady
)

// cell sums up what was noted of one kind about one subject since it was last collected. It is a cache line long. count,
// lastTime and lastCounter belong to whoever notes; the rest to the one who has made the state cellFilling, then, as long as
// it is cellReady, to the collector.
type cell struct {
	count       atomic.Uint64
	lastTime    atomic.Int64
	lastCounter atomic.Uint64
	first       int64
	counter     uint64
	highest     uint64
	epoch       uint32
	state       atomic.Uint32
	frame       frameRef
}

// pendingWords is how many words have a bit for every kind.
const pendingWords = (int(kind.NumKinds) + 63) / 64

// Table takes notes. Its size is fixed: 64 bytes for every kind and subject, and the last offending frames. All methods are safe
// for concurrent use; one Collector may take from it.
type Table struct {
	dir     *Directory
	cells   []cell // by row and kind
	pending [][pendingWords]atomic.Uint64
	frames  [kind.NumKinds]*frameRing
}

// NewTable makes the table for the subjects of a directory.
func NewTable(d *Directory) *Table {
	t := &Table{dir: d, cells: make([]cell, d.rows()*int(kind.NumKinds)), pending: make([][pendingWords]atomic.Uint64, d.rows())}
	for _, k := range kind.All() {
		if c := k.Cause(); c == kind.CauseForgeable || c == kind.CauseAuthenticated {
			t.frames[k] = new(frameRing)
		}
	}
	return t
}

// Directory returns the directory of the subjects.
func (t *Table) Directory() *Directory { return t.dir }

func (t *Table) cell(row int, k kind.Kind) *cell { return &t.cells[row*int(kind.NumKinds)+int(k)] }

// Note counts a fact. It does not allocate, lock or wait, and keeps no pointer. A fact about something that the table does not
// know counts as kind.Misdirected about the gateway.
func (t *Table) Note(n *Note) {
	k := n.Kind
	row, ok := t.dir.row(n.Subject)
	if !ok || !k.Valid() {
		row, k = 0, kind.Misdirected
	}
	c := t.cell(row, k)
	count, last := max(n.Count, 1), max(n.LastCounter, n.Counter)
	// Few frames are kept until the cell is collected, whatever the rate.
	var ref frameRef
	if n.Frame != nil && t.frames[k] != nil && c.count.Load() < framesPerTurn {
		ref = t.frames[k].put(uint32(row), n.Time, n.Frame)
	}
	if c.state.Load() == cellFree && c.state.CompareAndSwap(cellFree, cellFilling) {
		c.first, c.counter, c.highest, c.epoch, c.frame = n.Time, n.Counter, n.Highest, n.Epoch, ref
		c.state.Store(cellReady)
	}
	c.lastTime.Store(n.Time)
	c.lastCounter.Store(last)
	c.count.Add(count)
	// Last, so that whoever finds the bit finds the count. One that is set already is not written: a flood would take the
	// line away from all others.
	if w, bit := &t.pending[row][k/64], uint64(1)<<(k%64); w.Load()&bit == 0 {
		w.Or(bit)
	}
}

// waiting returns how many facts of a cell wait to be collected.
func (t *Table) waiting(row int, k kind.Kind) uint64 { return t.cell(row, k).count.Load() }

// each calls f for every cell that has something, in the order of rows from start on, around. It ends when f returns false.
func (t *Table) each(start int, f func(row int, k kind.Kind) bool) {
	for i := range t.pending {
		row := (start + i) % len(t.pending)
		for w := range pendingWords {
			for set := t.pending[row][w].Load(); set != 0; set &= set - 1 {
				if !f(row, kind.Kind(w*64+bits.TrailingZeros64(set))) {
					return
				}
			}
		}
	}
}

// taken is what a cell held.
type taken struct {
	count           uint64
	first, last     int64
	counter, lastCt uint64
	highest         uint64
	epoch           uint32
	frame           *loader.CANFrame
}

// take empties a cell. Facts noted meanwhile are counted now or the next time, never twice and never not; their details may
// be those of a fact counted just before.
func (t *Table) take(row int, k kind.Kind) (x taken, ok bool) {
	c := t.cell(row, k)
	t.pending[row][k/64].And(^(uint64(1) << (k % 64)))
	x.count = c.count.Swap(0)
	if x.count == 0 {
		return x, false
	}
	x.last, x.lastCt = c.lastTime.Load(), c.lastCounter.Load()
	if c.state.Load() == cellReady {
		x.first, x.counter, x.highest, x.epoch = c.first, c.counter, c.highest, c.epoch
		if t.frames[k] != nil {
			x.frame = t.frames[k].get(c.frame)
		}
		c.state.Store(cellFree)
	} else {
		x.first, x.counter = x.last, x.lastCt
	}
	x.first = min(x.first, x.last)
	return x, true
}
