// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	referencePolicy = "testdata/good/security_policy_bms_data.yaml"
	packBinding     = "testdata/good/pack-a.yaml"
)

func loadSet(t testing.TB) *Set {
	t.Helper()
	s, err := Load(referencePolicy, packBinding)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadResolves(t *testing.T) {
	s := loadSet(t)
	can0, can1 := Interface{"can0", 1, CANFD}, Interface{"can1", 7, CANFD}
	type row struct {
		slot      int
		id        uint32
		role      Role
		node      int
		iface     Interface
		can       CANID
		sourceID  uint32
		source    string
		sens      Sensitivity
		period    time.Duration
		signals   int
		window    int
		bodyLimit int
	}
	want := []row{
		{0, 1, RoleHeartbeat, 0, can0, 0x7E0, HeartbeatSource, "", 0, time.Second, 0, 1024, 36},
		{1, 2, RoleSample, 0, can0, 0x6F2, 1, "cell_voltage_array", Critical, 320 * time.Millisecond, 5, 1024, 36},
		{2, 3, RoleSample, 0, can1, 0x6F2, 3, "temperature_sensors", Critical, 100 * time.Millisecond, 0, 1024, 36},
		{3, 4, RoleSample, 0, can1, 0x6F2 | CANEFF, 4, "estimated_soc", High, 100 * time.Millisecond, 0, 1024, 36},
		{4, 11, RoleHeartbeat, 0, can1, 0x18FF50E5 | CANEFF, HeartbeatSource, "", 0, time.Second, 0, 1024, 36},
		{5, 100, RoleHeartbeat, 1, can0, 0x7E1, HeartbeatSource, "", 0, time.Second, 0, 1024, 36},
		{6, MaxID, RoleSample, 1, can0, 0, 2, "pack_current", Critical, 10 * time.Millisecond, 2, 1024, 36},
	}
	var got []row
	for _, r := range s.Streams {
		got = append(got, row{r.Slot, r.ID, r.Role, r.Node, r.Interface, r.CANID, r.SourceID, r.Source, r.Sensitivity, r.Period, len(r.Signals), r.WindowSize, r.MaxBody})
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("streams: got\n%+v\nwant\n%+v", got, want)
	}
	for i, slots := range [][]int{{0, 1, 2, 3, 4}, {5, 6}} {
		n := s.Nodes[i]
		hash, err := s.Binding.BindingHash(n.Name)
		if n.Index != i || !slices.Equal(n.Slots, slots) || err != nil || n.BindingHash != hash {
			t.Errorf("node %d: %+v, %v", i, n, err)
		}
	}
	if s.Nodes[0].Name != "bmu" || s.Nodes[1].Name != "current-sensor" {
		t.Errorf("nodes: %+v", s.Nodes)
	}
	if n, ok := s.Node("current-sensor"); !ok || n.Index != 1 {
		t.Errorf("node: %+v, %v", n, ok)
	}
	if r, ok := s.Stream(11); !ok || r.Slot != 4 {
		t.Errorf("stream 11: %+v, %v", r, ok)
	}
	for _, id := range []uint32{0, 5, HeartbeatSource} {
		if _, ok := s.Stream(id); ok {
			t.Errorf("stream %d: found", id)
		}
	}
	for _, name := range []string{"", "bmv", "zz"} {
		if _, ok := s.Node(name); ok {
			t.Errorf("node %q: found", name)
		}
	}
}

// TestLoadDoesNotDependOnOrder turns every list that has ids round and expects the same tables.
func TestLoadDoesNotDependOnOrder(t *testing.T) {
	want := loadSet(t)
	p, b := want.Policy, loadPack(t)
	turn(b)
	got, err := Bind(p, b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Streams, want.Streams) || !reflect.DeepEqual(got.Nodes, want.Nodes) || !reflect.DeepEqual(got.Interfaces, want.Interfaces) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// turn reverses every list of a binding whose items have ids.
func turn(b *Binding) {
	slices.Reverse(b.Interfaces)
	slices.Reverse(b.Sources)
	slices.Reverse(b.Nodes)
	for _, n := range b.Nodes {
		slices.Reverse(n.Heartbeats)
		slices.Reverse(n.Streams)
	}
}

// write puts a document into a file.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadReportsMismatches(t *testing.T) {
	binding := string(read(t, packBinding))
	for name, c := range map[string]struct {
		edits []string // pairs of old and new
		want  []string // place and message of each error
	}{
		"another policy": {
			[]string{"policy: bms-sensor-channel-aes256-gcm-hsm", "policy: other"},
			[]string{`7:11: spec.policy: the binding is for policy "other"; the policy given is "bms-sensor-channel-aes256-gcm-hsm"`},
		},
		"renamed source": {
			[]string{"{identifier: pack_current, source: 2}", "{identifier: pack_amps, source: 2}", "source: pack_current\n", "source: pack_amps\n"},
			[]string{
				`27:3: spec.sources: data source "pack_current" of policy "bms-sensor-channel-aes256-gcm-hsm" is missing`,
				`29:20: spec.sources[1].identifier: policy "bms-sensor-channel-aes256-gcm-hsm" has no data source "pack_amps"`,
			},
		},
		"missing source": {
			[]string{"    - {identifier: estimated_soc, source: 4}\n", "", "source: estimated_soc}", "source: pack_current}"},
			[]string{`27:3: spec.sources: data source "estimated_soc" of policy "bms-sensor-channel-aes256-gcm-hsm" is missing`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.NewReplacer(c.edits...).Replace(binding)
			path := write(t, "binding.yaml", text)
			s, err := Load(referencePolicy, path)
			if err == nil || s != nil {
				t.Fatalf("accepted: %v", err)
			}
			checkErrors(t, path, []byte(text), err)
			var got []string
			var all Errors
			errors.As(err, &all)
			for _, e := range all {
				got = append(got, fmt.Sprintf("%d:%d: %s: %s", e.Line, e.Column, e.Path, e.Message))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			// The same without places.
			b, err := LoadBinding(path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := LoadPolicy(referencePolicy)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Bind(p, b)
			if !errors.Is(err, ErrInvalid) || strings.Count(err.Error(), ErrInvalid.Error()) != len(c.want) {
				t.Errorf("Bind: %v", err)
			}
		})
	}
}

// TestLoadReportsBothDocuments checks that the errors of a bad policy do not hide those of a bad binding.
func TestLoadReportsBothDocuments(t *testing.T) {
	p := write(t, "p.yaml", strings.Replace(string(read(t, referencePolicy)), "STRICT", "LAX", 1))
	b := write(t, "b.yaml", strings.Replace(string(read(t, packBinding)), "index: 7", "index: 0", 1))
	_, err := Load(p, b)
	var all Errors
	if !errors.As(err, &all) || len(all) != 2 || all[0].File != p || all[1].File != b {
		t.Errorf("%v", err)
	}
	if _, err := Load(p, "testdata/none.yaml"); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, ErrInvalid) {
		t.Errorf("absent binding: %v", err)
	}
}

// TestBindingHashVector is the published example of docs/documents.md.
func TestBindingHashVector(t *testing.T) {
	b, err := LoadBinding("testdata/good/binding-minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	form, err := b.CanonicalForm("bmu")
	if err != nil {
		t.Fatal(err)
	}
	// Built by hand from the description in docs/documents.md.
	want := "86" + "7263656c6c776172642062696e64696e672031" + // "cellward binding 1"
		"63626d75" + "48433227a0fac82af4" + // "bmu", kid
		"5878" + hex.EncodeToString(b.Nodes[0].Identity.PublicKey) +
		"81" + "84" + "01" + "01" + "6663616e2d6664" + "1907e0" + // stream 1, interface 1, "can-fd", 0x7E0
		"81" + "86" + "02" + "01" + "6663616e2d6664" + "1906f2" + "01" + "6563656c6c73" // ..., source 1, "cells"
	if got := hex.EncodeToString(form); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	hash, err := b.BindingHash("bmu")
	if err != nil {
		t.Fatal(err)
	}
	const published = "1baa95efe87764346c0b2f4107aadaf685844f3c7c29fe29815a12fb60da47db"
	if got := hex.EncodeToString(hash[:]); got != published {
		t.Errorf("got %s, want %s", got, published)
	}
	docs, err := os.ReadFile("../../docs/documents.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docs), published) || !strings.Contains(string(docs), want[:38]) {
		t.Error("docs/documents.md has another example")
	}
}

func hashOf(t testing.TB, b *Binding, node string) [32]byte {
	t.Helper()
	hash, err := b.BindingHash(node)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// TestBindingHashIsStable lists what the hash must not depend on.
func TestBindingHashIsStable(t *testing.T) {
	want := hashOf(t, loadPack(t), "bmu")
	for name, c := range map[string]func(*Binding){
		"order of lists":       turn,
		"name":                 func(b *Binding) { b.Name = "pack-b" },
		"policy":               func(b *Binding) { b.Policy = "other" },
		"gateway":              func(b *Binding) { b.Gateway = Gateway{Name: "other", Identity: newIdentity(t, elliptic.P256())} },
		"name of an interface": func(b *Binding) { renameInterface(b, "can1", "vcan9") },
		"another node":         func(b *Binding) { b.Nodes[1].Streams[0].CANID = 5; b.Nodes[1].Name = "x" },
		"unused interface":     func(b *Binding) { b.Interfaces = append(b.Interfaces, Interface{"can2", 2, CANFD}) },
		"source of others":     func(b *Binding) { b.Sources[1].ID = 77 },
		"rate":                 func(b *Binding) { b.Nodes[0].Streams[0].SamplingRate = RateOf(time.Second) },
		"signals":              func(b *Binding) { b.Nodes[0].Streams[0].Signals = nil },
	} {
		b := loadPack(t)
		c(b)
		if hashOf(t, b, "bmu") != want {
			t.Errorf("%s: changes the hash", name)
		}
	}
	text := string(read(t, packBinding))
	for name, c := range map[string]func(string) string{
		"comments":  func(s string) string { return strings.ReplaceAll(s, "\n", " # x\n") },
		"line ends": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"decimal":   func(s string) string { return strings.ReplaceAll(s, "0x6F2", "1778") },
		"defaults":  func(s string) string { return strings.ReplaceAll(s, ", extended: false", "") },
		"field order": func(s string) string {
			return strings.ReplaceAll(s, "{stream: 3, interface: can1, id: 0x6F2,", "{id: 0x6F2, interface: can1, stream: 3,")
		},
		"marshalled": func(s string) string {
			b, err := ParseBinding("b", []byte(s))
			if err != nil {
				t.Fatal(err)
			}
			data, err := Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		},
	} {
		changed := c(text)
		if changed == text {
			t.Errorf("%s: the test changes nothing", name)
		}
		b, err := ParseBinding("b", []byte(changed))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if hashOf(t, b, "bmu") != want {
			t.Errorf("%s: changes the hash", name)
		}
	}
}

func renameInterface(b *Binding, from, to string) {
	for i := range b.Interfaces {
		if b.Interfaces[i].Name == from {
			b.Interfaces[i].Name = to
		}
	}
	for _, n := range b.Nodes {
		for i := range n.Heartbeats {
			if n.Heartbeats[i].Interface == from {
				n.Heartbeats[i].Interface = to
			}
		}
		for i := range n.Streams {
			if n.Streams[i].Interface == from {
				n.Streams[i].Interface = to
			}
		}
	}
}

// TestBindingHashChanges lists what the wire depends on: every single change gives a hash of its own.
func TestBindingHashChanges(t *testing.T) {
	seen := map[[32]byte]string{hashOf(t, loadPack(t), "bmu"): "nothing"}
	for name, c := range map[string]func(*Binding){
		"name of the node":    func(b *Binding) { b.Nodes[0].Name = "bmu2" },
		"kid":                 func(b *Binding) { b.Nodes[0].Identity.KID[7] ^= 1 },
		"public key":          func(b *Binding) { b.Nodes[0].Identity.PublicKey[119] ^= 1 },
		"identity":            func(b *Binding) { b.Nodes[0].Identity = newIdentity(t, elliptic.P256()) },
		"heartbeat stream id": func(b *Binding) { b.Nodes[0].Heartbeats[0].StreamID = 9 },
		"heartbeat CAN id":    func(b *Binding) { b.Nodes[0].Heartbeats[0].CANID++ },
		"heartbeat IDE":       func(b *Binding) { b.Nodes[0].Heartbeats[0].CANID |= CANEFF },
		"heartbeat bus":       func(b *Binding) { b.Nodes[0].Heartbeats[0].Interface = "can1" },
		"heartbeat gone":      func(b *Binding) { b.Nodes[0].Heartbeats = b.Nodes[0].Heartbeats[:1] },
		"stream id":           func(b *Binding) { b.Nodes[0].Streams[0].StreamID = 9 },
		"stream CAN id":       func(b *Binding) { b.Nodes[0].Streams[0].CANID++ },
		"stream IDE":          func(b *Binding) { b.Nodes[0].Streams[0].CANID |= CANEFF },
		"stream bus":          func(b *Binding) { b.Nodes[0].Streams[0].Interface = "can1" },
		"stream source":       func(b *Binding) { b.Nodes[0].Streams[0].Source = "pack_current" },
		"stream gone":         func(b *Binding) { b.Nodes[0].Streams = b.Nodes[0].Streams[:2] },
		"stream becomes heartbeat": func(b *Binding) {
			n := &b.Nodes[0]
			n.Heartbeats = append(n.Heartbeats, Heartbeat{4, "can1", n.Streams[2].CANID})
			n.Streams = n.Streams[:2]
		},
		"source id":                   func(b *Binding) { b.Sources[0].ID = 77 },
		"source identifier":           func(b *Binding) { b.Sources[0].Identifier = "x"; b.Nodes[0].Streams[0].Source = "x" },
		"interface index":             func(b *Binding) { b.Interfaces[0].Index = 2 },
		"carrier":                     func(b *Binding) { b.Interfaces[0].Carrier = "can-xl" },
		"two streams change their id": func(b *Binding) { s := b.Nodes[0].Streams; s[0].StreamID, s[1].StreamID = s[1].StreamID, s[0].StreamID },
		"two sources change their id": func(b *Binding) { s := b.Sources; s[0].ID, s[2].ID = s[2].ID, s[0].ID },
		"two buses change their index": func(b *Binding) {
			b.Interfaces[0].Index, b.Interfaces[1].Index = b.Interfaces[1].Index, b.Interfaces[0].Index
		},
	} {
		b := loadPack(t)
		c(b)
		node := b.Nodes[0].Name
		hash := hashOf(t, b, node)
		if other, twice := seen[hash]; twice {
			t.Errorf("%s: the hash is that of a binding with %s changed", name, other)
		}
		seen[hash] = name
	}
	b := loadPack(t)
	if hashOf(t, b, "bmu") == hashOf(t, b, "current-sensor") {
		t.Error("two nodes have one hash")
	}
}

func TestBindingHashRefuses(t *testing.T) {
	b := loadPack(t)
	if _, err := b.BindingHash("nobody"); !errors.Is(err, ErrUnknownName) {
		t.Errorf("unknown node: %v", err)
	}
	for name, c := range map[string]func(*Binding){
		"interface of a heartbeat": func(b *Binding) { b.Nodes[0].Heartbeats[0].Interface = "x" },
		"interface of a stream":    func(b *Binding) { b.Nodes[0].Streams[0].Interface = "x" },
		"source of a stream":       func(b *Binding) { b.Nodes[0].Streams[0].Source = "x" },
	} {
		b := loadPack(t)
		c(b)
		if _, err := b.BindingHash("bmu"); !errors.Is(err, ErrUnknownName) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Bind(&Policy{Name: b.Policy, DataSources: loadSet(t).Policy.DataSources}, b); !errors.Is(err, ErrUnknownName) {
			t.Errorf("%s: Bind: %v", name, err)
		}
	}
}
