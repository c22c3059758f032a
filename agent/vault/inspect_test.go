// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		seed   func(dir string) error
		faults int
	}{
		{"empty", func(string) error { return nil }, 0},
		{"good file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), nil, 0o600) }, 0},
		{"folder open", func(dir string) error { return os.Chmod(dir, 0o777) }, 1},
		{"file readable", func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), nil, 0o644) }, 1},
		{"link", func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "a")) }, 1},
		{"two", func(dir string) error {
			return errors.Join(os.Chmod(dir, 0o770), os.Symlink("b", filepath.Join(dir, "a")))
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.seed(dir); err != nil {
				t.Fatal(err)
			}
			faults, err := Check(dir, 0)
			if err != nil || len(faults) != c.faults {
				t.Errorf("%v, %v, want %d faults", faults, err, c.faults)
			}
			for _, f := range faults {
				if !errors.Is(f, ErrUnsafe) {
					t.Error(f)
				}
			}
			names, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if n.Name() == lockName {
					t.Error("looking has made the lock")
				}
			}
		})
	}
	if _, err := Check(filepath.Join(t.TempDir(), "absent"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	want := func(want bool) {
		t.Helper()
		if got, err := InUse(dir); err != nil || got != want {
			t.Errorf("in use: %v, %v, want %v", got, err, want)
		}
	}
	want(false)
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want(true)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	want(false)
	// Having looked keeps nobody out.
	if d, err = OpenDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
