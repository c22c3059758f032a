// SPDX-License-Identifier: Apache-2.0

//go:build !race

package secretmem

// raceDetector says that this build has the race detector.
const raceDetector = false
