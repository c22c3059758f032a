// SPDX-License-Identifier: Apache-2.0

package event

// Backlog sums up records that could not be handed on: one record for each kind and subject, with exact counts, in the order in
// which their first one came. It is bounded by the number of kinds and subjects of the installation. It is not safe for
// concurrent use.
type Backlog struct {
	byKey map[Key]*Record
	order []Key
}

// Add takes a record in.
func (b *Backlog) Add(r *Record) {
	if have := b.byKey[r.Key()]; have != nil {
		have.Merge(r)
		return
	}
	if b.byKey == nil {
		b.byKey = make(map[Key]*Record)
	}
	copied := *r
	b.byKey[r.Key()] = &copied
	b.order = append(b.order, r.Key())
}

// Next returns the oldest record, nil if there is none. It stays until Done.
func (b *Backlog) Next() *Record {
	if len(b.order) == 0 {
		return nil
	}
	return b.byKey[b.order[0]]
}

// Done takes away what Next returned.
func (b *Backlog) Done() {
	delete(b.byKey, b.order[0])
	if b.order = b.order[1:]; len(b.order) == 0 {
		b.order = nil // give the array back
	}
}

// Len returns the number of records.
func (b *Backlog) Len() int { return len(b.order) }

// Count returns the number of events in them.
func (b *Backlog) Count() (n uint64) {
	for _, r := range b.byKey {
		n += r.Count
	}
	return n
}
