// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Geometry of the words, shared with the kernel filter.
const (
	WordCount = 64   // words of a window, a power of two for the verifier
	MinSize   = 64   // smallest window in counters
	MaxSize   = 1024 // largest window in counters
	sizeStep  = 64

	bitsShift = 5                     // log2 of the counters per word
	bitsMask  = 1<<bitsShift - 1      // bit of a counter in its word
	nameShift = 11                    // log2 of the counters per turn of the ring
	nameMask  = 1<<32 - 1             // names are cut to 32 bits; also the seen half of a word
	nameLimit = 1 << (48 - nameShift) // full names of 48-bit counters

	idleBehind = 1 << 30 // how many turns behind the reference an unused word is named
)

// Errors of New.
var (
	// ErrSize reports a window size that is not 64 to 1,024 in steps of 64.
	ErrSize = errors.New("window size is not 64 to 1024 in steps of 64")
	// ErrWords reports words that no commit near the reference can have
	// written. They decide what is fresh, so they are refused whole.
	ErrWords = errors.New("window words do not fit the reference counter")
)

// Verdict is what a window says about a counter.
type Verdict uint8

// The verdicts.
const (
	Fresh  Verdict = iota // never committed and not behind the window
	Seen                  // committed before
	TooOld                // behind the window, so nobody can tell any more
)

// String returns the verdict as the counters name it.
func (v Verdict) String() string {
	switch v {
	case Fresh:
		return "fresh"
	case Seen:
		return "replay"
	case TooOld:
		return "too_old"
	}
	return "unknown"
}

// Options configure a Window.
type Options struct {
	// Size is the number of counters the window spans: Size-1 behind the
	// highest is acceptable once, Size behind is not. 64 to 1,024 in steps of
	// 64; 0 means 1,024.
	Size int
	// Hint is the word in which the filter finds a copy of the highest
	// counter. It is stored after the word of the counter and decides nothing.
	// nil means none.
	Hint *uint64
	// Reference is any counter within 2^41 of those that the words hold and of
	// those to come, such as the epoch's base: words hold only the low 32 bits
	// of a name, the rest is taken from here.
	Reference uint64
}

// Window is the anti-replay window of one stream, in the manner of RFC 6479 but
// with words that name themselves. Its state is WordCount aligned words in
// shared memory, a ring in which counter c has bit c mod 32 of word
// (c >> 5) mod 64:
//
//	bits 63..32  name: the low 32 bits of c >> 11, the turn of the ring
//	bits 31..0   seen: one bit for each of 32 counters
//
// A name that is older (as a signed difference) than the one a counter has
// means that nothing of the counter's turn was seen; a newer one means that the
// counter is too old. So nothing is ever cleared, and committing a counter is
// one store of one word. Each word is right by itself whatever the others hold,
// hence any point of a crash and any order in which a filter loads is safe.
//
// One goroutine at a time may call the methods; any number of readers may load
// the words meanwhile.
type Window struct {
	words   *[WordCount]uint64
	hint    *uint64
	highest uint64
	top     uint64 // the word of highest, as it was stored last
	size    uint64
}

// New takes up a window whose state is in words, all zeros for a new stream. The
// highest counter is found as the maximum over the words, so a window goes on
// after a crash exactly where the last store left it. The words must be 8-byte
// aligned, and no other writer may exist.
func New(words *[WordCount]uint64, opts Options) (*Window, error) {
	if opts.Size == 0 {
		opts.Size = MaxSize
	}
	if opts.Size < MinSize || opts.Size > MaxSize || opts.Size%sizeStep != 0 {
		return nil, fmt.Errorf("open replay window of %d: %w", opts.Size, ErrSize)
	}
	if opts.Reference > MaxCounter {
		return nil, fmt.Errorf("open replay window: %w: reference %d above 2^48-1", ErrWords, opts.Reference)
	}
	w := &Window{words: words, hint: opts.Hint, size: uint64(opts.Size)}
	turn := int64(opts.Reference >> nameShift)
	for i := range words {
		word := atomic.LoadUint64(&words[i])
		seen := uint32(word)
		if seen == 0 {
			continue
		}
		full := turn + int64(int32(uint32(word>>32)-uint32(turn)))
		if full < 0 || full >= nameLimit {
			return nil, fmt.Errorf("open replay window: %w: word %d of %d is %#016x", ErrWords, i, WordCount, word)
		}
		c := uint64(full)<<nameShift | uint64(i)<<bitsShift | uint64(bits.Len32(seen)-1)
		w.highest = max(w.highest, c)
	}
	w.idle(turn)
	w.top = atomic.LoadUint64(w.word(w.highest))
	w.storeHint()
	return w, nil
}

// idle makes the words that hold nothing read as older for every counter near
// the reference. A word of zeros does so by itself until counters pass 2^41;
// beyond that the signed difference to name 0 would turn, and the filter would
// take an untouched word for a newer one. No seen bit is touched.
func (w *Window) idle(turn int64) {
	if turn < idleBehind {
		return
	}
	name := uint64(uint32(turn-idleBehind)) << 32
	for i := range w.words {
		if uint32(atomic.LoadUint64(&w.words[i])) == 0 {
			storeRelease(&w.words[i], name)
		}
	}
}

// Highest returns the highest committed counter, 0 if there is none.
func (w *Window) Highest() uint64 { return w.highest }

// Size returns the number of counters that the window spans.
func (w *Window) Size() int { return int(w.size) }

// Check tells what the window holds about a counter and changes nothing. It is
// a pre-check: two copies of a frame in one batch are both fresh until one of
// them is committed. A counter that no stream can have (0, above MaxCounter) is
// TooOld; CheckRange comes first and says it better.
func (w *Window) Check(counter uint64) Verdict {
	v, _ := w.look(counter)
	return v
}

// Commit records a counter, by one store of its word and then one of the hint,
// and returns Fresh. For any other verdict it stores nothing, so its result and
// not that of an earlier Check decides whether a frame is published.
//
// Commit may be called only after the frame's tag has verified: the window moves
// with the highest counter, and whoever could move it without a key could make
// every honest frame too old. It must be called before the frame is published,
// so that a crash between the two loses a sample and never doubles one.
func (w *Window) Commit(counter uint64) Verdict {
	v, word := w.look(counter)
	if v != Fresh {
		return v
	}
	word |= 1 << (counter & bitsMask)
	storeRelease(w.word(counter), word)
	if counter > w.highest {
		w.highest, w.top = counter, word
		w.storeHint()
	} else if counter>>bitsShift == w.highest>>bitsShift {
		w.top = word
	}
	return Fresh
}

// Follows says that counter, which CheckRange has let pass, is the one behind the
// highest: CommitRun takes it and as many behind it as have verified. For any
// other counter Commit has the answer.
func (w *Window) Follows(counter uint64) bool { return counter == w.highest+1 }

// CommitRun is Commit for each counter from the one behind the highest up to
// last. A word is stored once for all of its counters, and the lower word first.
// Nothing is read from the words: above the highest there is nothing to know.
func (w *Window) CommitRun(last uint64) {
	if w.commitNear(last) {
		w.storeHint()
	} else {
		w.commitWords(last)
	}
}

// commitNear is CommitRun, all but the hint, for a run that stays in the word of the highest counter. For any other run it does nothing and
// returns false.
func (w *Window) commitNear(last uint64) bool {
	if (last^w.highest)>>bitsShift != 0 {
		return false
	}
	w.top += 2<<(last&bitsMask) - 2<<(w.highest&bitsMask)
	w.highest = last
	storeRelease(&w.words[last>>bitsShift%WordCount], w.top)
	return true
}

// commitWords is CommitRun for a run that leaves the word of the highest counter.
func (w *Window) commitWords(last uint64) {
	c, word := w.highest+1, w.top
	if c&bitsMask == 0 {
		word = c >> nameShift << 32
	}
	for c>>bitsShift != last>>bitsShift {
		storeRelease(w.word(c), word|(1<<32-1<<(c&bitsMask)))
		c = (c | bitsMask) + 1
		word = c >> nameShift << 32
	}
	word |= 2<<(last&bitsMask) - 1<<(c&bitsMask)
	storeRelease(w.word(c), word)
	w.highest, w.top = last, word
	w.storeHint()
}

// word is the word of a counter.
func (w *Window) word(counter uint64) *uint64 { return &w.words[counter>>bitsShift%WordCount] }

// look returns the verdict and, if it is Fresh, the word as it stands for the
// counter's turn: what was seen of that turn, without the counter's own bit.
func (w *Window) look(counter uint64) (Verdict, uint64) {
	if counter-1 >= MaxCounter { // 0 wraps to the largest
		return TooOld, 0
	}
	name := counter >> nameShift & nameMask
	if counter > w.highest && counter>>bitsShift != w.highest>>bitsShift {
		// Beyond the highest counter's own 32 nothing was ever committed, so
		// whatever lies in the word belongs to an earlier turn, even where a
		// very long jump makes its name look newer.
		return Fresh, name << 32
	}
	if counter <= w.highest && w.highest-counter >= w.size {
		return TooOld, 0
	}
	word := atomic.LoadUint64(&w.words[counter>>bitsShift%WordCount])
	if word>>32 == name {
		if word>>(counter&bitsMask)&1 != 0 {
			return Seen, 0
		}
		return Fresh, word
	}
	// The ring spans twice the largest window, so inside the window no word of
	// a later turn can lie. If one does the memory is not ours any more, and
	// refusing is the safe answer. A word without a seen bit has no turn.
	if int32(uint32(name)-uint32(word>>32)) < 0 && word&nameMask != 0 {
		return TooOld, 0
	}
	return Fresh, name << 32
}

func (w *Window) storeHint() {
	if w.hint != nil {
		storeRelease(w.hint, w.highest)
	}
}
