// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/cellward/cellward/bpf/can/testrun"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// The installation: one node with one stream on one interface, one epoch, a window with a past.
const (
	iface    = 1
	protect  = 0x100 // the stream's identifier
	slot     = 7
	streamID = 1007
	nodeIdx  = 5
	epoch    = 0x10203
	base     = 1000
	highest  = 10000

	batchSize = 64      // as the agent takes them
	ringSize  = 4 << 20 // as the binding document has it by default
	quarter   = ringSize / 4
	// turn is how many candidates are laid down at a time: their records stay below three quarters of the ring.
	turn = 256 * batchSize
)

// body is what a classic CAN battery sends: 8 bytes, which make a frame of 48 once they are sealed.
func body() []byte { return []byte{1, 2, 3, 4, 5, 6, 7, 8} }

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// filter is the loaded filter with its tables filled, and a key under which the stream's frames are sealed.
type filter struct {
	prog  *ebpf.Program
	maps  testrun.TestrunMaps
	ring  *loader.Ring
	std   *aead.Std
	key   *aead.Key
	total loader.Counts // when verdicts was called last
}

func newFilter(tb testing.TB) *filter {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: it loads an eBPF filter")
	}
	spec := must[*ebpf.CollectionSpec](tb)(testrun.LoadTestrun())
	spec.Maps[testrun.TestrunMapCandidates].MaxEntries = ringSize
	spec.Maps[testrun.TestrunMapFilterCounters].MaxEntries = uint32(must[int](tb)(ebpf.PossibleCPU()))
	ok(tb, spec.Variables[testrun.TestrunVarCwIface].Set(uint32(iface)))
	ok(tb, spec.Variables[testrun.TestrunVarCwRingQuarter].Set(uint32(quarter)))
	var objects testrun.TestrunObjects
	ok(tb, spec.LoadAndAssign(&objects, nil))
	tb.Cleanup(func() { ok(tb, objects.Close()) })

	f := &filter{prog: objects.CanTestrun, maps: objects.TestrunMaps, std: aead.NewStd()}
	f.key = must[*aead.Key](tb)(f.std.NewKey(new([aead.KeySize]byte), new([aead.IVSize]byte)))
	f.fill(tb)
	f.ring = must[*loader.Ring](tb)(loader.NewRing(f.maps.Candidates))
	return f
}

// fill protects the stream's identifier, opens its epoch and commits counters, as the agent does.
func (f *filter) fill(tb testing.TB) {
	tb.Helper()
	ok(tb, f.maps.Streams.Put(&loader.StreamKey{Iface: iface, CANID: protect}, &loader.Stream{
		Slot: slot, StreamID: streamID, Node: nodeIdx, Carrier: loader.CarrierCANFD, Role: loader.RoleSample, WindowSize: replay.MaxSize,
	}))
	var epochs loader.EpochTable
	ok(tb, epochs.Publish(0, epoch, base))
	ok(tb, f.maps.Epochs.Put(uint32(nodeIdx), bytesOf(&epochs)))
	var shared loader.Window
	w := must[*replay.Window](tb)(replay.New(&shared.Words, replay.Options{}))
	for c := uint64(highest - 100); c <= highest; c++ {
		w.Commit(c)
	}
	shared.HighestHint.Store(w.Highest())
	ok(tb, f.maps.Windows.Put(uint32(slot), bytesOf(&shared)))
}

// bytesOf is a value of a map as the kernel sees it.
func bytesOf[T any](v *T) []byte {
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
}

// frame seals a sample and returns it as a test run takes it: behind an Ethernet header that holds the protocol.
func (f *filter) frame(tb testing.TB, id uint32, number uint32, counter uint64) []byte {
	tb.Helper()
	var record [spdu.PrefixSize + loader.CANFDMTU]byte
	n := must[int](tb)(spdu.PutSample(record[:], spdu.FormFD, spdu.ID{Stream: streamID, Epoch: number, Counter: counter}, 1, body()))
	ok(tb, f.std.Seal([]aead.Op{{Key: f.key, Record: record[:n]}}))
	frame := loader.CANFrame{ID: id, Len: uint8(n - spdu.PrefixSize), Flags: loader.CANFDFDF}
	copy(frame.Data[:], record[spdu.PrefixSize:n])
	in := make([]byte, 14, 14+loader.CANFDMTU)
	in[13] = loader.EthPCANFD
	return append(in, bytesOf(&frame)...)
}

// cases are frames and what becomes of them.
func (f *filter) cases(tb testing.TB) []testCase {
	tb.Helper()
	malformed := f.frame(tb, protect, epoch, highest+1)
	malformed[14+8] &^= 3 // version 0
	return []testCase{
		{f.frame(tb, 0x200, epoch, highest+1), loader.Passed},
		{malformed, loader.Malformed},
		{f.frame(tb, protect, epoch+1, highest+1), loader.UnknownEpoch},
		{f.frame(tb, protect, epoch, highest), loader.Replay},
		{f.frame(tb, protect, epoch, highest+1), loader.Candidate},
	}
}

type testCase struct {
	frame []byte
	want  loader.Verdict
}

// verdicts returns what was counted since the last call.
func (f *filter) verdicts(tb testing.TB) (since loader.Counts) {
	tb.Helper()
	var now loader.Counts
	for cpu := range f.maps.FilterCounters.MaxEntries() {
		var c loader.Counters
		ok(tb, f.maps.FilterCounters.Lookup(cpu, unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c))))
		c.AddTo(&now)
	}
	for v := range since {
		since[v] = now[v] - f.total[v]
	}
	f.total = now
	return since
}

// lay runs a frame n times through the filter, into an empty ring.
func (f *filter) lay(tb testing.TB, frame []byte, n int) {
	tb.Helper()
	//lint:ignore SA1019 Reset is deprecated as a stop watch; here it takes back what an interrupted run has counted
	opts := &ebpf.RunOptions{Data: frame, Repeat: uint32(n), Reset: f.undo(tb)}
	must[uint32](tb)(f.prog.Run(opts))
}

// undo returns what takes back a test run that a signal has ended early: it begins anew then.
func (f *filter) undo(tb testing.TB) func() {
	return func() {
		f.reopen(tb)
		f.empty(tb)
		f.verdicts(tb)
	}
}

// empty gives all records back.
func (f *filter) empty(tb testing.TB) (records int) {
	tb.Helper()
	var batch [batchSize]loader.Record
	for {
		n := must[int](tb)(f.ring.Peek(batch[:]))
		f.ring.Release()
		if n == 0 {
			return records
		}
		records += n
	}
}

// Every frame of the benchmark gets the verdict that the benchmark is named after, and no other.
func TestCases(t *testing.T) {
	f := newFilter(t)
	for _, c := range f.cases(t) {
		t.Run(fmt.Sprint(c.want), func(t *testing.T) {
			f.verdicts(t)
			f.lay(t, c.frame, 100)
			if got := f.verdicts(t); got[c.want] != 100 || got.Total() != 100 {
				t.Errorf("verdicts %v, want 100 %s", got, c.want)
			}
			want := 0
			if c.want == loader.Candidate {
				want = 100
			}
			if got := f.empty(t); got != want {
				t.Errorf("%d records, want %d", got, want)
			}
		})
	}
}

// The records open as they lie in the ring, and this module's reader and that of cilium/ebpf give the same bytes.
func TestHandOff(t *testing.T) {
	f := newFilter(t)
	f.lay(t, f.frame(t, protect, epoch, highest+1), batchSize)
	var batch [batchSize]loader.Record
	if n := must[int](t)(f.ring.Peek(batch[:])); n != batchSize {
		t.Fatalf("%d records, want %d", n, batchSize)
	}
	other := must[*ringbuf.Reader](t)(ringbuf.NewReader(f.maps.Candidates))
	defer other.Close()
	var dst [loader.CANFDMTU]byte
	for i, r := range batch {
		op := []aead.Op{{Key: f.key, Record: r.Sealed(), Dst: dst[:]}}
		if f.std.Open(op) != 1 {
			t.Fatalf("record %d does not open", i)
		}
		h := must[spdu.Header](t)(spdu.Parse(spdu.FormFD, r.SPDU()))
		s := must[spdu.Sample](t)(spdu.ParseSample(dst[:op[0].N], h.Pad))
		if r.Slot() != slot || r.Iface() != iface || h.Counter != highest+1 || !bytes.Equal(s.Body, body()) {
			t.Fatalf("record %d: slot %d, interface %d, counter %d, body %x", i, r.Slot(), r.Iface(), h.Counter, s.Body)
		}
		if got := must[ringbuf.Record](t)(other.Read()); !bytes.Equal(got.RawSample, r) {
			t.Fatalf("record %d: %x, cilium/ebpf reads %x", i, r, got.RawSample)
		}
	}
}

func TestHandOffDoesNotAllocate(t *testing.T) {
	f := newFilter(t)
	const runs = 50
	f.lay(t, f.frame(t, protect, epoch, highest+1), (runs+1)*batchSize)
	var batch [batchSize]loader.Record
	n := testing.AllocsPerRun(runs, func() {
		if n := must[int](t)(f.ring.Peek(batch[:])); n != batchSize {
			t.Fatalf("%d records, want %d", n, batchSize)
		}
		f.ring.Release()
	})
	if n != 0 {
		t.Errorf("%v allocations for a batch of %d", n, batchSize)
	}
}

// reopen has the reader go on where the ring stands now.
func (f *filter) reopen(tb testing.TB) {
	tb.Helper()
	f.ring = must[*loader.Ring](tb)(loader.NewRing(f.maps.Candidates))
}
