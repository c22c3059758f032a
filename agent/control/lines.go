// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Lines writes an answer that goes on: lines of JSON, each sent as it is written. ctx ends with the client or with the server. A write
// to a client that takes nothing for 5 s fails.
type Lines func(ctx context.Context, w io.Writer)

func (s *Server) serveLines(write Lines) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		w.Header().Set("Content-Type", "application/jsonl")
		out := &lineWriter{w: w, c: http.NewResponseController(w)}
		// The deadline of the request would end the answer.
		if out.c.SetReadDeadline(time.Time{}) != nil || out.c.Flush() != nil {
			return
		}
		write(ctx, out)
	}
}

// lineWriter sends what is written at once.
type lineWriter struct {
	w http.ResponseWriter
	c *http.ResponseController
}

// Write implements io.Writer.
func (x *lineWriter) Write(b []byte) (int, error) {
	if err := x.c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := x.w.Write(b)
	if err == nil {
		err = x.c.Flush()
	}
	return n, err
}

// Follow reads a resource that goes on, and calls line with each line of it until it ends, ctx does, or line returns an error.
func Follow(ctx context.Context, socket, resource string, line func([]byte) error) error {
	resp, err := request(ctx, socket, http.MethodGet, resource, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("agent answered %d %s to %s", resp.StatusCode, http.StatusText(resp.StatusCode), resource)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxResponse)
	for lines.Scan() {
		if err := line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow %s of agent: %w", resource, err)
	}
	return nil
}
