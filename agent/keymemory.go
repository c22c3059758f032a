// SPDX-License-Identifier: Apache-2.0

package agent

import "github.com/cellward/cellward/crypto/secretmem"

// KeyMemoryStatus says what the secrets at rest lie in, and how the copies are erased that appear while they are in use.
type KeyMemoryStatus struct {
	// Kind is "memfd_secret", or "locked pages" where Refused says why it is not: root can read these.
	Kind    string `json:"kind"`
	Refused string `json:"refused,omitempty"`
	Erasure string `json:"erasure"`
}

// keyMemory is the worse of what the epochs' secrets and the expanded keys lie in.
func (a *Agent) keyMemory() KeyMemoryStatus {
	b := a.state.Backing()
	if k := a.keyMem.Backing(); k.Kind > b.Kind {
		b = k
	}
	s := KeyMemoryStatus{Kind: b.Kind.String(), Erasure: secretmem.Erasure}
	if b.Refused != nil {
		s.Refused = b.Refused.Error()
	}
	return s
}

// reportKeyMemory says once, at the start, that the better kind of memory was refused.
func (a *Agent) reportKeyMemory() {
	if s := a.keyMemory(); s.Refused != "" {
		a.log.Warn("kernel refuses memfd_secret, so root can read the memory that keys lie in", "event", "key_memory_readable",
			"key_memory", s.Kind, "reason", s.Refused)
	}
}
