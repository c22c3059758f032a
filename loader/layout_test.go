// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/cellward/cellward/bpf/can"
)

func filterSpec(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	return must[*ebpf.CollectionSpec](t)(can.LoadFilter())
}

func cStruct(t *testing.T, types *btf.Spec, name string) *btf.Struct {
	t.Helper()
	var s *btf.Struct
	if err := types.TypeByName(name, &s); err != nil {
		t.Fatalf("find struct %s: %v", name, err)
	}
	return s
}

// Each Go type lies in memory as the C struct does: same size, and each named member at the same place.
func TestLayoutMatchesC(t *testing.T) {
	types := filterSpec(t).Types
	var (
		window  Window
		epochs  EpochTable
		starts  StartTable
		start   EpochStarts
		stream  Stream
		key     StreamKey
		meta    metaEntry
		counter Counters
		refused StreamRefused
		wanted  FramesWanted
	)
	type member struct {
		offset, size uintptr
	}
	tests := []struct {
		name    string
		size    uintptr
		members map[string]member
	}{
		{"cw_stream_key", unsafe.Sizeof(key), map[string]member{
			"iface":  {unsafe.Offsetof(key.Iface), 4},
			"can_id": {unsafe.Offsetof(key.CANID), 4},
		}},
		{"cw_stream", unsafe.Sizeof(stream), map[string]member{
			"slot":        {unsafe.Offsetof(stream.Slot), 4},
			"stream_id":   {unsafe.Offsetof(stream.StreamID), 4},
			"node":        {unsafe.Offsetof(stream.Node), 4},
			"carrier":     {unsafe.Offsetof(stream.Carrier), 1},
			"role":        {unsafe.Offsetof(stream.Role), 1},
			"window_size": {unsafe.Offsetof(stream.WindowSize), 2},
		}},
		{"cw_window", unsafe.Sizeof(window), map[string]member{
			"words":        {unsafe.Offsetof(window.Words), unsafe.Sizeof(window.Words)},
			"highest_hint": {unsafe.Offsetof(window.HighestHint), 8},
			"committed":    {unsafe.Offsetof(window.Committed), 8},
			"published":    {unsafe.Offsetof(window.Published), 8},
		}},
		{"cw_epochs", unsafe.Sizeof(epochs), map[string]member{
			"slot": {unsafe.Offsetof(epochs.slot), unsafe.Sizeof(epochs.slot)},
		}},
		{"cw_epoch", unsafe.Sizeof(epochs.slot[0]), map[string]member{
			"word": {unsafe.Offsetof(epochs.slot[0].word), 8},
			"base": {unsafe.Offsetof(epochs.slot[0].base), 8},
		}},
		{"cw_starts", unsafe.Sizeof(starts), map[string]member{
			"epoch":            {unsafe.Offsetof(starts.epoch), unsafe.Sizeof(starts.epoch)},
			"highest_verified": {unsafe.Offsetof(starts.HighestVerified), 8},
		}},
		{"cw_epoch_starts", unsafe.Sizeof(start), map[string]member{
			"epoch": {unsafe.Offsetof(start.epoch), 8},
			"known": {unsafe.Offsetof(start.known), unsafe.Sizeof(start.known)},
		}},
		{"cw_start", unsafe.Sizeof(start.known[0]), map[string]member{
			"first": {unsafe.Offsetof(start.known[0].first), 8},
			"start": {unsafe.Offsetof(start.known[0].random), 16},
		}},
		{"cw_meta", unsafe.Sizeof(meta), map[string]member{
			"ready":          {unsafe.Offsetof(meta.Ready), 4},
			"magic":          {unsafe.Offsetof(meta.Magic), 8},
			"layout_version": {unsafe.Offsetof(meta.LayoutVersion), 4},
			"boot_id":        {unsafe.Offsetof(meta.BootID), 16},
			"layout_hash":    {unsafe.Offsetof(meta.LayoutHash), 32},
			"binding_hash":   {unsafe.Offsetof(meta.BindingHash), 32},
			"created_ns":     {unsafe.Offsetof(meta.CreatedNS), 8},
		}},
		{"cw_counters", unsafe.Sizeof(counter), nil},
		{"cw_stream_refused", unsafe.Sizeof(refused), nil},
		{"cw_frames_wanted", unsafe.Sizeof(wanted), map[string]member{"until": {unsafe.Offsetof(wanted.until), unsafe.Sizeof(wanted.until)}}},
		// Records are read through accessors, so their places stand here as numbers.
		{"cw_record_head", recordHead, map[string]member{
			"time_ns": {0, 8}, "slot": {8, 4}, "can_id": {12, 4}, "spdu_len": {16, 2}, "carrier": {18, 1},
			"flags": {19, 1}, "iface": {20, 4},
		}},
		{"cw_record_64", recordAAD + 64, map[string]member{
			"head": {0, recordHead}, "stream_id": {24, 4}, "epoch": {28, 4}, "spdu": {recordAAD, 64},
		}},
		{"cw_refused_frame", refusedFrameLen, map[string]member{
			"head": {0, recordHead}, "stream_id": {24, 4}, "epoch": {28, 4}, "frame": {refusedFrameAt, CANFDMTU}, "verdict": {refusedVerdictAt, 4},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := cStruct(t, types, tt.name)
			if uintptr(s.Size) != tt.size {
				t.Errorf("size in C %d, in Go %d", s.Size, tt.size)
			}
			found := 0
			for _, m := range s.Members {
				size := uintptr(must[int](t)(btf.Sizeof(m.Type)))
				want, ok := tt.members[m.Name]
				switch {
				case strings.HasPrefix(m.Name, "reserved") || tt.members == nil:
				case !ok:
					t.Errorf("member %s has no place in Go", m.Name)
				case uintptr(m.Offset.Bytes()) != want.offset || size != want.size:
					t.Errorf("member %s: offset %d size %d in C, %d and %d in Go", m.Name, m.Offset.Bytes(), size, want.offset, want.size)
				default:
					found++
				}
			}
			if found != len(tt.members) {
				t.Errorf("%d of %d members found in C", found, len(tt.members))
			}
		})
	}
}

// Capacities are part of what both sides agree on.
func TestLayoutCapacities(t *testing.T) {
	maps := filterSpec(t).Maps
	for name, want := range map[string]uint32{
		can.FilterMapStreams: MaxStreams, can.FilterMapWindows: MaxStreams, can.FilterMapStreamShed: MaxStreams, can.FilterMapStreamRefused: MaxStreams,
		can.FilterMapFramesWanted: MaxStreams, can.FilterMapRefusedFrames: refusedSize,
		can.FilterMapEpochs: MaxNodes, can.FilterMapStarts: MaxNodes, can.FilterMapAgentCounters: MaxIfaces,
		can.FilterMapMeta: 1, can.FilterMapCandidates: DefaultCandidates, can.FilterMapControl: DefaultControl,
	} {
		if got := maps[name].MaxEntries; got != want {
			t.Errorf("map %s has %d entries, want %d", name, got, want)
		}
	}
	if got := len(sharedMaps()) + len(busMaps()); got != 13 {
		t.Errorf("the loader knows %d maps, want 13", got)
	}
	for name := range maps {
		if name[0] != '.' && !contains(sharedMaps(), name) && !contains(busMaps(), name) {
			t.Errorf("map %s belongs to no group", name)
		}
	}
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// The verdict's Go name, the enum's name and the counter's name are one.
func TestVerdictNames(t *testing.T) {
	types := filterSpec(t).Types
	var enum *btf.Enum
	ok(t, types.TypeByName("cw_verdict", &enum))
	counters := cStruct(t, types, "cw_counters")
	if len(enum.Values) != NumVerdicts+1 {
		t.Fatalf("enum cw_verdict has %d values, want %d and the count", len(enum.Values), NumVerdicts)
	}
	for i, v := range enum.Values[:NumVerdicts] {
		name := Verdict(v.Value).String()
		if uint64(i) != v.Value || v.Name != "CW_"+strings.ToUpper(name) {
			t.Errorf("verdict %d: %s in C, %s in Go", v.Value, v.Name, name)
		}
		m := counters.Members[i]
		if m.Name != name || int(m.Offset.Bytes()) != 8*i {
			t.Errorf("verdict %d is %s, its counter is %s at %d", i, name, m.Name, m.Offset.Bytes())
		}
	}
	if got, want := Verdict(NumVerdicts).String(), fmt.Sprintf("verdict(%d)", NumVerdicts); got != want {
		t.Errorf("unknown verdict is %q", got)
	}
}

// The counters of a stream have the names of the verdicts that they count, and each such verdict has one: those by which the filter
// refuses a frame on a protected identifier. stream_shed counts CW_SHED.
func TestRefusedNames(t *testing.T) {
	members := cStruct(t, filterSpec(t).Types, "cw_stream_refused").Members
	names := make(map[string]uint32)
	for _, m := range members {
		if !isReserved(m.Name) {
			names[m.Name] = m.Offset.Bytes()
		}
	}
	var r StreamRefused
	total := uint64(0)
	for v := range Verdict(NumVerdicts) {
		want := v >= PlaintextOnProtected && v <= ControlFull && v != Shed && v != Candidate && v != Control
		at, found := names[v.String()]
		if found != want {
			t.Errorf("%s has a counter: %t", v, found)
		}
		if found {
			total += uint64(v)
			r.count[at/8].Store(uint64(v))
		}
	}
	for v := range Verdict(NumVerdicts + 1) {
		want := uint64(0)
		if _, found := names[v.String()]; found {
			want = uint64(v)
		}
		if got := r.Load(v); got != want {
			t.Errorf("%s: %d, want %d", v, got, want)
		}
	}
	if r.Total() != total {
		t.Errorf("total %d, want %d", r.Total(), total)
	}
}

func TestCounters(t *testing.T) {
	var c Counters
	c.Add(BadTag, 3)
	c.Add(BadTag, 4)
	c.Add(Downgrade, 1)
	sum := Counts{BadTag: 100}
	c.AddTo(&sum)
	if want := (Counts{BadTag: 107, Downgrade: 1}); sum != want || sum.Total() != 108 || c.Load(BadTag) != 7 {
		t.Errorf("sum %v, want %v", sum, want)
	}
	for v := Verdict(0); v < Verdict(NumVerdicts); v++ {
		if got, want := v.Drops(), v != Passed && v != ErrorFrame; got != want {
			t.Errorf("%s drops: %v", v, got)
		}
	}
}

// vmlinux.h says of the kernel's own types what this kernel says.
func TestVmlinuxMatchesKernel(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); errors.Is(err, os.ErrNotExist) {
		t.Skip("this kernel has no BTF of its own")
	}
	kernel := must[*btf.Spec](t)(btf.LoadKernelSpec())
	ours := filterSpec(t).Types
	want := make(map[string][2]uint32)
	for _, m := range flatten(cStruct(t, kernel, "__sk_buff")) {
		want[m.Name] = [2]uint32{m.Offset.Bytes(), uint32(must[int](t)(btf.Sizeof(m.Type)))}
	}
	checked := 0
	for _, m := range flatten(cStruct(t, ours, "__sk_buff")) {
		got := [2]uint32{m.Offset.Bytes(), uint32(must[int](t)(btf.Sizeof(m.Type)))}
		// A later kernel may add members at the end; an earlier one may not have ours yet.
		if w, known := want[m.Name]; known && w != got {
			t.Errorf("__sk_buff.%s: offset and size %v, kernel has %v", m.Name, got, w)
		} else if known {
			checked++
		}
	}
	if checked < 30 {
		t.Errorf("only %d members of __sk_buff could be compared", checked)
	}
	// The compiler leaves struct bpf_sock out of the BTF of the filter, which reads one member of it.
	for _, m := range cStruct(t, kernel, "bpf_sock").Members {
		if m.Name == "family" && m.Offset.Bytes() != 4 {
			t.Errorf("bpf_sock.family is at %d in the kernel, vmlinux.h has it at 4", m.Offset.Bytes())
		}
	}
}

// flatten returns the members of s with anonymous unions replaced by their members.
func flatten(s *btf.Struct) (members []btf.Member) {
	for _, m := range s.Members {
		if u, isUnion := m.Type.(*btf.Union); isUnion && m.Name == "" {
			for _, um := range u.Members {
				um.Offset += m.Offset
				members = append(members, um)
			}
			continue
		}
		members = append(members, m)
	}
	return members
}

func TestLayoutHash(t *testing.T) {
	base := must[[32]byte](t)(layoutHash(filterSpec(t)))
	if again := must[[32]byte](t)(layoutHash(filterSpec(t))); again != base {
		t.Error("the same filter has two hashes")
	}
	tests := []struct {
		name   string
		change func(*ebpf.CollectionSpec)
		same   bool
	}{
		{"ring size", func(s *ebpf.CollectionSpec) { s.Maps[can.FilterMapCandidates].MaxEntries *= 2 }, true},
		{"entries", func(s *ebpf.CollectionSpec) { s.Maps[can.FilterMapWindows].MaxEntries *= 2 }, false},
		{"flags", func(s *ebpf.CollectionSpec) { s.Maps[can.FilterMapStreams].Flags = 0 }, false},
		{"kind", func(s *ebpf.CollectionSpec) { s.Maps[can.FilterMapStreams].Type = ebpf.LRUHash }, false},
		{"member's name", func(s *ebpf.CollectionSpec) {
			v := btf.Copy(s.Maps[can.FilterMapWindows].Value).(*btf.Struct)
			v.Members[1].Name = "lowest_hint"
			s.Maps[can.FilterMapWindows].Value = v
		}, false},
		{"inner member's offset", func(s *ebpf.CollectionSpec) {
			v := btf.Copy(s.Maps[can.FilterMapEpochs].Value).(*btf.Struct)
			v.Members[0].Type.(*btf.Array).Type.(*btf.Struct).Members[1].Offset += 8
			s.Maps[can.FilterMapEpochs].Value = v
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := filterSpec(t)
			tt.change(spec)
			if got := must[[32]byte](t)(layoutHash(spec)); (got == base) != tt.same {
				t.Errorf("hash is the same: %v, want %v", got == base, tt.same)
			}
		})
	}
}

// Records of another build are read if its layout has this build's version, so the version belongs to what they look like.
func TestRecordsHaveAVersion(t *testing.T) {
	h := sha256.New()
	describe(h, cStruct(t, filterSpec(t).Types, "cw_record_64"), 0)
	const known = "ea1e1d0e396cfa385e7e8da2bd8efa5a186f628314dbd39631a08935fb2031f4"
	if got := hex.EncodeToString(h.Sum(nil)); layoutVersion == 1 && got != known {
		t.Errorf("records are described by %s and not by %s any more: they need another version", got, known)
	}
}

// What is said of members that other layouts lack is said of members that there are.
func TestNewMembers(t *testing.T) {
	spec := filterSpec(t)
	for path, why := range newMembers() {
		names := strings.Split(path, ".")
		m, found := spec.Maps[names[0]]
		if !found || why == "" {
			t.Errorf("%s: no such map, or no reason", path)
			continue
		}
		value := m.Value
		for _, name := range names[1:] {
			if a, isArray := btf.UnderlyingType(value).(*btf.Array); isArray {
				value = a.Type
			}
			s, isStruct := btf.UnderlyingType(value).(*btf.Struct)
			if !isStruct || member(s, name) == nil {
				t.Errorf("%s: no such member", path)
				break
			}
			value = member(s, name).Type
		}
	}
	for _, path := range growingArrays() {
		names := strings.Split(path, ".")
		s := spec.Maps[names[0]].Value.(*btf.Struct)
		if m := member(s, names[1]); m == nil || len(names) != 2 {
			t.Errorf("%s: no such member", path)
		} else if _, isArray := m.Type.(*btf.Array); !isArray {
			t.Errorf("%s is no array", path)
		}
	}
}

func TestStreamValidation(t *testing.T) {
	good := Stream{Slot: 1, StreamID: 1, Node: 1, Carrier: CarrierCANFD, WindowSize: 1024}
	key := StreamKey{Iface: 1, CANID: 0x7FF}
	if err := errors.Join(key.validate(), good.validate()); err != nil {
		t.Errorf("good entry: %v", err)
	}
	if err := (StreamKey{Iface: 63, CANID: CANEFFFlag | CANEFFMask}).validate(); err != nil {
		t.Errorf("good key: %v", err)
	}
	for _, k := range []StreamKey{{}, {Iface: 64}, {Iface: 1, CANID: 0x800}, {Iface: 1, CANID: CANERRFlag | 1}, {Iface: 1, CANID: CANEFFFlag | CANRTRFlag}} {
		if err := k.validate(); !errors.Is(err, ErrInvalidStream) {
			t.Errorf("key %+v: %v", k, err)
		}
	}
	for name, change := range map[string]func(*Stream){
		"slot":           func(s *Stream) { s.Slot = MaxStreams },
		"node":           func(s *Stream) { s.Node = MaxNodes },
		"stream id 0":    func(s *Stream) { s.StreamID = 0 },
		"stream id max":  func(s *Stream) { s.StreamID = 0xFFFFFFFF },
		"carrier":        func(s *Stream) { s.Carrier = 2 },
		"role":           func(s *Stream) { s.Role = 2 },
		"window 0":       func(s *Stream) { s.WindowSize = 0 },
		"window too big": func(s *Stream) { s.WindowSize = 1025 },
	} {
		s := good
		change(&s)
		if err := s.validate(); !errors.Is(err, ErrInvalidStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEpochTable(t *testing.T) {
	var e EpochTable
	ok(t, e.Publish(1, 0x0301, 77))
	if epoch, base, live := e.Load(1); epoch != 0x0301 || base != 77 || !live {
		t.Errorf("slot 1 holds %#x %d %v", epoch, base, live)
	}
	ok(t, e.Publish(1, 0x0401, 78)) // its own predecessor is no conflict
	for name, err := range map[string]error{
		"slot -1":   e.Publish(-1, 1, 1),
		"slot 4":    e.Publish(4, 1, 1),
		"epoch 0":   e.Publish(0, 0, 1),
		"base 0":    e.Publish(0, 1, 0),
		"base 2^48": e.Publish(0, 1, 1<<48),
	} {
		if !errors.Is(err, ErrInvalidEpoch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := e.Publish(2, 0x0501, 1); !errors.Is(err, ErrEpochCongruent) {
		t.Errorf("congruent epoch: %v", err)
	}
	e.Retire(1)
	if _, _, live := e.Load(1); live {
		t.Error("retired slot is live")
	}
	ok(t, e.Publish(2, 0x0501, 1))
}

func TestStartTable(t *testing.T) {
	var table StartTable
	s := table.Epoch(2)
	start := func(first uint64) Start {
		return Start{First: first, Random: [16]byte{byte(first), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, byte(first)}}
	}
	s.Reset(9)
	if s.Owner() != 9 || s.Known() != [2]Start{} {
		t.Errorf("after Reset: owner %d, known %v", s.Owner(), s.Known())
	}
	for i, want := range [][2]Start{
		{start(100)},
		{start(200), start(100)},
		{start(300), start(200)},
		{start(400), start(300)},
	} {
		s.Put(start(uint64(i+1) * 100))
		if got := s.Known(); got != want {
			t.Errorf("after %d starts: %v, want %v", i+1, got, want)
		}
	}
	if got := table.Epoch(1).Known(); got != [2]Start{} {
		t.Errorf("another epoch has starts %v", got)
	}
	s.Reset(10)
	if s.Owner() != 10 || s.Known() != [2]Start{} {
		t.Errorf("after Reset: owner %d, known %v", s.Owner(), s.Known())
	}
}

// The frame structure is the kernel's.
func TestCANFrameLayout(t *testing.T) {
	f := CANFrame{ID: 0x11223344, Len: 5, Flags: 6, Data: [64]uint8{0: 7, 63: 8}}
	if size := reflect.TypeOf(f).Size(); size != CANFDMTU {
		t.Fatalf("frame has %d bytes, want %d", size, CANFDMTU)
	}
	b := f.view(CANFDMTU)
	want := []byte{0x44, 0x33, 0x22, 0x11, 5, 6, 0, 0, 7}
	if string(b[:9]) != string(want) || b[71] != 8 {
		t.Errorf("frame is % x", b)
	}
}
