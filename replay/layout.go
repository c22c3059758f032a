// SPDX-License-Identifier: Apache-2.0

package replay

import "unsafe"

// Where a loop in assembly finds what [Window.CommitRun] and [Gaps.Run] work on, in bytes from the start of each: who commits the runs of many
// streams at once has no time for calls. For a run that stays in the word of the window's highest counter it does what those two do and
// nothing else; any other is CommitRun's.
const (
	WindowHighest = unsafe.Offsetof(Window{}.highest)
	WindowTop     = unsafe.Offsetof(Window{}.top)
	GapsNext      = unsafe.Offsetof(Gaps{}.next)
	GapsHighest   = unsafe.Offsetof(Gaps{}.highest)
	GapsNow       = unsafe.Offsetof(Gaps{}.now)
)
