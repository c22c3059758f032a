// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
	"github.com/cellward/cellward/loader"
)

// restoreState puts a copy of a state folder in the folder's place.
func restoreState(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	copyState(t, from, to)
}

// refused starts the agent and wants it to end with an error that says why.
func refused(t *testing.T, l *demo.Lab, why string) {
	t.Helper()
	p, err := l.StartAgent(t.Context())
	if err == nil {
		_ = p.Stop()
		t.Fatalf("the agent started, want it refused: %s", why)
	}
	if !strings.Contains(err.Error(), why) {
		t.Fatalf("refused with %v, want %q", err, why)
	}
}

func runOnce(t *testing.T, l *demo.Lab) {
	t.Helper()
	p, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestStateOfAnEarlierRun puts back a copy of the gateway's state folder: after a run in between, the hardware shows another
// generation and the copy is refused; the current folder goes on.
func TestStateOfAnEarlierRun(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000}, time.Second)
	runOnce(t, l)
	old, current := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "current")
	copyState(t, l.GatewayState(), old)
	runOnce(t, l)
	copyState(t, l.GatewayState(), current)
	restoreState(t, old, l.GatewayState())
	refused(t, l, "another generation than the hardware shows")
	restoreState(t, current, l.GatewayState())
	runOnce(t, l)

	// Without the state, and with it the floors, it is no new gateway either.
	files, err := filepath.Glob(filepath.Join(l.GatewayState(), "epochs.*.state"))
	if err != nil || len(files) != 1 {
		t.Fatalf("state files: %v, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	refused(t, l, "another generation than the hardware shows")

	// After a reboot, too, protected identifiers are closed, although nothing can be verified.
	if err := l.Reboot(); err != nil {
		t.Fatal(err)
	}
	refused(t, l, "another generation than the hardware shows")
	behind, err := l.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Binding().Nodes[0].Streams {
		for _, size := range []int{loader.CANMTU, loader.CANFDMTU} {
			if err := l.Buses[0].WriteGateway(&loader.CANFrame{ID: uint32(s.CANID), Len: 8}, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := behind.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack of a gateway without a state", n)
	}
}

// TestRetire retires an epoch. Whoever kept the folder from before has nothing: the folder is refused, and the TPM itself
// refuses the key under which the secret lies.
func TestRetire(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000}, time.Second)
	runOnce(t, l)
	old := filepath.Join(t.TempDir(), "old")
	copyState(t, l.GatewayState(), old)
	if out, err := l.Keys(t.Context(), "list"); err != nil || !strings.Contains(string(out), "hpke") {
		t.Fatalf("list: %s, %v", out, err)
	}
	if _, err := l.Keys(t.Context(), "retire", "--node", "bmu"); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Keys(t.Context(), "list"); err != nil || !strings.Contains(string(out), "none") {
		t.Fatalf("list after retirement: %s, %v", out, err)
	}
	if _, err := l.Keys(t.Context(), "retire", "--node", "bmu"); err == nil {
		t.Fatal("there was nothing to retire")
	}

	// The TPM's own word, with everything at hand that the folder ever held.
	s, err := station.Open(t.Context(), station.Options{Dir: l.GatewayState(), TPM: l.GatewayTPM(), Gateway: true, Owner: demo.AgentUID})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(old, "offline.*.state"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files with secrets: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	const magic = 16
	sealed := b[magic+4 : magic+4+int(binary.LittleEndian.Uint32(b[magic:]))]
	was, err := s.Counters.Offline.Value()
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Counters.Offline.UnsealAt(sealed, was-1)
	if err == nil || !strings.Contains(err.Error(), "TPM_RC_POLICY") {
		t.Fatalf("the TPM answers %v, want TPM_RC_POLICY", err)
	}
	t.Logf("the TPM answers: %v", err)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	restoreState(t, old, l.GatewayState())
	refused(t, l, "another generation than the hardware shows")
}

// TestAnotherTPM opens the folder beside a TPM that did not make it.
func TestAnotherTPM(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000}, time.Second)
	other, err := swtpm.Start(t.Context(), filepath.Join(t.TempDir(), "tpm"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Stop()
	_, err = station.Open(t.Context(), station.Options{Dir: l.GatewayState(), TPM: "unix:" + other.Socket, Gateway: true, Owner: demo.AgentUID})
	if err == nil || !strings.Contains(err.Error(), "TPM") {
		t.Fatalf("opened with another TPM: %v", err)
	}
	t.Logf("refused: %v", err)
	if _, err := station.Open(t.Context(), station.Options{Dir: l.GatewayState(), TPM: "unix:/nowhere/tpm.sock", Gateway: true, Owner: demo.AgentUID}); err == nil {
		t.Fatal("opened without a TPM")
	}
	runOnce(t, l)
}

// TestRotatedOffers discards an offer: the reply to it is refused, and its key is refused by the TPM.
func TestRotatedOffers(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	dir := t.TempDir()
	offer, reply := filepath.Join(dir, "offer"), filepath.Join(dir, "reply")
	if _, err := l.Keys(t.Context(), "offer", "--node", "bmu", "--out", offer); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept")
	copyState(t, l.GatewayState(), kept)
	if out, err := l.Keys(t.Context(), "rotate-offers", "-o", "json"); err != nil || !strings.Contains(string(out), `"discarded": 1`) {
		t.Fatalf("rotate: %s, %v", out, err)
	}
	if _, err := l.Keys(t.Context(), "enroll", "--node", "bmu", "--state", l.EdgeState(), "--software-key", "--offer", offer, "--out", reply); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Keys(t.Context(), "accept", "--reply", reply); err == nil || !strings.Contains(err.Error(), "no pending offer") {
		t.Fatalf("accept after rotation: %v", err)
	}
	// A copy of the folder in which the offer still stands is of another generation.
	restoreState(t, kept, l.GatewayState())
	if _, err := l.Keys(t.Context(), "accept", "--reply", reply); err == nil || !strings.Contains(err.Error(), "generation") {
		t.Fatalf("accept with an older folder: %v", err)
	}
}
