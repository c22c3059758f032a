// SPDX-License-Identifier: Apache-2.0

package replay

// Fill makes all counters up to and including upTo count as seen, in words that hold nothing later. It is for a window whose
// memory was lost while a durable note of the highest counter was not: what cannot be told apart from a replay any more
// is refused. Any size of window may be opened over the words afterwards. Each word is one store; a crash in between leaves a
// window that is open where it was open before, so the caller fills before anything is accepted.
func Fill(words *[WordCount]uint64, upTo uint64) {
	if upTo == 0 || upTo > MaxCounter {
		return
	}
	top := upTo >> bitsShift
	for i := range uint64(WordCount) {
		// The last group of 32 counters that has this word and does not lie behind that of upTo.
		back := (top - i) % WordCount
		if back > top {
			continue
		}
		group := top - back
		seen := uint64(1<<(bitsMask+1) - 1)
		if back == 0 {
			seen = 1<<(upTo&bitsMask+1) - 1
		}
		storeRelease(&words[i], group>>(nameShift-bitsShift)&nameMask<<32|seen)
	}
}
