// SPDX-License-Identifier: Apache-2.0

package event

import (
	"errors"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/policy"
)

const second = int64(time.Second)

// clock is a clock that moves when it is told to.
type clock struct{ now Instant }

func (c *clock) Now() Instant { return c.now }

func (c *clock) pass(d time.Duration) {
	c.now.Boot += int64(d)
	c.now.Wall += int64(d)
}

func newClock() *clock { return &clock{Instant{Boot: 1000 * second, Wall: 1_795_000_000 * second}} }

func directory(tb testing.TB) *Directory {
	tb.Helper()
	set, err := policy.Load("../policy/testdata/good/security_policy_bms_data.yaml", "../policy/testdata/good/pack-a.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return NewDirectory(set)
}

// store is a destination and a log that keeps everything, or refuses it.
type store struct {
	records []Record
	fail    error
	settled int
	notices []Record
}

func (s *store) Offer(r *Record) { s.records = append(s.records, *r) }

func (s *store) Append(r *Record) error {
	if s.fail == nil {
		s.Offer(r)
	}
	return s.fail
}

func (s *store) Settle(bool) error { s.settled++; return s.fail }

func (s *store) Notices() []Record {
	n := s.notices
	s.notices = nil
	return n
}

func (s *store) count(k Key) (n uint64) {
	for i := range s.records {
		if s.records[i].Key() == k {
			n += s.records[i].Count
		}
	}
	return n
}

var errFull = errors.New("no room")
