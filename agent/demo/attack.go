// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// attackEvery is how many sealed frames pass between two injected ones.
const attackEvery = 4

// historyLimit bounds the recording from which old replays are taken.
const historyLimit = 4096

// stretch is how far ahead a near forgery claims its counter to be: inside any window.
const stretch = 32

// frame is one CAN frame on the wire of one bus. size says what kind it is: loader.CANMTU or loader.CANFDMTU.
type frame struct {
	loader.CANFrame
	bus  int
	size int
}

func (f *frame) payload() []byte { return f.Data[:min(int(f.Len), len(f.Data))] }

func (f *frame) counter() uint64 { return binary.LittleEndian.Uint64(f.Data[:]) >> 16 }

func (f *frame) setCounter(c uint64) {
	low := uint64(binary.LittleEndian.Uint16(f.Data[:]))
	binary.LittleEndian.PutUint64(f.Data[:], c<<16|low)
}

// attacker stands on the bus: it sees every sealed frame, drops none, and adds its own on protected identifiers. Every frame
// it adds must be refused, each exactly once. It is not safe for concurrent use.
type attacker struct {
	rng      *rand.Rand
	kinds    []kind
	next     int
	atATime  int
	all      bool // of the kinds, start records among them
	seen     int
	targets  []target
	history  []frame
	injected map[string]uint64
}

type target struct {
	bus int
	id  uint32
}

// kind makes one forged frame from a genuine one, or reports that it cannot yet.
type kind struct {
	name  string
	forge func(a *attacker, genuine *frame) (frame, bool)
}

// newAttacker makes one who adds frames of these kinds in turn, nil for all, so many at a time.
func newAttacker(seed uint64, kinds []string, atATime int) *attacker {
	a := &attacker{
		atATime: max(atATime, 1),
		rng:     rand.New(rand.NewPCG(seed, 0x61747461636b)),
		kinds: []kind{
			{"bit_flip", (*attacker).bitFlip},
			{"replay_recent", (*attacker).replayRecent},
			{"replay_old", (*attacker).replayOld},
			{"counter_near", (*attacker).counterNear},
			{"counter_far", (*attacker).counterFar},
			{"other_epoch", (*attacker).otherEpoch},
			{"truncation", (*attacker).truncation},
			{"odd_length", (*attacker).oddLength},
			{"plaintext", (*attacker).plaintext},
			{"plaintext_fd", (*attacker).plaintextFD},
			{"splice_id", (*attacker).spliceID},
			{"splice_bus", (*attacker).spliceBus},
			{"remote", (*attacker).remote},
			{"random", (*attacker).random},
		},
		injected: make(map[string]uint64),
	}
	if kinds != nil {
		a.kinds = slices.DeleteFunc(a.kinds, func(k kind) bool { return !slices.Contains(kinds, k.name) })
	}
	a.all = kinds == nil
	return a
}

// onSealed looks at a frame that has just gone over the wire and returns what to inject after it.
func (a *attacker) onSealed(f *frame) (forged []frame) {
	if f.size != loader.CANFDMTU || len(f.payload()) < spdu.MinSize {
		return nil
	}
	h, err := spdu.ParseHeader(f.payload())
	if err != nil {
		return nil
	}
	if h.Kind == spdu.KindStart && a.all {
		a.injected["start_altered"]++
		return []frame{a.alterStart(f)}
	}
	if h.Kind != spdu.KindSample {
		return nil
	}
	a.learn(f)
	a.seen++
	if a.seen%attackEvery != 0 {
		return nil
	}
	for range a.atATime {
		// In turn, so that every kind gets its share; a kind that cannot act yet lets the next one go first.
		for range a.kinds {
			k := a.kinds[a.next%len(a.kinds)]
			a.next++
			if g, ok := k.forge(a, f); ok {
				a.injected[k.name]++
				forged = append(forged, g)
				break
			}
		}
	}
	return forged
}

func (a *attacker) learn(f *frame) {
	t := target{f.bus, f.ID}
	if !slices.Contains(a.targets, t) {
		a.targets = append(a.targets, t)
	}
	if len(a.history) < historyLimit {
		a.history = append(a.history, *f)
	}
}

func (a *attacker) bitFlip(f *frame) (frame, bool) {
	g := *f
	bit := a.rng.IntN(8 * len(g.payload()))
	g.payload()[bit/8] ^= 1 << (bit % 8)
	return g, true
}

func (a *attacker) replayRecent(f *frame) (frame, bool) { return *f, true }

func (a *attacker) replayOld(*frame) (frame, bool) {
	return a.history[a.rng.IntN(len(a.history))], true
}

func (a *attacker) counterNear(f *frame) (frame, bool) {
	g := *f
	g.setCounter(f.counter() + 1 + uint64(a.rng.IntN(stretch)))
	return g, true
}

func (a *attacker) counterFar(f *frame) (frame, bool) {
	g := *f
	// Once inside what an epoch may count to, once beyond it.
	far := []uint64{1 << 20, 1 << 34, 1 << 46}
	g.setCounter((f.counter() + far[a.rng.IntN(len(far))]) & spdu.MaxCounter)
	return g, true
}

func (a *attacker) otherEpoch(f *frame) (frame, bool) {
	g := *f
	g.Data[1] += byte(1 + a.rng.IntN(255))
	return g, true
}

func (a *attacker) truncation(f *frame) (frame, bool) {
	g := *f
	shorter := [...]uint8{0, 1, 8, 12, 16, 20, 24}
	g.Len = shorter[a.rng.IntN(len(shorter))]
	return g, true
}

func (a *attacker) oddLength(f *frame) (frame, bool) {
	g := *f
	odd := [...]uint8{9, 28, 31, 33, 40, 47, 49, 63}
	g.Len = odd[a.rng.IntN(len(odd))]
	return g, true
}

func (a *attacker) plaintext(f *frame) (frame, bool) {
	g := frame{bus: f.bus, size: loader.CANMTU}
	g.ID = f.ID
	g.Len = 8
	for i := range g.payload() {
		g.payload()[i] = byte(a.rng.Uint32())
	}
	return g, true
}

func (a *attacker) plaintextFD(f *frame) (frame, bool) {
	g := frame{bus: f.bus, size: loader.CANFDMTU}
	g.ID = f.ID
	g.Len = 8
	g.payload()[0] = byte(a.rng.Uint32())
	return g, true
}

func (a *attacker) spliceID(f *frame) (frame, bool) {
	return a.splice(f, func(t target) bool { return t.bus == f.bus && t.id != f.ID })
}

func (a *attacker) spliceBus(f *frame) (frame, bool) {
	return a.splice(f, func(t target) bool { return t.bus != f.bus })
}

func (a *attacker) splice(f *frame, fits func(target) bool) (frame, bool) {
	var fitting []target
	for _, t := range a.targets {
		if fits(t) {
			fitting = append(fitting, t)
		}
	}
	if len(fitting) == 0 {
		return frame{}, false
	}
	t := fitting[a.rng.IntN(len(fitting))]
	g := *f
	g.bus = t.bus
	g.ID = t.id
	return g, true
}

func (a *attacker) remote(f *frame) (frame, bool) {
	g := frame{bus: f.bus, size: loader.CANMTU}
	g.ID = f.ID | loader.CANRTRFlag
	g.Len = uint8(a.rng.IntN(9))
	return g, true
}

func (a *attacker) random(f *frame) (frame, bool) {
	g := *f
	for i := range g.payload() {
		g.payload()[i] = byte(a.rng.Uint32())
	}
	return g, true
}

// alterStart changes one bit of a start record anywhere behind the first header byte, so that it stays a start record.
func (a *attacker) alterStart(f *frame) frame {
	g := *f
	bit := 8 + a.rng.IntN(8*(len(g.payload())-1))
	g.payload()[bit/8] ^= 1 << (bit % 8)
	return g
}

// errorFrame is a CAN error frame, which carries error bits instead of an identifier and must reach the CAN stack.
func errorFrame(bus int) frame {
	g := frame{bus: bus, size: loader.CANMTU}
	const busError = 0x80 // CAN_ERR_BUSERROR of linux/can/error.h
	g.ID = loader.CANERRFlag | busError
	g.Len = 8
	return g
}
