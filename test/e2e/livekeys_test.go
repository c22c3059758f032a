// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
	"github.com/cellward/cellward/loader"
)

// keyList asks for the keys as an operator does.
func keyList(t *testing.T, l *demo.Lab) agent.KeyList {
	t.Helper()
	out, err := l.Keys(t.Context(), "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var k agent.KeyList
	if err := json.Unmarshal(out, &k); err != nil {
		t.Fatalf("list %q: %v", out, err)
	}
	return k
}

// patience is how long anything is waited for that has to come: much longer than it takes on a machine with nothing else to do.
const patience = 2 * time.Minute

// until waits for something that is to come.
func until(t *testing.T, what string, come func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !come(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not come", what)
		}
	}
}

// published is how many samples the agent has published.
func published(t *testing.T, l *demo.Lab) uint64 {
	t.Helper()
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Published()
}

// TestRotationUnderLoad rotates the key of a node while the agent runs, with frames of the old epoch still coming: nothing is lost
// and nothing doubled. The old epoch ends after the overlap. Then the new one is retired while frames come: nothing opens under it
// from that moment, and the TPM refuses what was kept of both.
func TestRotationUnderLoad(t *testing.T) {
	needRoot(t)
	const simulated = 8 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 50_000, SoftwareEdge: true}, simulated)
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
	// A slow bus, so that frames of the first run are on their way while the second epoch is agreed.
	carried := 0
	wire := l.StartWire(func(int, *loader.CANFrame) {
		if carried++; carried%2 == 0 {
			time.Sleep(time.Millisecond)
		}
	})
	run := func() *demo.Process {
		t.Helper()
		p, err := l.StartEdge("", nil, 0, packInput(simulated)...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := run()
	until(t, "the first sample", func() bool { return published(t, l) > 0 })
	if err := first.Wait(); err != nil {
		t.Fatal(err)
	}
	sealed := report(t, first).Sealed
	before := published(t, l)
	if err := l.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	underLoad := published(t, l) - before
	k := keyList(t, l)
	if n := k.Nodes[0]; k.Via != agent.ViaAgent || len(n.Epochs) != 2 || n.Epochs[1].State != agent.EpochWaiting {
		t.Fatalf("keys after the agreement: %+v", k)
	}
	second := run()
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	sealed += report(t, second).Sealed
	until(t, "the last sample", func() bool { return published(t, l) == sealed })
	until(t, "the end of the old epoch", func() bool { return len(keyList(t, l).Nodes[0].Epochs) == 1 })
	status := settled(t, l)
	checkRotated(t, l, &got, status, sealed)
	t.Logf("%d samples, %d of them while the second epoch was agreed", sealed, underLoad)
	if underLoad == 0 {
		t.Error("nothing came in during the agreement: the test shows nothing")
	}

	kept := secretsFile(t, l)
	third := run()
	until(t, "a sample of the third run", func() bool { return published(t, l) > sealed })
	out, err := l.Keys(t.Context(), "retire", "--node", "bmu")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "[2]") || !strings.Contains(string(out), "by the running agent") {
		t.Errorf("retire says %q", out)
	}
	settledAt := settled(t, l)
	after, unknown := settledAt.Published(), settledAt.Verdict(loader.UnknownEpoch)
	if err := third.Wait(); err != nil {
		t.Fatal(err)
	}
	until(t, "a refusal", func() bool {
		s, err := l.Status(t.Context())
		return err == nil && s.Verdict(loader.UnknownEpoch) > unknown
	})
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	if p := published(t, l); p != after {
		t.Errorf("%d samples came out under a retired epoch", p-after)
	}
	if n := keyList(t, l).Nodes[0]; len(n.Epochs) != 0 {
		t.Errorf("keys after retirement: %+v", n)
	}
	if err := errors.Join(gateway.Stop(), reader.Wait()); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	refusedByTPM(t, l, kept)
}

func checkRotated(t *testing.T, l *demo.Lab, got *readings, status agent.Status, sealed uint64) {
	t.Helper()
	until(t, "the reader", func() bool { return uint64(got.count()) >= sealed })
	got.mu.Lock()
	defer got.mu.Unlock()
	seen := make(map[[2]uint64]bool)
	epochs := make(map[uint32]uint64)
	for _, s := range got.all {
		seen[[2]uint64{uint64(s.Stream), s.Counter}] = true
		epochs[s.Epoch]++
	}
	if uint64(len(seen)) != sealed || uint64(len(got.all)) != sealed || epochs[1] == 0 || epochs[1]+epochs[2] != sealed {
		t.Errorf("%d sealed, %d read, %d of them different, by epoch %v", sealed, len(got.all), len(seen), epochs)
	}
	for _, s := range status.Streams {
		if s.Lost != 0 || s.Deleted != 0 || s.Shed != 0 {
			t.Errorf("stream %d: lost %d, deleted %d, shed %d", s.Stream, s.Lost, s.Deleted, s.Shed)
		}
	}
	n := keyList(t, l).Nodes[0]
	if e := n.Epochs[0]; e.Number != 2 || e.State != agent.EpochInUse || e.Frames == nil || *e.Frames < epochs[2] || len(n.Failures) != 0 {
		t.Errorf("keys: %+v", n)
	}
}

// secretsFile returns the sealed key of the gateway's present file of secrets.
func secretsFile(t *testing.T, l *demo.Lab) []byte {
	t.Helper()
	var files []string
	// There are two while the TPM retires one.
	until(t, "one file with secrets", func() bool {
		var err error
		if files, err = filepath.Glob(filepath.Join(l.GatewayState(), "offline.*.state")); err != nil {
			t.Fatal(err)
		}
		return len(files) == 1
	})
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	const magic = 16
	return b[magic+4 : magic+4+int(binary.LittleEndian.Uint32(b[magic:]))]
}

// refusedByTPM wants the TPM itself to refuse a sealed key of the generation before, with everything else at hand.
func refusedByTPM(t *testing.T, l *demo.Lab, sealed []byte) {
	t.Helper()
	s, err := station.Open(t.Context(), station.Options{Dir: l.GatewayState(), TPM: l.GatewayTPM(), Gateway: true, Owner: demo.AgentUID})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	was, err := s.Counters.Offline.Value()
	if err != nil {
		t.Fatal(err)
	}
	// The file is of one of the last generations: what was retired before it may have been so in the hardware only after it was copied.
	for back := uint64(1); back <= 3; back++ {
		if _, err = s.Counters.Offline.UnsealAt(sealed, was-back); errors.Is(err, tpm.ErrPolicy) {
			break
		}
	}
	if !errors.Is(err, tpm.ErrPolicy) || !strings.Contains(err.Error(), "TPM_RC_POLICY") {
		t.Fatalf("the TPM answers %v, want TPM_RC_POLICY", err)
	}
	t.Logf("the TPM answers: %v", err)
}

// TestFaultyTPMUnderLoad: the gateway's TPM is slow, and then gone, while frames come. What needs it says so; data flows and nothing
// is lost.
func TestFaultyTPMUnderLoad(t *testing.T) {
	needRoot(t)
	const simulated = 40 * time.Second
	var proxy *tpmtest.Proxy
	l := newLab(t, demo.LabOptions{Frames: 100_000, SoftwareEdge: true, TPMProxy: func(socket string) string {
		proxy = tpmtest.StartProxy(t, socket)
		return proxy.Socket
	}}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, 15, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the first sample", func() bool { return published(t, l) > 0 })
	offer := filepath.Join(t.TempDir(), "offer")
	try := func() (string, error) {
		out, err := l.Keys(t.Context(), "offer", "--node", "bmu", "--out", offer)
		return string(out), err
	}
	before := published(t, l)
	proxy.Set(func(int, []byte) tpmtest.Fault { return tpmtest.Fault{Delay: 20 * time.Millisecond} })
	out, err := try()
	if err != nil || !strings.Contains(out, "by the running agent") {
		t.Fatalf("offer with a slow TPM: %q, %v", out, err)
	}
	slow := published(t, l) - before
	for _, c := range []struct {
		fault tpmtest.Fault
		want  string
	}{
		{tpmtest.Fault{Cut: true}, "no TPM there"},
		{tpmtest.Fault{Code: tpmtest.NotStarted}, "TPM was reset"},
		{tpmtest.Fault{Code: tpmtest.LockedOut}, "dictionary attack lockout"},
		{tpmtest.Fault{Code: tpmtest.ObjectsFull}, "no free slot"},
	} {
		proxy.Set(func(int, []byte) tpmtest.Fault { return c.fault })
		if _, err := try(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("offer: %v, want %q", err, c.want)
		}
		if k := keyList(t, l); len(k.Nodes[0].Epochs) != 1 || len(k.Nodes[0].Pending) != 1 {
			t.Errorf("keys: %+v", k)
		}
	}
	faulty := published(t, l) - before - slow
	proxy.Set(nil)
	if out, err := l.Keys(t.Context(), "rotate-offers", "-o", "json"); err != nil || !strings.Contains(string(out), `"discarded": 1`) {
		t.Errorf("rotate offers with the TPM back: %s, %v", out, err)
	}
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	status := settled(t, l)
	sealed := report(t, edge).Sealed
	if p := status.Published(); p != sealed {
		t.Errorf("%d samples came out, %d were sealed", p, sealed)
	}
	if slow == 0 || faulty == 0 {
		t.Errorf("%d samples came out while the TPM was slow, %d while it was faulty", slow, faulty)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d samples; %d while the TPM was slow, %d while it was faulty", sealed, slow, faulty)
}
