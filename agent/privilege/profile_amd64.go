// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"github.com/elastic/go-seccomp-bpf"
)

// native are the calls that arm64 never had and that Go's runtime and libraries still make here; arch_prctl sets the base of
// thread-local memory.
func native() Profile {
	const archSetFS = 0x1002 // asm/prctl.h
	return Profile{
		Calls:       []string{"open", "newfstatat", "stat", "lstat", "access", "poll", "select", "epoll_wait", "epoll_create", "pipe", "dup2", "readlink", "rename", "unlink", "rmdir", "mkdir", "time"},
		Conditional: []Call{only("arch_prctl", 0, seccomp.Equal, archSetFS)},
	}
}

func nativeModes() Profile { return Profile{Calls: []string{"chmod", "chown"}} }
