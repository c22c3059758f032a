// SPDX-License-Identifier: Apache-2.0

package loader

import "sync/atomic"

// Word is a number in shared memory that one goroutine writes and anybody may read: the filter, another process, another
// goroutine of this one. Whoever sees a value sees every store that the writer made before it.
type Word struct{ v uint64 }

// Load returns the number.
func (w *Word) Load() uint64 { return atomic.LoadUint64(&w.v) }

// Store sets the number. It holds back nothing that comes after it: where the writer's own next load must wait for the store
// to be seen, sync/atomic is needed.
func (w *Word) Store(v uint64) { storeRelease(&w.v, v) }
