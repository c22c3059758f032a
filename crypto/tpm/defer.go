// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"fmt"
	"strings"
)

// Defer is Open by the first operation: until then nothing is asked of the TPM, and not even whether it is there. So who takes over
// from a process that uses it need not wait for it. An operation that could not open it fails, and the next one tries again. The
// storage root key must be pinned; Info and Curve speak of nothing before an operation has succeeded, and may not be called beside
// the first.
func Defer(path string, opts Options) (*TPM, error) {
	opts.setDefaults()
	switch {
	case bytes.IndexByte(opts.OwnerAuth, 0) >= 0:
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: the owner authorisation contains a zero byte", ErrAuth)}
	case len(opts.SRKName) == 0:
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: none is pinned", ErrSRK)}
	}
	t := &TPM{opts: opts, jobs: make(chan *job), closing: make(chan struct{}), closed: make(chan struct{}), deferred: true}
	t.srkName.Buffer = opts.SRKName
	var l link = &deviceLink{path: path, timeout: opts.CommandTimeout, fd: -1}
	if socket, ok := strings.CutPrefix(path, "unix:"); ok {
		l = &socketLink{path: socket, timeout: opts.CommandTimeout}
	}
	t.bus = &bus{link: l, retryFor: opts.RetryFor, sleep: t.sleep}
	go t.own()
	return t, nil
}

// openFirst opens a TPM that was deferred.
func (x *tx) openFirst() error {
	if !x.t.deferred {
		return nil
	}
	if err := x.open(); err != nil {
		return err
	}
	x.t.deferred = false
	return nil
}
