// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// testStreams returns n streams with opaque bodies.
func testStreams(n int) []Stream {
	streams := make([]Stream, n)
	for i := range streams {
		streams[i] = Stream{
			ID: uint32(i + 1), SourceID: 7, Name: fmt.Sprintf("stream %d", i), Source: "pack_current",
			Interface: "can0", CANID: uint32(0x100 + i), Period: 100 * time.Millisecond, Sensitivity: SensitivityCritical,
		}
	}
	return streams
}

func newProducer(t testing.TB, cfg Config) *Producer {
	t.Helper()
	p, err := NewProducer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// attach opens a reader on the producer's memory without a server.
func attach(t testing.TB, p *Producer, opt Options) *Reader {
	t.Helper()
	mem, err := mapReadOnly(p.memory.fd)
	if err != nil {
		t.Fatal(err)
	}
	v, err := newView(mem)
	if err != nil {
		t.Fatal(err)
	}
	p.listeners.Add(1)
	r := newReader("", opt, &link{view: v})
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// socketPath returns a path that is short enough for a socket, in a folder that other users can reach.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ring")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func serve(t testing.TB, p *Producer, cfg ServerConfig) *Server {
	t.Helper()
	s, err := Serve(p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func dialTest(t testing.TB, path string, opt Options) *Reader {
	t.Helper()
	r, err := Dial(context.Background(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// stamped fills s as the sample at position pos: every field follows from pos, and the body, of a length that varies,
// ends with a checksum over itself. verify finds any mixture of two samples.
func stamped(s *Sample, pos uint64, streams, bodyMax int) {
	rng := rand.New(rand.NewPCG(pos, 1))
	length := 12 + rng.IntN(bodyMax-11)
	body := s.Body[:0]
	if cap(body) < length {
		body = make([]byte, 0, bodyMax)
	}
	body = binary.LittleEndian.AppendUint64(body, pos)
	for len(body) < length-4 {
		body = append(body, byte(rng.Uint32()))
	}
	body = binary.LittleEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
	*s = Sample{
		Stream: uint32(rng.IntN(streams)), Epoch: uint32(pos >> 7), Counter: pos * 3, SourceTime: uint32(pos * 5),
		Flags: Flags(pos & 15), ReceiveTime: int64(pos * 11), Body: body,
	}
}

func verify(s *Sample, streams, bodyMax int) error {
	n := len(s.Body)
	if n < 12 || crc32.ChecksumIEEE(s.Body[:n-4]) != binary.LittleEndian.Uint32(s.Body[n-4:]) {
		return fmt.Errorf("position %d: torn body %x", s.Position, s.Body)
	}
	pos := binary.LittleEndian.Uint64(s.Body)
	var want Sample
	stamped(&want, pos, streams, bodyMax)
	if s.Position != pos || s.Stream != want.Stream || s.Epoch != want.Epoch || s.Counter != want.Counter ||
		s.SourceTime != want.SourceTime || s.Flags != want.Flags || s.ReceiveTime != want.ReceiveTime || n != len(want.Body) {
		return fmt.Errorf("position %d: fields of another sample: %+v, body is that of %d", s.Position, s, pos)
	}
	return nil
}

// stampedBatch returns n samples from position pos on.
func stampedBatch(batch []Sample, pos uint64, n, streams, bodyMax int) []Sample {
	for len(batch) < n {
		batch = append(batch, Sample{})
	}
	batch = batch[:n]
	for i := range batch {
		stamped(&batch[i], pos+uint64(i), streams, bodyMax)
	}
	return batch
}

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// sealedCopy returns a descriptor of memory with the given content and seals.
func sealedCopy(t testing.TB, content []byte, add int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Ftruncate(fd, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, content, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, add); err != nil {
		t.Fatal(err)
	}
	return fd
}

// draft is what the batch in progress is written by, as announce returned it.
func (p *Producer) draft(now int64) *Draft {
	return &Draft{
		slots: p.slots, end: unsafe.Add(p.slots, p.slotSize*uintptr(p.slotCount)), size: p.slotSize, mask: p.slotCount - 1, first: p.tail, now: now,
	}
}
