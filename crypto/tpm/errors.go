// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Conditions that a caller can tell apart with errors.Is.
var (
	// ErrAbsent: there is no device or no emulator behind the path.
	ErrAbsent = errors.New("no TPM there")
	// ErrPermission: the process may not open the device.
	ErrPermission = errors.New("no permission to open the TPM (the device belongs to group tss on most systems)")
	// ErrNotTPM2: something answers, but it is no TPM 2.0.
	ErrNotTPM2 = errors.New("not a TPM 2.0")
	// ErrBusy: another process holds the device, or the TPM kept asking to
	// retry for longer than Options.RetryFor.
	ErrBusy = errors.New("TPM is busy")
	// ErrTimeout: no answer within Options.CommandTimeout.
	ErrTimeout = errors.New("TPM did not answer in time")
	// ErrLockout: dictionary attack protection is active; errors.As with
	// *LockoutError says for how long.
	ErrLockout = errors.New("TPM is in dictionary attack lockout")
	// ErrFull: no slot for another object or session, and none that this
	// package could free.
	ErrFull = errors.New("TPM has no free slot")
	// ErrNVFull: no room in the TPM's non-volatile memory.
	ErrNVFull = errors.New("TPM has no free non-volatile memory")
	// ErrReset: the TPM was reset and nobody has sent TPM2_Startup.
	ErrReset = errors.New("TPM was reset and has not been started")
	// ErrFailure: the TPM is in failure mode; only a power cycle helps.
	ErrFailure = errors.New("TPM is in failure mode")
	// ErrOtherTPM: the storage root key is not the pinned one.
	ErrOtherTPM = errors.New("another TPM than the pinned one")
	// ErrSRK: the object at the SRK handle cannot serve as storage root key.
	ErrSRK = errors.New("not a usable storage root key")
	// ErrAuth: an authorisation value was refused.
	ErrAuth = errors.New("authorisation refused")
	// ErrPolicy: the TPM refused an object because its policy does not hold,
	// for example because a counter has moved on.
	ErrPolicy = errors.New("policy refused by the TPM")
	// ErrForeignBlob: the TPM cannot unwrap the blob: it is damaged or was
	// made by another TPM.
	ErrForeignBlob = errors.New("blob is damaged or belongs to another TPM")
	// ErrBlob: the file is not one that this package wrote.
	ErrBlob = errors.New("not a key file of this kind")
	// ErrObject: the object's public area is not the expected one (kind,
	// curve, attributes or policy differ).
	ErrObject = errors.New("object is not of the expected kind")
	// ErrHandleInUse: the persistent handle or NV index is taken.
	ErrHandleInUse = errors.New("handle is in use")
	// ErrNoObject: nothing is at that handle.
	ErrNoObject = errors.New("nothing at that handle")
	// ErrCounter: the NV index is not the pinned counter.
	ErrCounter = errors.New("another counter than the pinned one")
	// ErrHash: the digest does not fit the key.
	ErrHash = errors.New("digest does not fit the key")
	// ErrCurve: the peer's public key is on another curve.
	ErrCurve = errors.New("public key is on another curve")
	// ErrTooLong: more than MaxSealed bytes to seal.
	ErrTooLong = errors.New("too long to seal")
	// ErrProtocol: an answer that no correct TPM gives, or a response whose
	// HMAC is wrong: somebody between the processor and the TPM.
	ErrProtocol = errors.New("malformed or forged TPM response")
	// ErrClosed: the TPM has been closed.
	ErrClosed = errors.New("TPM is closed")
)

// Error says which operation failed at which TPM command. It holds no secret.
type Error struct {
	Op      string // what was asked for, such as "unseal"
	Command string // TPM 2.0 Part 3 name, empty if it failed outside a command
	RC      uint32 // TPM_RC as received, 0 if there was no response
	Err     error  // one of the conditions above, or the cause
}

// Error implements error.
func (e *Error) Error() string {
	s := "tpm: " + e.Op
	if e.Command != "" {
		s += ": " + e.Command
	}
	s += ": " + e.Err.Error()
	if e.RC != 0 {
		s += fmt.Sprintf(": response 0x%03X, %v", e.RC, tpm2.TPMRC(e.RC))
	}
	return s
}

// Unwrap returns the condition and, if the TPM answered, its tpm2.TPMRC.
func (e *Error) Unwrap() []error {
	if e.RC != 0 {
		return []error{e.Err, tpm2.TPMRC(e.RC)}
	}
	return []error{e.Err}
}

// LockoutError tells when to try again after ErrLockout. The keys of this
// package are exempt from lockout (noDA), so it means that authorisations of
// other objects or of the owner hierarchy have failed too often.
type LockoutError struct {
	Failures uint32        // authorisation failures counted so far
	Limit    uint32        // failures at which lockout starts
	Interval time.Duration // one failure is forgiven after each
	Recovery time.Duration // after a failed lockout authorisation
}

// Error implements error.
func (e *LockoutError) Error() string {
	return fmt.Sprintf("%v: %d of %d failures, one is forgiven every %v", ErrLockout, e.Failures, e.Limit, e.Interval)
}

// Unwrap makes errors.Is(err, ErrLockout) hold.
func (e *LockoutError) Unwrap() error { return ErrLockout }

// condition maps a response code to the condition it means for a caller.
func condition(rc tpm2.TPMRC) error {
	switch {
	case rc.Is(tpm2.TPMRCLockout):
		return ErrLockout
	case retryable(uint32(rc)):
		return ErrBusy
	case outOfSlots(uint32(rc)):
		return ErrFull
	case rc.Is(tpm2.TPMRCNVSpace):
		return ErrNVFull
	case rc.Is(tpm2.TPMRCNVDefined):
		return ErrHandleInUse
	case rc.Is(tpm2.TPMRCInitialize), rc.Is(tpm2.TPMRCReboot):
		return ErrReset
	case rc.Is(tpm2.TPMRCFailure):
		return ErrFailure
	case rc.Is(tpm2.TPMRCIntegrity), rc.Is(tpm2.TPMRCBinding), rc.Is(tpm2.TPMRCSensitive):
		return ErrForeignBlob
	case rc.Is(tpm2.TPMRCPolicy), rc.Is(tpm2.TPMRCPolicyFail), rc.Is(tpm2.TPMRCPolicyCC):
		return ErrPolicy
	case rc.Is(tpm2.TPMRCAuthFail), rc.Is(tpm2.TPMRCBadAuth), rc.Is(tpm2.TPMRCAuthMissing),
		rc.Is(tpm2.TPMRCAuthUnavailable), rc.Is(tpm2.TPMRCNVAuthorization):
		return ErrAuth
	case rc.Is(tpm2.TPMRCHandle):
		return ErrNoObject
	}
	return errors.New("refused")
}
