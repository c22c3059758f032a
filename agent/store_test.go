// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"testing"
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
	s := newSaver(w.store, func(err error) {
		if err != nil {
			t.Errorf("save: %v", err)
		}
	}, func(err error) { reports <- err })
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
