// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"
)

// named is an engine under another name.
type named struct {
	Engine
	name string
}

func (n named) Name() string { return n.name }

func TestSelect(t *testing.T) {
	good := func(name string) Engine { return named{NewStd(), name} }
	bad := func(name string) Engine {
		return named{&broken{Engine: NewStd(), seal: func(Engine, []Op) error { return errBroken }}, name}
	}
	for _, c := range []struct {
		name    string
		all     []Engine
		force   string
		fips    bool
		want    string
		refused string
		err     error
	}{
		{name: "the fastest", all: []Engine{good("a"), good("b"), NewStd()}, want: "a"},
		{name: "the next one", all: []Engine{bad("a"), good("b"), NewStd()}, want: "b", refused: "a"},
		{name: "std when all else fails", all: []Engine{bad("a"), bad("b"), NewStd()}, want: "std", refused: "a b"},
		{name: "none at all", all: []Engine{bad("a"), bad("std")}, refused: "a std", err: ErrSelfTest},
		{name: "forced", all: []Engine{good("a"), good("b"), NewStd()}, force: "b", want: "b"},
		{name: "forced and broken", all: []Engine{bad("a"), NewStd()}, force: "a", refused: "a", err: ErrSelfTest},
		{name: "forced and unknown", all: []Engine{good("a"), NewStd()}, force: "c", err: ErrNoEngine},
		{name: "validated module", all: []Engine{good("a"), NewStd()}, fips: true, want: "std", refused: "a"},
		{name: "validated module, forced", all: []Engine{good("a"), NewStd()}, force: "a", fips: true, refused: "a", err: ErrFIPS},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := selectFrom(c.all, c.force, c.fips)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && s.Engine.Name() != c.want || err != nil && s.Engine != nil {
				t.Errorf("engine %v, want %q", s.Engine, c.want)
			}
			var refused []string
			for _, r := range s.Refused {
				if refused = append(refused, r.Name); r.Err == nil {
					t.Errorf("%s is refused for no reason", r.Name)
				}
			}
			if got := strings.Join(refused, " "); got != c.refused {
				t.Errorf("refused %q, want %q", got, c.refused)
			}
		})
	}
}

// TestSelectOnThisMachine: what is available is taken, by itself and by name.
func TestSelectOnThisMachine(t *testing.T) {
	names := Available()
	if names[len(names)-1] != NameStd || len(names) != len(realEngines()) {
		t.Fatalf("available: %v", names)
	}
	s, err := Select(Options{})
	if err != nil || s.Engine.Name() != names[0] || len(s.Refused) != 0 {
		t.Fatalf("selected %v, %v, want %s", s, err, names[0])
	}
	for _, name := range names {
		s, err := Select(Options{Engine: name})
		if err != nil || s.Engine.Name() != name {
			t.Errorf("selected %v, %v, want %s", s, err, name)
		}
	}
	if _, err := Select(Options{Engine: "rot13"}); !errors.Is(err, ErrNoEngine) {
		t.Errorf("error %v", err)
	}
}

// TestEveryEngineOfThisCPU: an engine whose instructions the CPU has is there. The flags are read a second time here,
// so that one asked for too much would be noticed.
func TestEveryEngineOfThisCPU(t *testing.T) {
	want := []string{NameStd}
	if runtime.GOOS == "linux" {
		// Package cpu sets the flags of the CPU it runs on; those of others are false.
		if cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL {
			want = append(want, NameVAES512, NameVAES256)
		}
		if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ {
			want = append(want, NameAESNI)
		}
		if cpu.ARM64.HasAES && cpu.ARM64.HasPMULL {
			want = append(want, NameAESE)
		}
	}
	got := Available()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("available %v, want %v", got, want)
	}
}

// TestSelectSharesKeyMemory: two engines on one memory can use each other's keys.
func TestSelectSharesKeyMemory(t *testing.T) {
	m := new(KeyMemory)
	a, err := Select(Options{Keys: m})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Select(Options{Keys: m})
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t, a.Engine, 1)
	record, _ := sealed(t, a.Engine, k, 24, 5)
	if b.Engine.Open([]Op{{Key: k, Record: record, Dst: make([]byte, 24)}}) != 1 {
		t.Error("an engine of the same name refuses a key")
	}
	k.Wipe()
	if n, _ := m.Usage(); n != 0 {
		t.Errorf("%d keys left", n)
	}
}

const fipsEnv = "AEAD_TEST_FIPS_CHILD"

// TestFIPS: in FIPS 140-3 mode the engine is std. The mode is fixed when a process starts, hence the child.
func TestFIPS(t *testing.T) {
	if os.Getenv(fipsEnv) != "" {
		s, err := Select(Options{})
		if err != nil || s.Engine.Name() != NameStd {
			t.Fatalf("selected %v, %v", s, err)
		}
		for _, r := range s.Refused {
			if !errors.Is(r.Err, ErrFIPS) {
				t.Errorf("%s: %v", r.Name, r.Err)
			}
		}
		if len(s.Refused) != len(Available())-1 {
			t.Errorf("refused %v of %v", s.Refused, Available())
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFIPS$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on", fipsEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestCrossCheckFindsFaults: a disagreement on few operands, or in one place, is found.
func TestCrossCheckFindsFaults(t *testing.T) {
	for name, b := range map[string]*broken{
		"one length sealed wrong": {seal: func(e Engine, ops []Op) error {
			err := e.Seal(ops)
			for _, op := range ops {
				if len(op.Record) == Overhead+17 {
					op.Record[AADSize+16] ^= 0x80
				}
			}
			return err
		}},
		"last of a batch refused": {open: func(e Engine, ops []Op) int {
			n := e.Open(ops)
			if last := &ops[len(ops)-1]; last.OK {
				last.OK, last.N = false, 0
			}
			return n
		}},
		"ignores the last bit of a tag": {open: func(e Engine, ops []Op) int {
			for i := range ops {
				r := ops[i].Record
				for bit := range 8 * TagSize {
					if e.Open(ops[i:i+1]) == 1 {
						break
					}
					p := &r[len(r)-TagSize+bit/8]
					*p ^= 1 << (bit % 8)
					if e.Open(ops[i:i+1]) == 1 {
						break
					}
					*p ^= 1 << (bit % 8)
				}
			}
			return e.Open(ops)
		}},
		"no key": {newKey: func(*[KeySize]byte, *[IVSize]byte) (*Key, error) { return nil, errBroken }},
	} {
		t.Run(name, func(t *testing.T) {
			b.Engine = NewStd()
			if err := CrossCheck(b); !errors.Is(err, ErrCrossCheck) || !strings.Contains(err.Error(), "seed") {
				t.Fatalf("error %v", err)
			}
		})
	}
}

// TestCrossCheckRepeats: the seed of a report brings back the same PDUs.
func TestCrossCheckRepeats(t *testing.T) {
	var sums [2][]byte
	for i := range sums {
		b := &broken{Engine: NewStd(), seal: func(e Engine, ops []Op) error {
			sums[i] = append(sums[i], ops[0].Record...)
			return e.Seal(ops)
		}}
		if err := crossCheck(b, [32]byte{7}); err != nil {
			t.Fatal(err)
		}
	}
	if len(sums[0]) == 0 || !slices.Equal(sums[0], sums[1]) {
		t.Error("the same seed gives other PDUs")
	}
}
