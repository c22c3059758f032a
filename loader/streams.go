// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// StreamTable is the hash map by which the filter finds the stream of a frame. An identifier is protected
// exactly while it is in the table. Safe for concurrent use.
type StreamTable struct{ m *ebpf.Map }

// Set puts a stream into the table, in place of one with the same key. The kernel replaces an entry in one
// step: there is no instant at which the identifier is open.
func (t StreamTable) Set(key StreamKey, stream Stream) error {
	if err := errors.Join(key.validate(), stream.validate()); err != nil {
		return err
	}
	if err := t.m.Put(&key, &stream); err != nil {
		return fmt.Errorf("set stream %#x on interface slot %d: %w", key.CANID, key.Iface, err)
	}
	return nil
}

// Delete takes a stream out: from now on its identifier passes untouched. That opens the bus for this
// identifier, so it is never part of a restart. A key that is not there gives ebpf.ErrKeyNotExist.
func (t StreamTable) Delete(key StreamKey) error {
	if err := t.m.Delete(&key); err != nil {
		return fmt.Errorf("delete stream %#x on interface slot %d: %w", key.CANID, key.Iface, err)
	}
	return nil
}

// Get returns the stream of key, or ebpf.ErrKeyNotExist.
func (t StreamTable) Get(key StreamKey) (stream Stream, err error) {
	if err := t.m.Lookup(&key, &stream); err != nil {
		return Stream{}, fmt.Errorf("get stream %#x on interface slot %d: %w", key.CANID, key.Iface, err)
	}
	return stream, nil
}

// All returns the whole table.
func (t StreamTable) All() (map[StreamKey]Stream, error) {
	var (
		key    StreamKey
		stream Stream
		all    = make(map[StreamKey]Stream)
		each   = t.m.Iterate()
	)
	for each.Next(&key, &stream) {
		all[key] = stream
	}
	if err := each.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	return all, nil
}
