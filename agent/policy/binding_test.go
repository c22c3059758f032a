// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/crypto/identity"
)

// loadPack returns the binding that uses every field.
func loadPack(t testing.TB) *Binding {
	t.Helper()
	b, err := LoadBinding("testdata/good/pack-a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newIdentity returns the identity of a fresh key.
func newIdentity(t testing.TB, curve elliptic.Curve) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	again, err := id.Key()
	if text, err := ParseIdentity(id.String()); err != nil || !reflect.DeepEqual(text, id) {
		t.Fatalf("identity from its text: %v", err)
	}
	if err != nil || !again.ECDSA().Equal(&key.PublicKey) {
		t.Fatalf("key of identity: %v", err)
	}
	return id
}

func TestNewIdentityRefuses(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewIdentity(&key.PublicKey); !errors.Is(err, identity.ErrKey) {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
	}
	if _, err := (Identity{}).Key(); !errors.Is(err, identity.ErrKey) {
		t.Errorf("no key: %v", err)
	}
}

// TestBindingFields checks every field of a binding against what the document says.
func TestBindingFields(t *testing.T) {
	b := loadPack(t)
	hexKey := b.Gateway.Identity.PublicKey
	want := Gateway{
		Name: "gateway", Identity: Identity{KID: identity.Kid{0x5a, 0x27, 0x86, 0x53, 0xac, 0x9b, 0x31, 0x8a}, PublicKey: hexKey},
		TPM: "unix:/run/swtpm.sock", StateDirectory: "/var/lib/cellward", User: "cellward", BPFFS: "/sys/fs/bpf/pack-a", Grace: 36 * time.Hour,
		CandidateRing: 4 << 20, Ring: Ring{Slots: 8192, Socket: "/run/cellward/ring.sock", Group: "cellward"},
		Control: Control{Socket: "/run/cellward/control.sock"},
	}
	if len(hexKey) != 120 || !reflect.DeepEqual(b.Gateway, want) {
		t.Errorf("gateway: got %+v", b.Gateway)
	}
	if want := []Interface{{"can0", 1, CANFD}, {"can1", 7, CANFD}}; !reflect.DeepEqual(b.Interfaces, want) {
		t.Errorf("interfaces: got %+v", b.Interfaces)
	}
	if want := []Source{{"cell_voltage_array", 1}, {"pack_current", 2}, {"temperature_sensors", 3}, {"estimated_soc", 4}}; !reflect.DeepEqual(b.Sources, want) {
		t.Errorf("sources: got %+v", b.Sources)
	}
	if b.Name != "pack-a" || b.Policy != "bms-sensor-channel-aes256-gcm-hsm" || len(b.Nodes) != 2 {
		t.Errorf("got %q, %q, %d nodes", b.Name, b.Policy, len(b.Nodes))
	}
	bmu := b.Nodes[0]
	if want := []Heartbeat{{1, "can0", 0x7E0}, {11, "can1", 0x18FF50E5 | CANEFF}}; !reflect.DeepEqual(bmu.Heartbeats, want) {
		t.Errorf("heartbeats: got %+v", bmu.Heartbeats)
	}
	cells := Stream{
		StreamID: 2, Interface: "can0", CANID: 0x6F2, Source: "cell_voltage_array", SamplingRate: Rate{320 * time.Millisecond, "320ms"},
		Signals: []Signal{
			{Name: "mux", Length: 8, ByteOrder: LittleEndian, Scale: 1},
			{Name: "cell_1", StartBit: 8, Length: 14, ByteOrder: LittleEndian, Scale: 0.000305, Unit: "V", Multiplexor: &Multiplexor{"mux", []uint32{0}}},
			{Name: "cell_2", StartBit: 22, Length: 14, ByteOrder: LittleEndian, Scale: 0.000305, Unit: "V", Multiplexor: &Multiplexor{"mux", []uint32{0}}},
			{Name: "page", StartBit: 16, Length: 4, ByteOrder: LittleEndian, Scale: 1, Multiplexor: &Multiplexor{"mux", []uint32{30, 31}}},
			{Name: "spare", StartBit: 20, Length: 4, ByteOrder: LittleEndian, Scale: 1, Multiplexor: &Multiplexor{"page", []uint32{15}}},
		},
	}
	if !reflect.DeepEqual(bmu.Streams[0], cells) {
		t.Errorf("stream 2: got %+v", bmu.Streams[0])
	}
	if want := (Stream{StreamID: 4, Interface: "can1", CANID: 0x6F2 | CANEFF, Source: "estimated_soc"}); !reflect.DeepEqual(bmu.Streams[2], want) {
		t.Errorf("stream 4: got %+v", bmu.Streams[2])
	}
	current := Stream{
		StreamID: MaxID, Interface: "can0", Source: "pack_current", SamplingRate: Rate{10 * time.Millisecond, "100Hz"},
		Signals: []Signal{
			{Name: "pack_current", StartBit: 7, Length: 16, ByteOrder: BigEndian, Signed: true, Scale: 0.01, Offset: -0.5, Unit: "A"},
			{Name: "last_bits", StartBit: 287, Length: 8, ByteOrder: BigEndian, Scale: 1, Unit: "°C"},
		},
	}
	if node, ok := b.Node("current-sensor"); !ok || !reflect.DeepEqual(node.Streams, []Stream{current}) {
		t.Errorf("current sensor: got %+v", node.Streams)
	}
	if _, ok := b.Node("nobody"); ok {
		t.Error("found a node that is not there")
	}
}

func TestBindingDefaults(t *testing.T) {
	b, err := LoadBinding("testdata/good/binding-minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if g := b.Gateway; g.BPFFS != "/sys/fs/bpf/cellward" || g.Grace != 72*time.Hour || g.Ring.Group != "" || g.User != "cellward" {
		t.Errorf("got %+v", g)
	}
}

// TestPolicyFields checks every field of the reference policy.
func TestPolicyFields(t *testing.T) {
	got, err := LoadPolicy("testdata/good/security_policy_bms_data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rate := Rate{100 * time.Millisecond, "10Hz"}
	want := &Policy{
		Name: "bms-sensor-channel-aes256-gcm-hsm",
		DataSources: []DataSource{
			{"cell_voltage_array", rate, Critical}, {"pack_current", rate, Critical}, {"temperature_sensors", rate, Critical}, {"estimated_soc", rate, High},
		},
		CryptographicProfile: CryptographicProfile{"AES-256-GCM", "HKDF-SHA-384", 128},
		KeyManagement: KeyManagement{
			Provider: "hardwareSecurityModule", HSMConfig: HSMConfig{"iso/iec-11889:2015-tpm-2.0", "non-exportable-wrapped"},
			RotationPolicy: RotationPolicy{30 * 24 * time.Hour, "ALWAYS_REKEY"},
		},
		Transport: Transport{"STRICT", ReplayProtection{true, 1024}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// bigBinding returns a binding of n nodes with per streams each, heartbeat streams included.
func bigBinding(t testing.TB, n, per int) *Binding {
	b := loadPack(t)
	b.Nodes = nil
	for i := range n {
		node := Node{Name: fmt.Sprintf("node-%d", i), Identity: newIdentity(t, elliptic.P256())}
		id := uint32(i*per + 1)
		node.Heartbeats = []Heartbeat{{StreamID: id, Interface: "can0", CANID: CANID(id) | CANEFF}}
		for range per - 1 {
			id++
			node.Streams = append(node.Streams, Stream{
				StreamID: id, Interface: "can0", CANID: CANID(id) | CANEFF, Source: "pack_current", SamplingRate: RateOf(98765432),
			})
		}
		b.Nodes = append(b.Nodes, node)
	}
	return b
}

func TestStreamLimits(t *testing.T) {
	b := bigBinding(t, 16, 256)
	data, err := Marshal(b)
	if err != nil {
		t.Fatalf("4,096 streams: %v", err)
	}
	t.Logf("4,096 streams: %d bytes", len(data))
	if again, err := ParseBinding("big", data); err != nil || !reflect.DeepEqual(b, again) {
		t.Errorf("not the same: %v", err)
	}
	b.Nodes = append(b.Nodes, Node{
		Name: "one-more", Identity: newIdentity(t, elliptic.P384()), Heartbeats: []Heartbeat{{StreamID: 5000, Interface: "can1", CANID: 1}},
		Streams: []Stream{{StreamID: 5001, Interface: "can1", CANID: 2, Source: "pack_current"}},
	})
	_, err = Marshal(b)
	if err == nil || !strings.Contains(err.Error(), "spec.nodes[16].heartbeats[0]: this is stream number 4097, heartbeat streams included; at most 4096 are allowed") ||
		strings.Count(err.Error(), "stream number") != 1 {
		t.Errorf("4,098 streams: %v", err)
	}
}

// TestMarshalRefuses checks that nothing is written that cannot be read.
func TestMarshalRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Binding){
		"no name":              func(b *Binding) { b.Name = "" },
		"no identity":          func(b *Binding) { b.Gateway.Identity = Identity{} },
		"kid of another key":   func(b *Binding) { b.Nodes[0].Identity.KID = b.Gateway.Identity.KID },
		"ring size":            func(b *Binding) { b.Gateway.CandidateRing = 100000 },
		"remote frame flag":    func(b *Binding) { b.Nodes[0].Streams[0].CANID |= 0x40000000 },
		"error frame flag":     func(b *Binding) { b.Nodes[0].Streams[0].CANID |= 0x20000000 },
		"wide id without flag": func(b *Binding) { b.Nodes[0].Streams[0].CANID = 0x800 },
		"reserved stream":      func(b *Binding) { b.Nodes[0].Streams[0].StreamID = HeartbeatSource },
		"unknown source":       func(b *Binding) { b.Nodes[0].Streams[0].Source = "x" },
		"no nodes":             func(b *Binding) { b.Nodes = nil },
		"user":                 func(b *Binding) { b.Gateway.User = "-x" },
		"negative grace":       func(b *Binding) { b.Gateway.Grace = -time.Second },
		"rate without text":    func(b *Binding) { b.Nodes[0].Streams[0].SamplingRate = Rate{Period: time.Second} },
	} {
		b := loadPack(t)
		spoil(b)
		if data, err := Marshal(b); !errors.Is(err, ErrInvalid) || data != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Marshal(nil); err == nil {
		t.Error("nothing: written")
	}
}

// drawBinding makes a valid binding of random shape.
func drawBinding(t *rapid.T, ids []Identity) *Binding {
	name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,10}[A-Za-z0-9]`)
	b := &Binding{
		Name: name.Draw(t, "name"), Policy: name.Draw(t, "policy"),
		Gateway: Gateway{
			Name: "0gateway", Identity: ids[0], TPM: rapid.SampledFrom([]string{"/dev/tpm0", "unix:/run/tpm/sock"}).Draw(t, "tpm"),
			StateDirectory: "/var/lib/x", User: rapid.SampledFrom([]string{"root", "_x-1", "0", "65533"}).Draw(t, "user"), BPFFS: "/sys/fs/bpf/x", Grace: time.Duration(rapid.Int64Range(1, int64(MaxGrace)).Draw(t, "grace")),
			CandidateRing: MinCandidateRing << rapid.IntRange(0, 12).Draw(t, "ring"),
			Ring:          Ring{Slots: MinRingSlots << rapid.IntRange(0, 14).Draw(t, "slots"), Socket: "/run/a", Group: rapid.SampledFrom([]string{"", "x", "0x1"}).Draw(t, "group")},
			Control:       Control{Socket: "/run/b"},
		},
	}
	interfaces := rapid.IntRange(1, 3).Draw(t, "interfaces")
	for i := range interfaces {
		b.Interfaces = append(b.Interfaces, Interface{fmt.Sprintf("c!%d", i), uint8(63 - i), CANFD})
	}
	sources := rapid.SliceOfNDistinct(rapid.Uint32Range(1, MaxID), 1, 4, rapid.ID).Draw(t, "sources")
	for i, id := range sources {
		b.Sources = append(b.Sources, Source{fmt.Sprintf("%d", i), id}) // a name that looks like a number
	}
	numbers := rapid.SliceOfNDistinct(rapid.Uint32Range(1, MaxID), 40, 40, rapid.ID).Draw(t, "streams")
	canIDs := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) CANID {
		if rapid.Bool().Draw(t, "extended") {
			return CANEFF | CANID(rapid.Uint32Range(0, MaxCANEFF).Draw(t, "id"))
		}
		return CANID(rapid.Uint32Range(0, MaxCANSFF).Draw(t, "id"))
	}), 40, 40, rapid.ID).Draw(t, "ids")
	next := 0
	take := func() (uint32, CANID) { next++; return numbers[next-1], canIDs[next-1] }
	for n := range rapid.IntRange(1, 3).Draw(t, "nodes") {
		node := Node{Name: fmt.Sprintf("1e%d", n), Identity: ids[n+1]}
		for i := range rapid.IntRange(1, interfaces).Draw(t, "buses") {
			stream, id := take()
			node.Heartbeats = append(node.Heartbeats, Heartbeat{stream, b.Interfaces[i].Name, id})
			for range rapid.IntRange(1, 3).Draw(t, "streams of bus") {
				stream, id := take()
				s := Stream{StreamID: stream, Interface: b.Interfaces[i].Name, CANID: id, Source: b.Sources[rapid.IntRange(0, len(sources)-1).Draw(t, "source")].Identifier}
				if rapid.Bool().Draw(t, "rate") {
					s.SamplingRate = RateOf(time.Duration(rapid.Int64Range(int64(MinPeriod), int64(MaxPeriod)).Draw(t, "period")))
				}
				s.Signals = drawSignals(t)
				node.Streams = append(node.Streams, s)
			}
		}
		b.Nodes = append(b.Nodes, node)
	}
	return b
}

func drawSignals(t *rapid.T) []Signal {
	var signals []Signal
	finite := rapid.Float64Range(-1e300, 1e300)
	for i := range rapid.IntRange(0, 3).Draw(t, "signals") {
		s := Signal{
			Name: fmt.Sprintf("s%d", i), StartBit: rapid.IntRange(0, 200).Draw(t, "start"), Length: rapid.IntRange(1, 32).Draw(t, "length"),
			ByteOrder: rapid.SampledFrom([]ByteOrder{LittleEndian, BigEndian}).Draw(t, "order"),
			Scale:     finite.Filter(func(f float64) bool { return f != 0 }).Draw(t, "scale"), Offset: finite.Draw(t, "offset"),
			Unit: rapid.SampledFrom([]string{"", "V", "1", "true", "%", "°C", "#", "a: b", " ", "\"", "\\", "µΩ·m"}).Draw(t, "unit"),
		}
		if i > 0 {
			s.Multiplexor = &Multiplexor{signals[i-1].Name, []uint32{1, 0}}
		} else {
			s.Length = rapid.IntRange(1, 32).Draw(t, "length of the first")
		}
		signals = append(signals, s)
	}
	return signals
}

// TestMarshalRandomBindings writes and reads bindings of random shape.
func TestMarshalRandomBindings(t *testing.T) {
	var ids []Identity
	for i := range 4 {
		ids = append(ids, newIdentity(t, []elliptic.Curve{elliptic.P256(), elliptic.P384()}[i%2]))
	}
	all := bundled(t)
	rapid.Check(t, func(t *rapid.T) {
		b := drawBinding(t, ids)
		data, err := Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseBinding("again", data)
		if err != nil || !reflect.DeepEqual(b, again) {
			t.Fatalf("%v\n%s\n%+v\n%+v", err, data, b, again)
		}
		v, err := untyped(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := validateValue(all, v); err != nil {
			t.Fatalf("the schema refuses it: %v", err)
		}
	})
}
