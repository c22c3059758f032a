// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by every method of a closed Producer, Server or Reader.
	ErrClosed = errors.New("ring is closed")
	// ErrProducerGone is returned by Next once everything that the producer published has been read and the producer
	// is no more.
	ErrProducerGone = errors.New("producer of the ring is gone")
	// ErrProducerStale is returned by Next when the producer lives but has neither published nor beaten for too long.
	// The reader stays usable.
	ErrProducerStale = errors.New("heartbeat of the ring's producer is stale")
	// ErrNotAuthorized is returned by Dial when the server refuses the peer's user and groups.
	ErrNotAuthorized = errors.New("not authorized to read the ring")
	// ErrTooManyClients is returned by Dial when the server's readers have reached their bound.
	ErrTooManyClients = errors.New("too many readers on the ring")
	// ErrVersion is returned by Dial for a layout version that this reader does not know.
	ErrVersion = errors.New("unknown layout version of the ring")
	// ErrLayout is wrapped by every LayoutError.
	ErrLayout = errors.New("damaged ring")
	// ErrNotSealed is returned by Dial for memory that somebody could still shrink or write.
	ErrNotSealed = errors.New("shared memory of the ring is not sealed")
	// ErrInUse is returned by Serve when a live server listens on the socket.
	ErrInUse = errors.New("socket of the ring is in use")
	// ErrLatestBusy is returned by Latest when the value was being written at every attempt, or when the producer
	// died while it wrote it.
	ErrLatestBusy = errors.New("latest value is being written")
)

// LayoutError names the field of the shared memory that a reader refused. It wraps ErrLayout.
type LayoutError struct {
	Field  string // as in docs/ring.md, with an index where the structure is an array: "streams[3].name_offset"
	Reason string
}

func (e *LayoutError) Error() string { return fmt.Sprintf("%v: %s: %s", ErrLayout, e.Field, e.Reason) }

func (e *LayoutError) Unwrap() error { return ErrLayout }

func damaged(field, format string, args ...any) error {
	return &LayoutError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
