// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
)

// counterChip is hardware whose answers can get lost. Its seals name the value under which they open.
type counterChip struct {
	mu    sync.Mutex
	value uint64
	// lost says that increments are carried out and not answered, mute that nothing is answered or done any more.
	lost, mute bool
	// entered is told that an increment has come, which then waits for release.
	entered, release chan struct{}
}

var errMute = errors.New("no answer")

func (c *counterChip) First() uint64 { return 5 }

func (c *counterChip) Value() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mute || c.lost {
		return 0, errMute
	}
	return c.value, nil
}

func (c *counterChip) Increment() (uint64, error) {
	if c.entered != nil {
		c.entered <- struct{}{}
		<-c.release
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mute {
		return 0, errMute
	}
	c.value++
	if c.lost {
		return 0, errMute
	}
	return c.value, nil
}

func (c *counterChip) SealAt(secret []byte, value uint64) ([]byte, error) {
	return append(binary.LittleEndian.AppendUint64(nil, value), secret...), nil
}

func (c *counterChip) UnsealAt(sealed []byte, value uint64) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if binary.LittleEndian.Uint64(sealed) != c.value || value != c.value {
		return nil, errors.New("policy fails")
	}
	return slices.Clone(sealed[8:]), nil
}

func (r *recorder) List() ([]string, error) {
	var names []string
	for n := range r.view {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

// reopened is what a process finds after this one was killed.
func reopened(t *testing.T, r *recorder, c *counterChip) string {
	t.Helper()
	after := newRecorder()
	for n, b := range r.view {
		after.view[n] = slices.Clone(b)
	}
	g, err := OpenGenerations(after, "state", &counterChip{value: c.value})
	if err != nil {
		t.Fatal(err)
	}
	b, err := g.Load()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newGenerations(t *testing.T) (*recorder, *counterChip, *Generations) {
	t.Helper()
	r, c := newRecorder(), &counterChip{value: 5}
	g, err := OpenGenerations(r, "state", c)
	if err != nil {
		t.Fatal(err)
	}
	return r, c, g
}

// TestSaveWhileRetiring: the hardware takes its time with the increment. Writes go on, and whichever generation it shows after a
// kill, what was saved last is there.
func TestSaveWhileRetiring(t *testing.T) {
	r, c, g := newGenerations(t)
	if err := g.Save([]byte("first")); err != nil {
		t.Fatal(err)
	}
	c.entered, c.release = make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- g.Retire() }()
	<-c.entered
	if err := g.Save([]byte("meanwhile")); err != nil {
		t.Fatal(err)
	}
	for _, shown := range []uint64{5, 6} {
		if got := reopened(t, r, &counterChip{value: shown}); got != "meanwhile" {
			t.Errorf("counter %d: %q", shown, got)
		}
	}
	close(c.release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if names, _ := r.List(); !slices.Equal(names, []string{"state.6.state"}) {
		t.Errorf("files: %v", names)
	}
	if got := reopened(t, r, c); got != "meanwhile" || g.Value() != 6 {
		t.Errorf("generation %d: %q", g.Value(), got)
	}
}

// TestUnknownOutcome: the increment is not answered, and the hardware does not say what it shows either. Until it does, what is
// saved is in both generations; then the vault goes on in the right one.
func TestUnknownOutcome(t *testing.T) {
	for name, done := range map[string]bool{"carried out": true, "not carried out": false} {
		t.Run(name, func(t *testing.T) {
			r, c, g := newGenerations(t)
			if err := g.Advance([]byte("first")); err != nil {
				t.Fatal(err)
			}
			c.lost, c.mute = done, !done
			if err := g.Retire(); !errors.Is(err, errMute) {
				t.Fatal(err)
			}
			for _, state := range []string{"second", "third"} {
				if err := g.Save([]byte(state)); err != nil {
					t.Fatal(err)
				}
				if got := reopened(t, r, c); got != state {
					t.Fatalf("%q, want %q", got, state)
				}
			}
			if err := g.Retire(); !errors.Is(err, errMute) {
				t.Fatal(err)
			}
			c.lost, c.mute = false, false
			if err := g.Retire(); err != nil {
				t.Fatal(err)
			}
			if g.Value() != 7 || c.value != 7 {
				t.Errorf("vault in generation %d, counter shows %d", g.Value(), c.value)
			}
			if got := reopened(t, r, c); got != "third" {
				t.Errorf("%q", got)
			}
			if names, _ := r.List(); !slices.Equal(names, []string{"state.7.state"}) {
				t.Errorf("files: %v", names)
			}
		})
	}
}

func TestRetireNothing(t *testing.T) {
	_, c, g := newGenerations(t)
	if err := g.Retire(); err != nil || c.value != 5 {
		t.Fatalf("%v, counter shows %d", err, c.value)
	}
}

// TestForeignIncrement: somebody else has moved the counter.
func TestForeignIncrement(t *testing.T) {
	_, c, g := newGenerations(t)
	if err := g.Save([]byte("x")); err != nil {
		t.Fatal(err)
	}
	c.value = 8
	if err := g.Retire(); !errors.Is(err, ErrAdvance) {
		t.Fatal(err)
	}
}
