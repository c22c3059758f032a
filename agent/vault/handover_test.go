// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// duplicate is what another process would get of a descriptor.
func duplicate(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "handed over")
}

// TestAdoptedLock hands the lock of a folder over: it is never free as long as one of the two holds it, and another lock is refused.
func TestAdoptedLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := AdoptDirOf(path, 0, duplicate(t, first.Lock()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("with both: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("with the successor alone: %v", err)
	}
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AdoptDirOf(path, 0, other); !errors.Is(err, ErrHandover) {
		t.Errorf("another file as the lock: %v", err)
	}
	fresh, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AdoptDirOf(path, 0, fresh); !errors.Is(err, ErrHandover) {
		t.Errorf("the file without the lock: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := OpenDir(path)
	if err != nil {
		t.Fatalf("with neither: %v", err)
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAdoptedGenerations goes on in another process, with the hardware silent, also in the middle of a move to the next generation.
func TestAdoptedGenerations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(g *Generations, c *counterChip)
		empty  bool
	}{
		{"nothing saved", func(*Generations, *counterChip) {}, true},
		{"saved", func(g *Generations, _ *counterChip) { _ = g.Save([]byte("one")) }, false},
		{"retired", func(g *Generations, _ *counterChip) { _ = g.Advance([]byte("one")) }, false},
		{"moving", func(g *Generations, c *counterChip) {
			_ = g.Save([]byte("one"))
			c.lost = true
			if err := g.Retire(); err == nil {
				t.Fatal("hardware that answers nothing has retired")
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, c := newRecorder(), &counterChip{value: 5}
			g, err := OpenGenerations(r, "state", c)
			if err != nil {
				t.Fatal(err)
			}
			tt.before(g, c)
			h := g.HandOver()
			mute := c.mute
			c.mute = true
			next, err := AdoptGenerations(r, "state", c, h)
			if err != nil {
				t.Fatal(err)
			}
			h.Wipe()
			if b, err := next.Load(); err != nil || (b == nil) != tt.empty || !tt.empty && string(b) != "one" {
				t.Errorf("load %q, %v", b, err)
			}
			if !tt.empty {
				if err := next.Save([]byte("two")); err != nil {
					t.Errorf("save without the hardware: %v", err)
				}
			}
			c.mute, c.lost = mute, false
			if tt.empty {
				return
			}
			if err := next.Retire(); err != nil {
				t.Fatal(err)
			}
			if got := reopened(t, r, c); got != "two" {
				t.Errorf("reopened: %q", got)
			}
		})
	}
}

// TestForeignHandover refuses what does not open the folder's files.
func TestForeignHandover(t *testing.T) {
	r, c := newRecorder(), &counterChip{value: 5}
	g, err := OpenGenerations(r, "state", c)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Save([]byte("one")); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(h *Handover){
		"another key":        func(h *Handover) { h.File.Key[0] ^= 1 },
		"another generation": func(h *Handover) { h.Value++ },
		"no sealed key":      func(h *Handover) { h.File.Sealed = nil },
		"only a next one":    func(h *Handover) { h.Value--; h.File, h.Next = nil, h.File },
	} {
		h := g.HandOver()
		spoil(h)
		if _, err := AdoptGenerations(r, "state", c, h); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
