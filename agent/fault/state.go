// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cellward/cellward/agent/event/kind"
)

// ErrState says that bytes are not the state of a machine.
var ErrState = errors.New("not the state of faults")

// MaxState is the most bytes that Decode looks at.
const MaxState = 16 << 20

// The form of the state.
type (
	storedState struct {
		Version int           `json:"version"`
		Faults  []storedFault `json:"faults"`
	}
	storedFault struct {
		Source   string           `json:"source"`
		Cause    string           `json:"cause"`
		State    string           `json:"state"`
		History  uint64           `json:"history"`
		Raises   int              `json:"raises"`
		Evidence []storedEvidence `json:"evidence"`
	}
	storedEvidence struct {
		Kind    string `json:"kind"`
		Count   uint64 `json:"count"`
		Counted bool   `json:"counted"`
	}
)

const stateVersion = 1

// Dirty says that the state has changed since it was last encoded, so that it is to be stored.
func (m *Machine) Dirty() bool { return m.dirty }

// Encode returns what must survive a restart: every fault and suspicion with its history, so that a restart clears nothing.
func (m *Machine) Encode() []byte {
	s := storedState{Version: stateVersion, Faults: []storedFault{}}
	for i := range m.sources {
		for c := range m.sources[i].tracks {
			t := &m.sources[i].tracks[c]
			if t.state == OK && t.raises == 0 {
				continue
			}
			f := storedFault{
				Source: m.sources[i].name, Cause: (firstCause + kind.Cause(c)).String(), State: t.state.String(), History: t.history,
				Raises: t.raises, Evidence: []storedEvidence{},
			}
			for _, k := range kind.All() {
				if e := t.evidence[k]; e != nil {
					f.Evidence = append(f.Evidence, storedEvidence{k.String(), e.count, e.counted})
				}
			}
			s.Faults = append(s.Faults, f)
		}
	}
	s.Faults = append(s.Faults, m.absent...)
	m.dirty = false
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("encode faults: %v", err)) // strings and numbers have a form in JSON
	}
	return b
}

// Decode puts a new machine into an encoded state; the time that has passed since counts as none. Faults of sources that the
// binding does not name are kept, so that they stand again when it does, and their sources returned: who can bring documents clears
// nothing by them. Suspicion of such sources is left out. After an error the machine is as it was.
func (m *Machine) Decode(b []byte, now int64) (unknown []string, err error) {
	if len(b) > MaxState {
		return nil, fmt.Errorf("%w: %d bytes", ErrState, len(b))
	}
	var s storedState
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more behind the object", ErrState)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%w: version %d", ErrState, s.Version)
	}
	index := make(map[string]int, len(m.sources))
	for i := range m.sources {
		index[m.sources[i].name] = i
	}
	type place struct{ source, cause int }
	tracks := make(map[place]track)
	var absent []storedFault
	for _, f := range s.Faults {
		t, c, err := f.track(now)
		if err != nil {
			return nil, err
		}
		i, ok := index[f.Source]
		if !ok {
			if slices.ContainsFunc(absent, func(x storedFault) bool { return x.Source == f.Source && x.Cause == f.Cause }) {
				return nil, fmt.Errorf("%w: %s of source %q twice", ErrState, c, f.Source)
			}
			if t.state >= Raised {
				absent, unknown = append(absent, f), append(unknown, f.Source)
			}
			continue
		}
		at := place{i, int(c - firstCause)}
		if _, twice := tracks[at]; twice {
			return nil, fmt.Errorf("%w: %s of source %q twice", ErrState, c, f.Source)
		}
		tracks[at] = t
	}
	for at, t := range tracks {
		t.rule = m.sources[at.source].tracks[at.cause].rule
		m.sources[at.source].tracks[at.cause] = t
	}
	m.absent = absent
	m.now = max(m.now, now)
	m.index = m.now / m.length
	return unknown, nil
}

func (f *storedFault) track(now int64) (t track, c kind.Cause, err error) {
	c, ok := kind.ParseCause(f.Cause)
	if !ok || c == kind.CauseNone {
		return t, 0, fmt.Errorf("%w: cause %q of source %q", ErrState, f.Cause, f.Source)
	}
	for s := OK; s <= Latched; s++ {
		if s.String() == f.State {
			t.state, ok = s, true
			break
		}
		ok = false
	}
	if !ok || f.Raises < 0 {
		return t, 0, fmt.Errorf("%w: state %q, raised %d times, of source %q", ErrState, f.State, f.Raises, f.Source)
	}
	t.history, t.raises, t.raised = f.History, f.Raises, now
	for _, e := range f.Evidence {
		k, ok := kind.Parse(e.Kind)
		if !ok || k.Cause() != c {
			return t, 0, fmt.Errorf("%w: evidence %q of source %q", ErrState, e.Kind, f.Source)
		}
		if t.evidence == nil {
			t.evidence = make(map[kind.Kind]*evidence)
		}
		t.evidence[k] = &evidence{count: e.Count, counted: e.Counted}
	}
	return t, c, nil
}
