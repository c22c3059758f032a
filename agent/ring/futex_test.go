// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestWaitOnOneWord covers kernels without futex_waitv: a change of either word ends the wait, and the ring's word by a wake.
func TestWaitOnOneWord(t *testing.T) {
	for _, oneWord := range []bool{false, true} {
		w := waiter{oneWord: oneWord}
		shared, local := new(uint32), new(uint32)
		if err := w.wait(shared, 1, local, 0, time.Hour); err != nil {
			t.Fatalf("one word %v: shared word has changed: %v", oneWord, err)
		}
		if err := w.wait(shared, 0, local, 1, time.Hour); err != nil {
			t.Fatalf("one word %v: local word has changed: %v", oneWord, err)
		}
		done := make(chan error, 1)
		go func() {
			for atomic.LoadUint32(shared) == 0 {
				if err := w.wait(shared, 0, local, 0, time.Hour); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		atomic.StoreUint32(shared, 1)
		wakeShared(shared)
		if err := <-done; err != nil {
			t.Fatalf("one word %v: %v", oneWord, err)
		}
		if err := w.wait(shared, 1, local, 0, time.Millisecond); err != nil {
			t.Fatalf("one word %v: time limit: %v", oneWord, err)
		}
	}
}
