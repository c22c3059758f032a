// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"errors"
	"fmt"
)

// ErrConfig is wrapped by every error about a configuration that cannot work: it is never caused by a peer.
var ErrConfig = errors.New("edhoc: configuration")

// ErrUnknownCredential is what a [LookupFunc] may return (or wrap) when it knows no credential under the given
// identifier; returning no credential and no error means the same. The peer is told by error code 3 (RFC 9528, 6.4).
var ErrUnknownCredential = errors.New("edhoc: unknown credential")

// Check names one demand that a received message has to meet. Every refusal carries exactly one; it can be asked for
// with errors.Is(err, edhoc.CheckSignature).
type Check string

// The checks, in the order in which a message meets them.
const (
	CheckState              Check = "state"                // the message is the one the protocol state expects
	CheckDuplicate          Check = "duplicate"            // the message was not processed before
	CheckSize               Check = "size"                 // the message is within Config.MaxMessageSize
	CheckCBOR               Check = "cbor"                 // the message is a well-formed CBOR sequence
	CheckDeterminism        Check = "determinism"          // every data item is in its deterministic encoding
	CheckCDDL               Check = "cddl"                 // number and types of the data items are as in the CDDL
	CheckIdentifier         Check = "identifier"           // C_x and kid are in their one permitted representation
	CheckMethod             Check = "method"               // METHOD is supported
	CheckSuite              Check = "suite"                // the selected cipher suite is supported
	CheckSuiteOrder         Check = "suite-order"          // no cipher suite that the Initiator prefers is supported
	CheckSuitePinned        Check = "suite-pinned"         // the pinned cipher suite is the only one spoken of
	CheckKeyLength          Check = "key-length"           // G_X or G_Y has the length of the curve
	CheckPublicKey          Check = "public-key"           // G_X or G_Y is a point of the curve, the shared secret is not zero
	CheckKeyReuse           Check = "key-reuse"            // G_Y is not G_X
	CheckEADCriticality     Check = "ead-criticality"      // one EAD label is not both critical and non-critical
	CheckEADUnknown         Check = "ead-unknown"          // every critical EAD item is known to the application
	CheckEADRejected        Check = "ead-rejected"         // the application could process the EAD field
	CheckIDCredForm         Check = "id-cred-form"         // a lone kid is in its compact encoding, other parameters are well formed
	CheckIDCredType         Check = "id-cred-type"         // ID_CRED_x is one supported COSE header parameter
	CheckCredentialUnknown  Check = "credential-unknown"   // a credential is known under ID_CRED_x
	CheckCredentialRejected Check = "credential-rejected"  // the application accepts the credential
	CheckCredentialBinding  Check = "credential-binding"   // the credential is the one that x5t or x5chain identifies
	CheckCredentialKey      Check = "credential-key"       // its key fits method and cipher suite
	CheckOwnCredential      Check = "own-credential"       // it is not our own
	CheckAuthLength         Check = "authenticator-length" // Signature_or_MAC_x has the length of its algorithm
	CheckMAC                Check = "mac"                  // MAC_x is right (static Diffie-Hellman)
	CheckSignature          Check = "signature"            // the signature over MAC_x is right
	CheckAEAD               Check = "aead"                 // CIPHERTEXT_x opens
	CheckErrorCode          Check = "error-code"           // an error message does not carry code 0
	CheckErrorInfo          Check = "error-info"           // ERR_INFO has the type of its code
	CheckErrorPlace         Check = "error-place"          // the code may answer what was sent
	CheckLocal              Check = "local"                // our own keys and callbacks worked; not the peer's fault
)

// Checks lists every check.
func Checks() []Check {
	return []Check{
		CheckState, CheckDuplicate, CheckSize, CheckCBOR, CheckDeterminism, CheckCDDL, CheckIdentifier, CheckMethod,
		CheckSuite, CheckSuiteOrder, CheckSuitePinned, CheckKeyLength, CheckPublicKey, CheckKeyReuse,
		CheckEADCriticality, CheckEADUnknown, CheckEADRejected, CheckIDCredForm, CheckIDCredType,
		CheckCredentialUnknown, CheckCredentialRejected, CheckCredentialBinding, CheckCredentialKey,
		CheckOwnCredential, CheckAuthLength, CheckMAC, CheckSignature, CheckAEAD, CheckErrorCode, CheckErrorInfo,
		CheckErrorPlace, CheckLocal,
	}
}

// Error makes a check usable as a target of errors.Is.
func (c Check) Error() string { return "edhoc: check " + string(c) }

// Section gives the section of RFC 9528 that demands the check for the given message (1 to 4, 0 for an error message).
func (c Check) Section(message int) string {
	switch c {
	case CheckState:
		return "5.1"
	case CheckDuplicate:
		return "7"
	case CheckSize:
		return "3.4"
	case CheckCBOR:
		return "C.1"
	case CheckDeterminism:
		return "3.1"
	case CheckCDDL:
		return [...]string{"6", "5.2.1", "5.3.1", "5.4.1", "5.5.1"}[message]
	case CheckIdentifier:
		return "3.3.2"
	case CheckMethod:
		return "3.2"
	case CheckSuite:
		return "6.3"
	case CheckSuiteOrder:
		return "5.2.3"
	case CheckSuitePinned:
		return "3.9"
	case CheckKeyLength, CheckAuthLength:
		return "9.8"
	case CheckPublicKey, CheckKeyReuse, CheckOwnCredential:
		return "9.2"
	case CheckEADCriticality, CheckEADUnknown, CheckEADRejected:
		return "3.8"
	case CheckIDCredForm:
		return "3.5.3.2"
	case CheckIDCredType, CheckCredentialBinding:
		return "3.5.3"
	case CheckCredentialUnknown:
		return "6.4"
	case CheckCredentialRejected:
		return "D.1"
	case CheckCredentialKey:
		return "3.5.1"
	case CheckMAC, CheckSignature, CheckAEAD:
		return [...]string{"5.1", "5.2.3", "5.3.3", "5.4.3", "5.5.3"}[message]
	case CheckErrorCode:
		return "6.1"
	case CheckErrorInfo:
		return "6.2"
	case CheckErrorPlace:
		return "6.3"
	default:
		return "6"
	}
}

// Error is the refusal of one message. It never holds key material.
type Error struct {
	Message int   // message_1 to message_4, 0 for an error message
	Check   Check // what failed
	Err     error // detail, may be nil
}

// Error names message, check and section.
func (e *Error) Error() string {
	name := "error message"
	if e.Message != 0 {
		name = fmt.Sprintf("message_%d", e.Message)
	}
	s := fmt.Sprintf("edhoc: %s: %s (RFC 9528, %s)", name, string(e.Check), e.Section())
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Section is the section of RFC 9528 that demands the failed check.
func (e *Error) Section() string { return e.Check.Section(e.Message) }

// Unwrap gives the check and the detail.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Check}
	}
	return []error{e.Check, e.Err}
}

// fail makes the refusal of a message that the caller numbers later (see at).
func fail(c Check, format string, args ...any) *Error {
	return &Error{Check: c, Err: fmt.Errorf(format, args...)}
}

// at numbers a refusal that has no message number yet.
func (e *Error) at(message int) *Error {
	if e != nil && e.Message == 0 {
		e.Message = message
	}
	return e
}

func configError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
}
