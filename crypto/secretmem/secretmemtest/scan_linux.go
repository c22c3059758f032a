// SPDX-License-Identifier: Apache-2.0

package secretmemtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Piece is the length in bytes of what is looked for: a secret counts as found where any whole piece of it is, so that a copy
// that was overwritten in part is found, too. A shorter secret is one piece.
const Piece = 16

// Secret is a value that must not be found.
type Secret struct {
	Name  string
	Value []byte
}

// Mapping is an entry of /proc/PID/smaps.
type Mapping struct {
	From, To    uint64
	Permissions string
	Name        string
	// Flags are the kernel's, such as "lo" (locked), "dd" (not in core dumps), "dc" (not in children), "wf" (zero in children).
	Flags []string
	// Resident says that some of it is in memory.
	Resident bool
}

// Has reports whether the mapping has all of the flags.
func (m *Mapping) Has(flags ...string) bool {
	for _, f := range flags {
		if !slices.Contains(m.Flags, f) {
			return false
		}
	}
	return true
}

// Hit is a piece of a secret at an address.
type Hit struct {
	Secret  string
	At      uint64
	Mapping Mapping
}

// Registers is how the name of the mapping of a hit begins that is in no memory; At is an offset in the kernel's layout of them.
const Registers = "registers"

// Result is the outcome of a scan.
type Result struct {
	Hits []Hit
	// Read is how many bytes were looked at, Threads how many threads' registers. Unreadable are the mappings, or parts of them, that the kernel gave nobody.
	Read       uint64
	Threads    int
	Unreadable []Mapping
}

// Mappings reads the mappings of a process.
func Mappings(pid int) ([]Mapping, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil, err
	}
	var all []Mapping
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 {
			continue
		}
		if from, to, ok := strings.Cut(fields[0], "-"); ok && len(fields) >= 5 {
			m := Mapping{Permissions: fields[1], Name: strings.Join(fields[5:], " ")}
			var e1, e2 error
			m.From, e1 = strconv.ParseUint(from, 16, 64)
			m.To, e2 = strconv.ParseUint(to, 16, 64)
			if err := errors.Join(e1, e2); err != nil {
				return nil, fmt.Errorf("read mappings of process %d: %q: %w", pid, s.Text(), err)
			}
			all = append(all, m)
			continue
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("read mappings of process %d: %q stands first", pid, s.Text())
		}
		switch m := &all[len(all)-1]; fields[0] {
		case "Rss:":
			m.Resident = fields[1] != "0"
		case "VmFlags:":
			m.Flags = fields[1:]
		}
	}
	return all, nil
}

// Scan stops another process, reads the registers of all its threads, by ptrace(2), and all of its memory, through /proc/PID/mem,
// and lets it go on. The process must not be a child that somebody else of this process waits for: that wait would take the
// tracer's messages. It is what a debugger run by root could write to a core file, and the mappings that it would leave out. It needs
// root, or a process of the same user that is dumpable.
func Scan(pid int, secrets []Secret) (*Result, error) {
	x, r := newIndex(secrets), new(Result)
	err := stopped(pid, func(all []registers) error {
		for _, t := range all {
			m := Mapping{Name: fmt.Sprintf("%s of thread %d", Registers, t.thread)}
			x.find(t.b, func(offset int, name string) { r.Hits = append(r.Hits, Hit{name, uint64(offset), m}) })
			r.Read += uint64(len(t.b))
			r.Threads++
		}
		return r.memory(pid, x)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// memory looks through all that can be read of a process that is stopped.
func (r *Result) memory(pid int, x *index) error {
	all, err := Mappings(pid)
	if err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer mem.Close()
	for _, m := range all {
		// What the kernel made for all processes holds nothing of this one; reserved address space that was never touched holds
		// nothing at all.
		if strings.HasPrefix(m.Name, "[v") || !m.Resident && !strings.HasPrefix(m.Permissions, "r") {
			continue
		}
		if r.read(mem, m, x) {
			r.Unreadable = append(r.Unreadable, m)
		}
	}
	return nil
}

// ScanFile looks through a file, such as a core file. Its hits are by offset.
func ScanFile(name string, secrets []Secret) (*Result, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := new(Result)
	if r.read(f, Mapping{To: uint64(info.Size()), Name: name}, newIndex(secrets)) {
		return nil, fmt.Errorf("read %s: a part of it cannot be read", name)
	}
	return r, nil
}

// read looks through a mapping and reports whether a part of it was refused.
func (r *Result) read(from io.ReaderAt, m Mapping, x *index) (refused bool) {
	buf := make([]byte, chunk+Piece)
	defer clear(buf)
	for at := m.From; at < m.To; at += chunk {
		n, err := from.ReadAt(buf[:min(chunk+Piece-1, m.To-at)], int64(at))
		if n == 0 && err != nil {
			refused = true
			continue
		}
		r.Read += uint64(min(n, chunk))
		x.find(buf[:n], func(offset int, name string) {
			if offset < chunk {
				r.Hits = append(r.Hits, Hit{name, at + uint64(offset), m})
			}
		})
	}
	return refused
}

// chunk is how much is read at once: pages, so that one that cannot be read does not hide the next.
const chunk = 4096 * 16

// piece is a part of a secret that is looked for.
type piece struct {
	name string
	b    []byte
}

// index finds pieces by their first two bytes.
type index struct {
	first [1 << 16]bool
	by    map[[2]byte][]piece
}

func newIndex(secrets []Secret) *index {
	x := &index{by: make(map[[2]byte][]piece)}
	for _, s := range secrets {
		for off := 0; off < len(s.Value); off += Piece {
			end := min(off+Piece, len(s.Value))
			start := max(0, end-Piece) // the last piece has its full length, too
			b := s.Value[start:end]
			k := [2]byte(b)
			x.first[int(k[0])|int(k[1])<<8] = true
			x.by[k] = append(x.by[k], piece{fmt.Sprintf("%s[%d:%d]", s.Name, start, end), b})
		}
	}
	return x
}

func (x *index) find(b []byte, hit func(offset int, name string)) {
	for i := 0; i+1 < len(b); i++ {
		if !x.first[int(b[i])|int(b[i+1])<<8] {
			continue
		}
		for _, p := range x.by[[2]byte(b[i:])] {
			if bytes.HasPrefix(b[i:], p.b) {
				hit(i, p.name)
			}
		}
	}
}
