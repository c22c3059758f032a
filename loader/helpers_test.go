// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/cellward/cellward/bpf/can/testrun"
)

// needRoot skips a test that works with the kernel where that is not allowed.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads programs and makes network devices in a namespace of its own")
	}
}

func must[T any](t rapid.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRoot returns a folder in a bpffs that ends with the test, and the file that holds the bpffs.
func newRoot(t testing.TB) (root string, fs *os.File) {
	t.Helper()
	fs = must[*os.File](t)(NewBPFFS())
	t.Cleanup(func() { fs.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/cellward", fs.Fd()), fs
}

// newNetns returns a network namespace that ends with the test.
func newNetns(t testing.TB) *Netns {
	t.Helper()
	n := must[*Netns](t)(NewNetns())
	t.Cleanup(func() { n.Close() })
	return n
}

// newBusDevice returns a TUN device that looks like CAN and ends with the test.
func newBusDevice(t testing.TB, ns *Netns, name string) *TUN {
	t.Helper()
	d := must[*TUN](t)(NewTUN(ns, name))
	t.Cleanup(func() { d.Close() })
	return d
}

// newTap returns a packet socket in ns, bound to one protocol or to all.
func newTap(t testing.TB, ns *Netns, name string, protocol uint16) int {
	t.Helper()
	var fd int
	ok(t, ns.Do(func() error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		l := must[Link](t)(links.ByName(name))
		var err error
		if fd, err = packetSocket(l.Index, protocol); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// drainTap returns all frames that have reached a tap. Frames are delivered before WriteFrame returns, so
// there is nothing to wait for.
func drainTap(t testing.TB, fd int) (frames [][]byte) {
	t.Helper()
	buf := make([]byte, TUNMaxFrame)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return frames
		}
		ok(t, err)
		frames = append(frames, append([]byte(nil), buf[:n]...))
	}
}

// header is the first 8 bytes of a sealed PDU as a number.
type header struct {
	version int
	kind    int
	pad     int
	epoch   uint32
	counter uint64
}

func (h header) encode() (b [8]byte) {
	binary.LittleEndian.PutUint64(b[:], h.counter<<16|uint64(h.epoch&0xff)<<8|uint64(h.pad<<4|h.kind<<2|h.version))
	return b
}

// fdFrame returns a CAN FD frame of length n that begins with h, filled with bytes that name their place.
func fdFrame(id uint32, n int, h header) *CANFrame {
	f := &CANFrame{ID: id, Len: uint8(n), Flags: CANFDBRS | CANFDFDF}
	for i := range f.Data {
		f.Data[i] = byte(0x80 | i)
	}
	b := h.encode()
	copy(f.Data[:], b[:])
	return f
}

// testFilter is the filter under BPF_PROG_TEST_RUN.
type testFilter struct {
	prog     *ebpf.Program
	maps     testrun.TestrunMaps
	streams  StreamTable
	epochs   []EpochTable
	windows  []Window
	counters []Counters

	candidates, control, shown *Ring
	refused                    []StreamRefused
	wanted                     []FramesWanted
}

const testIface = 3

// newTestFilter loads the filter with rings of the given size for interface slot testIface.
func newTestFilter(t testing.TB, candidates, control int) *testFilter {
	t.Helper()
	needRoot(t)
	spec := must[*ebpf.CollectionSpec](t)(testrun.LoadTestrun())
	spec.Maps[testrun.TestrunMapCandidates].MaxEntries = uint32(candidates)
	spec.Maps[testrun.TestrunMapControl].MaxEntries = uint32(control)
	spec.Maps[testrun.TestrunMapFilterCounters].MaxEntries = uint32(must[int](t)(ebpf.PossibleCPU()))
	ok(t, configure(spec, testIface, uint32(candidates)))
	var objects testrun.TestrunObjects
	ok(t, spec.LoadAndAssign(&objects, nil))
	t.Cleanup(func() { objects.Close() })

	f := &testFilter{prog: objects.CanTestrun, maps: objects.TestrunMaps, streams: StreamTable{m: objects.Streams}}
	epochs := must[*table[EpochTable]](t)(mapTable[EpochTable](objects.Epochs))
	windows := must[*table[Window]](t)(mapTable[Window](objects.Windows))
	counters := must[*table[Counters]](t)(mapTable[Counters](objects.FilterCounters))
	refused := must[*table[StreamRefused]](t)(mapTable[StreamRefused](objects.StreamRefused))
	wanted := must[*table[FramesWanted]](t)(mapTable[FramesWanted](objects.FramesWanted))
	f.epochs, f.windows, f.counters, f.refused, f.wanted = epochs.entries, windows.entries, counters.entries, refused.entries, wanted.entries
	f.candidates = must[*Ring](t)(NewRing(objects.Candidates))
	f.control = must[*Ring](t)(NewRing(objects.Control))
	f.shown = must[*Ring](t)(NewRing(objects.RefusedFrames))
	t.Cleanup(func() {
		epochs.close()
		windows.close()
		counters.close()
		refused.close()
		wanted.close()
		f.candidates.close()
		f.control.close()
		f.shown.close()
	})
	return f
}

// refusedOf returns what was refused of the fixture's streams, by slot.
func (f *testFilter) refusedOf() map[int]StreamCounts {
	all := make(map[int]StreamCounts)
	for _, slot := range []int{7, 8, 9, MaxStreams - 1} {
		var c StreamCounts
		f.refused[slot].addTo(&c)
		all[slot] = c
	}
	return all
}

// ask has the filter hand over the next n refused frames of each verdict, of the fixture's streams.
func (f *testFilter) ask(n uint64) {
	for slot, counts := range f.refusedOf() {
		for _, v := range StreamVerdicts() {
			f.wanted[slot].Want(v, counts[v]+n)
		}
	}
}

// wantRefused wants the verdict on a frame counted for its stream, and nothing else, if it is one that refuses, and the frame handed over
// if it was asked for.
func (f *testFilter) wantRefused(t testing.TB, before map[int]StreamCounts, protocol uint16, frame []byte, v Verdict, asked bool) {
	t.Helper()
	slot := claimedBy(protocol, frame)
	size := map[uint16]int{EthPCAN: CANMTU, EthPCANFD: CANFDMTU}[protocol]
	shown := takeRefused(t, f.shown)
	if want := asked && slot >= 0 && Shown(v) && size > 0 && len(frame) >= size; len(shown) != map[bool]int{true: 1}[want] {
		t.Fatalf("verdict %s, asked %v: frames %v handed over", v, asked, shown)
	} else if want {
		s := shown[0]
		if s.Verdict != v || int(s.Slot) != slot || s.Iface != testIface || s.Frame.ID != binary.LittleEndian.Uint32(frame) ||
			int(s.Frame.Len) != min(int(frame[4]), size-8) || !bytes.Equal(s.Frame.Data[:s.Frame.Len], frame[8:][:s.Frame.Len]) {
			t.Fatalf("verdict %s of slot %d on %x: %+v", v, slot, frame, s)
		}
		if fd := s.Frame.Flags&CANFDFDF != 0; fd != (size == CANFDMTU) || fd && s.Frame.Flags != frame[5]|CANFDFDF {
			t.Fatalf("flags %#x of %x", s.Frame.Flags, frame)
		}
		if found := v == CounterRange || v == TooOld || v == Replay; found && s.Epoch != liveEpoch && s.Epoch != nextEpoch || v < UnknownEpoch && v != WrongKind && s.Epoch != 0 {
			t.Fatalf("verdict %s in epoch %#x", v, s.Epoch)
		}
	}
	want := before
	if refusedIndex(v) >= 0 {
		c := want[slot]
		c[v]++
		want[slot] = c
	}
	if got := f.refusedOf(); !maps.Equal(got, want) {
		t.Fatalf("verdict %s on a frame of slot %d: streams count %v, want %v", v, slot, got, want)
	}
}

// claimedBy returns the slot of the fixture's stream that claims a frame; -1: none does.
func claimedBy(protocol uint16, frame []byte) int {
	if protocol < EthPCAN || protocol > EthPCANXL || len(frame) < 4 {
		return -1
	}
	id := binary.LittleEndian.Uint32(frame)
	if protocol == EthPCAN && id&CANERRFlag != 0 {
		return -1
	}
	if protocol != EthPCANXL && id&CANEFFFlag != 0 {
		if id&(CANEFFFlag|CANEFFMask) == idEFF {
			return MaxStreams - 1
		}
		return -1
	}
	switch id & CANSFFMask {
	case idSample:
		return 7
	case idHeartbeat:
		return 8
	default:
		return -1
	}
}

func (f *testFilter) counts() (sum Counts) {
	for i := range f.counters {
		f.counters[i].AddTo(&sum)
	}
	return sum
}

// skbContext is struct __sk_buff as a test run takes it; only mark may be set.
type skbContext struct {
	_    [8]byte
	Mark uint32
	_    [192 - 12]byte
}

// judge runs one frame through the filter. It fails the test unless the frame gets exactly one verdict, and
// the action that belongs to it.
func (f *testFilter) judge(t rapid.TB, protocol uint16, frame []byte, own bool) Verdict {
	t.Helper()
	data := make([]byte, 14+len(frame))
	binary.BigEndian.PutUint16(data[12:], protocol)
	copy(data[14:], frame)
	opts := ebpf.RunOptions{Data: data}
	if own {
		opts.Context = &skbContext{Mark: 1}
	}
	before := f.counts()
	action, err := f.prog.Run(&opts)
	ok(t, err)
	after := f.counts()

	verdict, increments := Verdict(0), uint64(0)
	for v := range after {
		if d := after[v] - before[v]; d != 0 {
			verdict = Verdict(v)
			increments += d
		}
	}
	if increments != 1 {
		t.Fatalf("frame got %d verdicts, want exactly one: %v to %v", increments, before, after)
	}
	const next, drop = 0xFFFFFFFF, 2
	want := uint32(next)
	if verdict.Drops() {
		want = drop
	}
	if action != want {
		t.Fatalf("verdict %s: action %d, want %d", verdict, int32(action), int32(want))
	}
	return verdict
}

func (f *testFilter) judgeFD(t testing.TB, frame *CANFrame) Verdict {
	t.Helper()
	return f.judge(t, EthPCANFD, frame.view(CANFDMTU), false)
}

// take returns copies of all records of a ring and releases them.
func take(t testing.TB, r *Ring) (records []Record) {
	t.Helper()
	var batch [64]Record
	for {
		n := must[int](t)(r.Peek(batch[:]))
		if n == 0 {
			return records
		}
		for _, rec := range batch[:n] {
			records = append(records, append(Record(nil), rec...))
		}
		r.Release()
	}
}

// takeRefused returns the frames of a ring of refused ones and releases them.
func takeRefused(t testing.TB, r *Ring) (frames []RefusedFrame) {
	t.Helper()
	for _, rec := range take(t, r) {
		f, valid := rec.RefusedFrame()
		if !valid {
			t.Fatalf("record %x", []byte(rec))
		}
		frames = append(frames, f)
	}
	return frames
}

func bootTime(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	ok(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return uint64(ts.Nano())
}

// eventually waits for what the kernel does in its own time.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for begin := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("still not: %s", what)
		}
	}
}

func soon() time.Time { return time.Now().Add(10 * time.Second) }

func pinNames(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries := must[[]os.DirEntry](t)(os.ReadDir(dir))
	for _, e := range entries {
		if e.IsDir() {
			for _, n := range pinNames(t, filepath.Join(dir, e.Name())) {
				names = append(names, e.Name()+"/"+n)
			}
		} else {
			names = append(names, e.Name())
		}
	}
	return names
}
