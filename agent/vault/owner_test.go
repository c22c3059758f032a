// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFolderOfAnotherUser works as root in a folder of somebody else: what is written is his, and a link that he has put in the place of
// a file gives him nothing.
func TestFolderOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to another user")
	}
	const owner = 65531
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	roots := filepath.Join(dir, "root's")
	if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, owner, owner), os.WriteFile(roots, []byte("root's"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path); !errors.Is(err, ErrUnsafe) {
		t.Fatalf("a folder of a user who is not trusted: %v", err)
	}
	if faults, err := Check(path, owner); err != nil || len(faults) > 0 {
		t.Errorf("faults %v, %v", faults, err)
	}
	for _, name := range []string{"lock", "a.tmp"} {
		if err := os.Link(roots, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenDirOf(path, owner)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := Replace(d, "a", []byte("new")); err != nil {
		t.Fatal(err)
	}
	uid := func(path string) uint32 {
		t.Helper()
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Uid
	}
	if got := uid(filepath.Join(path, "a")); got != owner {
		t.Errorf("what root has written belongs to user %d", got)
	}
	if b, err := os.ReadFile(roots); err != nil || string(b) != "root's" || uid(roots) != 0 {
		t.Errorf("root's own file holds %q and belongs to user %d, %v", b, uid(roots), err)
	}
	if b, err := d.ReadFile("a"); err != nil || string(b) != "new" {
		t.Errorf("read %q, %v", b, err)
	}
	// Somebody else's file is still refused.
	if err := os.Chown(filepath.Join(path, "a"), owner-1, owner-1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadFile("a"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a file of a third user: %v", err)
	}
}
