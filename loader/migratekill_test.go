// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// migrateEnv makes the test binary play an agent of another layout that is killed at a step: its value names the direction and the step,
// of which the last is its end.
const migrateEnv = "CELLWARD_LOADER_TEST_MIGRATION"

// migrationSteps are the steps of the child that are not the migration's own, in their order behind those.
const (
	stepOpened   = "opened"
	stepAttached = "attached"
	stepAdded    = "counts added"
	stepHalfRead = "half read"
	stepRead     = "read"
)

// killedMigration takes over the lab's pins with another layout and reads what waits, and is killed at one of its steps. It says each step
// that it comes to, and what it has read before it lets go of it.
func killedMigration() error {
	t := new(childT)
	direction, step, _ := strings.Cut(os.Getenv(migrateEnv), " ")
	kill, err := strconv.Atoi(step)
	if err != nil {
		return err
	}
	n := 0
	reach := func(name string) {
		fmt.Println("step", name)
		if n == kill {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
		n++
	}
	own := product(t)
	if direction == "up" {
		own = shiftedLayout(t)
	}
	own.step = reach
	ns, err := OpenNetns("/proc/self/fd/4")
	if err != nil {
		return err
	}
	l := &lab{root: "/proc/self/fd/3/cellward", ns: ns, kind: os.Getenv("CELLWARD_LOADER_TEST_HOOK")}
	if l.set, err = open(Options{Root: l.root, Migrate: true}, own, false); err != nil {
		return err
	}
	reach(stepOpened)
	buses, err := l.set.Attach(l.options())
	if err != nil {
		return err
	}
	reach(stepAttached)
	former, err := l.set.Former()
	if err != nil {
		return err
	}
	reach(stepAdded)
	half := true
	for _, f := range former {
		for _, r := range []*Ring{f.Candidates, f.Control} {
			if r == nil {
				continue
			}
			var batch [7]Record
			for {
				n, err := r.Peek(batch[:])
				if err != nil || n == 0 {
					if err != nil {
						return err
					}
					break
				}
				for _, rec := range batch[:n] {
					fmt.Println("read", rec.Head().Header()>>16)
				}
				r.Release()
				if half {
					half = false
					reach(stepHalfRead)
				}
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	reach(stepRead)
	return errors.Join(l.set.DropFormer(), buses[0].close())
}

// childT is what the helpers of tests fail in a process that is no test.
type childT struct{ testing.TB }

func (*childT) Helper() {}

func (*childT) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// TestMigrationKilled kills an agent at every step of a migration, up and down, and has one of either layout start over what it has left.
// No frame is lost, none is read twice, none comes through, and nothing that was seen is new again.
func TestMigrationKilled(t *testing.T) { eachHook(t, tMigrationKilled) }

func tMigrationKilled(t *testing.T, kind string) {
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	l.set.MarkReady()
	counter := uint64(10001)
	for _, direction := range []string{"up", "down"} {
		for _, same := range []bool{true, false} {
			if ProbeTCX() == nil && (kind == HookTCX) != (same == (direction == "up")) {
				continue // the hook makes no difference to most steps: each has a half, where there are both
			}
			steps := 0
			for ; ; steps++ {
				name := fmt.Sprintf("%s, step %d, started again %v", direction, steps, same)
				before, after := product(t), shiftedLayout(t)
				if direction == "down" {
					before, after = after, before
				}
				ok(t, l.set.Close())
				l.openAs(t, before)
				wantCounters(t, l.takeAll(t), counter, counter)
				first, counted := counter, l.bus.FilterCounts()
				l.samples(t, &counter, 20)
				ok(t, l.set.Close())
				last, read, ended := l.killMigration(t, direction, steps)
				if strings.HasPrefix(last, "pin ") || last == "commit" {
					if i := l.inspected(t); i.Migration != MigrationPrepared || i.Meta.Layout != before.hash {
						t.Errorf("%s (%s): migration %q of layout %x", name, last, i.Migration, i.Meta.Layout[:4])
					}
				}
				if strings.HasPrefix(last, "keep ") || strings.HasPrefix(last, "place ") {
					if i := l.inspected(t); i.Migration != MigrationCommitted || i.Meta.Layout != after.hash {
						t.Errorf("%s (%s): migration %q of layout %x", name, last, i.Migration, i.Meta.Layout[:4])
					}
				}
				l.samples(t, &counter, 20)
				if same {
					l.openAs(t, after)
				} else {
					l.openAs(t, before)
				}
				l.samples(t, &counter, 20)
				got := append(read, l.takeAll(t)...)
				wantCounters(t, got, first, counter)
				counted[Candidate] += counter - first
				if got := l.bus.FilterCounts(); got != counted {
					t.Errorf("%s (%s): counts %v, want %v", name, last, got, counted)
				}
				l.judged(t)
				if names := pinNames(t, l.root); slices.ContainsFunc(names, func(n string) bool { return isMigration(strings.Split(n, "/")[0]) }) {
					t.Errorf("%s (%s): left behind: %v", name, last, names)
				}
				if got := drainTap(t, tap); len(got) != 0 {
					t.Fatalf("%s (%s): %d protected frames came through", name, last, len(got))
				}
				if ended {
					break
				}
			}
			t.Logf("%s: killed at %d steps; the next start has the layout of the killed one: %v", direction, steps, same)
			// 13 pins, the commit, 6 kept and 13 placed maps, the end, and 5 of the child.
			if steps != 39 {
				t.Errorf("%s: %d steps, want 39", direction, steps)
			}
		}
	}
}

// TestMigrationKilledAgain kills each process that goes on where the one before was killed, one step further.
func TestMigrationKilledAgain(t *testing.T) { eachHook(t, tMigrationKilledAgain) }

func tMigrationKilledAgain(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.set.MarkReady()
	counter, kills, got := uint64(10001), 0, []uint64(nil)
	ok(t, l.set.Close())
	for step, last := 14, ""; last != stepAttached; step = 1 { // 14 is the first one behind the commit
		l.samples(t, &counter, 5)
		var ended bool
		if last, got, ended = l.killMigration(t, "up", step); ended || len(got) != 0 || kills == 100 {
			t.Fatalf("after %q, %d kills: ended %v, read %v", last, kills, ended, got)
		}
		kills++
	}
	l.openAs(t, shiftedLayout(t))
	wantCounters(t, l.takeAll(t), 10001, counter)
	l.judged(t)
	if kills != 22 { // 6 kept and 13 placed maps, the end, opened and attached
		t.Errorf("%d kills, want 22", kills)
	}
}

// TestMigrationKilledDetach opens the bus after a kill at every step: nothing stays behind, whichever maps the program at the hook uses.
func TestMigrationKilledDetach(t *testing.T) { eachHook(t, tMigrationKilledDetach) }

func tMigrationKilledDetach(t *testing.T, kind string) {
	l := newLab(t, kind)
	for step, ended := 0, false; !ended; step += 3 {
		ok(t, l.set.Close())
		var last string
		last, _, ended = l.killMigration(t, "up", step)
		before := l.inspected(t)
		slots := []uint32{testIface}
		if step%2 == 0 {
			slots = nil // all
		}
		ok(t, l.ns.Do(func() error { return Detach(l.root, slots...) }))
		if got := hook(t, l.ns, labDevice); len(got) != 0 || hasQdisc(t, l.ns, labDevice) {
			t.Fatalf("%s: left at the hook: %v", last, got)
		}
		if _, err := os.Stat(l.root); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: left pinned: %v", last, pinNames(t, l.root))
		}
		eventually(t, "the kernel lets go of everything", func() bool { return must[Remains](t)(before.Remains()).None() })
		l.start(t, true)
	}
}

// killMigration runs the child and returns its last step, what it has read, and whether it came to its end.
func (l *lab) killMigration(t *testing.T, direction string, step int) (last string, read []uint64, ended bool) {
	t.Helper()
	child := exec.Command(must[string](t)(os.Executable()))
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", migrateEnv, direction, step), "CELLWARD_LOADER_TEST_HOOK="+l.kind)
	child.ExtraFiles = []*os.File{l.fs, l.ns.File()}
	var errs strings.Builder
	child.Stderr = &errs
	out, err := child.Output()
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "read "); ok {
			read = append(read, must[uint64](t)(strconv.ParseUint(text, 10, 64)))
		} else if text, ok := strings.CutPrefix(line, "step "); ok {
			last = text
		}
	}
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.Sys().(interface{ Signaled() bool }).Signaled()) {
		t.Fatalf("%s, step %d (%s): %v: %s", direction, step, last, err, errs.String())
	}
	return last, read, err == nil
}
