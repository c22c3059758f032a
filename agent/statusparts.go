// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"io"

	"github.com/cellward/cellward/agent/control"
)

// SaveStatus counts the writes of state since the agent began. A write that left the TPM with something to retire is a TPM
// error and no failure: the state is durable.
type SaveStatus struct {
	Done      uint64 `json:"done"`
	Failed    uint64 `json:"failed"`
	TPMErrors uint64 `json:"tpm_errors"`
}

func (s *SaveStatus) count(err error) {
	switch {
	case err == nil:
		s.Done++
	case errors.Is(err, ErrRetire):
		s.Done++
		s.TPMErrors++
	default:
		s.Failed++
	}
}

// ControlFill is how full the ring of start records is, in bytes.
type ControlFill struct {
	Used uint64 `json:"used"`
	Size uint64 `json:"size"`
}

// RingStatus is the shared-memory ring as its producer sees it. What readers have missed only they know: they map the ring
// read-only.
type RingStatus struct {
	Slots     int    `json:"slots"`
	Published uint64 `json:"published"` // since the agent began
	// Fault is the word for the state of the fault word, FaultChanges how often that has changed.
	Fault        string `json:"fault"`
	FaultChanges uint32 `json:"fault_changes"`
	// Served and the others count the connections of readers: that got the ring, that were refused for their user and groups,
	// and for the bound on readers.
	Served uint64 `json:"served"`
	// Following is how many of the readers go along to another agent's ring.
	Following    int    `json:"following"`
	Unauthorized uint64 `json:"unauthorized"`
	TooMany      uint64 `json:"too_many"`
}

// KeyTimes are the ages in s at which a key is due to be replaced, and beyond which it is not accepted.
type KeyTimes struct {
	IntervalS int64 `json:"interval_s"`
	LimitS    int64 `json:"limit_s"`
}

func (a *Agent) ringStatus() (readers int, s RingStatus) {
	c, p := a.readers.Stats(), a.ring.Status()
	return c.Clients, RingStatus{
		Slots: p.Slots, Published: p.Published, Fault: p.Fault.String(), FaultChanges: p.FaultChanges,
		Served: c.Served, Following: c.Following, Unauthorized: c.Unauthorized, TooMany: c.TooMany,
	}
}

func (a *Agent) saveStatus() SaveStatus {
	a.failMu.Lock()
	defer a.failMu.Unlock()
	return a.saves
}

func (a *Agent) keyTimes() KeyTimes {
	return KeyTimes{
		IntervalS: int64(a.opts.Set.Policy.KeyManagement.RotationPolicy.Interval.Seconds()), LimitS: a.limit() / 1e9,
	}
}

// sampleAge returns the age in ms of the newest sample of a stream, nil if there is none. Ring and set have the same streams in
// the same order.
func (a *Agent) sampleAge(s *stream, now int64) *int64 {
	ns, ok := a.ring.LastPublish(uint32(s.Slot))
	if !ok {
		return nil
	}
	age := max(0, now-ns) / 1e6
	return &age
}

// metrics makes the page of metrics, if there is to be one, and what ends with it.
func (a *Agent) metrics() ([]control.Page, io.Closer, error) {
	if a.opts.Metrics == nil {
		return nil, io.NopCloser(nil), nil
	}
	h, c, err := a.opts.Metrics(a)
	if err != nil {
		return nil, nil, err
	}
	return []control.Page{{Path: control.MetricsPath, Handler: h}}, c, nil
}
