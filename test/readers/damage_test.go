// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
	"golang.org/x/sys/unix"
)

// goVerdict opens a ring with the Go reader and reads it to the end: what the programs answer to open and drain.
func goVerdict(t *testing.T, path string) string {
	t.Helper()
	r, err := ring.Dial(context.Background(), path, ring.Options{StaleAfter: -1})
	var layout *ring.LayoutError
	switch {
	case errors.As(err, &layout):
		return "refused layout " + layout.Field
	case errors.Is(err, ring.ErrVersion):
		return "refused version"
	case err != nil:
		t.Fatal(err)
	}
	defer r.Close()
	read := 0
	for {
		batch := make([]ring.Sample, 16)
		n, err := r.Next(context.Background(), batch)
		read += n
		switch {
		case errors.As(err, &layout):
			return fmt.Sprintf("drained %d %d layout %s", read, r.Missed(), layout.Field)
		case errors.Is(err, ring.ErrProducerGone):
			return fmt.Sprintf("drained %d %d gone", read, r.Missed())
		case err != nil:
			t.Fatal(err)
		}
	}
}

// judges are the readers that are compared with the Go reader on each damaged ring.
func judges(t *testing.T) map[string]*process {
	t.Helper()
	all := map[string]*process{}
	for _, s := range []subject{sanitizedSubject(t), cppSubject(t), pythonSubject(t, "Python")} {
		if s.skip != "" {
			t.Logf("without %s: %s", s.name, s.skip)
			continue
		}
		all[s.name] = s.shell(t)
	}
	return all
}

// judge shows an image to all readers. All must agree with the Go reader: refuse it for the same field, or read the same
// number of samples from it and end in the same way. It returns what the Go reader says.
func judge(t *testing.T, server *impostor, readers map[string]*process, what string, im *image) string {
	t.Helper()
	server.give(im.hello(ring.MajorVersion, 0), sealedMemory(t, im.bytes, goodSeals))
	want := goVerdict(t, server.path)
	for name, p := range readers {
		got := p.ask("open %s oldest 0 -1", server.path)
		if got[0] == "ok" {
			got = p.ask("drain")
		}
		if strings.TrimSpace(got[0]) != want {
			t.Errorf("%s: %s says %q, the Go reader %q", what, name, got[0], want)
		}
	}
	return want
}

// TestDamagedFields changes every number of header and tables in every way that a bound could be wrong by.
func TestDamagedFields(t *testing.T) {
	good := exampleImage(t)
	server, readers := newImpostor(t), judges(t)
	if got := judge(t, server, readers, "unchanged", good); got != "drained 8 0 gone" {
		t.Fatal(got)
	}
	refusedFor := map[string]bool{}
	accepted := 0
	for _, row := range layoutTable(t) {
		entries := map[string][]int{
			"header": {0}, "stream": {0, 3}, "signal": {0, int(good.get("header.signal_count", 0)) - 1}, "slot": {5}, "latest": {1},
		}[row.structure]
		name := row.structure + "." + row.name
		if row.name == "(end)" || row.size > 8 || row.name == "heartbeat" {
			continue
		}
		for _, entry := range entries {
			old := good.get(name, entry)
			for _, value := range []uint64{0, 1, 2, 64, old + 1, old - 1, old + 64, old - 64, old * 2, old ^ 1<<(8*row.size-1),
				1 << 16, 1 << 25, 1 << 31, 1<<31 - 64, 1<<32 - 64, 1<<32 - 1, 1 << 62, 1<<63 - 1, 1<<64 - 64, 1<<64 - 1} {
				im := good.clone()
				im.set(name, entry, value)
				if im.get(name, entry) == old {
					continue
				}
				verdicts := []string{judge(t, server, readers, fmt.Sprintf("%s[%d] = %#x", name, entry, value), im)}
				im.repair()
				verdicts = append(verdicts, judge(t, server, readers, fmt.Sprintf("%s[%d] = %#x, sums repaired", name, entry, value), im))
				for _, v := range verdicts {
					if field, ok := strings.CutPrefix(v, "refused layout "); ok {
						refusedFor[field] = true
					} else {
						accepted++
					}
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d different fields were refused, %d changed rings were read", len(refusedFor), accepted)
	if len(refusedFor) < 40 || accepted < 50 {
		t.Error("the changes reach too little")
	}
}

// TestDamagedText: names and units that are no text.
func TestDamagedText(t *testing.T) {
	good := exampleImage(t)
	server, readers := newImpostor(t), judges(t)
	at, length := good.get("stream.name_offset", 1), good.get("stream.name_length", 1)
	refused := []string{"\x00", "\n", "\x7f", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x80\xae", "\xe2\x80\xa8",
		"\xc2\xa0", "\xc2\xad", "\xef\xbb\xbf", "\xef\xbf\xbf", "\xee\x80\x80", "\xf3\xa0\x80\x81", "\xe3\x80\x80", "\x80", "\xe2\x82", "\xf0\x9f"}
	accepted := []string{"é", "€", "🔋", "\u0301", "~", " "}
	for i, bad := range append(refused, accepted...) {
		im := good.clone()
		text := im.region("header.strings_offset", im.get("header.strings_length", 0))
		copy(text[at:][:length], bad)
		im.repair()
		got := judge(t, server, readers, fmt.Sprintf("%q in a name", bad), im)
		if (i >= len(refused)) != strings.HasPrefix(got, "drained") {
			t.Errorf("%q in a name: %s", bad, got)
		}
	}
}

// TestDamagedRandomly changes several places at once.
func TestDamagedRandomly(t *testing.T) {
	good := exampleImage(t)
	server, readers := newImpostor(t), judges(t)
	rng := rand.New(rand.NewPCG(77, 78))
	rows := layoutTable(t)
	for i := range 400 {
		im := good.clone()
		for range 1 + rng.IntN(3) {
			row := rows[rng.IntN(len(rows))]
			if row.size > 8 || row.size == 0 || row.structure == "hello" {
				continue
			}
			entry := map[string]int{"stream": rng.IntN(4), "signal": rng.IntN(int(good.get("header.signal_count", 0))), "slot": rng.IntN(8),
				"latest": rng.IntN(4)}[row.structure]
			name := row.structure + "." + row.name
			// In a clone whose tables are where they were: the places are those of the good ring.
			b := good.bytesOf(name, entry)
			offset := cap(good.bytes) - cap(b)
			im.bytes[offset+rng.IntN(row.size)] ^= byte(1 << rng.IntN(8))
		}
		if rng.IntN(4) > 0 {
			im.repair()
		}
		judge(t, server, readers, fmt.Sprintf("random change %d", i), im)
		if t.Failed() {
			return
		}
	}
}

// TestMultiplexorChains: cycles and long chains end.
func TestMultiplexorChains(t *testing.T) {
	const n = 600
	var signals []ring.Signal
	for i := range n {
		g := ring.Signal{Name: fmt.Sprintf("s%d", i), Length: 8}
		if i > 0 {
			g.Multiplexor, g.MuxValue = fmt.Sprintf("s%d", i-1), 7
		}
		signals = append(signals, g)
	}
	streams := plainStreams(1)
	streams[0].Signals = signals
	p := newProducer(t, ring.Config{Streams: streams, Slots: 2, BodyMax: 8})
	path := socketPath(t)
	serve(t, p, path)
	each(t, func(t *testing.T, s subject) {
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		checkValues(t, "all selected", c.ask("decode 0 07"), valueLines(t, &streams[0], []byte{7}))
		checkValues(t, "one selected", c.ask("decode 0 08"), valueLines(t, &streams[0], []byte{8}))
	})
	file := os.NewFile(uintptr(receiveRing(t, path)), "ring")
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	good := exampleImage(t)
	im := &image{bytes: make([]byte, info.Size()), table: good.table}
	if _, err := file.ReadAt(im.bytes, 0); err != nil {
		t.Fatal(err)
	}
	server, readers := newImpostor(t), judges(t)
	for _, to := range []uint64{0, 1, n / 2, n - 1} {
		im.set("signal.multiplexor", 0, to)
		im.repair()
		if got := judge(t, server, readers, fmt.Sprintf("a cycle over %d signals", to+1), im); got != "refused layout streams[0].signals[0].multiplexor" {
			t.Error(got)
		}
	}
}

// TestKilledHalfway: the producer died in the middle of a batch. Nothing of it is delivered, what it overwrote is counted
// as missed, and a latest value that it was writing is not returned.
func TestKilledHalfway(t *testing.T) {
	im := exampleImage(t) // 13 published, 8 slots
	im.set("header.intent", 0, 15)
	copy(im.bytesOf("slot.counter", 13%8), "halfdone")
	copy(im.bytesOf("slot.counter", 14%8), "halfdone")
	im.set("latest.begin", 1, 14)
	server := newImpostor(t)
	server.give(im.hello(ring.MajorVersion, 0), sealedMemory(t, im.bytes, goodSeals))
	each(t, func(t *testing.T, s subject) {
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", server.path)
		got := c.ask("next 20 -1")
		if len(got) != 7 || !strings.HasPrefix(got[1], "sample 7 ") || !strings.HasPrefix(got[6], "sample 12 ") {
			t.Fatal(got)
		}
		c.want("gone unclean", "next 1 -1")
		c.want("refused busy", "latest 1")
		if got := c.ask("latest 0"); !strings.HasPrefix(got[0], "sample 12 ") {
			t.Fatal(got)
		}
	})
}

// TestHello: what a server may say instead of handing the ring over, and memory that a reader must not map.
func TestHello(t *testing.T) {
	im := exampleImage(t)
	newer := im.clone()
	newer.set("header.minor", 0, 7)
	newer.repair()
	// Sizes that differ from what the header says, without a byte of the header changed.
	short, long := im.clone(), im.clone()
	short.bytes = short.bytes[:len(short.bytes)-4096]
	long.bytes = append(long.bytes, make([]byte, 4096)...)
	ringHello := im.hello(ring.MajorVersion, 0)
	noMagic := append([]byte("CELLWARE"), ringHello[8:]...)
	each(t, func(t *testing.T, s subject) {
		server := newImpostor(t)
		c := s.shell(t)
		c.want("ok", "close") // the program has started and opened what it needs for itself
		for _, one := range []struct {
			what  string
			hello []byte
			fds   []int
			want  string
		}{
			{"a ring", ringHello, []int{sealedMemory(t, im.bytes, goodSeals)}, "ok"},
			{"a ring sealed against all writing", ringHello, []int{sealedMemory(t, im.bytes, unix.F_SEAL_SHRINK|unix.F_SEAL_WRITE)}, "ok"},
			{"a later minor version", ringHello, []int{sealedMemory(t, newer.bytes, goodSeals)}, "ok"},
			{"not authorised", im.hello(1, 1), nil, "refused not_authorized"},
			{"too many", im.hello(1, 2), nil, "refused too_many"},
			{"an unknown status", im.hello(1, 9), nil, "refused system"},
			{"another version", im.hello(2, 0), []int{sealedMemory(t, im.bytes, goodSeals)}, "refused version"},
			{"version 0", im.hello(0, 0), []int{sealedMemory(t, im.bytes, goodSeals)}, "refused version"},
			{"no descriptor", ringHello, nil, "refused system"},
			{"two descriptors", ringHello, []int{sealedMemory(t, im.bytes, goodSeals), sealedMemory(t, im.bytes, goodSeals)}, "refused system"},
			{"ten descriptors", ringHello, func() (fds []int) {
				for range 10 {
					fds = append(fds, sealedMemory(t, im.bytes, goodSeals))
				}
				return fds
			}(), "refused system"},
			{"another magic", noMagic, nil, "refused system"},
			{"half a message", ringHello[:20], nil, "refused system"},
			{"a message with more behind it", append(append([]byte{}, ringHello...), 1), []int{sealedMemory(t, im.bytes, goodSeals)}, "refused system"},
			{"nothing", nil, nil, "refused gone"},
			{"memory that can shrink", ringHello, []int{sealedMemory(t, im.bytes, unix.F_SEAL_FUTURE_WRITE)}, "refused not_sealed"},
			{"memory that others can write", ringHello, []int{sealedMemory(t, im.bytes, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)}, "refused not_sealed"},
			{"a file that is no memory", ringHello, []int{devNull(t)}, "refused not_sealed"},
			{"empty memory", ringHello, []int{sealedMemory(t, nil, goodSeals)}, "refused layout file_size"},
			{"memory that ends too early", ringHello, []int{sealedMemory(t, short.bytes, goodSeals)}, "refused layout file_size"},
			{"memory that is too long", ringHello, []int{sealedMemory(t, long.bytes, goodSeals)}, "refused layout file_size"},
		} {
			server.give(one.hello, one.fds...)
			before := openFiles(t, c.cmd.Process.Pid)
			if got := strings.TrimSpace(c.ask("open %s oldest 0 -1", server.path)[0]); got != one.want {
				t.Errorf("%s: %q, want %q", one.what, got, one.want)
			}
			c.want("ok", "close")
			if after := openFiles(t, c.cmd.Process.Pid); after != before {
				t.Errorf("%s: %d descriptors, %d before", one.what, after, before)
			}
		}
		// A server that says nothing holds a reader no longer than it allows.
		server.mu.Lock()
		server.hold = true
		server.mu.Unlock()
		c.want("refused system", "open %s oldest 0 -1 50", server.path)
		c.want("refused system", "open %s oldest 0 -1", "/nonexistent/ring.sock")
		if got := c.ask("open /%s oldest 0 -1", strings.Repeat("x", 200))[0]; !strings.HasPrefix(got, "refused ") {
			t.Errorf("a path that is too long: %q", got)
		}
	})
}

func devNull(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// openFiles counts the descriptors of a process.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNotAuthorized: a user without permission is refused by the kernel, and by the server where the socket's mode was
// loosened.
func TestNotAuthorized(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start a reader as another user")
	}
	_, _, path := stampedRing(t, 64)
	for _, s := range []subject{cSubject(t), sanitizedSubject(t), cppSubject(t)} { // programs that need no other files
		if s.skip != "" {
			t.Log(s.skip)
			continue
		}
		for _, mode := range []os.FileMode{0o600, 0o666} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Dir(s.command[0])
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(s.command[0], "shell")
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			cmd.Stdin = strings.NewReader(fmt.Sprintf("open %s oldest 0 -1\n", path))
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			want := map[os.FileMode]string{0o600: "refused system", 0o666: "refused not_authorized"}[mode]
			if got := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(out)), ".")); got != want {
				t.Errorf("%s, mode %v: %q, want %q", s.name, mode, got, want)
			}
		}
	}
}

// TestFuzzC lets the C reader loose on many changed rings in one process, under the address and undefined-behaviour
// sanitizers. Each run has another seed, which a failure shows.
func TestFuzzC(t *testing.T) {
	needC(t)
	// Without the rest of the last page: the memory ends with the last slot.
	im := exampleImage(t)
	im.bytes = im.bytes[:im.get("header.slots_offset", 0)+im.get("header.slot_count", 0)*im.get("header.slot_size", 0)]
	im.set("header.file_size", 0, uint64(len(im.bytes)))
	im.repair()
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, im.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	seed := fmt.Sprint(uint64(time.Now().UnixNano()))
	out, err := exec.Command(program(t, buildFuzz), file, "20000", seed).CombinedOutput()
	if err != nil {
		t.Fatalf("seed %s: %v\n%s", seed, err, out)
	}
	var refused, accepted, whole, damaged int
	if _, err := fmt.Sscan(string(out), &refused, &accepted, &whole, &damaged); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("refused %d, accepted %d, of these %d read to the end and %d found damaged while reading", refused, accepted, whole, damaged)
	if refused < 1000 || whole < 1000 || damaged < 50 {
		t.Error("the changes reach too little")
	}
}
