// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"errors"
	"fmt"
	"time"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// Batch is how many PDUs are sealed together at most.
const Batch = 64

// recordSize is a CAN FD record: stream id and epoch in front of an SPDU of up to 64 bytes.
const recordSize = spdu.PrefixSize + 64

var (
	// ErrBinding says that the node's part of the binding is not the one its epoch was agreed under.
	ErrBinding = errors.New("binding has changed since the epoch was agreed: the node needs a new epoch")
	// ErrUnknownNode says that the binding has no such node.
	ErrUnknownNode = errors.New("binding has no such node")
)

// Sender transmits CAN FD frames on one bus. SendFD returns after the frame was taken; it is called with the same bytes
// again only by itself.
type Sender interface {
	SendFD(frame *loader.CANFrame) error
}

// Counts says what a sealer has done.
type Counts struct {
	Offered    uint64 // data frames given to Seal
	Sealed     uint64 // samples sent
	Unclaimed  uint64 // data frames that no stream of the node claims; not sent
	Other      uint64 // remote and error frames, which carry no sample; not sent
	Heartbeats uint64 // heartbeat frames sent
	Starts     uint64 // start records sent
}

// stream is one message identifier of the node.
type stream struct {
	id      uint32
	canID   uint32
	next    uint64
	key     *aead.Key
	bus     *bus
	samples bool
}

// bus is one interface of the node: where its frames go and its heartbeat stream.
type bus struct {
	name      string
	out       Sender
	heartbeat *stream
	streams   []*stream
}

// Options for NewSealer.
type Options struct {
	Set    *policy.Set
	Node   string
	Engine aead.Engine
	// Buses maps the interfaces of the binding to where their frames go. Every interface of the node must be there.
	Buses map[string]Sender
	// Names maps the bus names of the frames to interfaces of the binding; a name that is missing stands for itself. If there
	// are none and the node has one interface, every bus stands for that.
	Names map[string]string
	// Now is the clock of source times; time.Now if nil.
	Now func() time.Time
}

// Sealer seals the frames of one node in one run. It is not safe for concurrent use.
type Sealer struct {
	store  *Store
	engine aead.Engine
	now    func() time.Time
	run    Run
	begun  time.Time
	epoch  uint32
	mac    *secretmem.Box[schedule.StartKey]
	keys   map[uint32]*aead.Key
	names  map[string]string
	only   string // the node's only interface, which every bus stands for if there are no names
	buses  []*bus
	byKey  map[trace.StreamKey]*stream

	records [Batch][recordSize]byte
	ops     [Batch]aead.Op
	pending [Batch]*stream
	queued  int
	frame   loader.CANFrame
	counts  Counts
}

// NewSealer begins a run of a node: it reserves counters durably and derives the run's keys. Nothing is sent yet.
func NewSealer(store *Store, opts Options) (*Sealer, error) {
	node, ok := opts.Set.Node(opts.Node)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownNode, opts.Node)
	}
	if store.state.Epoch == 0 {
		return nil, ErrNoEpoch
	}
	if store.state.BindingHash != node.BindingHash {
		return nil, ErrBinding
	}
	s := &Sealer{
		store: store, engine: opts.Engine, now: opts.Now, names: opts.Names, epoch: store.state.Epoch,
		keys: make(map[uint32]*aead.Key), byKey: make(map[trace.StreamKey]*stream),
	}
	if s.now == nil {
		s.now = time.Now
	}
	run, err := store.Begin()
	if err != nil {
		return nil, fmt.Errorf("begin run of node %s: %w", opts.Node, err)
	}
	s.run, s.begun = run, s.now()
	if s.mac, err = secretmem.NewBox[schedule.StartKey](store.state.PRK.Arena()); err != nil {
		return nil, fmt.Errorf("keep start key: %w", err)
	}
	if err := schedule.Start(store.state.PRK.Get(), s.epoch, s.mac.Get()); err != nil {
		return nil, err
	}
	buses := make(map[string]*bus)
	for _, slot := range node.Slots {
		r := opts.Set.Streams[slot]
		b := buses[r.Interface.Name]
		if b == nil {
			out, ok := opts.Buses[r.Interface.Name]
			if !ok {
				return nil, fmt.Errorf("interface %s of node %s is not connected", r.Interface.Name, opts.Node)
			}
			b = &bus{name: r.Interface.Name, out: out}
			buses[b.name] = b
			s.buses = append(s.buses, b)
		}
		key, err := s.key(r.SourceID)
		if err != nil {
			return nil, err
		}
		st := &stream{id: r.ID, canID: uint32(r.CANID), next: run.F, key: key, bus: b, samples: r.Role == policy.RoleSample}
		if !st.samples {
			b.heartbeat = st
			continue
		}
		b.streams = append(b.streams, st)
		s.byKey[trace.StreamKey{Bus: b.name, ID: r.CANID.Number(), Extended: r.CANID.Extended()}] = st
	}
	if len(s.buses) == 1 && len(s.names) == 0 {
		s.only = s.buses[0].name
	}
	for i := range s.ops {
		s.ops[i].Record = s.records[i][:]
	}
	return s, nil
}

// key returns the run's traffic key of a source.
func (s *Sealer) key(source uint32) (*aead.Key, error) {
	if k, ok := s.keys[source]; ok {
		return k, nil
	}
	var k *aead.Key
	var err error
	secretmem.Do(func() {
		tk := new(schedule.TrafficKey)
		defer tk.Wipe()
		if err = schedule.Traffic(s.store.state.PRK.Get(), source, s.epoch, &s.run.Random, tk); err != nil {
			return
		}
		if k, err = s.engine.NewKey(&tk.Key, &tk.IV); err != nil {
			err = fmt.Errorf("expand traffic key: %w", err)
		}
	})
	if err != nil {
		return nil, err
	}
	s.keys[source] = k
	return k, nil
}

// Run returns the start of this run.
func (s *Sealer) Run() Run { return s.run }

// Counts returns what was done up to now.
func (s *Sealer) Counts() Counts { return s.counts }

// Close wipes the keys of the run.
func (s *Sealer) Close() {
	for _, k := range s.keys {
		k.Wipe()
	}
	s.mac.Free()
}

// Full reports whether Seal needs a Flush first.
func (s *Sealer) Full() bool { return s.queued == Batch }

// Queued returns how many PDUs wait for Flush.
func (s *Sealer) Queued() int { return s.queued }

// Seal takes one frame. A frame that a stream of the node claims gets the stream's next counter and waits for Flush; any
// other is counted and left alone. A body that is too long for CAN FD is refused by name (spdu.ErrBodyTooLong).
func (s *Sealer) Seal(f *trace.Frame) error {
	if f.RTR || f.Error {
		s.counts.Other++
		return nil
	}
	s.counts.Offered++
	st := s.claim(f)
	if st == nil {
		s.counts.Unclaimed++
		return nil
	}
	id, err := s.consume(st)
	if err != nil {
		return err
	}
	n, err := spdu.PutSample(s.records[s.queued][:], spdu.FormFD, id, s.sourceTime(), f.Body())
	if err != nil {
		return fmt.Errorf("seal frame %s %03X of %d bytes: %w", f.Bus, f.ID, f.Len, err)
	}
	s.queue(st, n)
	return nil
}

// claim finds the stream of a frame.
func (s *Sealer) claim(f *trace.Frame) *stream {
	k := f.Key()
	if name, ok := s.names[k.Bus]; ok {
		k.Bus = name
	} else if s.only != "" {
		k.Bus = s.only
	}
	return s.byKey[k]
}

// consume takes the stream's next counter. It is used only if a ceiling above it is durable; a failed write stops sending.
func (s *Sealer) consume(st *stream) (spdu.ID, error) {
	if err := s.store.Reserve(st.next); err != nil {
		return spdu.ID{}, fmt.Errorf("reserve counters: %w", err)
	}
	id := spdu.ID{Stream: st.id, Epoch: s.epoch, Counter: st.next}
	st.next++
	return id, nil
}

func (s *Sealer) queue(st *stream, n int) {
	s.ops[s.queued].Record = s.records[s.queued][:n]
	s.ops[s.queued].Key = st.key
	s.pending[s.queued] = st
	s.queued++
}

// Flush seals what is queued as one batch and sends it in order.
func (s *Sealer) Flush() error {
	n := s.queued
	s.queued = 0
	if err := s.engine.Seal(s.ops[:n]); err != nil {
		return fmt.Errorf("seal batch of %d: %w", n, err)
	}
	for i := range n {
		if err := s.send(s.pending[i], s.ops[i].Record); err != nil {
			return err
		}
		if s.pending[i].samples {
			s.counts.Sealed++
		} else {
			s.counts.Heartbeats++
		}
	}
	return nil
}

// send puts the SPDU of a record into a CAN FD frame.
func (s *Sealer) send(st *stream, record []byte) error {
	pdu := record[spdu.PrefixSize:]
	s.frame = loader.CANFrame{ID: st.canID, Len: uint8(len(pdu))}
	copy(s.frame.Data[:], pdu)
	if err := st.bus.out.SendFD(&s.frame); err != nil {
		return fmt.Errorf("send on %s: %w", st.bus.name, err)
	}
	return nil
}

// AnnounceStart sends the start record of this run once on every bus of the node.
func (s *Sealer) AnnounceStart() error {
	var record [recordSize]byte
	for _, b := range s.buses {
		// The counter field names F; a start record consumes no counter and has no nonce.
		id := spdu.ID{Stream: b.heartbeat.id, Epoch: s.epoch, Counter: s.run.F}
		n, err := spdu.PutStart(record[:], spdu.FormFD, id, &s.run.Random, s.mac.Get())
		if err != nil {
			return fmt.Errorf("make start record: %w", err)
		}
		if err := s.send(b.heartbeat, record[:n]); err != nil {
			return err
		}
		s.counts.Starts++
	}
	return nil
}

// Heartbeat sends one round: on every bus the next counter of each of its streams, four in a frame, and then the start
// record again. It closes the blind spot of a deleted tail.
func (s *Sealer) Heartbeat() error {
	if err := s.Flush(); err != nil {
		return err
	}
	var entries [spdu.MaxEntriesFD]spdu.Entry
	for _, b := range s.buses {
		for i := 0; i < len(b.streams); i += len(entries) {
			n := 0
			for _, st := range b.streams[i:min(i+len(entries), len(b.streams))] {
				entries[n] = spdu.Entry{Stream: st.id, Next: st.next}
				n++
			}
			if s.Full() {
				if err := s.Flush(); err != nil {
					return err
				}
			}
			id, err := s.consume(b.heartbeat)
			if err != nil {
				return err
			}
			size, err := spdu.PutHeartbeat(s.records[s.queued][:], spdu.FormFD, id, entries[:n])
			if err != nil {
				return fmt.Errorf("make heartbeat: %w", err)
			}
			s.queue(b.heartbeat, size)
		}
	}
	if err := s.Flush(); err != nil {
		return err
	}
	return s.AnnounceStart()
}

// sourceTime is in milliseconds since this run began, modulo 2^32.
func (s *Sealer) sourceTime() uint32 { return uint32(s.now().Sub(s.begun).Milliseconds()) }
