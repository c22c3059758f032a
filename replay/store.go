// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package replay

import "sync/atomic"

// storeRelease stores an aligned word so that a reader in the kernel sees the
// old or the new value and every store made before it.
func storeRelease(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
