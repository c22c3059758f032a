// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Kind is what an event reports. New kinds go to the end: the numbers are part of frames on the bus.
type Kind uint8

// The kinds. What each of them means, and all else about it, is in the table below and in docs/events.md.
const (
	None Kind = iota

	// Verdicts about frames (bpf/include/verdict.h), by their names.
	OwnEcho
	PlaintextOnProtected
	Malformed
	WrongKind
	UnknownEpoch
	CounterRange
	TooOld
	Replay
	Shed
	RingFull
	ControlFull
	BadTag
	BadPlaintext
	BadStart
	StartKnown
	StartShed
	NodeRestart
	NodeRollback
	KeyExpired
	NoStart
	Reread
	AgentReplay
	AgentTooOld
	AgentUnknownEpoch
	AgentCounterRange
	AgentUnknownStream
	Downgrade
	NotDurable

	// Detection: what is missing, late or too much.
	Deletion
	TailLoss
	Silence
	IncompleteSet
	Delayed
	ClockFreeze
	ClockBackward
	Rate

	// Nodes and keys.
	NodeRollbackProved
	NodeFloorRefused
	OfferConflict
	HandshakeFailed
	KeyAgreed
	KeyPromoted
	KeyRetired
	RotationOverdue
	EpochExpired
	EpochRefused

	// Buses.
	BusPassive
	BusOff
	BusRecovered
	LinkDown
	LinkUp
	HookLost

	// The gateway.
	AgentStarted
	AgentStopped
	DocumentsApplied
	DocumentsRefused
	StateRefused
	StateWriteFailed
	StateWritten
	ClosedWithoutState
	RetireFailed
	LostInCrash
	EngineRefused
	MemoryNotLocked
	TPMUnavailable

	// The fault.
	FaultSuspect
	FaultRaised
	FaultWidened
	FaultLatched
	FaultCleared

	// The event log itself.
	LogTorn
	LogDamaged
	LogCut
	LogRemoved
	LogUnsigned
	LogWriteFailed
	DeliveryDelayed
	Misdirected

	// NumKinds is the number of kinds, None included.
	NumKinds
)

// aliases of AUTOSAR.
const (
	secOCMac       = "SECOC_SEV_MAC_VERIFICATION_FAILED" // SWS_SecOC
	secOCFreshness = "SECOC_SEV_FRESHNESS_NOT_AVAILABLE" // SWS_SecOC
	canIfBusOff    = "CANIF_SEV_ERRORSTATE_BUSOFF"       // SWS_CANIF
	canIfPassive   = "CANIF_SEV_ERRORSTATE_PASSIVE"      // SWS_CANIF
	e2eRepeated    = "E2E_P_REPEATED"                    // SWS_E2E
	e2eSequence    = "E2E_P_WRONGSEQUENCE"               // SWS_E2E
	e2eNoNewData   = "E2E_P_NONEWDATA"                   // SWS_E2E
	e2eError       = "E2E_P_ERROR"                       // SWS_E2E
)

// info is what is known of a kind.
type info struct {
	name, title string
	cause       Cause
	severity    Severity // for a source of sensitivity CRITICAL
	dtc         DTC
	alias       string
}

var table = [NumKinds]info{
	None: {"none", "nothing", CauseNone, Informational, 0, ""},

	OwnEcho:              {"own_echo", "own transmission looped back on a protected identifier", CauseNone, Informational, 0, ""},
	PlaintextOnProtected: {"plaintext_on_protected", "unprotected frame on a protected identifier", CauseForgeable, High, codeAuthenticity | typeInvalidSerial, e2eError},
	Malformed:            {"malformed", "wrong version, kind or pad in a sealed frame", CauseForgeable, Medium, codeAuthenticity | typeInvalidSerial, e2eError},
	WrongKind:            {"wrong_kind", "kind of sealed PDU that the stream never carries", CauseForgeable, Medium, codeAuthenticity | typeInvalidSerial, e2eError},
	UnknownEpoch:         {"unknown_epoch", "frame of an epoch that is not acceptable", CauseForgeable, Medium, codeFreshness | typeCounter, secOCFreshness},
	CounterRange:         {"counter_range", "counter out of the epoch's range", CauseForgeable, Medium, codeFreshness | typeCounter, e2eSequence},
	TooOld:               {"too_old", "counter behind the replay window", CauseForgeable, Medium, codeFreshness | typeCounter, e2eSequence},
	Replay:               {"replay", "counter that was seen before", CauseForgeable, Medium, codeFreshness | typeCounter, e2eRepeated},
	Shed:                 {"shed", "frame dropped at random because the candidate ring is nearly full", CauseForgeable, Medium, codeMissing | typeMissing, ""},
	RingFull:             {"ring_full", "frame dropped because the candidate ring is full", CauseForgeable, High, codeMissing | typeMissing, ""},
	ControlFull:          {"control_full", "start record or control datagram dropped because its ring is full", CauseForgeable, Medium, codeMissing | typeMissing, ""},
	BadTag:               {"bad_tag", "authentication tag that does not verify", CauseForgeable, High, codeAuthenticity | typeProtection, secOCMac},
	BadPlaintext:         {"bad_plaintext", "verified frame whose plaintext breaks the rules", CauseAuthenticated, Critical, codeAuthenticity | typeInvalid, e2eError},
	BadStart:             {"bad_start", "start record whose MAC does not verify", CauseForgeable, Medium, codeAuthenticity | typeProtection, secOCMac},
	StartKnown:           {"start_known", "start record of a start that is known", CauseNone, Informational, 0, ""},
	StartShed:            {"start_shed", "start record above the rate at which unknown ones are verified", CauseForgeable, Medium, codeAuthenticity | typeInvalidSerial, ""},
	NodeRestart:          {"node_restart", "node has started again", CauseNone, Informational, 0, ""},
	NodeRollback:         {"node_rollback", "start record with counters from before what is known of the node", CauseForgeable, High, codeNode | typeCounter, e2eSequence},
	KeyExpired:           {"key_expired", "frame under a key beyond its hard limit", CauseForgeable, Medium, codeKeys | typeCounter, secOCFreshness},
	NoStart:              {"no_start", "frame of no known start of its node", CauseForgeable, Medium, codeFreshness | typeCounter, secOCFreshness},
	Reread:               {"reread", "record read again after a restart of the agent", CauseNone, Informational, 0, ""},
	AgentReplay:          {"agent_replay", "counter that was seen before, by the agent's window", CauseForgeable, Medium, codeFreshness | typeCounter, e2eRepeated},
	AgentTooOld:          {"agent_too_old", "counter behind the agent's window", CauseForgeable, Medium, codeFreshness | typeCounter, e2eSequence},
	AgentUnknownEpoch:    {"agent_unknown_epoch", "frame of an epoch that ended on the way to the agent", CauseForgeable, Low, codeFreshness | typeCounter, secOCFreshness},
	AgentCounterRange:    {"agent_counter_range", "counter out of range by the agent's own base", CauseForgeable, Medium, codeFreshness | typeCounter, e2eSequence},
	AgentUnknownStream:   {"agent_unknown_stream", "frame of a stream that ended on the way to the agent", CauseForgeable, Low, codeAuthenticity | typeInvalidSerial, ""},
	Downgrade:            {"downgrade", "frame sealed under an old epoch where the new one has been", CauseAuthenticated, Critical, codeFreshness | typeCounter, e2eSequence},
	NotDurable:           {"not_durable", "verified frame refused because no ceiling above it could be made durable", CauseLocal, High, codeGateway | typeMemory, ""},

	Deletion:      {"deletion", "sample that was sealed and has not arrived", CauseAuthenticated, High, codeMissing | typeMissing, e2eSequence},
	TailLoss:      {"tail_loss", "sample that a heartbeat names and that has not arrived", CauseAuthenticated, High, codeMissing | typeMissing, e2eSequence},
	Silence:       {"silence", "no verified frame for longer than the sampling rate allows", CauseAuthenticated, High, codeMissing | typeMissing, e2eNoNewData},
	IncompleteSet: {"incomplete_set", "part of a multiplexed array is not fresh", CauseAuthenticated, Medium, codeMissing | typeMissing, e2eNoNewData},
	Delayed:       {"delayed", "sample that took too long on its way", CauseAuthenticated, High, codeTime | typeCounter, ""},
	ClockFreeze:   {"clock_freeze", "source time that does not move", CauseAuthenticated, High, codeTime | typeCounter, ""},
	ClockBackward: {"clock_backward", "source time that goes back", CauseAuthenticated, High, codeTime | typeCounter, ""},
	Rate:          {"rate", "more verified samples than the sampling rate allows", CauseAuthenticated, Medium, codeTime | typeInvalid, ""},

	NodeRollbackProved: {"node_rollback_proved", "node that names counters or a floor below what is known of it, authenticated", CauseAuthenticated, Critical, codeNode | typeCounter, e2eSequence},
	NodeFloorRefused:   {"node_floor_refused", "node that names an epoch floor at or above the epoch that it agrees to", CauseAuthenticated, High, codeNode | typeInvalid, ""},
	OfferConflict:      {"offer_conflict", "second, different reply to one offer", CauseAuthenticated, Critical, codeKeys | typeInvalid, ""},
	HandshakeFailed:    {"handshake_failed", "key agreement that did not come to an end", CauseForgeable, Medium, codeKeys | typeInvalidSerial, ""},
	KeyAgreed:          {"key_agreed", "new epoch agreed", CauseNone, Informational, 0, ""},
	KeyPromoted:        {"key_promoted", "new epoch in use", CauseNone, Informational, 0, ""},
	KeyRetired:         {"key_retired", "epoch retired", CauseNone, Informational, 0, ""},
	RotationOverdue:    {"rotation_overdue", "key rotation is due and has not happened", CauseLocal, Medium, codeKeys | typeConfiguration, ""},
	EpochExpired:       {"epoch_expired", "key reached its hard limit and is not accepted any more", CauseLocal, High, codeKeys | typeConfiguration, secOCFreshness},
	EpochRefused:       {"epoch_refused", "epoch of the stored state is not taken up", CauseLocal, High, codeKeys | typeConfiguration, secOCFreshness},

	BusPassive:   {"bus_passive", "CAN controller is error passive", CauseLocal, Low, codeBus | typeBusOff, canIfPassive},
	BusOff:       {"bus_off", "CAN controller is off the bus", CauseLocal, High, codeBus | typeBusOff, canIfBusOff},
	BusRecovered: {"bus_recovered", "CAN controller is error active again", CauseNone, Informational, 0, ""},
	LinkDown:     {"link_down", "interface is down or gone", CauseLocal, High, codeBus | typeMissing, ""},
	LinkUp:       {"link_up", "interface is up", CauseNone, Informational, 0, ""},
	HookLost:     {"hook_lost", "filter is not at the hook of the interface any more", CauseLocal, Critical, codeBus | typeConfiguration, ""},

	AgentStarted:       {"agent_started", "agent has started", CauseNone, Informational, 0, ""},
	AgentStopped:       {"agent_stopped", "agent has stopped", CauseNone, Informational, 0, ""},
	DocumentsApplied:   {"documents_applied", "policy and binding taken up", CauseNone, Informational, 0, ""},
	DocumentsRefused:   {"documents_refused", "policy or binding refused", CauseLocal, Medium, codeGateway | typeConfiguration, ""},
	StateRefused:       {"state_refused", "state folder is of another generation than the hardware shows", CauseLocal, Critical, codeGateway | typeMemory, ""},
	StateWriteFailed:   {"state_write_failed", "state could not be written", CauseLocal, High, codeGateway | typeMemory, ""},
	StateWritten:       {"state_written", "state can be written again", CauseNone, Informational, 0, ""},
	ClosedWithoutState: {"closed_without_state", "filter attached without any epoch because the state could not be opened", CauseLocal, Critical, codeGateway | typeMemory, ""},
	RetireFailed:       {"retire_failed", "counter of the TPM could not be moved", CauseLocal, High, codeGateway | typeInternal, ""},
	LostInCrash:        {"lost_in_crash", "samples committed and not published when an agent was killed", CauseLocal, Medium, codeGateway | typeMissing, ""},
	EngineRefused:      {"engine_refused", "cipher engine failed its self-test", CauseLocal, High, codeGateway | typeInternal, ""},
	MemoryNotLocked:    {"memory_not_locked", "agent may not lock its memory", CauseLocal, Low, codeGateway | typeConfiguration, ""},
	TPMUnavailable:     {"tpm_unavailable", "TPM does not answer", CauseLocal, High, codeGateway | typeInternal, ""},

	FaultSuspect: {"fault_suspect", "evidence against a source", CauseNone, Medium, 0, ""},
	FaultRaised:  {"fault_raised", "BMS Security Fault raised", CauseNone, Critical, codeFault | typeNone, ""},
	FaultWidened: {"fault_widened", "further evidence in a standing BMS Security Fault", CauseNone, Critical, codeFault | typeNone, ""},
	FaultLatched: {"fault_latched", "BMS Security Fault latched until an operator clears it", CauseNone, Critical, codeFault | typeNone, ""},
	FaultCleared: {"fault_cleared", "BMS Security Fault cleared", CauseNone, Low, codeFault | typeNone, ""},

	LogTorn:         {"log_torn", "end of the event log was torn by a crash", CauseLocal, Medium, codeGateway | typeMemory, ""},
	LogDamaged:      {"log_damaged", "event log is damaged within", CauseLocal, Critical, codeGateway | typeMemory, ""},
	LogCut:          {"log_cut", "event log ends before a head that was known", CauseLocal, Critical, codeGateway | typeMemory, ""},
	LogRemoved:      {"log_removed", "oldest part of the event log removed to keep its size", CauseNone, Low, 0, ""},
	LogUnsigned:     {"log_unsigned", "head of the event log could not be signed", CauseLocal, Medium, codeGateway | typeInternal, ""},
	LogWriteFailed:  {"log_write_failed", "event log could not be written", CauseLocal, High, codeGateway | typeMemory, ""},
	DeliveryDelayed: {"delivery_delayed", "destination of events could not keep up; counts were delivered later", CauseNone, Low, 0, ""},
	Misdirected:     {"misdirected", "event noted about something that the tables do not know", CauseNone, Low, 0, ""},
}

// at returns what is known of a kind, of None for a number that is none.
func (k Kind) at() info {
	if k >= NumKinds {
		return table[None]
	}
	return table[k]
}

// Valid says that k is a kind other than None.
func (k Kind) Valid() bool { return k > None && k < NumKinds }

// String returns the stable name, in lower case with underscores.
func (k Kind) String() string { return k.at().name }

// Title says in a few words what happened.
func (k Kind) Title() string { return k.at().title }

// Cause says what the event proves.
func (k Kind) Cause() Cause { return k.at().cause }

// Severity returns the severity for a source of the highest sensitivity.
func (k Kind) Severity() Severity { return k.at().severity }

// DTC returns the diagnostic trouble code with its failure type byte, 0 for none.
func (k Kind) DTC() DTC { return k.at().dtc }

// Alias returns the name that AUTOSAR has for the same thing: a security event of SecOC or CanIf as IdsM takes it, or a status
// of the E2E library; "" where there is none.
func (k Kind) Alias() string { return k.at().alias }

// MessageID identifies the kind in the journal (MESSAGE_ID): 32 lower-case hexadecimal digits, a UUID of version 8 (RFC 9562)
// made of the SHA-256 of the name, so that it is stable and needs no registry.
func (k Kind) MessageID() string {
	sum := sha256.Sum256([]byte("cellward event " + k.String()))
	sum[6] = sum[6]&0x0F | 0x80
	sum[8] = sum[8]&0x3F | 0x80
	return hex.EncodeToString(sum[:16])
}

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(text []byte) error {
	v, ok := Parse(string(text))
	if !ok {
		return fmt.Errorf("%w: kind %q", ErrName, text)
	}
	*k = v
	return nil
}

// Parse reads the name of a kind.
func Parse(name string) (Kind, bool) {
	for k := None + 1; k < NumKinds; k++ {
		if table[k].name == name {
			return k, true
		}
	}
	return None, false
}

// All returns the kinds in the order of their numbers.
func All() []Kind {
	all := make([]Kind, 0, NumKinds-1)
	for k := None + 1; k < NumKinds; k++ {
		all = append(all, k)
	}
	return all
}
