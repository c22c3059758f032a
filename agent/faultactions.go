// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/fault"
)

// Resources of the control socket about the fault.
const (
	FaultPath      = "/v1/fault"
	FaultClearPath = "/v1/fault/clear"
)

// ClearRequest asks to clear the faults of a source, or of all sources for "".
type ClearRequest struct {
	Source string `json:"source,omitempty"`
	Reason string `json:"reason"`
}

// Cleared is what a ClearRequest has done.
type Cleared struct {
	Cleared []string `json:"cleared"` // sources, one for each fault
	Fault   Fault    `json:"fault"`   // as it is now
}

// clearFault is the control socket's action.
func (a *Agent) clearFault(_ context.Context, body []byte) (any, error) {
	var q ClearRequest
	if err := control.Decode(body, &q); err != nil {
		return nil, err
	}
	m := a.monitor
	m.mu.Lock()
	if m.passed {
		m.mu.Unlock()
		return nil, fmt.Errorf("clear fault: %w", ErrEnding)
	}
	all, err := m.now.machine.Clear(q.Source, q.Reason, bootTime())
	m.announce(m.now, all)
	m.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("clear fault: %w", err)
	}
	out := Cleared{Cleared: []string{}}
	for _, t := range all {
		if t.From >= fault.Raised && t.To == fault.OK {
			out.Cleared = append(out.Cleared, t.Name)
		}
	}
	a.mu.Lock()
	m.show(a)
	a.mu.Unlock()
	_, out.Fault = m.status()
	if err := m.saveFaults(); err != nil {
		return out, fmt.Errorf("fault is cleared, but a restart would find it again; the agent goes on trying: %w", err)
	}
	return out, nil
}

// ReadFault asks the running agent for the fault.
func ReadFault(ctx context.Context, w Where) (f Fault, err error) {
	at, _, err := w.find()
	if err != nil {
		return f, err
	}
	return f, control.Get(ctx, at.socket, FaultPath, &f)
}

// ClearFault asks the running agent to clear faults.
func ClearFault(ctx context.Context, w Where, q ClearRequest) (out Cleared, err error) {
	at, _, err := w.find()
	if err != nil {
		return out, err
	}
	return out, control.Post(ctx, at.socket, FaultClearPath, q, &out)
}

// FollowEvents calls line with each record of the running agent, in JSON, until ctx ends or the agent does.
func FollowEvents(ctx context.Context, w Where, line func([]byte) error) error {
	at, _, err := w.find()
	if err != nil {
		return err
	}
	return control.Follow(ctx, at.socket, EventsPath, line)
}
