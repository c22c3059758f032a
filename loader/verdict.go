// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/cellward/cellward/bpf/can"
)

// Verdict says what became of a frame; see enum cw_verdict in bpf/include/verdict.h. The filter gives each
// frame exactly one; the agent gives exactly one more to each candidate and each start record.
type Verdict uint32

// The filter's verdicts. Passed and ErrorFrame let the frame through, all others drop it.
const (
	Passed               = Verdict(can.FilterCwVerdictCW_PASSED)                 // no stream claims the frame
	ErrorFrame           = Verdict(can.FilterCwVerdictCW_ERROR_FRAME)            // CAN error frame
	OwnEcho              = Verdict(can.FilterCwVerdictCW_OWN_ECHO)               // own transmission, looped back
	PlaintextOnProtected = Verdict(can.FilterCwVerdictCW_PLAINTEXT_ON_PROTECTED) // another frame type or length
	Malformed            = Verdict(can.FilterCwVerdictCW_MALFORMED)              // wrong version, kind or pad
	WrongKind            = Verdict(can.FilterCwVerdictCW_WRONG_KIND)             // kind the stream never carries
	UnknownEpoch         = Verdict(can.FilterCwVerdictCW_UNKNOWN_EPOCH)          // no acceptable epoch
	CounterRange         = Verdict(can.FilterCwVerdictCW_COUNTER_RANGE)          // 0, below base, or far above it
	TooOld               = Verdict(can.FilterCwVerdictCW_TOO_OLD)                // behind the window
	Replay               = Verdict(can.FilterCwVerdictCW_REPLAY)                 // seen by the window
	Shed                 = Verdict(can.FilterCwVerdictCW_SHED)                   // dropped at random, ring above 3/4
	RingFull             = Verdict(can.FilterCwVerdictCW_RING_FULL)              // no room in the candidate ring
	Candidate            = Verdict(can.FilterCwVerdictCW_CANDIDATE)              // handed to the agent
	Control              = Verdict(can.FilterCwVerdictCW_CONTROL)                // start record, handed to the agent
	ControlFull          = Verdict(can.FilterCwVerdictCW_CONTROL_FULL)           // no room in the control ring
)

// The agent's verdicts.
const (
	Accepted           = Verdict(can.FilterCwVerdictCW_ACCEPTED)             // verified, fresh, published
	BadTag             = Verdict(can.FilterCwVerdictCW_BAD_TAG)              // tag does not verify
	BadPlaintext       = Verdict(can.FilterCwVerdictCW_BAD_PLAINTEXT)        // good tag, plaintext against the rules
	BadStart           = Verdict(can.FilterCwVerdictCW_BAD_START)            // start record, MAC does not verify
	StartKnown         = Verdict(can.FilterCwVerdictCW_START_KNOWN)          // start record of a start already taken
	StartShed          = Verdict(can.FilterCwVerdictCW_START_SHED)           // start record above the verified rate
	StartAccepted      = Verdict(can.FilterCwVerdictCW_START_ACCEPTED)       // start record of a new start
	NodeRollback       = Verdict(can.FilterCwVerdictCW_NODE_ROLLBACK)        // good MAC, F not above what is known
	KeyExpired         = Verdict(can.FilterCwVerdictCW_KEY_EXPIRED)          // key beyond its hard limit
	NoStart            = Verdict(can.FilterCwVerdictCW_NO_START)             // no known start at or below the counter
	Reread             = Verdict(can.FilterCwVerdictCW_REREAD)               // read again after a restart
	AgentReplay        = Verdict(can.FilterCwVerdictCW_AGENT_REPLAY)         // seen by the agent's window
	AgentTooOld        = Verdict(can.FilterCwVerdictCW_AGENT_TOO_OLD)        // behind the agent's window
	AgentUnknownEpoch  = Verdict(can.FilterCwVerdictCW_AGENT_UNKNOWN_EPOCH)  // epoch ended meanwhile
	AgentCounterRange  = Verdict(can.FilterCwVerdictCW_AGENT_COUNTER_RANGE)  // out of range by the agent's base
	AgentUnknownStream = Verdict(can.FilterCwVerdictCW_AGENT_UNKNOWN_STREAM) // stream ended meanwhile
	Downgrade          = Verdict(can.FilterCwVerdictCW_DOWNGRADE)            // old epoch where the new one has been
	NotDurable         = Verdict(can.FilterCwVerdictCW_NOT_DURABLE)          // no ceiling above the counter could be made durable
)

// NumVerdicts is the number of verdicts; they are 0 to NumVerdicts-1.
const NumVerdicts = int(can.FilterCwVerdictCW_VERDICT_COUNT)

// String returns the verdict's name as it appears in JSON, logs and `bpftool map dump`.
func (v Verdict) String() string {
	switch v {
	case Passed:
		return "passed"
	case ErrorFrame:
		return "error_frame"
	case OwnEcho:
		return "own_echo"
	case PlaintextOnProtected:
		return "plaintext_on_protected"
	case Malformed:
		return "malformed"
	case WrongKind:
		return "wrong_kind"
	case UnknownEpoch:
		return "unknown_epoch"
	case CounterRange:
		return "counter_range"
	case TooOld:
		return "too_old"
	case Replay:
		return "replay"
	case Shed:
		return "shed"
	case RingFull:
		return "ring_full"
	case Candidate:
		return "candidate"
	case Control:
		return "control"
	case ControlFull:
		return "control_full"
	case Accepted:
		return "accepted"
	case BadTag:
		return "bad_tag"
	case BadPlaintext:
		return "bad_plaintext"
	case BadStart:
		return "bad_start"
	case StartKnown:
		return "start_known"
	case StartShed:
		return "start_shed"
	case StartAccepted:
		return "start_accepted"
	case NodeRollback:
		return "node_rollback"
	case KeyExpired:
		return "key_expired"
	case NoStart:
		return "no_start"
	case Reread:
		return "reread"
	case AgentReplay:
		return "agent_replay"
	case AgentTooOld:
		return "agent_too_old"
	case AgentUnknownEpoch:
		return "agent_unknown_epoch"
	case AgentCounterRange:
		return "agent_counter_range"
	case AgentUnknownStream:
		return "agent_unknown_stream"
	case Downgrade:
		return "downgrade"
	case NotDurable:
		return "not_durable"
	default:
		return fmt.Sprintf("verdict(%d)", uint32(v))
	}
}

// Drops reports whether the filter drops a frame with this verdict.
func (v Verdict) Drops() bool { return v != Passed && v != ErrorFrame }

// Counts holds one number per verdict, indexed by [Verdict].
type Counts [NumVerdicts]uint64

// Total returns the sum over all verdicts.
func (c *Counts) Total() (sum uint64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

// Counters is struct cw_counters in shared memory: one counter per verdict. Safe for concurrent use.
type Counters struct {
	_     structs.HostLayout
	count [48]atomic.Uint64
}

// Add adds n to the counter of v.
func (c *Counters) Add(v Verdict, n uint64) { c.count[v].Add(n) }

// Reset sets all counters to 0. What is added meanwhile may be lost.
func (c *Counters) Reset() {
	for i := range c.count {
		c.count[i].Store(0)
	}
}

// Load returns the counter of v.
func (c *Counters) Load(v Verdict) uint64 { return c.count[v].Load() }

// AddTo adds each counter to sum. The counters are read one after another, not at one instant.
func (c *Counters) AddTo(sum *Counts) {
	for v := range sum {
		sum[v] += c.count[v].Load()
	}
}
