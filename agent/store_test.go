// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
)

// TestRetirementWaitsForTheHardware retires an epoch while the TPM does not answer: the state is durable all the same, ceilings
// count, and the retirement comes as soon as the TPM is back.
func TestRetirementWaitsForTheHardware(t *testing.T) {
	w := newWorld(t, -1)
	for _, step := range []func() error{w.openStore, w.enrol, func() error { return w.startAgent(true) }, w.startNode, func() error { return w.samples(3) }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	before := w.offline.value
	w.offline.power = &power{cut: 0} // the chip alone is dead
	w.core.nodes[0].retire(1)
	reports := make(chan error, 8)
	var erased atomic.Int32
	s := newSaver(w.store, func(err error) {
		if err != nil {
			t.Errorf("save: %v", err)
		}
	}, func(err error) { reports <- err }, func() { erased.Add(1) })
	w.core.note()
	e, err := w.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !s.wait(s.put(e, nil, w.core.ceilings.settled)) {
		t.Fatal("the state is not durable without the chip")
	}
	if err := <-reports; !errors.Is(err, ErrRetire) {
		t.Fatalf("retirement without the chip: %v", err)
	}
	// What the epoch has left in memory does not wait for the chip, and is erased once however often that refuses.
	for range 2 {
		if err := s.hardware.wait(t.Context(), s.hardware.ask(false)); !errors.Is(err, ErrRetire) {
			t.Fatalf("retirement without the chip: %v", err)
		}
	}
	if err := s.eraser.wait(t.Context()); err != nil || erased.Load() != 1 {
		t.Fatalf("memory was erased %d times, %v", erased.Load(), err)
	}
	// Whoever opens the folder now knows that something is still to be retired.
	w.offline.power = w.power
	if err := w.openStore(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.store.Load(); err != nil || !w.store.stale() {
		t.Fatalf("what is still to be retired is forgotten: %v", err)
	}
	if err := s.hardware.wait(t.Context(), s.hardware.ask(false)); err != nil {
		t.Fatalf("retirement with the chip: %v", err)
	}
	s.close()
	if erased.Load() != 2 {
		t.Fatalf("memory was erased %d times", erased.Load())
	}
	if w.offline.value != before+1 {
		t.Fatalf("counter shows %d, want %d", w.offline.value, before+1)
	}
	if names, _ := w.gateway.List(); len(names) != 2 {
		t.Fatalf("files: %v", names)
	}
	if err := w.openStore(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.store.Load(); err != nil || w.store.stale() {
		t.Fatalf("something is still to be retired: %v", err)
	}
}

// TestErasureIsAskedForByOne has the two goroutines that look for changed secrets look at the same time: one finds the change, and the other
// goes on only when the erasure has been asked for, because a client's answer may wait for the other.
func TestErasureIsAskedForByOne(t *testing.T) {
	var erased atomic.Int32
	s := newSaver(NewStore(&memoryGenerations{}, &memoryGenerations{}), func(error) {}, func(error) {}, func() { erased.Add(1) })
	defer s.close()
	s.store.noteChanged()
	s.eraser.mu.Lock() // keeps the first from asking
	var both sync.WaitGroup
	both.Go(s.eraseChanged)
	for found := false; !found; runtime.Gosched() {
		s.store.mu.Lock()
		found = !s.store.changed
		s.store.mu.Unlock()
	}
	second := make(chan struct{})
	both.Go(func() {
		s.eraseChanged()
		close(second)
	})
	select {
	case <-second:
		t.Error("an erasure that is not asked for yet is taken for done")
	case <-time.After(50 * time.Millisecond):
	}
	s.eraser.mu.Unlock()
	both.Wait()
	if err := s.eraser.wait(t.Context()); err != nil || erased.Load() != 1 {
		t.Errorf("memory was erased %d times, %v", erased.Load(), err)
	}
}

// TestSecretComesBack: an agreement could not be made durable, its secret was taken out again, and then the same reply is taken once
// more, before and after the chip has retired it.
func TestSecretComesBack(t *testing.T) {
	for name, chipFirst := range map[string]bool{"before the chip": false, "after the chip": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, -1)
			if err := errors.Join(w.openStore(), w.enrol()); err != nil {
				t.Fatal(err)
			}
			state, _, err := w.store.Load()
			if err != nil {
				t.Fatal(err)
			}
			n := state.Nodes[0]
			kept := *n.Epochs[0]
			second := epoch.Epoch{Number: 2, Base: 1 << 20, Method: epoch.MethodHPKE}
			second.PRK = randomSecret(t, state)
			prk := *second.PRK.Get()
			n.Floor = 2
			save := func(all ...*epoch.Epoch) {
				t.Helper()
				n.Epochs = all
				e, err := state.Encode()
				if err != nil {
					t.Fatal(err)
				}
				defer e.Wipe()
				if err := w.store.save(e); err != nil {
					t.Fatal(err)
				}
			}
			save(&kept, &second)
			save(&kept)
			if !w.store.stale() {
				t.Fatal("nothing is to be retired")
			}
			if chipFirst {
				if err := w.store.Settle(); err != nil {
					t.Fatal(err)
				}
			}
			save(&kept, &second)
			if w.store.stale() {
				t.Fatal("a secret in use is to be retired")
			}
			if err := errors.Join(w.store.Settle(), w.openStore()); err != nil {
				t.Fatal(err)
			}
			again, missing, err := w.store.Load()
			if err != nil || len(missing) > 0 || w.store.stale() {
				t.Fatalf("missing %v, stale %v, %v", missing, w.store.stale(), err)
			}
			if got := again.Nodes[0].Epochs; len(got) != 2 || *got[1].PRK.Get() != prk {
				t.Fatalf("%d epochs", len(got))
			}
		})
	}
}

func randomSecret(t *testing.T, state *epoch.State) *secretmem.Box[schedule.PRK] {
	t.Helper()
	var prk schedule.PRK
	_, _ = rand.Read(prk[:])
	kept, err := state.Keep(&prk)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// TestRetiredSlots: the entries of retired secrets hold nothing, and only they go.
func TestRetiredSlots(t *testing.T) {
	state := epoch.New()
	kid := identity.Kid{1}
	n := state.AddNode(kid)
	n.Floor = 3
	e := &epoch.Epoch{Number: 3, Base: 1, Method: epoch.MethodHPKE}
	e.PRK = randomSecret(t, state)
	n.Epochs = append(n.Epochs, e)
	x, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	retired := []epoch.SecretID{{Node: kid, Epoch: 1}, {Node: kid, Epoch: 2}}
	b, err := epoch.AddRetired(x.Secrets, retired)
	if err != nil {
		t.Fatal(err)
	}
	got, missing, surplus, err := epoch.Decode(x.State, b)
	if err != nil || len(missing) > 0 || *got.Nodes[0].Epochs[0].PRK.Get() != *e.PRK.Get() {
		t.Fatalf("missing %v, %v", missing, err)
	}
	slices.SortFunc(surplus, func(a, b epoch.SecretID) int { return int(a.Epoch) - int(b.Epoch) })
	if !slices.Equal(surplus, retired) {
		t.Fatalf("surplus %v", surplus)
	}
	if b, err = epoch.DropRetired(b, retired); err != nil || !bytes.Equal(b, x.Secrets) {
		t.Fatalf("%x, %v; want %x", b, err, x.Secrets)
	}
	for _, bad := range [][]byte{nil, {0x80, 0x80}, {0x81, 0x01}} {
		if _, err := epoch.AddRetired(bad, retired); !errors.Is(err, epoch.ErrState) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}
