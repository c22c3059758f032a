// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package ring

import "sync/atomic"

// storeBetween stores a hot word behind all stores before it and ahead of all stores after it; see "The order of stores".
func storeBetween(p *uint64, v uint64) {
	atomic.StoreUint64(p, v)
	_ = atomic.LoadUint64(p)
}
