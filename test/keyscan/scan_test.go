// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/crypto/secretmem/secretmemtest"
	"golang.org/x/sys/unix"
)

// scan reads the memory of a process. public is what every process of the product has in its memory while it
// works: that it is found shows that the search finds what is there.
func (s *secrets) scan(pid int, public []byte) *secretmemtest.Result {
	s.t.Helper()
	var r *secretmemtest.Result
	var err error
	// While an engine works, round keys are in registers: that is what it is for. A second look does not come at the same moment.
	for range 3 {
		r, err = traced(s.t.Context(), pid, append([]secretmemtest.Secret{{Name: control, Value: public}}, s.all...))
		if err != nil || !slices.ContainsFunc(r.Hits, func(h secretmemtest.Hit) bool { return strings.HasPrefix(h.Mapping.Name, secretmemtest.Registers) }) {
			break
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.report(r)
	return r
}

// control is the name of what must be found.
const control = "what is public"

// report takes what is public out of a result, and fails if it is not there.
func (s *secrets) report(r *secretmemtest.Result) {
	s.t.Helper()
	found := false
	hits := r.Hits[:0]
	for _, h := range r.Hits {
		if strings.HasPrefix(h.Secret, control) {
			found = true
		} else {
			hits = append(hits, h)
		}
	}
	r.Hits = hits
	if !found {
		s.t.Errorf("scan of %d bytes does not find what is public", r.Read)
	}
	s.t.Logf("%d secrets in %d MiB and the registers of %d threads: %d hits, %d mappings cannot be read", len(s.all), r.Read>>20, r.Threads, len(r.Hits), len(r.Unreadable))
}

// none wants no hit at all.
func (s *secrets) none(when string, r *secretmemtest.Result) {
	s.t.Helper()
	for i, h := range r.Hits {
		if i == 20 {
			s.t.Errorf("%s: and %d more", when, len(r.Hits)-i)
			return
		}
		s.t.Errorf("%s: %s at %x in %s %s %v", when, h.Secret, h.At, h.Mapping.Permissions, h.Mapping.Name, h.Mapping.Flags)
	}
}

// inUse is scan for keys that are in use, and allowed says where they may lie. Where a signal stops a thread in the middle of an engine's
// work, the kernel stores a round key with the registers on the thread's signal stack, and the next signal overwrites it: so a second look
// comes behind one. What it finds then lies somewhere else. (After retirement no such look is needed: the agent sends the signals.)
func (s *secrets) inUse(pid int, public []byte, allowed func(secretmemtest.Hit) bool) (r *secretmemtest.Result) {
	s.t.Helper()
	for range 3 {
		r = s.scan(pid, public)
		if !slices.ContainsFunc(r.Hits, func(h secretmemtest.Hit) bool { return !allowed(h) }) {
			break
		}
		signalThreads(s.t, pid)
	}
	return r
}

// locked says that a hit lies in locked pages outside dumps and children.
func locked(h secretmemtest.Hit) bool { return h.Mapping.Has("lo", "dd", "wf") }

// nowhere allows no hit.
func nowhere(secretmemtest.Hit) bool { return false }

// signalThreads sends every thread of a process the signal with which the Go runtime stops goroutines, which it takes at any time.
func signalThreads(t *testing.T, pid int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Tgkill(pid, tid, unix.SIGURG); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
}

// atRest wants keys that are in use to lie where they may, and nowhere else: in memory that cannot be read, or, where the kernel
// refuses that, in locked pages outside dumps.
func (s *secrets) atRest(r *secretmemtest.Result, refuse bool) {
	s.t.Helper()
	if !refuse {
		s.none("in use", r)
		secret := 0
		for _, m := range r.Unreadable {
			if strings.HasPrefix(m.Name, "/secretmem") {
				secret++
			}
		}
		if secret == 0 {
			s.t.Error("the process has no memory of memfd_secret")
		}
		return
	}
	inside := make(map[string]bool)
	var outside []secretmemtest.Hit
	for _, h := range r.Hits {
		if locked(h) {
			inside[strings.TrimRight(h.Secret, "0123456789:[]")] = true
		} else {
			outside = append(outside, h)
		}
	}
	r.Hits = outside
	s.none("in use, outside the locked pages", r)
	// The same search finds them where they are allowed.
	for _, want := range []string{"PRK", "start key"} {
		if !inside[want] {
			s.t.Errorf("%s is not found in the locked pages", want)
		}
	}
	keys := 0
	for name := range inside {
		if strings.Contains(name, "round key") {
			keys++
		}
	}
	if keys == 0 {
		s.t.Error("no round key is found in the locked pages")
	}
}
