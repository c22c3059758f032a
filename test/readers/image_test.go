// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/cellward/cellward/agent/ring"
	"golang.org/x/sys/unix"
)

// image is the memory of a ring as bytes, with the places of its fields from the table in docs/ring.md.
type image struct {
	bytes []byte
	table map[string]field // "header.slot_count" -> row
}

// receiveRing connects to a server as any reader does and returns the descriptor of the memory.
func receiveRing(t testing.TB, path string) int {
	t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 64), oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatal(len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	return fds[0]
}

// exampleImage returns the memory of a ring with signals of all kinds and a few samples.
func exampleImage(t testing.TB) *image {
	t.Helper()
	streams := randomStreams(rand.New(rand.NewPCG(21, 3)), 4, 20)
	p := newProducer(t, ring.Config{Streams: streams, Slots: 8, BodyMax: 20})
	path := socketPath(t)
	serve(t, p, path)
	for i := range 13 {
		body := make([]byte, 20-i%3)
		for j := range body {
			body[j] = byte(i * j)
		}
		if err := p.Publish([]ring.Sample{{Stream: uint32(i % 3), Counter: uint64(i), Body: body}}); err != nil {
			t.Fatal(err)
		}
	}
	file := os.NewFile(uintptr(receiveRing(t, path)), "ring")
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im := &image{bytes: make([]byte, info.Size()), table: map[string]field{}}
	if _, err := file.ReadAt(im.bytes, 0); err != nil {
		t.Fatal(err)
	}
	for _, row := range layoutTable(t) {
		im.table[row.structure+"."+row.name] = row
	}
	return im
}

func (im *image) clone() *image {
	return &image{bytes: append([]byte(nil), im.bytes...), table: im.table}
}

// bytesOf returns the bytes of a field, in entry i of the array for those that lie in one.
func (im *image) bytesOf(name string, i int) []byte {
	row, ok := im.table[name]
	if !ok {
		panic("no field " + name + " in docs/ring.md")
	}
	base := 0
	switch row.structure {
	case "stream":
		base = int(im.get("header.streams_offset", 0)) + i*im.table["stream.(end)"].offset
	case "signal":
		base = int(im.get("header.signals_offset", 0)) + i*im.table["signal.(end)"].offset
	case "slot":
		base = int(im.get("header.slots_offset", 0)) + i*int(im.get("header.slot_size", 0))
	case "latest":
		base = int(im.get("header.latest_offset", 0)) + i*int(im.get("header.latest_size", 0))
	}
	return im.bytes[base+row.offset:][:row.size]
}

func (im *image) get(name string, i int) uint64 {
	b := im.bytesOf(name, i)
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(b))
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	default:
		return binary.NativeEndian.Uint64(b)
	}
}

func (im *image) set(name string, i int, value uint64) {
	b := im.bytesOf(name, i)
	switch len(b) {
	case 1:
		b[0] = byte(value)
	case 2:
		binary.NativeEndian.PutUint16(b, uint16(value))
	case 4:
		binary.NativeEndian.PutUint32(b, uint32(value))
	default:
		binary.NativeEndian.PutUint64(b, value)
	}
}

// region returns one of the tables, or nil when it does not lie within the memory.
func (im *image) region(offset string, length uint64) []byte {
	at := im.get(offset, 0)
	if at > uint64(len(im.bytes)) || length > uint64(len(im.bytes))-at {
		return nil
	}
	return im.bytes[at:][:length]
}

// repair makes schema hashes and checksum right again where the tables lie within the memory, so that the checks behind
// those are what refuses.
func (im *image) repair() {
	nStreams, nSignals := im.get("header.stream_count", 0), im.get("header.signal_count", 0)
	streams := im.region("header.streams_offset", nStreams*uint64(im.table["stream.(end)"].offset))
	signals := im.region("header.signals_offset", nSignals*uint64(im.table["signal.(end)"].offset))
	text := im.region("header.strings_offset", im.get("header.strings_length", 0))
	if streams == nil || signals == nil || text == nil {
		return
	}
	for i := range int(nStreams) {
		first, count := im.get("stream.first_signal", i), im.get("stream.signal_count", i)
		if first > nSignals || count > nSignals-first {
			continue
		}
		var canonical []byte
		for j := int(first); j < int(first+count); j++ {
			for _, name := range []string{"name", "unit"} {
				at, length := im.get("signal."+name+"_offset", j), im.get("signal."+name+"_length", j)
				if at+length > uint64(len(text)) {
					length = 0
				}
				canonical = binary.LittleEndian.AppendUint16(canonical, uint16(length))
				canonical = append(canonical, text[min(at, uint64(len(text))):][:length]...)
			}
			canonical = binary.LittleEndian.AppendUint16(canonical, uint16(im.get("signal.start", j)))
			canonical = binary.LittleEndian.AppendUint16(canonical, uint16(im.get("signal.length", j)))
			canonical = append(canonical, byte(im.get("signal.byte_order", j)), byte(im.get("signal.value_type", j)))
			canonical = binary.LittleEndian.AppendUint32(canonical, uint32(im.get("signal.multiplexor", j)))
			canonical = binary.LittleEndian.AppendUint32(canonical, uint32(im.get("signal.mux_value", j)))
			canonical = binary.LittleEndian.AppendUint64(canonical, im.get("signal.factor", j))
			canonical = binary.LittleEndian.AppendUint64(canonical, im.get("signal.offset", j))
		}
		hash := sha256.Sum256(canonical)
		copy(im.bytesOf("stream.schema_hash", i), hash[:])
	}
	sum := crc32.ChecksumIEEE(im.bytes[:im.table["header.checksum"].offset])
	for _, part := range [][]byte{streams, signals, text} {
		sum = crc32.Update(sum, crc32.IEEETable, part)
	}
	im.set("header.checksum", 0, uint64(sum))
}

// sealedMemory returns a descriptor of memory with the given content and seals.
func sealedMemory(t testing.TB, content []byte, seals int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, content, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return fd
}

const goodSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL

// impostor is a server that hands out what it is told to, and ends each connection after it.
type impostor struct {
	path     string
	listener *net.UnixListener

	mu    sync.Mutex
	hello []byte
	fds   []int
	hold  bool // say nothing, and do not end the connection either
	held  []net.Conn
}

func newImpostor(t testing.TB) *impostor {
	t.Helper()
	s := &impostor{path: socketPath(t)}
	var err error
	if s.listener, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.path, Net: "unixpacket"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := s.listener.AcceptUnix()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.hold {
				s.held = append(s.held, conn)
			} else {
				var rights []byte
				if len(s.fds) > 0 {
					rights = unix.UnixRights(s.fds...)
				}
				if len(s.hello) > 0 {
					_, _, _ = conn.WriteMsgUnix(s.hello, rights, nil)
				}
				_ = conn.Close()
			}
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = s.listener.Close()
		<-done
		s.give(nil)
		for _, c := range s.held {
			_ = c.Close()
		}
	})
	return s
}

// give makes the server hand out these descriptors, which become its own.
func (s *impostor) give(hello []byte, fds ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.fds {
		_ = unix.Close(fd)
	}
	s.hello, s.fds = hello, fds
}

// hello makes the server's message by the table.
func (im *image) hello(major, status uint64) []byte {
	h := &image{bytes: make([]byte, im.table["hello.(end)"].offset), table: im.table}
	copy(h.bytesOf("hello.magic", 0), "CELLWARD")
	h.set("hello.major", 0, major)
	h.set("hello.status", 0, status)
	h.set("hello.file_size", 0, uint64(len(im.bytes)))
	return h.bytes
}
