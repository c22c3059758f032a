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
	var reports []error
	s := newSaver(w.store, func(err error) { reports = append(reports, err) }, func() {})
	save := func() bool {
		w.core.note()
		e, err := w.state.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return s.wait(s.put(e, nil, w.core.ceilings.settled))
	}
	if !save() {
		t.Fatal("the state is not durable without the chip")
	}
	w.offline.power = w.power
	if !save() {
		t.Fatal("the state is not durable with the chip")
	}
	s.close()
	if len(reports) != 2 || !errors.Is(reports[0], ErrRetire) || reports[1] != nil {
		t.Fatalf("reports: %v", reports)
	}
	if w.offline.value != before+1 {
		t.Fatalf("counter shows %d, want %d", w.offline.value, before+1)
	}
	if names, _ := w.gateway.List(); len(names) != 2 {
		t.Fatalf("files: %v", names)
	}
}
