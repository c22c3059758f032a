// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"pgregory.net/rapid"

	"github.com/cellward/cellward/bpf/can"
)

// The streams of the fixture.
const (
	idSample    = 0x123
	idHeartbeat = 0x124
	idEFF       = 0x1ABCDE | CANEFFFlag
	idOther     = 0x321
	idNoWindow  = 0x555

	liveEpoch = 0x1_02_03 // low 8 bits 3
	nextEpoch = 0x1_02_04
	baseCount = 1000
)

// fixture fills the tables: two live epochs, a window with a past, streams of each role.
func fixture(t testing.TB, f *testFilter) {
	t.Helper()
	fillTables(t, f.streams, f.epochs, f.windows)
}

func fillTables(t testing.TB, streams StreamTable, epochs []EpochTable, windows []Window) {
	t.Helper()
	set := func(id uint32, s Stream) {
		t.Helper()
		s.Carrier = CarrierCANFD
		ok(t, streams.Set(StreamKey{Iface: testIface, CANID: id}, s))
	}
	set(idSample, Stream{Slot: 7, StreamID: 0x1007, Node: 5, Role: RoleSample, WindowSize: 1024})
	set(idHeartbeat, Stream{Slot: 8, StreamID: 0x1008, Node: 5, Role: RoleHeartbeat, WindowSize: 64})
	set(idEFF, Stream{Slot: MaxStreams - 1, StreamID: 0x1009, Node: MaxNodes - 1, Role: RoleSample, WindowSize: 64})
	ok(t, streams.Set(StreamKey{Iface: testIface + 1, CANID: idOther},
		Stream{Slot: 9, StreamID: 0x100A, Node: 5, Role: RoleSample, WindowSize: 64, Carrier: CarrierCANFD}))

	ok(t, epochs[5].Publish(0, liveEpoch, baseCount))
	ok(t, epochs[5].Publish(3, nextEpoch, 1<<47))
	ok(t, epochs[5].Publish(1, 0x77, 1))
	epochs[5].Retire(1)
	ok(t, epochs[MaxNodes-1].Publish(2, liveEpoch, baseCount))

	// Highest 10,000: 8,977 to 10,000 are in the window, some of them seen.
	w := &windows[7]
	for _, c := range []uint64{8977, 8990, 9000, 9999, 10000} {
		commit(w, c)
	}
	w.HighestHint.Store(10000)

	// A window whose hint lags: only the word's name tells that the ring has gone round.
	commit(&windows[MaxStreams-1], 9532+2048)
}

// commit marks a counter as seen, as the agent does.
func commit(w *Window, counter uint64) {
	word := &w.Words[counter>>5&63]
	name := counter >> 11 & 0xFFFFFFFF
	if *word>>32 != name {
		*word = name << 32
	}
	*word |= 1 << (counter & 31)
}

func TestFilterVerdicts(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)

	sample := header{version: 1, kind: 0, epoch: liveEpoch, counter: 9500}
	beat := header{version: 1, kind: 1, epoch: liveEpoch, counter: baseCount}
	start := header{version: 1, kind: 3, pad: 8, epoch: liveEpoch, counter: 1}
	with := func(h header, change func(*header)) header { change(&h); return h }
	fd := func(id uint32, n int, h header) []byte { return fdFrame(id, n, h).view(CANFDMTU) }
	classic := func(id uint32) []byte { return (&CANFrame{ID: id, Len: 8}).view(CANMTU) }
	xl := func(prio uint32, n int) []byte {
		b := make([]byte, 12+n)
		b[0], b[1], b[2], b[3] = byte(prio), byte(prio>>8), byte(prio>>16), byte(prio>>24)
		b[4] = 0x80 // CANXL_XLF
		b[6], b[7] = byte(n), byte(n>>8)
		return b
	}

	tests := []struct {
		name     string
		protocol uint16
		frame    []byte
		own      bool
		want     Verdict
	}{
		{"unclaimed FD", EthPCANFD, fd(0x200, 48, sample), false, Passed},
		{"unclaimed classic", EthPCAN, classic(0x200), false, Passed},
		{"unclaimed RTR", EthPCAN, classic(0x200 | CANRTRFlag), false, Passed},
		{"unclaimed XL", EthPCANXL, xl(0x200, 100), false, Passed},
		{"unclaimed own", EthPCANFD, fd(0x200, 48, sample), true, Passed},
		{"same number, extended", EthPCANFD, fd(idSample|CANEFFFlag, 48, sample), false, Passed},
		{"same number, standard", EthPCANFD, fd(idEFF&CANSFFMask, 48, sample), false, Passed},
		{"stream of another interface", EthPCANFD, fd(idOther, 48, sample), false, Passed},
		{"IPv4", 0x0800, fd(idSample, 48, sample), false, Passed},
		{"IPv6", 0x86DD, fd(idSample, 48, sample), false, Passed},
		{"CAN bytes swapped", 0x0D00, fd(idSample, 48, sample), false, Passed},
		{"runt of 1", EthPCANFD, fd(idSample, 48, sample)[:1], false, Passed},
		{"runt of 3", EthPCANFD, fd(idSample, 48, sample)[:3], false, Passed},
		{"classic runt of 3", EthPCAN, classic(idSample)[:3], false, Passed},

		{"error frame", EthPCAN, classic(CANERRFlag | 4), false, ErrorFrame},
		{"error frame over a protected number", EthPCAN, classic(CANERRFlag | idSample), false, ErrorFrame},
		{"own error frame", EthPCAN, classic(CANERRFlag | idSample), true, ErrorFrame},
		{"unclaimed FD with error flag", EthPCANFD, fd(CANERRFlag|0x200, 48, sample), false, Passed},

		{"own", EthPCANFD, fd(idSample, 48, sample), true, OwnEcho},
		{"own plaintext", EthPCAN, classic(idSample), true, OwnEcho},

		{"classic", EthPCAN, classic(idSample), false, PlaintextOnProtected},
		{"classic, bits above the identifier", EthPCAN, classic(0x1FFFF800 | idSample), false, PlaintextOnProtected},
		{"classic extended", EthPCAN, classic(idEFF), false, PlaintextOnProtected},
		{"RTR", EthPCAN, classic(idSample | CANRTRFlag), false, PlaintextOnProtected},
		{"FD with RTR", EthPCANFD, fd(idSample|CANRTRFlag, 48, sample), false, PlaintextOnProtected},
		{"FD with error flag", EthPCANFD, fd(idSample|CANERRFlag, 48, sample), false, PlaintextOnProtected},
		{"XL", EthPCANXL, xl(idSample, 48), false, PlaintextOnProtected},
		{"XL with VCID", EthPCANXL, xl(0x00550000|idSample, 2048), false, PlaintextOnProtected},
		{"XL with all bits above", EthPCANXL, xl(0xFFFFF800|idSample, 1), false, PlaintextOnProtected},
		{"XL runt", EthPCANXL, xl(idSample, 48)[:4], false, PlaintextOnProtected},
		{"classic with FD size", EthPCAN, fd(idSample, 48, sample), false, PlaintextOnProtected},
		{"FD with classic size", EthPCANFD, fd(idSample, 48, sample)[:CANMTU], false, PlaintextOnProtected},
		{"FD with identifier only", EthPCANFD, fd(idSample, 48, sample)[:4], false, PlaintextOnProtected},
		{"FD cut by one byte", EthPCANFD, fd(idSample, 48, sample)[:71], false, PlaintextOnProtected},
		{"FD with one byte more", EthPCANFD, append(bytes.Clone(fd(idSample, 48, sample)), 0), false, PlaintextOnProtected},
		{"FD of 2,060 bytes", EthPCANFD, append(bytes.Clone(fd(idSample, 48, sample)), make([]byte, 1988)...), false, PlaintextOnProtected},

		{"version 0", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.version = 0 })), false, Malformed},
		{"version 2", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.version = 2 })), false, Malformed},
		{"version 3", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.version = 3 })), false, Malformed},
		{"kind 2", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.kind = 2 })), false, Malformed},
		{"pad 5 in 32", EthPCANFD, fd(idSample, 32, with(sample, func(h *header) { h.pad = 5 })), false, Malformed},
		{"pad 15 in 32", EthPCANFD, fd(idSample, 32, with(sample, func(h *header) { h.pad = 15 })), false, Malformed},
		{"start in 32", EthPCANFD, fd(idHeartbeat, 32, start), false, Malformed},
		{"start in 64", EthPCANFD, fd(idHeartbeat, 64, start), false, Malformed},
		{"start with pad 7", EthPCANFD, fd(idHeartbeat, 48, with(start, func(h *header) { h.pad = 7 })), false, Malformed},
		{"start with pad 0", EthPCANFD, fd(idHeartbeat, 48, with(start, func(h *header) { h.pad = 0 })), false, Malformed},
		{"form before epoch", EthPCANFD, fd(idSample, 48, header{epoch: 0x99}), false, Malformed},

		{"epoch never seen", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.epoch = 0x99 })), false, UnknownEpoch},
		{"epoch retired", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.epoch = 0x77 })), false, UnknownEpoch},
		{"epoch 0 of an empty slot", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.epoch = 0 })), false, UnknownEpoch},
		{"start of an unknown epoch", EthPCANFD, fd(idHeartbeat, 48, with(start, func(h *header) { h.epoch = 0x99 })), false, UnknownEpoch},
		{"epoch before kind", EthPCANFD, fd(idSample, 48, with(beat, func(h *header) { h.epoch = 0x99 })), false, UnknownEpoch},
		{"epoch of another node", EthPCANFD, fd(idEFF, 48, with(sample, func(h *header) { h.epoch = nextEpoch })), false, UnknownEpoch},

		{"heartbeat on a sample stream", EthPCANFD, fd(idSample, 48, beat), false, WrongKind},
		{"start on a sample stream", EthPCANFD, fd(idSample, 48, start), false, WrongKind},
		{"sample on a heartbeat stream", EthPCANFD, fd(idHeartbeat, 48, sample), false, WrongKind},
		{"kind before counter", EthPCANFD, fd(idHeartbeat, 48, with(sample, func(h *header) { h.counter = 0 })), false, WrongKind},

		{"counter 0", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 0 })), false, CounterRange},
		{"counter below base", EthPCANFD, fd(idHeartbeat, 48, with(beat, func(h *header) { h.counter = baseCount - 1 })), false, CounterRange},
		{"counter beyond reach", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = baseCount + 1<<32 + 1 })), false, CounterRange},
		{"greatest counter", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 1<<48 - 1 })), false, CounterRange},
		{"below the base of the next epoch", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.epoch, h.counter = nextEpoch, 1<<47-1 })), false, CounterRange},

		{"highest - 1,024", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 10000 - 1024 })), false, TooOld},
		{"base, long past", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = baseCount })), false, TooOld},

		{"word one turn newer", EthPCANFD, fd(idEFF, 48, with(sample, func(h *header) { h.counter = 9532 })), false, TooOld},
		{"word one turn newer, same bit", EthPCANFD, fd(idEFF, 48, with(sample, func(h *header) { h.counter = 9532 + 2048 })), false, Replay},
		{"word one turn older", EthPCANFD, fd(idEFF, 48, with(sample, func(h *header) { h.counter = 9532 + 4096 })), false, Candidate},

		{"highest", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 10000 })), false, Replay},
		{"highest - 1", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 9999 })), false, Replay},
		{"highest - 1,023, seen", EthPCANFD, fd(idSample, 64, with(sample, func(h *header) { h.counter = 10000 - 1023 })), false, Replay},

		{"sample of 32", EthPCANFD, fd(idSample, 32, sample), false, Candidate},
		{"sample of 32, pad 4", EthPCANFD, fd(idSample, 32, with(sample, func(h *header) { h.pad = 4 })), false, Candidate},
		{"sample of 48", EthPCANFD, fd(idSample, 48, sample), false, Candidate},
		{"sample of 48, pad 15", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.pad = 15 })), false, Candidate},
		{"sample of 64", EthPCANFD, fd(idSample, 64, sample), false, Candidate},
		{"sample of 64, pad 15", EthPCANFD, fd(idSample, 64, with(sample, func(h *header) { h.pad = 15 })), false, Candidate},
		{"highest - 1,022, not seen", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 10000 - 1022 })), false, Candidate},
		{"highest + 1", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = 10001 })), false, Candidate},
		{"jump of 2^32 above base", EthPCANFD, fd(idSample, 48, with(sample, func(h *header) { h.counter = baseCount + 1<<32 })), false, Candidate},
		{"heartbeat at base", EthPCANFD, fd(idHeartbeat, 64, beat), false, Candidate},
		{"extended identifier", EthPCANFD, fd(idEFF, 48, sample), false, Candidate},
		{"standard identifier, bits above", EthPCANFD, fd(0x1FFFF800|idSample, 48, sample), false, Candidate},

		{"start record", EthPCANFD, fd(idHeartbeat, 48, start), false, Control},
		{"start record with F 0", EthPCANFD, fd(idHeartbeat, 48, with(start, func(h *header) { h.counter = 0 })), false, Control},
	}
	for _, n := range []int{0, 1, 8, 12, 16, 20, 24, 31, 33, 47, 49, 63, 65, 255} {
		h := sample
		tests = append(tests, struct {
			name     string
			protocol uint16
			frame    []byte
			own      bool
			want     Verdict
		}{"FD of length " + strconv.Itoa(n), EthPCANFD, fd(idSample, n, h), false, PlaintextOnProtected})
	}

	covered := make(map[Verdict]bool)
	for _, tt := range tests {
		covered[tt.want] = true
		t.Run(tt.name, func(t *testing.T) {
			f.ask(1)
			windows, refused := append([]Window(nil), f.windows[7:9]...), f.refusedOf()
			if got := f.judge(t, tt.protocol, tt.frame, tt.own); got != tt.want {
				t.Errorf("verdict %s, want %s", got, tt.want)
			}
			f.wantRefused(t, refused, tt.protocol, tt.frame, tt.want, true)
			want := map[Verdict]int{Candidate: 1}
			if n := len(take(t, f.candidates)); n != want[tt.want] {
				t.Errorf("%d candidate records, want %d", n, want[tt.want])
			}
			want = map[Verdict]int{Control: 1}
			if n := len(take(t, f.control)); n != want[tt.want] {
				t.Errorf("%d control records, want %d", n, want[tt.want])
			}
			for i := range windows {
				if windows[i].Words != f.windows[7+i].Words {
					t.Error("the filter has written to a window")
				}
			}
		})
	}
	// Shed, RingFull and ControlFull depend on the rings and have tests of their own.
	for v := Passed; v <= ControlFull; v++ {
		if !covered[v] && v != Shed && v != RingFull && v != ControlFull {
			t.Errorf("no case for verdict %s", v)
		}
	}
}

func TestFilterRecord(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)
	tests := []struct {
		name   string
		ring   *Ring
		id     uint32
		n      int
		h      header
		slot   uint32
		stream uint32
	}{
		{"sample of 32", f.candidates, idSample, 32, header{version: 1, epoch: liveEpoch, counter: 10001}, 7, 0x1007},
		{"sample of 64", f.candidates, idSample, 64, header{version: 1, epoch: liveEpoch, counter: 10001}, 7, 0x1007},
		{"extended", f.candidates, idEFF, 48, header{version: 1, epoch: liveEpoch, counter: 10001}, MaxStreams - 1, 0x1009},
		{"next epoch", f.candidates, idSample, 48, header{version: 1, epoch: nextEpoch, counter: 1 << 47}, 7, 0x1007},
		{"start", f.control, idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch, counter: 10001}, 8, 0x1008},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Window words of the sample stream know nothing of 1<<47: their names are older.
			frame := fdFrame(tt.id, tt.n, tt.h)
			begin := bootTime(t)
			f.judgeFD(t, frame)
			end := bootTime(t)
			records := take(t, tt.ring)
			if len(records) != 1 {
				t.Fatalf("%d records, want 1", len(records))
			}
			r := records[0]
			if len(r) != 96 {
				t.Errorf("record has %d bytes, want 96", len(r))
			}
			if r.TimeNS() < begin || r.TimeNS() > end {
				t.Errorf("time %d is not in %d to %d", r.TimeNS(), begin, end)
			}
			if r.Slot() != tt.slot || r.StreamID() != tt.stream || r.Epoch() != tt.h.epoch || r.Iface() != testIface ||
				r.CANID() != tt.id || r.Carrier() != CarrierCANFD || r.Flags() != CANFDBRS|CANFDFDF {
				t.Errorf("record says slot %d stream %#x epoch %#x iface %d id %#x carrier %d flags %#x", r.Slot(),
					r.StreamID(), r.Epoch(), r.Iface(), r.CANID(), r.Carrier(), r.Flags())
			}
			if !bytes.Equal(r.SPDU(), frame.Data[:tt.n]) {
				t.Errorf("SPDU %x, want %x", r.SPDU(), frame.Data[:tt.n])
			}
			aad := []byte{
				byte(tt.stream), byte(tt.stream >> 8), 0, 0,
				byte(tt.h.epoch), byte(tt.h.epoch >> 8), byte(tt.h.epoch >> 16), 0,
			}
			if sealed := r.Sealed(); !bytes.Equal(sealed[:8], aad) || !bytes.Equal(sealed[8:], frame.Data[:tt.n]) {
				t.Errorf("sealed %x, want %x and the SPDU", sealed, aad)
			}
		})
	}
}

// Of the frames that are refused as many are handed over as were asked for, of that verdict and stream, and the first of them.
func TestFilterShowsWhatIsWanted(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)
	spoofed := func(i int) []byte {
		c := &CANFrame{ID: idSample, Len: 8}
		c.Data[0] = byte(i)
		return c.view(CANMTU)
	}
	begin := bootTime(t)
	sent := 0
	for _, tt := range []struct{ wanted, sent, shown int }{{0, 3, 0}, {2, 5, 2}, {1, 1, 1}, {3, 2, 2}, {0, 2, 0}} {
		first := f.refusedOf()[7][PlaintextOnProtected]
		f.wanted[7].Want(PlaintextOnProtected, first+uint64(tt.wanted))
		from := sent
		for range tt.sent {
			f.judge(t, EthPCAN, spoofed(sent), false)
			f.judgeFD(t, fdFrame(idSample, 32, header{version: 2})) // of another verdict, of which none is wanted
			sent++
		}
		shown := takeRefused(t, f.shown)
		if len(shown) != tt.shown {
			t.Fatalf("%+v: %d shown", tt, len(shown))
		}
		for i, s := range shown {
			if s.Verdict != PlaintextOnProtected || s.Frame.Flags != 0 || s.Frame.Len != 8 || s.Frame.Data[0] != byte(from+i) ||
				s.StreamID != 0x1007 || s.TimeNS < begin || s.TimeNS > bootTime(t) {
				t.Errorf("%+v: frame %d is %+v", tt, from+i, s)
			}
		}
	}
	// The counter goes around in 32 bits; a want beside it does not mind.
	for _, count := range []uint64{1<<32 - 1, 1 << 32, 1<<40 + 5} {
		f.refused[7].reset()
		f.refused[7].Add(PlaintextOnProtected, count)
		f.wanted[7].Want(PlaintextOnProtected, count+2)
		for i := range 4 {
			f.judge(t, EthPCAN, spoofed(i), false)
		}
		if n := len(takeRefused(t, f.shown)); n != 2 {
			t.Errorf("counter at %#x: %d shown, want 2", count, n)
		}
	}
}

// A ring of refused frames that nobody reads is full at some time, and then nothing else changes.
func TestFilterShowsUntilFull(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)
	f.ask(1 << 20)
	const sent = 2000
	before := f.refusedOf()[7]
	for range sent {
		if v := f.judge(t, EthPCAN, (&CANFrame{ID: idSample, Len: 8}).view(CANMTU), false); v != PlaintextOnProtected {
			t.Fatalf("verdict %s", v)
		}
	}
	if n := f.refusedOf()[7][PlaintextOnProtected] - before[PlaintextOnProtected]; n != sent {
		t.Errorf("%d counted, want %d", n, sent)
	}
	if v := f.judgeFD(t, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001})); v != Candidate || len(take(t, f.candidates)) != 1 {
		t.Errorf("a candidate beside the full ring: verdict %s", v)
	}
	if n := len(takeRefused(t, f.shown)); n < 500 || n > sent/2 {
		t.Errorf("%d shown", n)
	}
}

// A stream entry that points past the tables is a fault of whoever wrote it. It must not open the bus.
func TestFilterEntryOutOfRange(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)
	good := Stream{Slot: 1, StreamID: 1, Node: 5, Carrier: CarrierCANFD, Role: RoleSample, WindowSize: 64}
	tests := []struct {
		name   string
		change func(*Stream)
		want   Verdict
	}{
		{"none", func(*Stream) {}, Candidate},
		{"slot", func(s *Stream) { s.Slot = MaxStreams }, CounterRange},
		{"node", func(s *Stream) { s.Node = MaxNodes }, UnknownEpoch},
		{"carrier", func(s *Stream) { s.Carrier = 0 }, PlaintextOnProtected},
		{"role", func(s *Stream) { s.Role = 9 }, WrongKind},
	}
	key := StreamKey{Iface: testIface, CANID: idNoWindow}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := good
			tt.change(&s)
			if err := f.streams.Set(key, s); (err == nil) != (tt.name == "none") {
				t.Errorf("Set(%+v) = %v", s, err)
			}
			ok(t, f.maps.Streams.Put(&key, &s)) // past the check
			h := header{version: 1, epoch: liveEpoch, counter: baseCount}
			if got := f.judgeFD(t, fdFrame(idNoWindow, 48, h)); got != tt.want {
				t.Errorf("verdict %s, want %s", got, tt.want)
			}
		})
	}
}

// Counter 0 is refused whatever base an epoch has.
func TestFilterCounterZero(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)
	f.epochs[MaxNodes-1].slot[2].base.Store(0) // Publish would refuse it
	for counter, want := range map[uint64]Verdict{0: CounterRange, 1: Candidate} {
		h := header{version: 1, epoch: liveEpoch, counter: counter}
		ok(t, f.streams.Set(StreamKey{Iface: testIface, CANID: idEFF},
			Stream{Slot: 100, StreamID: 1, Node: MaxNodes - 1, Carrier: CarrierCANFD, WindowSize: 64}))
		if got := f.judgeFD(t, fdFrame(idEFF, 48, h)); got != want {
			t.Errorf("counter %d: verdict %s, want %s", counter, got, want)
		}
	}
}

// The filter's view of a window is that of a model that keeps every counter ever committed.
func TestFilterWindowModel(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	slot := uint32(0)
	rapid.Check(t, func(t *rapid.T) {
		slot = (slot + 1) % MaxStreams // a fresh window for each run
		var (
			w     = &f.windows[slot]
			size  = uint16(rapid.IntRange(1, 16).Draw(t, "size/64") * 64)
			base  = rapid.Uint64Range(1, 1<<42).Draw(t, "base")
			key   = StreamKey{Iface: testIface, CANID: idSample}
			seen  = make(map[uint64]bool)
			last  = make(map[uint64]uint64) // by word index, the highest counter >> 11
			high  uint64
			hint  uint64
			delta = rapid.OneOf(rapid.Uint64Range(0, 70), rapid.Uint64Range(0, 5000), rapid.Uint64Range(0, 1<<33))
			count = func(name string) uint64 {
				c := base + delta.Draw(t, name)
				if high != 0 && rapid.Bool().Draw(t, name+" near") {
					c = high + rapid.Uint64Range(0, 8400).Draw(t, name+" offset") - 4200
				}
				return c & (1<<48 - 1)
			}
		)
		*w = Window{}
		for i := range w.Words {
			w.Words[i] = (base >> 11 & 0xFFFFFFFF) << 32 // an agent that starts a stream at base begins so
			last[uint64(i)] = base >> 11
		}
		if err := f.streams.Set(key, Stream{Slot: slot, StreamID: 1, Node: 1, Carrier: CarrierCANFD, Role: RoleSample, WindowSize: size}); err != nil {
			t.Fatal(err)
		}
		if err := f.epochs[1].Publish(0, liveEpoch, base); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c := count("counter")
			want := Candidate
			switch {
			case c == 0 || c < base || c-base > 1<<32:
				want = CounterRange
			case c+uint64(size) <= hint, last[c>>5&63] > c>>11:
				want = TooOld
			case seen[c]:
				want = Replay
			}
			h := header{version: 1, epoch: liveEpoch, counter: c}
			got := f.judge(t, EthPCANFD, fdFrame(idSample, 48, h).view(CANFDMTU), false)
			if got != want {
				t.Fatalf("counter %d, base %d, highest %d, hint %d, window %d: verdict %s, want %s", c, base, high, hint, size, got, want)
			}
			if want == Candidate && rapid.Bool().Draw(t, "verifies") {
				commit(w, c)
				seen[c] = true
				last[c>>5&63] = c >> 11
				high = max(high, c)
			}
			if rapid.Bool().Draw(t, "hint") { // the hint may lag
				hint = high
				w.HighestHint.Store(hint)
			}
		}
		f.candidates.next = f.candidates.prod.Load()
		f.candidates.Release()
	})
}

// Above three quarters the probability of being shed rises linearly, whatever the stream.
func TestFilterShedding(t *testing.T) {
	const size, trials = 1 << 17, 2000
	f := newTestFilter(t, size, 1<<16)
	fixture(t, f)
	frames := [2]*CANFrame{
		fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}),
		fdFrame(idHeartbeat, 48, header{version: 1, kind: 1, epoch: liveEpoch, counter: baseCount}),
	}
	slots := [2]uint32{7, 8}
	shed := must[*table[[1]uint64]](t)(mapTable[[1]uint64](f.maps.StreamShed))
	defer shed.close()

	for _, level := range []float64{0.25, 0.74, 0.8, 0.875, 0.95} {
		t.Run(strconv.FormatFloat(level, 'f', -1, 64), func(t *testing.T) {
			take(t, f.candidates)
			for n := 0; float64(f.candidates.Used()) < level*size; n++ {
				if f.judgeFD(t, frames[0]); n > 20*size/96 {
					t.Fatal("the ring does not fill")
				}
			}
			before := [2]uint64{shed.entries[slots[0]][0], shed.entries[slots[1]][0]}
			var (
				got   [2]uint64
				want  float64 // expected number of sheds, of both streams together
				spent float64 // its variance
				one   [1]Record
			)
			for i := range trials {
				p := max(0, (float64(f.candidates.Used())/size-0.75)*4)
				want += p
				spent += p * (1 - p)
				switch v := f.judgeFD(t, frames[i%2]); v {
				case Shed:
					got[i%2]++
				case Candidate:
					// Keep the level.
					must[int](t)(f.candidates.Peek(one[:]))
					f.candidates.Release()
				default:
					t.Fatalf("verdict %s", v)
				}
			}
			// Six standard deviations: one run in 10^9 fails by chance.
			if d := float64(got[0]+got[1]) - want; d*d > 36*spent {
				t.Errorf("shed %d of %d, want %.0f", got[0]+got[1], trials, want)
			}
			for i := range got {
				if d := float64(got[i]) - want/2; d*d > 36*spent/2 {
					t.Errorf("stream %d: shed %d of %d, want %.0f", i, got[i], trials/2, want/2)
				}
				if n := shed.entries[slots[i]][0] - before[i]; n != got[i] {
					t.Errorf("stream_shed counts %d for stream %d, verdicts %d", n, i, got[i])
				}
			}
		})
	}
}

func TestFilterRingsFull(t *testing.T) {
	f := newTestFilter(t, 4096, 4096)
	fixture(t, f)
	sample := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001})
	start := fdFrame(idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch})

	// 39 records of 104 bytes leave 40 bytes. There 961 of 1,000 are shed and the others find no room: that
	// 2,000 frames bring no ring_full has a probability of 10^-34.
	var n int
	for n = 0; n < 2000 && f.counts()[RingFull] == 0; n++ {
		f.judgeFD(t, sample)
	}
	c := f.counts()
	if c[RingFull] != 1 || c[Candidate] != 39 || c[Shed] != uint64(n)-40 {
		t.Errorf("after %d frames: %d ring_full, %d candidates, %d shed", n, c[RingFull], c[Candidate], c[Shed])
	}
	if got := len(take(t, f.candidates)); got != 39 {
		t.Errorf("%d records, want 39", got)
	}

	// The control ring is not shed: start records are few and a node depends on them.
	for i := range 45 {
		want := Control
		if i >= 39 {
			want = ControlFull
		}
		if got := f.judgeFD(t, start); got != want {
			t.Fatalf("start record %d: verdict %s, want %s", i, got, want)
		}
	}
	if got := len(take(t, f.control)); got != 39 {
		t.Errorf("%d control records, want 39", got)
	}
	refused := f.refusedOf()
	if sample, start := refused[7], refused[8]; sample.Total() != 1 || sample[RingFull] != 1 || start.Total() != 6 || start[ControlFull] != 6 {
		t.Errorf("streams count %v", refused)
	}
	if got := f.judgeFD(t, start); got != Control {
		t.Errorf("after draining: verdict %s, want %s", got, Control)
	}
}

// The program must stay far from what any verifier allows.
func TestFilterVerifierSize(t *testing.T) {
	needRoot(t)
	spec := must[*ebpf.CollectionSpec](t)(can.LoadFilter())
	ok(t, configure(spec, 1, DefaultCandidates))
	var objects struct {
		CanIngress *ebpf.Program `ebpf:"can_ingress"`
	}
	ok(t, spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	}))
	defer objects.CanIngress.Close()
	log := objects.CanIngress.VerifierLog
	m := regexp.MustCompile(`processed (\d+) insns`).FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("verifier log has no statistics: %q", log)
	}
	n := must[int](t)(strconv.Atoi(m[1]))
	t.Logf("%d instructions in the program, %d processed by the verifier", len(spec.Programs["can_ingress"].Instructions), n)
	if n > 5000 {
		t.Errorf("the verifier processed %d instructions, want at most 5,000 of the 1,000,000 it allows", n)
	}
}

// FuzzFilter throws anything at the filter: each frame gets exactly one verdict (judge sees to that), only
// a candidate or control verdict brings a record, and only frames that name a stream get one of those.
func FuzzFilter(f *testing.F) {
	filter := newTestFilter(f, 1<<20, 1<<16)
	fixture(f, filter)
	h := header{version: 1, epoch: liveEpoch, counter: 10001}
	f.Add(uint16(EthPCANFD), false, fdFrame(idSample, 48, h).view(CANFDMTU))
	f.Add(uint16(EthPCANFD), false, fdFrame(idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch}).view(CANFDMTU))
	f.Add(uint16(EthPCAN), true, fdFrame(idSample, 8, h).view(CANMTU))
	f.Add(uint16(EthPCANXL), false, make([]byte, 60))
	f.Add(uint16(0x88B5), false, []byte{1})
	f.Fuzz(func(t *testing.T, protocol uint16, own bool, frame []byte) {
		if len(frame) == 0 || len(frame) > TUNMaxFrame || len(frame) < 40 && (protocol == 0x0800 || protocol == 0x86DD) {
			t.Skip("a test run takes 1 to 2,060 bytes behind the header, and no IP packet without its header")
		}
		asked := len(frame)%2 == 0
		filter.ask(map[bool]uint64{true: 1}[asked])
		before := filter.refusedOf()
		v := filter.judge(t, protocol, frame, own)
		if v > ControlFull {
			t.Fatalf("verdict %s is not the filter's", v)
		}
		if claimed := claimedBy(protocol, frame) >= 0; v.Drops() != claimed {
			t.Fatalf("claimed by a stream: %v, verdict %s", claimed, v)
		}
		filter.wantRefused(t, before, protocol, frame, v, asked)
		candidates, control := take(t, filter.candidates), take(t, filter.control)
		if len(candidates) != map[Verdict]int{Candidate: 1}[v] || len(control) != map[Verdict]int{Control: 1}[v] {
			t.Fatalf("verdict %s with %d candidates and %d control records", v, len(candidates), len(control))
		}
		for _, r := range append(candidates, control...) {
			if own || protocol != EthPCANFD || len(frame) != CANFDMTU || !bytes.Equal(r.SPDU(), frame[8:8+int(frame[4])]) {
				t.Fatalf("record %x from frame %x", r, frame)
			}
		}
	})
}

// TestFilterRandom is a short run of what FuzzFilter does, with frames that are near the interesting ones.
func TestFilterRandom(t *testing.T) {
	f := newTestFilter(t, 1<<20, 1<<16)
	fixture(t, f)
	r := rand.New(rand.NewPCG(1, 2))
	var seen Counts
	for i := range 20000 {
		id := []uint32{idSample, idHeartbeat, idEFF, idOther, 0x200}[r.IntN(5)]
		h := header{
			version: 1, kind: r.IntN(4), pad: r.IntN(16), epoch: liveEpoch + uint32(r.IntN(3)),
			counter: 10001 - uint64(r.IntN(2000)),
		}
		frame := fdFrame(id, []int{32, 48, 64}[r.IntN(3)], h).view(CANFDMTU)
		if r.IntN(8) == 0 {
			frame[r.IntN(len(frame))] ^= 1 << r.IntN(8)
		}
		asked := i % 2
		f.ask(uint64(asked))
		before := f.refusedOf()
		v := f.judge(t, EthPCANFD, frame, false)
		f.wantRefused(t, before, EthPCANFD, frame, v, asked == 1)
		seen[v]++
		if n := len(take(t, f.candidates)) + len(take(t, f.control)); (n == 1) != (v == Candidate || v == Control) {
			t.Fatalf("verdict %s with %d records", v, n)
		}
	}
	for _, v := range []Verdict{Passed, Malformed, WrongKind, UnknownEpoch, TooOld, Replay, Candidate, Control} {
		if seen[v] == 0 {
			t.Errorf("verdict %s never came up", v)
		}
	}
}
