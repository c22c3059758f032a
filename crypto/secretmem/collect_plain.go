// SPDX-License-Identifier: Apache-2.0

//go:build !goexperiment.runtimesecret || !linux || !(amd64 || arm64)

package secretmem

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
)

// Collect collects garbage, overwrites the free memory of the heap and what signals have stored of registers, and gives back what it
// can, so that nothing is left of secrets that nobody refers to any more. It takes some tenths of a second, in part of which the process has
// one processor, and about 5 MiB of memory. On a running agent it is for moments at which a secret has ended.
//
// The allocator hands out memory that is zero, and free places in what it has before anything new. So free places are
// overwritten by taking all of them, size by size. Two things are not reached, and secrets that can be
// wiped should not be left to it: what lies behind the last place of a span, and the part of a stack that no function has used
// yet, where either was made of pages that had held a secret.
func Collect() {
	overwriteSignalStacks()
	overwritePreempted()
	// Every processor of the scheduler sets free places aside for itself, and gives them back when it is taken away. With only
	// one left, there is nothing that another could have.
	defer allProcessors(runtime.GOMAXPROCS(1))
	for range poolCycles {
		runtime.GC()
	}
	// Free pages first: filling must not put a span on one, whose end no place reaches. The processor has a few free pages of
	// its own that are not given back; the first filling takes these, and the second finds none of them.
	debug.FreeOSMemory()
	for range 2 {
		fillHeap()
		debug.FreeOSMemory()
	}
}

// overwritePreempted has goroutines with empty registers stopped in the middle of their work: the runtime saves the vector
// registers of a goroutine that it stops there in memory of its own (runtime/preempt_xreg.go), uses this again and does not
// clear it. More goroutines than processors go through all of what it has, and each has a processor for one slice of the scheduler's
// time, so the rest of the process waits no longer than for any goroutine that has work to do.
func overwritePreempted() {
	var end atomic.Bool
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 1 {
		all.Go(func() {
			clearRegisters()
			// No call in the loop: only a signal stops it.
			for !end.Load() {
			}
		})
	}
	var stats runtime.MemStats
	for range 2 {
		runtime.Gosched()            // one of them takes over this processor, until the scheduler stops it
		runtime.ReadMemStats(&stats) // stops the others at once: the runtime brings all goroutines to a halt for it
	}
	end.Store(true)
	all.Wait()
}

// allProcessors undoes GOMAXPROCS(1). Where the number is the runtime's own choice, it goes on following the machine.
func allProcessors(n int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
	}
	if runtime.GOMAXPROCS(0) != n {
		runtime.GOMAXPROCS(n)
	}
}

// largestSmall is the largest allocation that shares its pages with others (runtime: maxSmallSize).
const largestSmall = 32 << 10

// fillRound is how many bytes of one size are taken at a time: at least two spans of any small size.
const fillRound = 16 << 10

// fillHeap takes every free place in the heap and lets all of them go.
func fillHeap() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	inUse := func() int64 {
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64() + sample[1].Value.Uint64())
	}
	var bytes taken[byte]
	var pointers taken[*byte]
	for size := 1; size <= largestSmall; size++ {
		// What append rounds up to is the allocator's size.
		size = cap(append([]byte(nil), make([]byte, size)...))
		runtime.Gosched() // there is one processor for everybody
		bytes.fill(inUse, size, size)
		if words := size / 8; size > 512 {
			// The allocator puts a word in front of these (runtime: minSizeForMallocHeader).
			pointers.fill(inUse, size, words-1)
		} else if size%8 == 0 {
			pointers.fill(inUse, size, words)
		}
	}
	runtime.KeepAlive(bytes)
	runtime.KeepAlive(pointers)
}

// taken holds on to what was taken. Values with and without pointers lie apart from each other.
type taken[T byte | *byte] struct{ all [][]T }

// fill takes places of a size, each by n values, until the heap has grown by all of two rounds: then there were no free ones
// left.
func (t *taken[T]) fill(inUse func() int64, size, n int) {
	places := fillRound/size + 1
	for grown := 0; grown < 2; {
		t.all = slices.Grow(t.all, places) // grows the heap, too
		before := inUse()
		for range places {
			t.all = append(t.all, make([]T, n))
		}
		if inUse()-before >= int64(places*size)*7/8 {
			grown++
		}
	}
}
