// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// From says where a reader that joins begins. It implements pflag.Value.
type From uint8

// Where to begin.
const (
	FromOldest From = iota // with the oldest sample that the ring still holds
	FromNow                // with the first sample published from now on
)

// String returns "oldest" or "now".
func (f From) String() string {
	if f == FromNow {
		return "now"
	}
	return "oldest"
}

// Set parses "oldest" or "now".
func (f *From) Set(s string) error {
	switch s {
	case "oldest":
		*f = FromOldest
	case "now":
		*f = FromNow
	default:
		return errors.New("want oldest or now")
	}
	return nil
}

// Type names the values in a usage text.
func (*From) Type() string { return "oldest|now" }

// Options tune a Reader. The zero value is good.
type Options struct {
	From From
	// Reconnect makes Next wait for the next producer when the present one is gone, instead of returning
	// ErrProducerGone. A new producer is a new history: reading begins at its oldest sample. Where one producer goes on for another
	// and knows this reader, nothing is missed in between, however far behind the reader is.
	Reconnect bool
	// StaleAfter is the age of the heartbeat at which Next returns ErrProducerStale. 0: three of the periods that the
	// producer promises; negative: never.
	StaleAfter time.Duration
	// Spin is how long Next looks for new samples in a busy loop before it sleeps. 0: not at all.
	Spin time.Duration
}

// Reader reads a ring. Next may be called by one goroutine at a time; all other methods are safe for concurrent use.
type Reader struct {
	path string
	opt  Options

	// mu guards link against Close and against reconnection: readers of the memory hold it shared.
	mu     sync.RWMutex
	link   *link
	closed atomic.Bool
	life   context.Context // ends with Close
	end    context.CancelFunc

	position   atomic.Uint64 // next position to read
	missed     atomic.Uint64
	reconnects atomic.Uint64

	kicks  uint32 // futex word of this process: each change ends a wait
	waiter waiter
	buf    []uint64 // bodies of the last batch
	stale  bool     // ErrProducerStale has been returned for the present silence

	watched   <-chan struct{} // Done channel of the context whose end kicks
	stopWatch func() bool
	latestMu  sync.Mutex
	latestBuf []uint64
}

// link is a connection, and the ring that is read: the one that the server has sent first, or one with which it has gone on.
type link struct {
	conn *net.UnixConn // nil in tests without a server
	view *view
	gone atomic.Bool // the other side's end was seen

	// more says that next is not empty: rings that came over the connection behind view, in their order.
	more   atomic.Bool
	mu     sync.Mutex
	next   []*view
	closed bool
}

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, v := range l.next {
		v.close()
	}
	l.next = nil
	if l.view != nil {
		l.view.close()
	}
}

// add takes a ring with which the producer goes on.
func (l *link) add(v *view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		v.close()
		return
	}
	l.next = append(l.next, v)
	l.more.Store(true)
}

// advance makes the next ring the one that is read.
func (l *link) advance() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.close()
	l.view, l.next = l.next[0], l.next[1:]
	l.more.Store(len(l.next) > 0)
}

// Dial connects to the server at socket (empty: DefaultSocket), receives the ring and checks it. The context bounds
// this call only. Errors: ErrNotAuthorized, ErrTooManyClients, ErrVersion, ErrNotSealed, a LayoutError, or that of
// connect(2).
func Dial(ctx context.Context, socket string, opt Options) (*Reader, error) {
	if socket == "" {
		socket = DefaultSocket
	}
	l, err := dial(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("open ring at %s: %w", socket, err)
	}
	return newReader(socket, opt, l), nil
}

// newReader begins to read from l, at the place that the options ask for.
func newReader(path string, opt Options, l *link) *Reader {
	r := &Reader{path: path, opt: opt, link: l}
	r.life, r.end = context.WithCancel(context.Background())
	if opt.From == FromNow {
		r.position.Store(l.view.tail())
	} else {
		r.position.Store(l.view.oldest())
	}
	r.watchConn(l)
	return r
}

func dial(ctx context.Context, socket string) (_ *link, err error) {
	var d net.Dialer
	generic, err := d.DialContext(ctx, network, socket)
	if err != nil {
		return nil, err
	}
	l := &link{conn: generic.(*net.UnixConn)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	// A server that accepts and says nothing may not hold the caller longer than the context.
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	l.view, err = receiveRing(l.conn)
	if !stop() && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// receiveRing waits for a ring and checks it.
func receiveRing(conn *net.UnixConn) (*view, error) {
	fd, err := receiveHello(conn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }() // the mapping keeps the memory
	mem, err := mapReadOnly(fd)
	if err != nil {
		return nil, err
	}
	v, err := newView(mem)
	if err != nil {
		_ = unix.Munmap(mem)
		return nil, err
	}
	return v, nil
}

// watchConn takes the rings that come over a link's socket and marks the link as gone when the socket ends. The kernel closes a dead
// producer's socket after its last store, and a producer has made its last store before another goes on for it: so what is in the
// memory once either is seen is all there will ever be.
func (r *Reader) watchConn(l *link) {
	if l.conn == nil {
		return
	}
	if r.opt.Reconnect && l.view.minor >= followMinor {
		_, _ = l.conn.Write([]byte{follow}) // the buffer is empty; if the server is gone, the watch sees it
	}
	go func() {
		for {
			v, err := receiveRing(l.conn)
			if err != nil {
				// With a ring that cannot be read, the connection is of no use: another one tells why.
				l.gone.Store(true)
				r.kick()
				return
			}
			l.add(v)
			r.kick()
		}
	}()
}

// kick ends a wait of Next, also one that is about to begin.
func (r *Reader) kick() {
	atomic.AddUint32(&r.kicks, 1)
	wakePrivate(&r.kicks)
}

// watchContext makes the end of ctx kick. The registration is kept for as long as the caller comes with the same
// context, so that waiting costs no allocation each time.
func (r *Reader) watchContext(ctx context.Context) {
	done := ctx.Done()
	select {
	case <-done:
		// It ended since Next looked. All contexts that end before anybody asked for their channel share one closed channel, so the
		// comparison below would take the second of them for the first.
		r.kick()
		return
	default:
	}
	if done == r.watched {
		return
	}
	if r.stopWatch != nil {
		r.stopWatch()
		r.stopWatch = nil
	}
	if r.watched = done; done != nil {
		r.stopWatch = context.AfterFunc(ctx, r.kick)
	}
}

// Next fills batch with the next samples of the ring, at least one, and returns how many. It waits for the first one
// without polling. The bodies are valid until the next call. All samples of one call come from one producer: Generation
// and Stream speak of that one.
//
// Errors: that of the context; ErrProducerGone after the last sample of a producer that ended, unless Reconnect is set;
// ErrProducerStale when nothing came and the heartbeat is old, once for each such time span; a LayoutError when the ring
// is damaged; ErrClosed. After ErrProducerStale and errors of the context the reader goes on where it was. It allocates
// nothing while the size of the batch stays the same.
func (r *Reader) Next(ctx context.Context, batch []Sample) (int, error) {
	if len(batch) == 0 {
		return 0, errors.New("read ring: batch has no room")
	}
	for {
		n, err := r.next(ctx, batch)
		if n > 0 || err == nil {
			return n, err
		}
		if err == errMoved {
			r.advance()
			continue
		}
		if !errors.Is(err, ErrProducerGone) || !r.opt.Reconnect {
			return 0, err
		}
		if err := r.reconnect(ctx); err != nil {
			return 0, fmt.Errorf("read ring: wait for a new producer: %w", err)
		}
	}
}

// errMoved says that all of a ring has been read and that its producer has gone on in another one.
var errMoved = errors.New("producer has gone on in another ring")

// advance goes on with the next ring of the link. It was sent before anything was published in it, so all of it is this reader's.
func (r *Reader) advance() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return // Next says so
	}
	r.link.advance()
	r.position.Store(0)
	r.stale = false
}

// next reads from the present link.
func (r *Reader) next(ctx context.Context, batch []Sample) (int, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	l := r.link
	for {
		// Loaded before any condition is looked at: a kick in between makes the wait return at once.
		kicks := atomic.LoadUint32(&r.kicks)
		if r.closed.Load() {
			return 0, fmt.Errorf("read ring: %w", ErrClosed)
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("read ring: %w", err)
		}
		// Both before the memory: see watchConn. And gone first: what came before the end is seen with it.
		gone := l.gone.Load()
		more := l.more.Load()
		n, moved, err := r.poll(l.view, batch)
		if n > 0 {
			r.stale = false
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read ring: %w", err)
		}
		if moved {
			continue
		}
		if more {
			return 0, errMoved
		}
		if gone {
			how := "without closing the ring"
			if atomic.LoadUint32(&l.view.header.State) == stateClosed {
				how = "in an orderly way"
			}
			return 0, fmt.Errorf("read ring: %w: it ended %s", ErrProducerGone, how)
		}
		if r.opt.Spin > 0 && r.spin(l.view) {
			continue
		}
		limit, stale := r.patience(l.view)
		if stale {
			return 0, fmt.Errorf("read ring: %w", ErrProducerStale)
		}
		r.watchContext(ctx)
		// The futex word is compared by the kernel with the tail that was found to be the reader's own position, so a
		// batch that was published since ends the wait at once.
		if err := r.waiter.wait(tailFutex(l.view.header), uint32(r.position.Load()), &r.kicks, kicks, limit); err != nil {
			return 0, fmt.Errorf("read ring: wait: %w", err)
		}
	}
}

// poll takes what is there. moved reports progress without a sample: the producer overtook the reader meanwhile.
func (r *Reader) poll(v *view, batch []Sample) (n int, moved bool, err error) {
	if need := len(batch) * v.words; len(r.buf) < need {
		r.buf = make([]uint64, need)
	}
	pos := r.position.Load()
	n, next, missed, err := v.read(pos, batch, r.buf)
	r.position.Store(next)
	if missed > 0 {
		r.missed.Add(missed)
	}
	return n, next != pos, err
}

// spin looks for a new tail for a while.
func (r *Reader) spin(v *view) bool {
	pos := r.position.Load()
	for begin := time.Now(); time.Since(begin) < r.opt.Spin; {
		for range 64 {
			if v.tail() != pos {
				return true
			}
		}
	}
	return false
}

// patience returns how long to wait before looking at the heartbeat again, and whether it is stale now. After it was
// found stale once, the next complaint comes after another full time span.
func (r *Reader) patience(v *view) (limit time.Duration, stale bool) {
	after := r.opt.StaleAfter
	if after == 0 {
		after = 3 * v.heartbeatPeriod
	}
	if after < 0 {
		return time.Hour, false
	}
	age := time.Duration(boottime() - atomic.LoadInt64(&v.header.Heartbeat))
	switch {
	case age < after:
		r.stale = false
		return after - age, false
	case r.stale:
		r.stale = false
		return after, false
	default:
		r.stale = true
		return 0, true
	}
}

// reconnect waits for a producer to serve the socket. A server that comes back with the same ring is the same history.
func (r *Reader) reconnect(ctx context.Context) error {
	const shortest, longest = 10 * time.Millisecond, time.Second
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	for pause := shortest; ; pause = min(2*pause, longest) {
		l, err := dial(ctx, r.path)
		if err == nil {
			return r.replace(l)
		}
		if r.closed.Load() {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// A path that is missing, refuses, is full or ends at once belongs to a producer that is about to come or to
		// go. Anything else will not get better by waiting.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EAGAIN) &&
			!errors.Is(err, unix.ECONNRESET) && !errors.Is(err, io.EOF) && !errors.Is(err, ErrTooManyClients) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func (r *Reader) replace(l *link) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		l.close()
		return ErrClosed
	}
	old := r.link
	if l.view.generation != old.view.generation {
		r.position.Store(l.view.oldest())
	}
	r.reconnects.Add(1)
	r.link = l
	r.watchConn(l)
	old.close()
	return nil
}

// Close ends the reader and a Next that waits. Bodies and streams that were handed out stay valid. Closing twice is
// harmless.
func (r *Reader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.end()
	r.kick()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopWatch != nil {
		r.stopWatch()
	}
	r.link.close()
	return nil
}
