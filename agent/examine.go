// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/agent/ring"
)

// examine looks at when the samples of a batch were taken and came, behind commit and ahead of publication: a sample that is late is
// flagged, and none is held back.
//
// The sample of every day has nothing wrong with it and gets no flag: detect.Pace says so in a few comparisons. Streams whose samples
// are flagged are held (stream.flag), so that there is nothing else to ask.
func (c *core) examine(samples int) {
	if samples == 0 {
		return
	}
	if c.inOrder {
		c.examineBatchInOrder(samples)
		return
	}
	paces, x := c.paces, c.draft.At(0)
	for ; ; x = c.draft.After(x) {
		if !paces[x.Stream].Plain(x.Counter, x.SourceTime, x.ReceiveTime) {
			c.examineOne(x)
		}
		if samples--; samples == 0 {
			return
		}
	}
}

// examineBatchInOrder is examine for the samples of a batch that was committed in order: what it asks about is what is known of
// sample i without its slot.
func (c *core) examineBatchInOrder(samples int) {
	for i := 0; ; i++ {
		if i += examineInOrder(c.paces, c.candidates[i:samples], c.text[i:samples]); i == samples {
			return
		}
		c.examineOne(c.draft.At(i))
	}
}

// examineOne takes a sample that is not plain, and gives it its flags.
func (c *core) examineOne(x *ring.Slot) {
	s := c.streams[x.Stream]
	flags := s.flags
	if found := s.times.Sample(x.Counter, x.SourceTime, x.ReceiveTime, x.Body()); found != 0 {
		flags |= c.found(s, x.Counter, x.Epoch, x.ReceiveTime, found)
	}
	x.Flags |= uint16(flags)
}

// keepTimes gives a stream its times.
func (c *core) keepTimes(s *stream, times *detect.Stream) {
	s.times, c.paces[s.Slot] = times, times.Pace()
}

// flag says which flags every sample of the stream has from now on.
func (s *stream) flag(flags ring.Flags) {
	s.flags = flags
	s.times.Hold(flags != 0)
}
