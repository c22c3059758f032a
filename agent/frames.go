// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"io"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
)

// FramesPath is the resource of the control socket with the last offending frames: a record for each, in a line of JSON, which stands for
// no event of its own.
const FramesPath = "/v1/frames"

// writeFrames is what FramesPath shows.
func (m *monitor) writeFrames(_ context.Context, w io.Writer) {
	m.mu.Lock()
	collector := m.now.collector
	m.mu.Unlock()
	var line []byte
	for _, r := range collector.Frames() {
		line = append(encode.JSON(line[:0], &r), '\n')
		if _, err := w.Write(line); err != nil {
			return // the client is gone
		}
	}
}

// ReadFrames asks the running agent for the last offending frames, the oldest first.
func ReadFrames(ctx context.Context, w Where) (all []event.Record, err error) {
	at, _, err := w.find()
	if err != nil {
		return nil, err
	}
	err = control.Follow(ctx, at.socket, FramesPath, func(line []byte) error {
		r, err := encode.ParseJSON(line)
		if err != nil {
			return fmt.Errorf("read frame %d of agent: %w", len(all), err)
		}
		all = append(all, *r)
		return nil
	})
	return all, err
}
