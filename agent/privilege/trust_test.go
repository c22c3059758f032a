// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckTrust builds a tree /…/a/b/file, changes one thing in it, and wants just that found.
func TestCheckTrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to other users")
	}
	const friend, foe = 65531, 65530
	own := func(uid int, mode fs.FileMode) func(string) error {
		return func(path string) error { return errors.Join(os.Lchown(path, uid, uid), os.Chmod(path, mode)) }
	}
	for _, c := range []struct {
		name  string
		at    string // relative to the tree
		do    func(path string) error
		ask   string // a/b/file if empty
		where string // "" for no fault
		help  string
	}{
		{name: "nothing"},
		{name: "file of a friend", at: "a/b/file", do: own(friend, 0o600)},
		{name: "folder of a friend", at: "a/b", do: own(friend, 0o755)},
		{name: "file of a foe", at: "a/b/file", do: own(foe, 0o600), where: "a/b/file", help: "chown root "},
		{name: "folder of a foe", at: "a", do: own(foe, 0o755), where: "a", help: "chown root "},
		{name: "file of everybody", at: "a/b/file", do: own(0, 0o602), where: "a/b/file", help: "chmod go-w "},
		{name: "file of a group", at: "a/b/file", do: own(0, 0o660), where: "a/b/file", help: "chmod go-w "},
		{name: "folder of everybody", at: "a", do: own(0, 0o777), where: "a", help: "chmod go-w "},
		{name: "folder of a group", at: "a/b", do: own(0, 0o775), where: "a/b", help: "chmod go-w "},
		{name: "sticky folder on the way", at: "a", do: own(0, 0o777|fs.ModeSticky)},
		{name: "sticky folder itself", at: "a/b", do: own(0, 0o777|fs.ModeSticky), ask: "a/b", where: "a/b", help: "chmod go-w "},
		{name: "link", at: "a/link", do: func(p string) error { return os.Symlink("b/file", p) }, ask: "a/link"},
		{name: "absolute link", at: "a/link", do: func(p string) error { return os.Symlink(filepath.Dir(p)+"/b", p) }, ask: "a/link/file"},
		{name: "link of a foe", at: "a/link", do: func(p string) error {
			return errors.Join(os.Symlink("b/file", p), os.Lchown(p, foe, foe))
		}, ask: "a/link", where: "a/link", help: "chown root "},
		{name: "link through a folder of everybody", at: "open", do: func(p string) error {
			return errors.Join(os.Mkdir(p, 0o755), os.Chmod(p, 0o777), os.Symlink("../a/b/file", p+"/link"))
		}, ask: "open/link", where: "open", help: "chmod go-w "},
		{name: "link to a folder of everybody", at: "a/link", do: func(p string) error {
			return errors.Join(os.Chmod(filepath.Dir(p)+"/b", 0o777), os.Symlink("b", p))
		}, ask: "a/link/file", where: "a/b", help: "chmod go-w "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "trust-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755), os.WriteFile(filepath.Join(dir, "a", "b", "file"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if c.do != nil {
				if err := c.do(filepath.Join(dir, c.at)); err != nil {
					t.Fatal(err)
				}
			}
			if c.ask == "" {
				c.ask = "a/b/file"
			}
			err = CheckTrust(filepath.Join(dir, c.ask), friend)
			if c.where == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var at *Untrusted
			if !errors.As(err, &at) || !errors.Is(err, ErrUntrusted) || at.Where != filepath.Join(dir, c.where) ||
				at.Help != c.help+at.Where || !strings.Contains(err.Error(), at.Where) {
				t.Errorf("got %v (%+v)", err, at)
			}
		})
	}
}

func TestCheckTrustCannotLook(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	me := uint32(os.Geteuid())
	for _, path := range []string{loop, filepath.Join(dir, "absent"), filepath.Join(dir, "absent", "x")} {
		if err := CheckTrust(path, me); err == nil || errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestCheckTrustMagicLink looks at a folder through /proc/self/fd, whose link text may name another one by now.
func TestCheckTrustMagicLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: /proc/self belongs to root there")
	}
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(dir); err != nil { // only the descriptor leads there
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := CheckTrust(path); err != nil {
		t.Error(err)
	}
	if err := f.Chmod(0o777); err != nil {
		t.Fatal(err)
	}
	if err := CheckTrust(path); !errors.Is(err, ErrUntrusted) {
		t.Errorf("everybody may write there: %v", err)
	}
}
