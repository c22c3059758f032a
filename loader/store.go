// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package loader

import "sync/atomic"

// storeRelease stores an aligned word so that whoever sees it sees every store made before it.
func storeRelease(p *uint64, v uint64) { atomic.StoreUint64(p, v) }
