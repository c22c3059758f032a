// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// recorded is a sealed frame as it went over the wire.
type recorded struct {
	bus   int
	frame loader.CANFrame
}

// copyState copies a state folder; the lock file is the process's own affair.
func copyState(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() == "lock" {
			continue
		}
		if f.IsDir() {
			copyState(t, filepath.Join(from, f.Name()), filepath.Join(to, f.Name()))
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
		keepOwner(t, filepath.Join(from, f.Name()), filepath.Join(to, f.Name()))
	}
	keepOwner(t, from, to)
}

// keepOwner makes a copy belong to whom the original belongs, as cp -p does.
func keepOwner(t *testing.T, from, to string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		t.Fatal(err)
	}
}

// TestRolledBackAndDoubledEdges runs an edge, then one whose state folder is an older copy, then two at a time from the same
// state. From the recorded wire: no (key, nonce) repeats. The gateway publishes nothing twice and names the rollback.
func TestRolledBackAndDoubledEdges(t *testing.T) {
	needRoot(t)
	const simulated = 3 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 50_000, SoftwareEdge: true}, simulated)
	old := filepath.Join(t.TempDir(), "old")
	copyState(t, l.EdgeState(), old)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	var onWire []recorded
	wire := l.StartWire(func(bus int, f *loader.CANFrame) { onWire = append(onWire, recorded{bus, *f}) })

	run := func(states ...string) (sealed uint64) {
		t.Helper()
		var edges []*demo.Process
		for _, s := range states {
			p, err := l.StartEdge(s, nil, 0, packInput(simulated)...)
			if err != nil {
				t.Fatal(err)
			}
			edges = append(edges, p)
		}
		for _, p := range edges {
			if err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			sealed += report(t, p).Sealed
		}
		time.Sleep(100 * time.Millisecond) // the wire carries what is left
		settled(t, l)
		return sealed
	}
	genuine := run("")
	afterFirst, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := afterFirst.Verdict(loader.NodeRollback); n != 0 {
		t.Fatalf("%d rollbacks before there was one", n)
	}
	run(old)
	afterOld, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := afterOld.Verdict(loader.NodeRollback); n == 0 {
		t.Error("the restored edge was not named a rollback")
	}
	if p := afterOld.Published(); p != genuine {
		t.Errorf("%d samples are out after the restored edge, %d were genuine", p, genuine)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	copyState(t, l.EdgeState(), clone)
	run("", clone)
	final, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if final.Verdict(loader.NodeRollback) == afterOld.Verdict(loader.NodeRollback) {
		t.Error("the doubled edge was not named a rollback")
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := reader.Wait(); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	seen := make(map[[2]uint64]bool)
	for _, s := range got.all {
		k := [2]uint64{uint64(s.Stream), s.Counter}
		if seen[k] {
			t.Fatalf("published twice: %+v", s)
		}
		seen[k] = true
	}
	// Of the two that ran at the same time one was first, and the other's samples were refused.
	if n := uint64(len(seen)); n < genuine || n > 2*genuine {
		t.Errorf("%d samples came out of %d genuine ones a run", n, genuine)
	}
	checkNonces(t, l, onWire)
	t.Logf("%d frames on the wire, %d samples out, rollbacks %d, bad tags %d", len(onWire), len(seen), final.Verdict(loader.NodeRollback), final.Verdict(loader.BadTag))
}

// checkNonces attributes every recorded frame to the run that sealed it, by opening it with the keys of each start on the
// wire, and wants every (key, nonce) at most once, or with the very same bytes.
func checkNonces(t *testing.T, l *demo.Lab, all []recorded) {
	t.Helper()
	s, err := station.Open(t.Context(), station.Options{Dir: l.EdgeState(), Software: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.Vault.Load()
	if err != nil {
		t.Fatal(err)
	}
	state, err := edge.UnmarshalState(b)
	if err != nil {
		t.Fatal(err)
	}
	starts := make(map[[16]byte]bool)
	for _, r := range all {
		if h, err := spdu.ParseHeader(r.frame.Data[:r.frame.Len]); err == nil && h.Kind == spdu.KindStart {
			starts[[16]byte(r.frame.Data[8:24])] = true
		}
	}
	if len(starts) != 4 {
		t.Fatalf("%d starts on the wire, want 4", len(starts))
	}
	p, err := demo.DefaultPolicy()
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.Bind(p, l.Binding())
	if err != nil {
		t.Fatal(err)
	}
	streams := make(map[uint32]policy.ResolvedStream)
	for _, x := range set.Streams {
		streams[uint32(x.CANID)] = x
	}
	type nonce struct {
		start   [16]byte
		source  uint32
		stream  uint32
		counter uint64
	}
	used := make(map[nonce][64]byte)
	for _, r := range all {
		h, err := spdu.ParseHeader(r.frame.Data[:r.frame.Len])
		if err != nil {
			t.Fatalf("frame on the wire: %v", err)
		}
		if h.Kind == spdu.KindStart {
			continue // authenticated by a MAC, which has no nonce
		}
		x := streams[r.frame.ID]
		opened := 0
		for start := range starts {
			if !opens(t, state, x, start, &r.frame, h.Counter) {
				continue
			}
			opened++
			n := nonce{start, x.SourceID, x.ID, h.Counter}
			if was, twice := used[n]; twice && was != r.frame.Data {
				t.Fatalf("(key, nonce) repeats with other bytes: %+v", n)
			}
			used[n] = r.frame.Data
		}
		if opened != 1 {
			t.Fatalf("frame %03X of counter %d opens under %d starts", r.frame.ID, h.Counter, opened)
		}
	}
}

// opens tries a frame under the keys of a start, with nothing of the product but the key schedule.
func opens(t *testing.T, state *edge.State, x policy.ResolvedStream, start [16]byte, f *loader.CANFrame, counter uint64) bool {
	t.Helper()
	var key schedule.TrafficKey
	if err := schedule.Traffic(state.PRK.Get(), x.SourceID, state.Epoch, &start, &key); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key.Key[:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	var n [12]byte
	binary.LittleEndian.PutUint32(n[:], x.ID)
	for i := range 6 {
		n[6+i] = byte(counter >> (8 * i))
	}
	for i := range n {
		n[i] ^= key.IV[i]
	}
	aad := binary.LittleEndian.AppendUint32(nil, x.ID)
	aad = binary.LittleEndian.AppendUint32(aad, state.Epoch)
	aad = append(aad, f.Data[:8]...)
	_, err = gcm.Open(nil, n[:], f.Data[8:f.Len], aad)
	return err == nil
}
