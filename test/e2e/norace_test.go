// SPDX-License-Identifier: Apache-2.0

//go:build !race

package e2e

// slowdown is by how much less is asked of a program that the race detector watches.
const slowdown = 1
