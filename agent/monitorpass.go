// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/chain"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/station"
)

// What becomes of events and faults when another process takes over. Faults go to it with everything else that the loop knows, at one
// instant, so that none is lost and none is cleared: up to then this process decides about them, from then on that one. The event log
// follows when this process has written the last of its own records: the lock of its folder is free then, and not before.

// hold makes a record of all that was noted, and lets nothing change until release is called, with over if the faults are another
// process's by then. Whoever has something to report waits.
func (m *monitor) hold() (faults []byte, release func(over bool)) {
	m.mu.Lock()
	m.flush()
	dirty := m.dirty
	faults = m.now.machine.Encode()
	m.dirty = dirty
	return faults, func(over bool) {
		m.passed = over
		m.mu.Unlock()
	}
}

// adopt takes up the faults of the process that ran before.
func (m *monitor) adopt(faults []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.now.machine.Decode(faults, bootTime()); err != nil {
		return fmt.Errorf("take over faults: %w", err)
	}
	// That one may have ended before it had written them.
	m.dirty = true
	return nil
}

// takeOver begins to keep what the process before has kept.
func (m *monitor) takeOver(s *station.Station) {
	m.mu.Lock()
	m.station = s
	m.mu.Unlock()
	m.ledger.begin(func() (*chain.Log, error) { return m.newLog(lastTries) })
}

// lastTries is how often the TPM is asked while the process before may be about to let it go.
const lastTries = 8

// over says that another process has taken over.
func (m *monitor) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.passed
}

// takenOver reports that another process goes on.
func (m *monitor) takenOver(pid int) {
	m.report(event.Record{Kind: kind.AgentStopped, Detail: fmt.Sprintf("process %d has taken over", pid)})
}
