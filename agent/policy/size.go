// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// Limits of a candidate ring, in bytes.
const (
	MinCandidateRing = 64 << 10
	MaxCandidateRing = 256 << 20
)

// formatSize writes a power of two as KiB or MiB.
func formatSize(bytes int) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%dMiB", bytes>>20)
	}
	return fmt.Sprintf("%dKiB", bytes>>10)
}

// size reads a power of two from MinCandidateRing to MaxCandidateRing, in the one way in which formatSize writes it.
func (v value) size() (int, bool) {
	what := fmt.Sprintf("a power of two from %s to %s, such as 1MiB", formatSize(MinCandidateRing), formatSize(MaxCandidateRing))
	s, ok := v.text(what)
	if !ok {
		return 0, false
	}
	for n := MinCandidateRing; n <= MaxCandidateRing; n *= 2 {
		if s == formatSize(n) {
			return n, true
		}
	}
	v.want(what)
	return 0, false
}
