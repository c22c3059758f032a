// SPDX-License-Identifier: Apache-2.0

//go:build !race

package agent

// underRace says that the race detector watches.
const underRace = false
