// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"crypto/fips140"
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrNoEngine reports a name that is no engine of this package, or none that this CPU can run.
	ErrNoEngine = errors.New("no such engine on this machine")
	// ErrFIPS reports an engine that is refused because the process runs in FIPS 140-3 mode: only "std" works inside
	// Go's validated module.
	ErrFIPS = errors.New("engine is outside the validated cryptographic module")
)

// Options say which engine to take. The zero value takes the fastest that can be trusted.
type Options struct {
	// Engine is the name of the engine to take, and then no other is: one that cannot be had is an error. Empty takes
	// the fastest.
	Engine string
	// Keys is where the engine keeps its keys, unless it is std. Engines that are given the same one share it; nil makes
	// one for this engine.
	Keys *KeyMemory
}

// Refusal is an engine that this CPU could run and that was not taken all the same.
type Refusal struct {
	Name string
	Err  error // wraps ErrSelfTest, ErrCrossCheck, ErrKeyMemory or ErrFIPS
}

// Selection is the outcome of Select.
type Selection struct {
	Engine  Engine
	Refused []Refusal
}

// Select returns the fastest engine that this CPU can run and that passes SelfTest and CrossCheck, and those that were
// refused before it: whoever starts on it should report them. In FIPS 140-3 mode (GODEBUG=fips140=on) it is always
// "std". It takes a few milliseconds. An error means that there is no engine to work with: it wraps ErrNoEngine for a
// name in opts that cannot be had, else what was wrong with the last one.
//
// Every call makes an engine of its own, see Engine for concurrency.
func Select(opts Options) (Selection, error) {
	if opts.Keys == nil {
		opts.Keys = new(KeyMemory)
	}
	var all []Engine
	for _, k := range kernels() {
		all = append(all, &SideBySide{kernel: k, mem: opts.Keys})
	}
	return selectFrom(append(all, NewStd()), opts.Engine, fips140.Enabled())
}

// Available returns the names of the engines that this CPU can run, the fastest first and "std" last. Whether they can
// be trusted is for Select to find out.
func Available() []string {
	var names []string
	for _, k := range kernels() {
		names = append(names, k.name)
	}
	return append(names, NameStd)
}

func selectFrom(all []Engine, name string, fips bool) (Selection, error) {
	if name != "" {
		i := slices.IndexFunc(all, func(e Engine) bool { return e.Name() == name })
		if i < 0 {
			return Selection{}, fmt.Errorf("select engine %q: %w", name, ErrNoEngine)
		}
		all = all[i : i+1]
	}
	var s Selection
	for _, e := range all {
		err := trust(e, fips)
		if err == nil {
			s.Engine = e
			return s, nil
		}
		s.Refused = append(s.Refused, Refusal{e.Name(), err})
	}
	last := s.Refused[len(s.Refused)-1]
	return s, fmt.Errorf("select engine %s: %w", last.Name, last.Err)
}

// trust returns why an engine must not be used.
func trust(e Engine, fips bool) error {
	if fips && e.Name() != NameStd {
		return ErrFIPS
	}
	if err := SelfTest(e); err != nil {
		return err
	}
	return CrossCheck(e)
}
