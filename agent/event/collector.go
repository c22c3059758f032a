// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event/kind"
)

// Defaults of CollectorOptions.
const (
	DefaultPoll        = 100 * time.Millisecond
	DefaultMinInterval = time.Second
	DefaultMaxInterval = time.Minute
	DefaultMaxPerTurn  = 256
	// maxReported bounds the records of Report that wait for a turn.
	maxReported   = 1024
	maxFlushTurns = 4
	// maxDetail bounds the text of a record in bytes.
	maxDetail = 1024
)

// Clock tells the time on both clocks.
type Clock interface {
	Now() Instant
}

// SystemClock is the clock of this machine.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() Instant {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // the kernel cannot refuse this clock
	return Instant{Boot: ts.Nano(), Wall: time.Now().UnixNano()}
}

// Log is the event log. It may take its time.
type Log interface {
	// Append writes a record. One that it refuses is offered again, summed up with its like.
	Append(*Record) error
	// Settle is called at the end of every turn, and makes durable what is due. final says that nothing may wait any longer.
	Settle(final bool) error
	// Notices returns what the log has to report about itself since the last call.
	Notices() []Record
}

// Destination is somewhere that records go. Offer never waits; what the destination cannot take at once it counts and
// delivers later.
type Destination interface {
	Offer(*Record)
}

// Fact is what was noted since the last turn about one kind and subject, without regard to the rate of records.
type Fact struct {
	Kind    kind.Kind
	Subject Subject
	Count   uint64
	At      int64 // CLOCK_BOOTTIME in ns
}

// CollectorOptions configure a Collector. The zero value but for Table works.
type CollectorOptions struct {
	Table      *Table
	Clock      Clock // nil: SystemClock
	BootID     [16]byte
	PolicyHash [32]byte
	// Poll is the time between two turns. 0: DefaultPoll.
	Poll time.Duration
	// The first record of a kind about a subject is made at once. While more of it comes the time to the next record doubles
	// from MinInterval to MaxInterval. 0: DefaultMinInterval, DefaultMaxInterval.
	MinInterval, MaxInterval time.Duration
	// MaxPerTurn bounds the records of a turn; cells take turns where there are more. 0: DefaultMaxPerTurn.
	MaxPerTurn int
	// Log gets every record; nil for none. When it fails, that is an event of its own.
	Log Log
	// Destinations get every record.
	Destinations []Destination
	// Facts, if not nil, is called at every turn with what was noted since the last one, at full rate: escalation must not
	// wait for the rate of records.
	Facts func([]Fact)
}

// pace is the rate of the records of one cell.
type pace struct {
	due      int64 // when the next may be made
	interval int64
	given    uint64 // how many of the waiting facts Facts was told of
	emitted  bool
}

// Collector turns what was noted into records. Turn, Run, Flush and Unlogged are for one goroutine at a time; Report is safe for concurrent
// use.
type Collector struct {
	o      CollectorOptions
	paces  map[Key]*pace
	cursor int
	facts  []Fact
	due    []Key
	// Appending and settling have failed, and have not worked since.
	appendBroken, settleBroken bool
	// unlogged is what the log could not take.
	unlogged Backlog

	mu       sync.Mutex
	reported []Record
}

// NewCollector makes a collector.
func NewCollector(o CollectorOptions) *Collector {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.MinInterval <= 0 {
		o.MinInterval = DefaultMinInterval
	}
	if o.MaxInterval <= 0 {
		o.MaxInterval = DefaultMaxInterval
	}
	o.MaxInterval = max(o.MaxInterval, o.MinInterval)
	if o.MaxPerTurn <= 0 {
		o.MaxPerTurn = DefaultMaxPerTurn
	}
	return &Collector{o: o, paces: make(map[Key]*pace)}
}

// Report hands over a record of its own: a change of state, which is rare and has more to say than a Note. Kind, Subject and
// what the caller knows are set; Count 0 means 1, a zero Last means now. What does not fit any more is noted in the table, so
// that it is counted all the same.
func (c *Collector) Report(r Record) {
	r.Count = max(r.Count, 1)
	if r.Last == (Instant{}) {
		r.Last = c.o.Clock.Now()
	}
	if r.First == (Instant{}) {
		r.First = r.Last
	}
	c.mu.Lock()
	fits := len(c.reported) < maxReported
	if fits {
		c.reported = append(c.reported, r)
	}
	c.mu.Unlock()
	if !fits {
		c.o.Table.Note(&Note{Kind: r.Kind, Subject: r.Subject, Count: r.Count, Time: r.Last.Boot, Epoch: r.Epoch, Counter: r.Counter, LastCounter: r.LastCounter})
	}
}

// Turn makes the records that are due and returns how many.
func (c *Collector) Turn() int { return c.turn(false) }

// Flush makes a record of everything that waits, whatever the rate, and of what was reported about that.
func (c *Collector) Flush() int {
	total := 0
	// What Facts and the log report comes with the next turn. The bound is for a log that always has something to say.
	for range maxFlushTurns {
		n := c.turn(true)
		total += n
		if n == 0 {
			break
		}
	}
	return total
}

func (c *Collector) turn(all bool) int {
	now := c.o.Clock.Now()
	n := 0
	c.catchUp()
	c.mu.Lock()
	reported := c.reported
	c.reported = nil
	c.mu.Unlock()
	for i := range reported {
		r := &reported[i]
		c.complete(r, now)
		c.emit(r)
		n++
	}
	c.tellFacts(now)
	for _, key := range c.choose(now, all) {
		if r, ok := c.collect(key, now); ok {
			c.emit(&r)
			n++
		}
	}
	c.settle(now, all)
	return n
}

// settle lets the log finish its turn, and reports what it has noticed: to the log itself as well, with the next turn or, at the
// end, at once.
func (c *Collector) settle(now Instant, final bool) {
	if c.o.Log == nil {
		return
	}
	for _, r := range c.o.Log.Notices() {
		c.complete(&r, now)
		c.emit(&r)
	}
	c.worked(&c.settleBroken, c.o.Log.Settle(final))
}

// tellFacts tells Facts of everything new in the cells.
func (c *Collector) tellFacts(now Instant) {
	if c.o.Facts == nil {
		return
	}
	c.facts = c.facts[:0]
	t := c.o.Table
	t.each(0, func(row int, k kind.Kind) bool {
		key := Key{k, t.dir.subject(row)}
		p := c.pace(key)
		if n := t.waiting(row, k); n > p.given {
			c.facts = append(c.facts, Fact{k, key.Subject, n - p.given, now.Boot})
			p.given = n
		}
		return true
	})
	if len(c.facts) > 0 {
		c.o.Facts(c.facts)
	}
}

func (c *Collector) pace(key Key) *pace {
	p := c.paces[key]
	if p == nil {
		p = new(pace)
		c.paces[key] = p
	}
	return p
}

// choose returns the cells whose turn it is, at most MaxPerTurn unless all are wanted. The next turn goes on behind the last row.
func (c *Collector) choose(now Instant, all bool) []Key {
	t := c.o.Table
	c.due = c.due[:0]
	next := 0
	t.each(c.cursor, func(row int, k kind.Kind) bool {
		key := Key{k, t.dir.subject(row)}
		if p := c.pace(key); !all && p.emitted && now.Boot < p.due {
			return true
		}
		if !all && len(c.due) == c.o.MaxPerTurn {
			next = row
			return false
		}
		c.due = append(c.due, key)
		return true
	})
	c.cursor = next
	c.forget(now)
	return c.due
}

// forget drops the pace of cells that have been quiet, so that their next record is made at once.
func (c *Collector) forget(now Instant) {
	for key, p := range c.paces {
		row, _ := c.o.Table.dir.row(key.Subject)
		if p.emitted && now.Boot > p.due+p.interval && c.o.Table.waiting(row, key.Kind) == 0 {
			delete(c.paces, key)
		}
	}
}

// collect empties a cell into a record.
func (c *Collector) collect(key Key, now Instant) (r Record, ok bool) {
	row, _ := c.o.Table.dir.row(key.Subject)
	x, ok := c.o.Table.take(row, key.Kind)
	p := c.pace(key)
	if !ok {
		return r, false
	}
	if c.o.Facts != nil && x.count > p.given { // noted between the two looks
		c.o.Facts([]Fact{{key.Kind, key.Subject, x.count - p.given, now.Boot}})
	}
	p.given = 0
	switch {
	case !p.emitted:
		p.interval = int64(c.o.MinInterval)
	default:
		p.interval = min(2*p.interval, int64(c.o.MaxInterval))
	}
	p.due, p.emitted = now.Boot+p.interval, true

	r = Record{
		Kind: key.Kind, Subject: key.Subject, Count: x.count, Epoch: x.epoch, Counter: x.counter, LastCounter: x.lastCt,
		First: c.at(x.first, now), Last: c.at(x.last, now), Frame: x.frame,
	}
	r.Window.Highest = x.highest
	c.complete(&r, now)
	return r, true
}

// Frames returns a record for each offending frame that the table keeps, ordered by time. They are no events of their own: those were
// counted, and may have been reported without the frame. Safe for concurrent use.
func (c *Collector) Frames() []Record {
	now := c.o.Clock.Now()
	kept := c.o.Table.Frames()
	all := make([]Record, len(kept))
	for i, f := range kept {
		at := Instant{Boot: f.Boot}
		all[i] = Record{Kind: f.Kind, Subject: f.Subject, Count: 1, First: at, Last: at, Frame: &kept[i].Frame}
		c.complete(&all[i], now)
	}
	return all
}

// at gives a time of CLOCK_BOOTTIME its wall clock time, by what both clocks show now.
func (c *Collector) at(boot int64, now Instant) Instant {
	return Instant{Boot: boot, Wall: now.Wall - (now.Boot - boot)}
}

// complete adds what the collector knows.
func (c *Collector) complete(r *Record, now Instant) {
	r.BootID, r.PolicyHash = c.o.BootID, c.o.PolicyHash
	r.Detail = r.Detail[:min(len(r.Detail), maxDetail)]
	if r.Verdict == "" {
		r.Verdict = verdictOf(r.Kind)
	}
	r.Severity = r.Kind.Severity()
	c.o.Table.dir.describe(r)
	if r.Last.Wall == 0 {
		r.First, r.Last = c.at(r.First.Boot, now), c.at(r.Last.Boot, now)
	}
}

// emit hands a record to the destinations and, as soon as it works, to the log.
func (c *Collector) emit(r *Record) {
	c.offer(r)
	if c.o.Log == nil {
		return
	}
	// What the log could not take earlier comes first. A record that it cannot take is summed up with its like until it can.
	if c.unlogged.Len() > 0 || !c.append(r) {
		c.unlogged.Add(r)
	}
}

// catchUp hands the log what it could not take before.
func (c *Collector) catchUp() {
	for r := c.unlogged.Next(); r != nil && c.append(r); r = c.unlogged.Next() {
		c.unlogged.Done()
	}
}

// append writes a record to the log.
func (c *Collector) append(r *Record) bool { return c.worked(&c.appendBroken, c.o.Log.Append(r)) }

// worked takes note of whether the log works. The first failure in a row is an event for the destinations.
func (c *Collector) worked(broken *bool, err error) bool {
	if err != nil && !*broken {
		now := c.o.Clock.Now()
		failed := Record{Kind: kind.LogWriteFailed, Count: 1, First: now, Last: now, Detail: err.Error()}
		c.complete(&failed, now)
		c.offer(&failed)
	}
	*broken = err != nil
	return err == nil
}

// Unlogged returns how many events wait for the log to work again.
func (c *Collector) Unlogged() uint64 { return c.unlogged.Count() }

func (c *Collector) offer(r *Record) {
	for _, d := range c.o.Destinations {
		d.Offer(r)
	}
}

// Run takes turns until the context ends, and then makes a record of all that is left.
func (c *Collector) Run(ctx context.Context) {
	tick := time.NewTicker(c.o.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.Flush()
			return
		case <-tick.C:
			c.Turn()
		}
	}
}

// ErrBootID says that the kernel's boot id cannot be read.
var ErrBootID = errors.New("boot id cannot be read")

// ParseBootID reads the text of /proc/sys/kernel/random/boot_id.
func ParseBootID(text string) (id [16]byte, err error) {
	n := 0
	for _, r := range text {
		var v byte
		switch {
		case r == '-' || r == '\n':
			continue
		case r >= '0' && r <= '9':
			v = byte(r - '0')
		case r >= 'a' && r <= 'f':
			v = byte(r-'a') + 10
		default:
			return id, fmt.Errorf("%w: %q", ErrBootID, text)
		}
		if n == 32 {
			return id, fmt.Errorf("%w: %q", ErrBootID, text)
		}
		id[n/2] |= v << (4 * (1 - n%2))
		n++
	}
	if n != 32 {
		return id, fmt.Errorf("%w: %q", ErrBootID, text)
	}
	return id, nil
}
