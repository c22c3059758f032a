// SPDX-License-Identifier: Apache-2.0

package event

import (
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

// OfVerdict returns the kind of event that a verdict is, and kind.None for the verdicts of traffic as it should be: frames that
// pass, candidates on their way, samples accepted.
func OfVerdict(v loader.Verdict) kind.Kind {
	switch v {
	case loader.OwnEcho:
		return kind.OwnEcho
	case loader.PlaintextOnProtected:
		return kind.PlaintextOnProtected
	case loader.Malformed:
		return kind.Malformed
	case loader.WrongKind:
		return kind.WrongKind
	case loader.UnknownEpoch:
		return kind.UnknownEpoch
	case loader.CounterRange:
		return kind.CounterRange
	case loader.TooOld:
		return kind.TooOld
	case loader.Replay:
		return kind.Replay
	case loader.Shed:
		return kind.Shed
	case loader.RingFull:
		return kind.RingFull
	case loader.ControlFull:
		return kind.ControlFull
	case loader.BadTag:
		return kind.BadTag
	case loader.BadPlaintext:
		return kind.BadPlaintext
	case loader.BadStart:
		return kind.BadStart
	case loader.StartKnown:
		return kind.StartKnown
	case loader.StartShed:
		return kind.StartShed
	case loader.StartAccepted:
		return kind.NodeRestart
	case loader.NodeRollback:
		return kind.NodeRollback
	case loader.KeyExpired:
		return kind.KeyExpired
	case loader.NoStart:
		return kind.NoStart
	case loader.Reread:
		return kind.Reread
	case loader.AgentReplay:
		return kind.AgentReplay
	case loader.AgentTooOld:
		return kind.AgentTooOld
	case loader.AgentUnknownEpoch:
		return kind.AgentUnknownEpoch
	case loader.AgentCounterRange:
		return kind.AgentCounterRange
	case loader.AgentUnknownStream:
		return kind.AgentUnknownStream
	case loader.Downgrade:
		return kind.Downgrade
	case loader.NotDurable:
		return kind.NotDurable
	}
	return kind.None
}

// verdictOf is the inverse of OfVerdict; "" for a kind that is no verdict.
func verdictOf(k kind.Kind) string {
	for v := range loader.Verdict(loader.NumVerdicts) {
		if k != kind.None && OfVerdict(v) == k {
			return v.String()
		}
	}
	return ""
}
