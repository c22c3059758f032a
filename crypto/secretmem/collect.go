// SPDX-License-Identifier: Apache-2.0

package secretmem

// poolCycles is how many collections empty a sync.Pool (two) and what only a cleanup or a finalizer has kept (one more).
const poolCycles = 3
