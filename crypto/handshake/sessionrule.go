// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"errors"
	"fmt"
	"time"
)

// Times of the control protocol.
const (
	Lifetime = 15 * time.Second // a session ends by success or after this

	GoodSessionEvery  = 10 * time.Second // sessions with a good MAC: one per node
	OtherSessionEvery = 15 * time.Second // all others: one for the whole gateway
	GoodRekeyEvery    = 10 * time.Second // rekey requests with a good MAC that a node obeys
	OtherRekeyEvery   = 60 * time.Second // those without
)

// RepeatAfter gives when the node repeats a message that was not answered, from the moment it was first sent.
func RepeatAfter() []time.Duration {
	return []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
}

// Errors of the session rule.
var (
	// ErrSessionOld: the number is not above the last one of its epoch.
	ErrSessionOld = errors.New("session number was used before")
	// ErrSessionOther: the datagram does not belong to the open session.
	ErrSessionOther = errors.New("not of the open session")
	// ErrSessionLimit: sessions come too fast.
	ErrSessionLimit = errors.New("sessions come too fast")
)

// SessionRule is what a receiver remembers of the session numbers of one sender: the highest of each of the at most two
// live epochs. Within an epoch the number of an opening datagram rises strictly, so a recording opens nothing. It is a
// value; the zero value has seen nothing.
type SessionRule struct {
	Epochs  [2]uint32 // 0: free
	Highest [2]uint32
}

// Next checks an opening datagram and gives the rule with its number in it, which the caller makes durable before it
// accepts the datagram. Datagrams without a good MAC have no epoch and no order: for them the rule stays as it is, and
// [Rate] is what limits them. The number of an epoch older than both that are remembered is refused: its key is no
// longer live.
func (r SessionRule) Next(d *Received) (SessionRule, error) {
	if !d.Type.opens() {
		return r, fmt.Errorf("%v: %w", d.Type, ErrSessionOther)
	}
	if d.Epoch == 0 {
		return r, nil
	}
	at := 0
	switch {
	case r.Epochs[0] == d.Epoch:
	case r.Epochs[1] == d.Epoch:
		at = 1
	case d.Epoch < min(r.Epochs[0], r.Epochs[1]):
		return r, fmt.Errorf("epoch %d: %w", d.Epoch, ErrSessionOld)
	default:
		// A new epoch takes the place of the older one.
		if r.Epochs[1] < r.Epochs[0] {
			at = 1
		}
		r.Epochs[at], r.Highest[at] = d.Epoch, 0
	}
	if d.Session <= r.Highest[at] {
		return r, fmt.Errorf("session %d in epoch %d: %w", d.Session, d.Epoch, ErrSessionOld)
	}
	r.Highest[at] = d.Session
	return r, nil
}

// Session is an open session.
type Session struct {
	Number uint32
	Epoch  uint32 // of the opening datagram's MAC; 0: none
}

// Admits checks that a datagram belongs to the session. In one that a good MAC opened all others need a good MAC under
// that epoch as well: both sides have the key, and without this anyone on the bus could spend the TPM's time on forged
// messages.
func (s Session) Admits(d *Received) error {
	if d.Type.opens() || d.Session != s.Number || s.Epoch != 0 && d.Epoch != s.Epoch {
		return fmt.Errorf("%v, session %d: %w", d.Type, d.Session, ErrSessionOther)
	}
	return nil
}

// Rate admits one event per interval. The zero value admits the first. It is not safe for concurrent use.
type Rate struct {
	last time.Duration
	used bool
}

// Admit takes the time of a clock that never goes back (CLOCK_BOOTTIME). A refused event does not move the interval.
func (r *Rate) Admit(now, every time.Duration) error {
	if r.used && now-r.last < every {
		return ErrSessionLimit
	}
	r.last, r.used = now, true
	return nil
}
