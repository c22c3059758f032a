// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/binary"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// bus is what go-tpm sends commands through. It repeats commands that the TPM
// asks to repeat, and it knows every transient object and session that a
// command has opened, because not everything that opens one also closes it:
// go-tpm forgets a session when a policy callback fails, when a second session
// of a command cannot be started and when a response does not verify.
type bus struct {
	link     link
	retryFor time.Duration
	sleep    func(time.Duration) // waits, or returns early when closing
	open     []uint32            // handles opened and not yet flushed
	sweeping bool                // what sweep itself sends is not swept for
	unsure   bool                // a handle may be open that open does not list
}

// Command codes that open or close a handle: TPM 2.0 Part 2, 6.5.2.
const (
	ccCreatePrimary    = 0x131
	ccLoad             = 0x157
	ccContextLoad      = 0x161
	ccFlushContext     = 0x165
	ccLoadExternal     = 0x167
	ccStartAuthSession = 0x176
	ccCreateLoaded     = 0x191
)

// retryable: TPM_RC_YIELDED, TESTING, NV_RATE, RETRY, NV_UNAVAILABLE. In each
// the command has not been executed and the session nonces have not rolled, so
// the same bytes may be sent again (TPM 2.0 Part 2, 6.6.3).
func retryable(rc uint32) bool {
	switch rc {
	case 0x908, 0x90A, 0x920, 0x922, 0x923:
		return true
	}
	return false
}

// outOfSlots: TPM_RC_OBJECT_MEMORY, SESSION_MEMORY, MEMORY, SESSION_HANDLES,
// OBJECT_HANDLES.
func outOfSlots(rc uint32) bool { return rc >= 0x902 && rc <= 0x906 }

// Send implements transport.TPM.
func (b *bus) Send(command []byte) ([]byte, error) {
	response, err := b.repeat(command)
	if err != nil {
		// It may have been carried out all the same.
		b.unsure = b.unsure || opens(command)
		return nil, err
	}
	if outOfSlots(code(response)) && b.makeRoom() {
		if response, err = b.repeat(command); err != nil {
			b.unsure = b.unsure || opens(command)
			return nil, err
		}
	}
	b.track(command, response)
	return response, nil
}

// repeat sends until the TPM no longer asks for a repetition or retryFor is
// over; then the last answer stands and becomes ErrBusy.
func (b *bus) repeat(command []byte) ([]byte, error) {
	var waited time.Duration
	for wait := time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		response, err := b.link.exchange(command)
		if err != nil || !retryable(code(response)) || waited >= b.retryFor {
			return response, err
		}
		b.sleep(wait)
		waited += wait
	}
}

func code(response []byte) uint32 { return binary.BigEndian.Uint32(response[6:]) }

func (b *bus) track(command, response []byte) {
	if len(command) < 10 || code(response) != 0 {
		return
	}
	switch {
	case opens(command) && len(response) < 14:
		b.unsure = true
	case opens(command):
		b.open = append(b.open, binary.BigEndian.Uint32(response[10:]))
	case binary.BigEndian.Uint32(command[6:]) == ccFlushContext && len(command) >= 14:
		b.forget(binary.BigEndian.Uint32(command[10:]))
	}
}

// opens says that a command opens a handle.
func opens(command []byte) bool {
	if len(command) < 10 {
		return false
	}
	switch binary.BigEndian.Uint32(command[6:]) {
	case ccCreatePrimary, ccLoad, ccContextLoad, ccLoadExternal, ccStartAuthSession, ccCreateLoaded:
		return true
	}
	return false
}

func (b *bus) forget(handle uint32) {
	for i, h := range b.open {
		if h == handle {
			b.open = append(b.open[:i], b.open[i+1:]...)
			return
		}
	}
}

// flush closes everything that is open, newest first, and returns the first
// error. A handle that the TPM does not know counts as flushed: it was reset, or
// its answer was altered on the way, and then another handle is open. Where one
// may be that is not listed, all are looked for. A handle that could not be
// flushed stays for the next operation.
func (b *bus) flush() (first error) {
	for i := len(b.open) - 1; i >= 0; i-- {
		_, err := tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(b.open[i])}.Execute(b)
		if rc, _ := responseCode(err); tpm2.TPMRC(rc).Is(tpm2.TPMRCHandle) || tpm2.TPMRC(rc).Is(tpm2.TPMRCValue) {
			b.forget(b.open[i])
			b.unsure = true
		} else if err != nil && first == nil {
			first = err
		}
	}
	if b.unsure && !b.link.managed() {
		// What somebody else has left and cannot be flushed stops nothing.
		_, err := b.sweep()
		b.unsure = err != nil
	}
	return first
}

// makeRoom sweeps where that is allowed, and says whether it freed a slot.
func (b *bus) makeRoom() bool {
	if b.link.managed() || b.sweeping {
		return false
	}
	n, _ := b.sweep()
	return n > 0
}

// sweep flushes the transient objects and sessions that a process left behind
// when it was killed in the middle of an operation, and returns how many, and
// the first error. It is
// for links without a resource manager only, where such handles stay until the
// TPM is reset and three of them block it. Nobody else has one in use: an
// operation holds the link from begin to end. Saved sessions stay: they occupy
// no slot, and tpm2-tools keeps its sessions that way between two commands.
func (b *bus) sweep() (n int, first error) {
	// A TPM that answers even the question for handles in this way would be asked for ever.
	b.sweeping = true
	defer func() { b.sweeping = false }()
	for _, class := range []uint32{handlesTransient, handlesLoadedSession} {
		found, err := b.list(class)
		if err != nil && first == nil {
			first = err
		}
		for _, h := range found {
			if b.isOpen(h) {
				continue
			}
			if _, err := (tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(h)}).Execute(b); err == nil {
				n++
			} else if first == nil {
				first = err
			}
		}
	}
	return n, first
}

func (b *bus) isOpen(handle uint32) bool {
	for _, h := range b.open {
		if h == handle {
			return true
		}
	}
	return false
}

// First handles of the classes that TPM2_GetCapability(TPM_CAP_HANDLES) lists:
// TPM 2.0 Part 2, 7.2.
const (
	handlesNV            = 0x01000000
	handlesLoadedSession = 0x02000000
	handlesSavedSession  = 0x03000000
	handlesTransient     = 0x80000000
	handlesPersistent    = 0x81000000
)

// handlePages bounds handles: a TPM has fewer handles than this many answers
// hold, and one that always has more to say is none.
const handlePages = 16

// handles lists the handles of one class, as far as the TPM says them.
func (b *bus) handles(first uint32) []uint32 {
	all, _ := b.list(first)
	return all
}

// list is handles with the reason why there may be more.
func (b *bus) list(first uint32) (all []uint32, err error) {
	next := first
	for range handlePages {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: next, PropertyCount: 64}.Execute(b)
		if err != nil {
			return all, err
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return all, err
		}
		for _, h := range list.Handle {
			// Loaded sessions are listed with the type of the
			// session in the top byte, which is not the class asked
			// for.
			all = append(all, uint32(h))
		}
		if !rsp.MoreData || len(list.Handle) == 0 {
			return all, nil
		}
		next = first | uint32(list.Handle[len(list.Handle)-1])&0x00FFFFFF + 1
	}
	return all, nil
}
