// SPDX-License-Identifier: Apache-2.0

//go:build race

package agent

// underRace says that the race detector watches, under which a minute of traffic takes as long as ten.
const underRace = true
