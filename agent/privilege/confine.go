// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/elastic/go-seccomp-bpf"
)

// Enforcement says what a seccomp filter does with a call that is not allowed.
type Enforcement string

// The enforcements. Enforce refuses with EPERM and kills for hostile calls; Log lets everything through and has the kernel's log name
// the calls that Enforce would not; Off installs nothing.
const (
	Enforce Enforcement = "enforce"
	Log     Enforcement = "log"
	Off     Enforcement = "off"
)

var (
	// ErrEnforcement says that a word names no enforcement.
	ErrEnforcement = errors.New("want enforce, log or off")
	// ErrFilter says that the seccomp filter could not be installed on all threads.
	ErrFilter = errors.New("seccomp filter could not be installed")
)

// String returns the word; the zero value is Enforce.
func (e Enforcement) String() string {
	if e == "" {
		return string(Enforce)
	}
	return string(e)
}

// Set implements pflag.Value.
func (e *Enforcement) Set(s string) error {
	switch Enforcement(s) {
	case Enforce, Log, Off:
		*e = Enforcement(s)
		return nil
	}
	return fmt.Errorf("%w: got %q", ErrEnforcement, s)
}

// Type implements pflag.Value.
func (*Enforcement) Type() string { return "enforce|log|off" }

// policy lays p out for the library. Calls of another architecture's numbering get the default action, too.
func (p Profile) policy(e Enforcement) seccomp.Policy {
	refuse, kill := seccomp.ActionErrno, seccomp.ActionKillProcess
	if e == Log {
		refuse, kill = seccomp.ActionLog, seccomp.ActionLog
	}
	allowed := seccomp.SyscallGroup{Action: seccomp.ActionAllow, Names: p.Calls}
	for _, c := range p.Conditional {
		allowed.NamesWithCondtions = append(allowed.NamesWithCondtions, seccomp.NameWithConditions{Name: c.Name, Conditions: c.If})
	}
	return seccomp.Policy{DefaultAction: refuse, Syscalls: []seccomp.SyscallGroup{allowed, {Action: kill, Names: Hostile()}}}
}

// Confine installs the profile as a seccomp filter on all threads, for good. It needs no right: no_new_privs is set first.
//
// Why EPERM: an attacker gets as little from it as from a kill, and a call that this list has forgotten shows as an error that the
// log names, with the data path still running, instead of as a gateway that is down. The calls of [Hostile] have no such excuse, and
// a killed agent leaves the bus closed.
func Confine(p Profile, e Enforcement) error {
	if e == Off {
		return nil
	}
	if err := load(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync | seccomp.FilterFlagLog, Policy: p.policy(e)}); err != nil {
		return fmt.Errorf("%w: %w", ErrFilter, err)
	}
	// A thread that could not be synchronised makes the call return its number, which is no error to the library.
	return settled(func(t Thread) error {
		switch {
		case t.Seccomp != 2:
			return fmt.Errorf("%w: thread %d has none", ErrFilter, t.ID)
		case !t.NoNewPrivs:
			return fmt.Errorf("%w: new privileges can be had by thread %d", ErrFilter, t.ID)
		}
		return nil
	})
}

// load makes the library's two calls on one thread. It sets no_new_privs for the thread that it runs on, and the kernel gives that to
// the others only from the one that installs the filter (kernel/seccomp.c, seccomp_sync_threads): a goroutine that moved to another
// thread between the two would leave the process without it, or, without rights, be refused the filter.
func load(f seccomp.Filter) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return seccomp.LoadFilter(f)
}
