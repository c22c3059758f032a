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

// Hardware is a monotonic counter and seals that open only while it shows a given value (TPM2_PolicyNV).
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
// generation. Retire ends the generation: from then on the hardware itself refuses every copy of its file, whoever kept it.
//
// While the next generation lies beside the present one, every write goes to both before it counts. It is safe for concurrent
// use; Save waits for no Retire.
type Generations struct {
	// moving is held by the one that retires, with the hardware's time in it; value and file change only under both locks.
	moving  sync.Mutex
	mu      sync.Mutex
	storage Lister
	name    string
	hw      Hardware
	value   uint64
	file    *sealedFile // nil: there is no state yet
	next    *sealedFile // of value+1, from when it was written until the hardware has said which of the two counts
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
	if err := g.file.write(g.storage, state); err != nil {
		return err
	}
	if g.next == nil {
		return nil
	}
	// Which of the two the hardware shows after a crash is not known here: the state counts once both have it.
	return g.next.write(g.storage, state)
}

func (g *Generations) newFile(value uint64) (*sealedFile, error) {
	f, err := newFile(g.fileName(value), &g.keys, func(key []byte) ([]byte, error) { return g.hw.SealAt(key, value) })
	if err != nil {
		return nil, fmt.Errorf("begin generation %d of vault %s: %w", value, g.name, err)
	}
	return f, nil
}

// Advance makes a state durable, moves to the next generation with it and retires the present one in the hardware.
func (g *Generations) Advance(state []byte) error {
	if err := g.Save(state); err != nil {
		return err
	}
	return g.Retire()
}

// Retire moves to the next generation with what was saved last and retires the present one in the hardware; it does nothing if
// nothing was ever saved. The hardware may take its time: Save goes on meanwhile, and writes to both files once the next one lies
// beside the present one, so there is no instant without a valid file, whichever of the two the hardware shows.
//
// After an error the present generation counts. If the hardware cannot even say what it shows, either may: both files are
// written until a later Retire has found out.
func (g *Generations) Retire() error {
	g.moving.Lock()
	defer g.moving.Unlock()
	begun, err := g.prepare()
	if err != nil || begun == nothing {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("retire generation %d of vault %s: %w", g.value, g.name, err) }
	if begun == before {
		// An earlier attempt has left the next file: the command may have been carried out all the same.
		shown, err := g.hw.Value()
		if err != nil {
			return fail(err)
		}
		if shown != g.value {
			return g.settle(shown)
		}
	}
	value, err := g.hw.Increment()
	if err != nil {
		shown, verr := g.hw.Value()
		if verr != nil {
			return fail(errors.Join(err, verr))
		}
		if shown == g.value {
			return errors.Join(fail(err), g.drop())
		}
		value = shown
	}
	return g.settle(value)
}

// begun says since when the file of the next generation lies beside the present one.
type begun int

const (
	nothing begun = iota // there is no present one either
	before
	now
)

// prepare puts the file of the next generation beside the present one, with the same content. The hardware seals its key without
// the lock.
func (g *Generations) prepare() (begun, error) {
	g.mu.Lock()
	begun := now
	switch {
	case g.file == nil:
		begun = nothing
	case g.next != nil:
		begun = before
	}
	g.mu.Unlock()
	if begun != now {
		return begun, nil
	}
	next, err := g.newFile(g.value + 1)
	if err != nil {
		return nothing, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b, err := g.storage.ReadFile(g.fileName(g.value))
	if err != nil {
		next.wipe()
		return nothing, fmt.Errorf("begin generation %d of vault %s: %w", g.value+1, g.name, err)
	}
	state, err := g.file.decode(b)
	if err != nil {
		next.wipe()
		return nothing, err
	}
	defer clear(state)
	if err := next.write(g.storage, state); err != nil {
		return nothing, errors.Join(err, next.discard(g.storage))
	}
	g.next = next
	return now, nil
}

// drop takes the next generation's file away: the hardware has said that it does not count.
func (g *Generations) drop() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := g.next
	g.next = nil
	return next.discard(g.storage)
}

// settle goes on in the generation that the hardware shows.
func (g *Generations) settle(shown uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if shown != g.value+1 {
		return fmt.Errorf("retire generation %d of vault %s: %w: it shows %d", g.value, g.name, ErrAdvance, shown)
	}
	old, oldName := g.file, g.fileName(g.value)
	clear(g.state)
	g.file, g.next, g.value, g.state = g.next, nil, shown, nil
	old.wipe()
	// The hardware refuses it already; the file is only litter.
	if err := errors.Join(g.storage.Remove(oldName), g.storage.Sync()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove generation %d of vault %s: %w", shown-1, g.name, err)
	}
	return nil
}

// Wipe overwrites the key in memory. The vault must not be used afterwards.
func (g *Generations) Wipe() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.state)
	for _, f := range []*sealedFile{g.file, g.next} {
		if f != nil {
			f.wipe()
		}
	}
}
