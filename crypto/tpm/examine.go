// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Health is what a TPM says about itself and what is left in it.
type Health struct {
	Info

	// SRKName is the Name of the storage root key; nil where there is none yet: Open makes it.
	SRKName Name

	// Locked says that dictionary attack protection refuses authorisations now; Lockout has the parameters either way.
	Locked  bool
	Lockout LockoutError

	// Objects and Sessions are transient objects and sessions in the TPM's slots. Between operations a TPM without resource
	// manager has none of ours.
	Objects, Sessions int
}

// inLockout is bit 9 of TPM_PT_PERMANENT: TPM 2.0 Part 2, 8.6.
const inLockout = 1 << 9

// Examine asks the TPM at path how it is and changes nothing in it: unlike Open it makes no storage root key, flushes
// nothing and starts no emulator (ErrReset). A pinned SRKName is compared as in Open. The connection is closed again.
func Examine(ctx context.Context, path string, opts Options) (*Health, error) {
	opts.setDefaults()
	l, err := openLink(path, opts.CommandTimeout)
	if err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	return examine(ctx, l, opts)
}

func examine(ctx context.Context, l link, opts Options) (*Health, error) {
	opts.setDefaults()
	t := &TPM{opts: opts, jobs: make(chan *job), closing: make(chan struct{}), closed: make(chan struct{})}
	t.bus = &bus{link: l, retryFor: opts.RetryFor, sleep: t.sleep}
	go t.own()
	defer t.Close()
	var h Health
	// As "open", the operation is one after which no other TPM can be told from the one that was opened.
	if err := t.do(ctx, "open", nil, func(x *tx) error { return x.examine(&h) }); err != nil {
		return nil, err
	}
	return &h, nil
}

func (x *tx) examine(h *Health) error {
	family, err := x.property(tpm2.TPMPTFamilyIndicator)
	if err != nil {
		return err
	}
	if text := propertyText(family); text != "2.0" {
		return fmt.Errorf("%w: family %q", ErrNotTPM2, text)
	}
	if err := x.probe(); err != nil {
		return err
	}
	h.Info = x.t.info
	permanent, err := x.property(tpm2.TPMPTPermanent)
	if err != nil {
		return err
	}
	h.Locked = permanent&inLockout != 0
	for p, to := range map[tpm2.TPMPT]*uint32{tpm2.TPMPTLockoutCounter: &h.Lockout.Failures, tpm2.TPMPTMaxAuthFail: &h.Lockout.Limit} {
		if *to, err = x.property(p); err != nil {
			return err
		}
	}
	for p, to := range map[tpm2.TPMPT]*time.Duration{tpm2.TPMPTLockoutInterval: &h.Lockout.Interval, tpm2.TPMPTLockoutRecovery: &h.Lockout.Recovery} {
		seconds, err := x.property(p)
		if err != nil {
			return err
		}
		*to = time.Duration(seconds) * time.Second
	}
	h.Objects = len(x.t.bus.handles(handlesTransient))
	h.Sessions = len(x.t.bus.handles(handlesLoadedSession))
	public, err := x.readPublic(x.t.opts.SRKHandle)
	switch {
	case errors.Is(err, ErrNoObject):
		if len(x.t.opts.SRKName) != 0 {
			return fmt.Errorf("%w: it has no storage root key, pinned %v", ErrOtherTPM, x.t.opts.SRKName)
		}
		return nil
	case err != nil:
		return err
	}
	if err := checkSRK(public); err != nil {
		return fmt.Errorf("handle 0x%08X: %w", x.t.opts.SRKHandle, err)
	}
	if err := x.takeSRK(public); err != nil {
		return err
	}
	h.SRKName = x.t.SRKName()
	return nil
}
