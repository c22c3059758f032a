// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/secretmem"
)

// ErrHandover says that what another process has handed over does not fit the folder.
var ErrHandover = errors.New("what was handed over does not fit the state folder")

// Lock returns the open lock of the folder. Who gets a duplicate holds the same lock: it is free only when all are closed.
func (d *Dir) Lock() *os.File { return d.lock }

// AdoptDirOf is OpenDirOf on a folder that another process has locked and works with, which has handed its lock over. The caller sees
// to it that only one of the two writes. It takes lock in any case.
func AdoptDirOf(path string, owner uint32, lock *os.File) (_ *Dir, err error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state folder: %w", err), lock.Close())
	}
	d := &Dir{root: root, path: path, owner: owner, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	for _, name := range []string{".", lockName} {
		if err := d.check(name); err != nil {
			return nil, err
		}
	}
	given, err := lock.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at lock of state folder: %w", err)
	}
	own, err := root.Lstat(lockName)
	if err != nil {
		return nil, fmt.Errorf("look at lock of state folder: %w", err)
	}
	if !os.SameFile(given, own) {
		return nil, fmt.Errorf("%w: the lock is not that of %s", ErrHandover, path)
	}
	// Whoever has this lock may lock it once more. Another's would refuse.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%w: the lock of %s is another's: %w", ErrHandover, path, err)
	}
	return d, nil
}

// Handover is an open Generations on its way to another process: the generation and the keys of its files. It is to be wiped.
type Handover struct {
	Value uint64        `cbor:"1,keyasint"`
	File  *HandoverFile `cbor:"2,keyasint,omitempty"` // nil: nothing was ever saved
	// Next is that of the next generation, where the hardware has not said yet whether it counts.
	Next *HandoverFile `cbor:"3,keyasint,omitempty"`
}

// HandoverFile is one file's key, and its sealed form, which is at the head of the file.
type HandoverFile struct {
	Sealed []byte        `cbor:"1,keyasint"`
	Key    [keySize]byte `cbor:"2,keyasint"`
}

// Wipe overwrites the keys.
func (h *Handover) Wipe() {
	for _, f := range []*HandoverFile{h.File, h.Next} {
		if f != nil {
			clear(f.Key[:])
		}
	}
}

// HandOver returns what AdoptGenerations goes on with. Nobody may retire or save until it is clear who goes on.
func (g *Generations) HandOver() *Handover {
	g.mu.Lock()
	defer g.mu.Unlock()
	file := func(f *sealedFile) *HandoverFile {
		if f == nil {
			return nil
		}
		return &HandoverFile{Sealed: f.sealed, Key: *f.key.Get()}
	}
	return &Handover{Value: g.value, File: file(g.file), Next: file(g.next)}
}

// AdoptGenerations opens a state that another process had open, as it left it. It asks the hardware for nothing; what does not
// authenticate is refused.
func AdoptGenerations(storage Lister, name string, hw Hardware, h *Handover) (*Generations, error) {
	g := &Generations{storage: storage, name: name, hw: hw, value: h.Value}
	adopt := func(f *HandoverFile, value uint64) (*sealedFile, error) {
		if f == nil {
			return nil, nil
		}
		if len(f.Sealed) == 0 || len(f.Sealed) > maxSealed {
			return nil, fmt.Errorf("%w: a sealed key of %d bytes", ErrHandover, len(f.Sealed))
		}
		key, err := secretmem.NewBox[[keySize]byte](&g.keys)
		if err != nil {
			return nil, err
		}
		*key.Get() = f.Key
		file := &sealedFile{name: g.fileName(value), sealed: f.Sealed, key: key}
		b, err := storage.ReadFile(file.name)
		if err != nil {
			file.wipe()
			return nil, err
		}
		state, err := file.decode(b)
		if err != nil {
			file.wipe()
			return nil, err
		}
		clear(state)
		return file, nil
	}
	var err error
	if g.file, err = adopt(h.File, h.Value); err == nil {
		g.next, err = adopt(h.Next, h.Value+1)
	}
	if err == nil && g.next != nil && g.file == nil {
		err = fmt.Errorf("%w: a next generation without a present one", ErrHandover)
	}
	if err != nil {
		g.Wipe()
		return nil, fmt.Errorf("take over vault %s: %w", name, err)
	}
	return g, nil
}
