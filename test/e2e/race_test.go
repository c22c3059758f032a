// SPDX-License-Identifier: Apache-2.0

//go:build race

package e2e

// slowdown is by how much less is asked of a program that the race detector watches: a reader that falls behind by more than its ring
// loses samples, as it should.
const slowdown = 6
