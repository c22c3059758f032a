// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
)

// Defaults of Options.
const (
	DefaultSignEvery    = 256
	DefaultSignInterval = time.Minute
	DefaultSyncInterval = time.Second
	DefaultSegmentBytes = 4 << 20
	DefaultMaxBytes     = 64 << 20
	minSegmentBytes     = 4 << 10
)

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("event log is closed")

// Options of a log. The zero value but for Dir works, without signatures.
type Options struct {
	// Dir is the folder. It is made if its parent exists.
	Dir string
	// Signer signs heads; nil: nobody does, and then the log proves only that nobody has altered it by accident.
	Signer Signer
	// A head is signed after SignEvery lines, and SignInterval after the first line that is not signed. 0: the defaults.
	SignEvery    int
	SignInterval time.Duration
	// SyncInterval is how long a line may wait to be made durable. 0: DefaultSyncInterval.
	SyncInterval time.Duration
	// SegmentBytes is the size from which on a new file is begun, MaxBytes the size of all files above which the oldest are
	// removed; at least two files stay. 0: the defaults.
	SegmentBytes, MaxBytes int64
	// Generation goes into signed heads: the value of a hardware counter that has moved at the start of this run.
	Generation uint64
	// Known is the last head that was stored elsewhere; nil if there is none. If the log does not have it, the log was cut.
	Known *Head
	Clock event.Clock // nil: event.SystemClock
}

func (o *Options) defaults() {
	if o.SignEvery <= 0 {
		o.SignEvery = DefaultSignEvery
	}
	if o.SignInterval <= 0 {
		o.SignInterval = DefaultSignInterval
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = DefaultSyncInterval
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	o.SegmentBytes = min(max(o.SegmentBytes, minSegmentBytes), maxSegment/2)
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Clock == nil {
		o.Clock = event.SystemClock{}
	}
}

// Log is an open event log. It implements event.Log. One goroutine at a time may use it.
type Log struct {
	o        Options
	dir      *folder
	f        *os.File
	id       [16]byte
	segments []segment // the last one is open
	seq      uint64    // of the last line
	hash     Hash      // of the last line
	head     Head      // the last one that this run has signed

	since    int   // lines behind the last head
	unsigned int64 // CLOCK_BOOTTIME of the first line behind it
	signTry  int64 // not to be tried before
	mute     bool  // signing has failed, and that was reported
	unsynced int64 // CLOCK_BOOTTIME of the first line that is not durable; 0 if all are
	torn     bool  // a failed write may have left bytes
	notices  []event.Record
	buf      []byte
}

var _ event.Log = (*Log)(nil)

// Open opens or begins a log. What a crash has left at its end stays there and is accounted for by a line of its own; that, a
// file that cannot be continued, and a known head that the log does not have are reported through Notices.
func Open(o Options) (*Log, error) {
	o.defaults()
	dir, err := openFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{o: o, dir: dir}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

// open finds the end of the log and continues there.
func (l *Log) open() error {
	var err error
	if l.segments, err = l.dir.segments(); err != nil {
		return err
	}
	var damaged []bodyDamaged
	for i := len(l.segments) - 1; i >= 0; i-- {
		g := &l.segments[i]
		data, err := l.dir.read(g.number)
		if err != nil {
			return err
		}
		s := scanSegment(data)
		if s.good == 0 {
			damaged = append(damaged, bodyDamaged{g.number, g.size, sum(data)})
			continue
		}
		l.id, l.seq, l.hash, l.since = s.log, s.last.seq, s.last.hash, s.since
		g.first, g.last, g.hash = s.first, s.last.seq, s.last.hash
		if err := l.resume(s, data, i); err != nil {
			return err
		}
		break
	}
	if l.f == nil {
		if err := l.begin(); err != nil {
			return err
		}
	}
	slices.Reverse(damaged)
	for _, d := range damaged {
		if err := l.write(typeDamaged, marshal(d)); err != nil {
			return err
		}
		l.notice(kind.LogDamaged, fmt.Sprintf("%s has no readable beginning (%d bytes); the log goes on in another file", fileName(d.Segment), d.Bytes))
	}
	if err := l.checkKnown(); err != nil {
		return err
	}
	return l.sync()
}

// resume continues behind the last good line of the file at position i.
func (l *Log) resume(s scan, data []byte, i int) (err error) {
	if i < len(l.segments)-1 {
		// Files behind it are damaged. They stay as they are; the log goes on behind them.
		return l.next(l.segments[len(l.segments)-1].number + 1)
	}
	if l.f, err = l.dir.append(l.segments[i].number); err != nil {
		return err
	}
	rest := data[s.good:]
	if len(rest) == 0 {
		return nil
	}
	// The bytes stay: they are evidence, and a log that is only ever appended to can be watched. A line end makes them a line.
	if rest[len(rest)-1] != '\n' {
		if err := l.raw([]byte("\n")); err != nil {
			return err
		}
	}
	if err := l.write(typeTorn, marshal(bodyTorn{len(rest), sum(rest)})); err != nil {
		return err
	}
	if whole := bytes.Count(rest, []byte("\n")); whole > 0 {
		// A crash in the middle of a line leaves no line end.
		l.notice(kind.LogDamaged, fmt.Sprintf("%s: %d bytes behind line %d do not continue the log; it goes on behind them",
			fileName(l.segments[i].number), len(rest), bytes.Count(data[:s.good], []byte("\n"))))
	} else {
		l.notice(kind.LogTorn, fmt.Sprintf("%s: %d bytes of a line behind line %d", fileName(l.segments[i].number), len(rest),
			bytes.Count(data[:s.good], []byte("\n"))))
	}
	return nil
}

// begin begins a log.
func (l *Log) begin() error {
	if _, err := rand.Read(l.id[:]); err != nil {
		return fmt.Errorf("draw id of event log: %w", err)
	}
	l.seq, l.hash, l.since = 0, Hash{}, 0
	number := uint64(1)
	if n := len(l.segments); n > 0 {
		number = l.segments[n-1].number + 1
	}
	return l.next(number)
}

// checkKnown looks for the known head. A log that does not have it was cut, or is another one; it goes on with numbers above those
// that were used, so that no number stands for two records.
func (l *Log) checkKnown() error {
	k := l.o.Known
	if k == nil {
		return nil
	}
	if k.Log == l.id {
		have, oldest, err := l.find(k.Seq)
		if err != nil {
			return err
		}
		// It is there, with the line that carries the signature, or was removed with the oldest files.
		if have == k.Hash && l.seq > k.Seq || k.Seq < oldest {
			return nil
		}
	}
	seq := l.seq
	if err := l.writeAs(max(l.seq, k.Seq+1)+1, typeCut, marshal(bodyCut{k.Seq, k.Hash.String()})); err != nil {
		return err
	}
	l.notice(kind.LogCut, fmt.Sprintf("line %d was signed and is not in the log, which ended at line %d", k.Seq, seq))
	return nil
}

// find looks for the hash of a line, zero if there is none, and for the lowest number of a line.
func (l *Log) find(seq uint64) (found Hash, oldest uint64, err error) {
	for _, g := range l.segments {
		data, err := l.dir.read(g.number)
		if err != nil {
			return Hash{}, 0, err
		}
		for text := range bytes.Lines(data) {
			x, err := parseLine(bytes.TrimSuffix(text, []byte("\n")))
			if err != nil {
				continue
			}
			if oldest == 0 || x.seq < oldest {
				oldest = x.seq
			}
			if x.seq == seq {
				found = x.hash
			}
		}
	}
	return found, oldest, nil
}

func (l *Log) notice(k kind.Kind, detail string) {
	now := l.o.Clock.Now()
	l.notices = append(l.notices, event.Record{Kind: k, Count: 1, First: now, Last: now, Detail: detail})
}

// Notices implements event.Log.
func (l *Log) Notices() []event.Record {
	n := l.notices
	l.notices = nil
	return n
}

// raw appends bytes to the open file. When that fails in part, what went out is taken back at once or before the next line: it is
// no part of the log.
func (l *Log) raw(b []byte) error {
	if l.f == nil {
		return ErrClosed
	}
	g := &l.segments[len(l.segments)-1]
	if l.torn {
		if err := l.f.Truncate(g.size); err != nil {
			return fmt.Errorf("take back part of a line of event log: %w", err)
		}
		l.torn = false
	}
	if _, err := l.f.Write(b); err != nil {
		l.torn = l.f.Truncate(g.size) != nil
		return fmt.Errorf("write event log: %w", err)
	}
	g.size += int64(len(b))
	if l.unsynced == 0 {
		l.unsynced = l.o.Clock.Now().Boot
	}
	return nil
}

func (l *Log) write(kind string, body []byte) error { return l.writeAs(l.seq+1, kind, body) }

// writeAs appends a line.
func (l *Log) writeAs(seq uint64, kind string, body []byte) error {
	var hash Hash
	l.buf, hash = appendLine(l.buf[:0], seq, l.hash, kind, body)
	if len(l.buf) > MaxLine {
		return fmt.Errorf("%w: %d bytes", ErrLine, len(l.buf))
	}
	if err := l.raw(l.buf); err != nil {
		return err
	}
	l.wrote(seq, hash, kind)
	return nil
}

func (l *Log) wrote(seq uint64, hash Hash, kind string) {
	l.seq, l.hash = seq, hash
	g := &l.segments[len(l.segments)-1]
	g.last, g.hash = seq, hash
	if kind == typeHead {
		l.since = 0
		return
	}
	if l.since == 0 {
		l.unsigned = l.o.Clock.Now().Boot
	}
	l.since++
}

// Append implements event.Log. The record is in the file when it returns, and durable after SyncInterval.
func (l *Log) Append(r *event.Record) error {
	if l.f == nil {
		return ErrClosed
	}
	if err := l.roll(); err != nil {
		return err
	}
	if err := l.write(typeEvent, encode.JSON(nil, r)); err != nil {
		return err
	}
	if l.since >= l.o.SignEvery {
		return l.sign(false)
	}
	return nil
}

// roll begins a new file when the open one is full, and removes the oldest.
func (l *Log) roll() error {
	g := l.segments[len(l.segments)-1]
	if g.size < l.o.SegmentBytes {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	f := l.f
	if err := l.next(g.number + 1); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close event log: %w", err)
	}
	return l.prune()
}

// next begins a file.
func (l *Log) next(number uint64) error {
	every := 0
	if l.o.Signer != nil {
		every = l.o.SignEvery
	}
	body := marshal(bodySegment{1, hex.EncodeToString(l.id[:]), number, l.o.Clock.Now().Time().Format(time.RFC3339), every})
	text, hash := appendLine(nil, l.seq+1, l.hash, typeSegment, body)
	f, err := l.dir.create(number, text)
	if err != nil {
		return err
	}
	l.f = f
	l.segments = append(l.segments, segment{number: number, size: int64(len(text)), first: l.seq + 1})
	l.wrote(l.seq+1, hash, typeSegment)
	return nil
}

// prune removes the oldest files while all together are too large. The line that says so is durable before the file goes: after a
// crash in between the file is there although it is said to be removed, and is removed the next time.
func (l *Log) prune() error {
	total := int64(0)
	for _, g := range l.segments {
		total += g.size
	}
	for len(l.segments) > 2 && total > l.o.MaxBytes {
		g := l.segments[0]
		if g.first == 0 {
			if data, err := l.dir.read(g.number); err == nil {
				if s := scanSegment(data); s.good > 0 {
					g.first, g.last, g.hash = s.first, s.last.seq, s.last.hash
				}
			}
		}
		if err := l.write(typeRemoved, marshal(bodyRemoved{g.number, g.first, g.last, g.hash.String(), g.size})); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
		if err := l.dir.root.Remove(fileName(g.number)); err != nil {
			return fmt.Errorf("remove oldest event log: %w", err)
		}
		if err := l.dir.sync(); err != nil {
			return err
		}
		l.notice(kind.LogRemoved, fmt.Sprintf("%s with lines %d to %d", fileName(g.number), g.first, g.last))
		l.segments = l.segments[1:]
		total -= g.size
	}
	return nil
}

func (l *Log) sync() error {
	if l.unsynced == 0 {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("sync event log: %w", err)
	}
	l.unsynced = 0
	return nil
}

// sign signs the head. A signer that fails does not hold the log up: that is a notice, and the next try comes later.
func (l *Log) sign(closed bool) error {
	now := l.o.Clock.Now()
	if l.o.Signer == nil || now.Boot < l.signTry && !closed {
		return nil
	}
	h := Head{Log: l.id, Seq: l.seq, Hash: l.hash, Wall: now.Wall, Generation: l.o.Generation, Closed: closed}
	body, err := h.sign(l.o.Signer)
	if err != nil {
		l.signTry = now.Boot + int64(l.o.SignInterval)
		if !l.mute {
			l.mute = true
			l.notice(kind.LogUnsigned, err.Error())
		}
		return nil
	}
	if err := l.write(typeHead, body); err != nil {
		return err
	}
	l.head, l.mute, l.signTry = h, false, 0
	return l.sync()
}

// Settle implements event.Log: it signs and makes durable what is due.
func (l *Log) Settle(final bool) error {
	if l.f == nil {
		return ErrClosed
	}
	now := l.o.Clock.Now().Boot
	if l.since > 0 && now-l.unsigned >= int64(l.o.SignInterval) {
		if err := l.sign(false); err != nil {
			return err
		}
	}
	if final || l.unsynced != 0 && now-l.unsynced >= int64(l.o.SyncInterval) {
		return l.sync()
	}
	return nil
}

// Head returns the last head that this run has signed (the line behind it carries the signature), to be stored elsewhere and given to Open and Verify. ok is false before
// the first.
func (l *Log) Head() (h Head, ok bool) { return l.head, l.head.Seq > 0 }

// SetGeneration sets Options.Generation for the heads to come.
func (l *Log) SetGeneration(g uint64) { l.o.Generation = g }

// Seal signs a last head, which says that the log ends there in order, and makes it durable. What is appended behind it is sealed by Close.
func (l *Log) Seal() error {
	switch {
	case l.f == nil:
		return ErrClosed
	case l.head.Closed && l.since == 0:
		return nil // by the last line
	}
	return errors.Join(l.sign(true), l.sync())
}

// Close seals the log and closes it.
func (l *Log) Close() error {
	if l.f == nil {
		return nil
	}
	return errors.Join(l.Seal(), l.release())
}

func (l *Log) release() error {
	var err error
	if l.f != nil {
		err = l.f.Close()
		l.f = nil
	}
	return errors.Join(err, l.dir.close())
}
