// SPDX-License-Identifier: Apache-2.0

//go:build amd64 && !race

package ring

// storeBetween stores a hot word behind all stores before it and ahead of all stores after it; see "The order of stores". On
// amd64 stores stay in order by themselves. sync/atomic would make it an XCHG, which also waits until all slots of the batch
// have reached the cache; nobody here needs that but Wake, whose lock does it.
func storeBetween(p *uint64, v uint64) { *p = v }
