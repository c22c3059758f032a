// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"time"

	"github.com/cellward/cellward/agent"
)

// Snapshot is what was read at one moment. It is also what `cellward watch -o json` writes.
type Snapshot struct {
	Time time.Time `json:"time"`
	// Overview is nil where there is neither an agent nor anything of one in the kernel; Error says why.
	Overview *agent.Overview `json:"overview,omitempty"`
	Error    string          `json:"error,omitempty"`
	Ring     Ring            `json:"ring"`
}

// Ring is what a reader of the shared-memory ring knows.
type Ring struct {
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"` // why the ring cannot be read, or what is wrong with it
	Fault     string `json:"fault,omitempty"` // word for the fault word
	Missed    uint64 `json:"missed"`          // samples that were overwritten before this reader could read them
	// Streams are those of the ring, in its order; without a ring, none.
	Streams []Stream `json:"streams"`
}

// Stream is the newest of one stream.
type Stream struct {
	ID      uint32   `json:"stream"`
	Samples uint64   `json:"samples"` // read by this reader
	Counter uint64   `json:"counter"`
	Flags   []string `json:"flags,omitempty"` // of all samples since the last snapshot
	AgeMS   int64    `json:"age_ms"`          // since the filter received it; -1: there has been none
	Signals []Signal `json:"signals"`
}

// Signal is the newest value of a signal, nil where none has come yet.
type Signal struct {
	Name  string   `json:"name"`
	Unit  string   `json:"unit,omitempty"`
	Page  bool     `json:"page,omitempty"` // it selects which other signals are present
	Value *float64 `json:"value"`
}
