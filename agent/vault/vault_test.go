// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// xorSealer is a device with a secret of its own: enough to be told from another.
type xorSealer byte

func (x xorSealer) Seal(b []byte) ([]byte, error) {
	out := []byte{byte(x)}
	for _, c := range b {
		out = append(out, c^byte(x))
	}
	return out, nil
}

func (x xorSealer) Unseal(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != byte(x) {
		return nil, errors.New("sealed by another device")
	}
	out := make([]byte, 0, len(b))
	for _, c := range b[1:] {
		out = append(out, c^byte(x))
	}
	return out, nil
}

func folder(t *testing.T) (*Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func open(t *testing.T, s Storage, name string) *Vault {
	t.Helper()
	v, err := Open(s, name, xorSealer(7))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRoundTrip(t *testing.T) {
	d, path := folder(t)
	v := open(t, d, "node")
	if b, err := v.Load(); b != nil || err != nil {
		t.Fatalf("new vault holds %x, %v", b, err)
	}
	var last []byte
	for i := range 3 {
		state := bytes.Repeat([]byte{byte(i + 1)}, 100*i)
		if err := v.Save(state); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(filepath.Join(path, "node.state"))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && bytes.Contains(file, state[:16]) {
			t.Fatal("the file shows the state")
		}
		if bytes.Equal(file, last) {
			t.Fatal("two writes are equal")
		}
		last = file
		for _, w := range []*Vault{v, open(t, d, "node")} {
			if got, err := w.Load(); err != nil || !bytes.Equal(got, state) {
				t.Fatalf("loaded %x, %v", got, err)
			}
		}
	}
	if st, err := os.Stat(filepath.Join(path, "node.state")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
}

// TestEveryDamage flips every bit and cuts at every length: nothing but the file itself is ever accepted.
func TestEveryDamage(t *testing.T) {
	d, path := folder(t)
	if err := open(t, d, "node").Save([]byte("secret state")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(path, "node.state")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	try := func(b []byte) error {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Open(d, "node", xorSealer(7))
		if err != nil {
			return err
		}
		_, err = v.Load()
		return err
	}
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		if err := try(b); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnseal) {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	for n := range good {
		if err := try(good[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if err := try(good); err != nil {
		t.Fatal(err)
	}
	// Another name's file, though sealed by the same device.
	if err := os.Rename(file, filepath.Join(path, "other.state")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, d, "other").Load(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("another name: %v", err)
	}
	if _, err := Open(d, "other", xorSealer(8)); !errors.Is(err, ErrUnseal) {
		t.Fatalf("another device: %v", err)
	}
}

func TestUnsafeFolders(t *testing.T) {
	t.Run("locked", func(t *testing.T) {
		_, path := folder(t)
		if _, err := OpenDir(path); !errors.Is(err, ErrLocked) {
			t.Fatal(err)
		}
	})
	t.Run("writable to others", func(t *testing.T) {
		path := t.TempDir()
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDir(path); !errors.Is(err, ErrUnsafe) {
			t.Fatal(err)
		}
	})
	t.Run("file writable to others", func(t *testing.T) {
		d, path := folder(t)
		if err := open(t, d, "node").Save([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(path, "node.state"), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d, "node", xorSealer(7)); !errors.Is(err, ErrUnsafe) {
			t.Fatal(err)
		}
	})
	t.Run("file readable to others", func(t *testing.T) {
		d, path := folder(t)
		if err := open(t, d, "node").Save([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(path, "node.state"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d, "node", xorSealer(7)); !errors.Is(err, ErrUnsafe) {
			t.Fatal(err)
		}
	})
	t.Run("fifo", func(t *testing.T) {
		d, path := folder(t)
		if err := syscall.Mkfifo(filepath.Join(path, "node.state"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d, "node", xorSealer(7)); !errors.Is(err, ErrUnsafe) {
			t.Fatal(err)
		}
	})
	t.Run("symbolic link", func(t *testing.T) {
		d, path := folder(t)
		if err := os.Symlink("/etc/hostname", filepath.Join(path, "node.state")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d, "node", xorSealer(7)); err == nil {
			t.Fatal("a link was followed")
		}
	})
	t.Run("missing", func(t *testing.T) {
		if _, err := OpenDir(filepath.Join(t.TempDir(), "no")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	})
}

// recorder is a storage in memory that dies at a given step; what was not synced by then may or may not have happened.
type recorder struct {
	durable map[string][]byte // after a crash in which every pending change was lost
	view    map[string][]byte
	steps   int
	die     int
}

var errDied = errors.New("power cut")

func newRecorder() *recorder {
	return &recorder{durable: map[string][]byte{}, view: map[string][]byte{}, die: -1}
}

func (r *recorder) step() error {
	if r.steps == r.die {
		return errDied
	}
	r.steps++
	return nil
}

func (r *recorder) ReadFile(name string) ([]byte, error) {
	if b, ok := r.view[name]; ok {
		return bytes.Clone(b), nil
	}
	return nil, fs.ErrNotExist
}

func (r *recorder) WriteFile(name string, b []byte) error {
	if err := r.step(); err != nil {
		r.view[name] = bytes.Clone(b[:len(b)/2]) // torn
		return err
	}
	r.view[name] = bytes.Clone(b)
	return nil
}

func (r *recorder) Rename(from, to string) error {
	if err := r.step(); err != nil {
		return err
	}
	r.view[to] = r.view[from]
	delete(r.view, from)
	return nil
}

func (r *recorder) Remove(name string) error {
	if err := r.step(); err != nil {
		return err
	}
	delete(r.view, name)
	return nil
}

func (r *recorder) Sync() error {
	if err := r.step(); err != nil {
		return err
	}
	r.durable = map[string][]byte{}
	for k, v := range r.view {
		r.durable[k] = v
	}
	return nil
}

// TestPowerCuts cuts the power at every step of a save, with the changes that were not yet durable kept and lost: the state
// is the old one or the new one, and a save that returned well is never lost.
func TestPowerCuts(t *testing.T) {
	for die := range 8 {
		for _, keep := range []bool{true, false} {
			r := newRecorder()
			v := open(t, r, "node")
			if err := v.Save([]byte("old")); err != nil {
				t.Fatal(err)
			}
			r.die = r.steps + die
			saved := v.Save([]byte("new")) == nil
			after := newRecorder()
			after.view = r.durable
			if keep {
				after.view = r.view
			}
			got, err := open(t, after, "node").Load()
			if err != nil {
				t.Fatalf("cut at %d: %v", die, err)
			}
			if saved && string(got) != "new" || string(got) != "old" && string(got) != "new" {
				t.Fatalf("cut at %d (keep %v, saved %v): state is %q", die, keep, saved, got)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := newRecorder()
	v, err := Open(r, "node", xorSealer(7))
	if err != nil {
		f.Fatal(err)
	}
	if err := v.Save([]byte("state")); err != nil {
		f.Fatal(err)
	}
	good := r.view["node.state"]
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRecorder()
		r.view["node.state"] = b
		v, err := Open(r, "node", xorSealer(7))
		if err != nil {
			return
		}
		// Seeds of other processes of this fuzzer are whole files too, with other keys.
		if state, err := v.Load(); err == nil && string(state) != "state" {
			t.Fatalf("accepted %x as %x", b, state)
		}
	})
}
