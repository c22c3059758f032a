// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadGroups sets the supplementary groups of the calling thread alone; syscall.Setgroups sets those of all threads.
func threadGroups(groups []uint32) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); e != 0 {
		return e
	}
	return nil
}

// Thread is what the kernel says of one thread (proc_pid_status(5)).
type Thread struct {
	ID                                                   int
	UID, GID                                             [4]uint32 // real, effective, saved, file system
	Groups                                               []uint32
	Inheritable, Permitted, Effective, Bounding, Ambient Capabilities
	NoNewPrivs                                           bool
	Seccomp                                              int // 0 none, 2 filter
}

// Threads reads all threads of a process; a thread that ends meanwhile is left out.
func Threads(pid int) ([]Thread, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	var all []Thread
	for _, e := range entries {
		b, err := os.ReadFile(dir + "/" + e.Name() + "/status")
		if err != nil {
			continue
		}
		t, err := parseThread(string(b))
		if err != nil {
			return nil, fmt.Errorf("read status of thread %s: %w", e.Name(), err)
		}
		all = append(all, t)
	}
	return all, nil
}

// looks is how often, and wait how long between, a thread is looked at that has rights which it should not have.
const (
	looks = 100
	wait  = 10 * time.Millisecond
)

// settled has every thread of this process looked at, and returns the first error that does not pass. A thread on its way out is still
// listed, and neither the kernel (PF_EXITING) nor Go's runtime reach it any more; it is gone at one of the next looks, having run
// nothing. One that stays is an error.
func settled(check func(Thread) error) error {
	for look := 1; ; look++ {
		threads, err := Threads(os.Getpid())
		if err != nil {
			return err
		}
		wrong := slices.IndexFunc(threads, func(t Thread) bool { err = check(t); return err != nil })
		if wrong < 0 || look == looks {
			return err
		}
		time.Sleep(wait)
	}
}

// parseThread reads the fields of a status file that are of interest. A field that is missing is an error: it must not pass for
// a right that the thread does not have.
func parseThread(text string) (t Thread, err error) {
	fields := make(map[string]string)
	for _, line := range strings.Split(text, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	number := func(name, s string, base, size int) uint64 {
		n, perr := strconv.ParseUint(s, base, size)
		if perr != nil && err == nil {
			err = fmt.Errorf("field %s: %w", name, perr)
		}
		return n
	}
	four := func(name string) (ids [4]uint32) {
		list := strings.Fields(fields[name])
		if len(list) != len(ids) && err == nil {
			err = fmt.Errorf("field %s has %d numbers", name, len(list))
		}
		for i := range min(len(list), len(ids)) {
			ids[i] = uint32(number(name, list[i], 10, 32))
		}
		return ids
	}
	t.ID = int(number("Pid", fields["Pid"], 10, 31))
	t.UID, t.GID = four("Uid"), four("Gid")
	for _, g := range strings.Fields(fields["Groups"]) {
		t.Groups = append(t.Groups, uint32(number("Groups", g, 10, 32)))
	}
	for _, c := range []struct {
		name string
		to   *Capabilities
	}{{"CapInh", &t.Inheritable}, {"CapPrm", &t.Permitted}, {"CapEff", &t.Effective}, {"CapBnd", &t.Bounding}, {"CapAmb", &t.Ambient}} {
		*c.to = Capabilities(number(c.name, fields[c.name], 16, 64))
	}
	t.NoNewPrivs = number("NoNewPrivs", fields["NoNewPrivs"], 10, 8) != 0
	t.Seccomp = int(number("Seccomp", fields["Seccomp"], 10, 8))
	return t, err
}
