// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"github.com/cellward/cellward/crypto/secretmem"
)

var (
	// ErrGeneration says that the folder holds states, but none of the generation that the hardware shows: it is a copy of an
	// earlier time, or belongs to another device.
	ErrGeneration = errors.New("state folder is of another generation than the hardware shows")
	// ErrAdvance says that the hardware counter did not go up by one. The old generation may or may not be retired.
	ErrAdvance = errors.New("generation counter did not advance by one")
)

// Hardware is a monotonic counter and seals that open only while it shows a given value (TPM2_PolicyNV). Its methods are called
// by one goroutine at a time.
type Hardware interface {
	// First returns what the counter showed when it was made.
	First() uint64
	// Value returns what the counter shows.
	Value() (uint64, error)
	// Increment adds one, durably, and returns the new value.
	Increment() (uint64, error)
	// SealAt seals a secret of up to 128 bytes so that UnsealAt opens it only while the counter shows value.
	SealAt(secret []byte, value uint64) ([]byte, error)
	UnsealAt(sealed []byte, value uint64) ([]byte, error)
}

// Lister is a Storage that can say what is in it.
type Lister interface {
	Storage
	// List returns the names of all files.
	List() ([]string, error)
}

// Generations keeps one state, like Vault, in a file whose key the hardware opens only while its counter shows the file's
// generation. Advance retires the generation: from then on the hardware itself refuses every copy of its file, whoever kept it.
//
// While the next generation lies beside the present one, nothing else is written: one lock serves Save and Advance. It is safe
// for concurrent use.
type Generations struct {
	mu      sync.Mutex
	storage Lister
	name    string
	hw      Hardware
	value   uint64
	file    *sealedFile // nil: there is no state yet
	state   []byte      // as read by OpenGenerations, until Load
	keys    secretmem.Arena
}

// OpenGenerations opens the state of the generation that the hardware shows. What an interrupted Advance has left is cleared
// away: a file of the next generation was not yet valid, one of the last is not any more. Folders with states of other
// generations alone, or with none although the counter has moved, are refused with ErrGeneration.
func OpenGenerations(storage Lister, name string, hw Hardware) (*Generations, error) {
	g := &Generations{storage: storage, name: name, hw: hw}
	fail := func(err error) (*Generations, error) { return nil, fmt.Errorf("open vault %s: %w", name, err) }
	var err error
	if g.value, err = hw.Value(); err != nil {
		return fail(fmt.Errorf("read generation counter: %w", err))
	}
	present, err := g.present()
	if err != nil {
		return fail(err)
	}
	b, err := storage.ReadFile(g.fileName(g.value))
	if errors.Is(err, fs.ErrNotExist) {
		// A counter that has moved has had a state: without one somebody has taken it away, and with it the floors below
		// which nothing may come again.
		if len(present) > 0 || g.value != hw.First() {
			return fail(fmt.Errorf("%w: generations %v, counter %d", ErrGeneration, present, g.value))
		}
		return g, nil
	}
	if err != nil {
		return fail(err)
	}
	value := g.value
	g.file, err = openFile(b, g.fileName(value), &g.keys, func(sealed []byte) ([]byte, error) { return hw.UnsealAt(sealed, value) })
	if err != nil {
		return fail(err)
	}
	if g.state, err = g.file.decode(b); err != nil {
		return fail(err)
	}
	// Only now, with a good file in hand, is anything removed.
	for _, v := range present {
		if v == g.value {
			continue
		}
		if err := storage.Remove(g.fileName(v)); err != nil {
			return fail(err)
		}
	}
	return g, nil
}

func (g *Generations) fileName(value uint64) string {
	return g.name + "." + strconv.FormatUint(value, 10) + suffix
}

// present lists the generations that have a file.
func (g *Generations) present() ([]uint64, error) {
	names, err := g.storage.List()
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, n := range names {
		middle, ok := strings.CutPrefix(n, g.name+".")
		if middle, ok = cutSuffix(middle, ok); !ok {
			continue
		}
		if v, err := strconv.ParseUint(middle, 10, 64); err == nil && g.fileName(v) == n {
			all = append(all, v)
		}
	}
	return all, nil
}

func cutSuffix(s string, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, suffix)
}

// Value returns the generation.
func (g *Generations) Value() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.value
}

// Load returns the state, or nil when nothing was ever saved. The caller wipes it.
func (g *Generations) Load() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file == nil {
		return nil, nil
	}
	if s := g.state; s != nil {
		g.state = nil
		return s, nil
	}
	b, err := g.storage.ReadFile(g.fileName(g.value))
	if err != nil {
		return nil, fmt.Errorf("load vault %s: %w", g.name, err)
	}
	return g.file.decode(b)
}

// Save makes a state durable within the present generation, without the hardware but for the first one.
func (g *Generations) Save(state []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file == nil {
		f, err := g.newFile(g.value)
		if err != nil {
			return err
		}
		if err := f.write(g.storage, state); err != nil {
			f.wipe()
			return err
		}
		g.file = f
		return nil
	}
	clear(g.state)
	g.state = nil
	return g.file.write(g.storage, state)
}

func (g *Generations) newFile(value uint64) (*sealedFile, error) {
	f, err := newFile(g.fileName(value), &g.keys, func(key []byte) ([]byte, error) { return g.hw.SealAt(key, value) })
	if err != nil {
		return nil, fmt.Errorf("begin generation %d of vault %s: %w", value, g.name, err)
	}
	return f, nil
}

// Advance makes a state durable in the next generation and retires the present one in the hardware. Before the counter has
// moved the old file counts, after it the new one; there is no instant without a valid file. After an error the vault goes on
// in whichever generation the hardware shows; if it cannot even say that, in the old one, whose writes may then be in vain.
func (g *Generations) Advance(state []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	next, err := g.newFile(g.value + 1)
	if err != nil {
		return err
	}
	if err := next.write(g.storage, state); err != nil {
		return errors.Join(err, next.discard(g.storage))
	}
	value, err := g.hw.Increment()
	if err != nil {
		// The command may have been carried out all the same.
		shown, verr := g.hw.Value()
		if verr != nil {
			return fmt.Errorf("retire generation %d of vault %s: %w", g.value, g.name, errors.Join(err, verr))
		}
		if shown == g.value {
			return errors.Join(fmt.Errorf("retire generation %d of vault %s: %w", g.value, g.name, err), next.discard(g.storage))
		}
		value = shown
	}
	if value != g.value+1 {
		return fmt.Errorf("retire generation %d of vault %s: %w: it shows %d", g.value, g.name, ErrAdvance, value)
	}
	old := g.file
	oldName := g.fileName(g.value)
	clear(g.state)
	g.file, g.value, g.state = next, value, nil
	if old != nil {
		old.wipe()
		// The hardware refuses it already; the file is only litter.
		if err := errors.Join(g.storage.Remove(oldName), g.storage.Sync()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove generation %d of vault %s: %w", value-1, g.name, err)
		}
	}
	return nil
}

// Wipe overwrites the key in memory. The vault must not be used afterwards.
func (g *Generations) Wipe() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.state)
	if g.file != nil {
		g.file.wipe()
	}
}
