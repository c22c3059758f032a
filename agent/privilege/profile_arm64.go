// SPDX-License-Identifier: Apache-2.0

package privilege

// native are the calls that this architecture has, or the library's table of it has, under names of its own.
func native() Profile { return Profile{Calls: []string{"fstatat"}} }

func nativeModes() Profile { return Profile{} }
