// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
)

// TestLines follows a resource that goes on: until the client has enough, and until the server is closed.
func TestLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	left := make(chan struct{}, 2)
	s, err := Serve(path, "", nil, nil, Page{Path: "/v1/lines", Lines: func(ctx context.Context, w io.Writer) {
		defer func() { left <- struct{}{} }()
		for i := 0; ctx.Err() == nil && i < 3; i++ {
			if _, err := fmt.Fprintf(w, "%d\n", i); err != nil {
				return
			}
		}
		<-ctx.Done()
	}})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var got []string
	err = Follow(t.Context(), path, "/v1/lines", func(line []byte) error {
		got = append(got, string(line))
		if len(got) == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || fmt.Sprint(got) != "[0 1 2]" {
		t.Fatalf("%v, %v", got, err)
	}
	<-left // the client is gone, and serve knows
	three, done := make(chan struct{}), make(chan error, 1)
	go func() {
		n := 0
		done <- Follow(t.Context(), path, "/v1/lines", func([]byte) error {
			if n++; n == 3 {
				close(three)
			}
			return nil
		})
	}()
	<-three
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-left
	if err := <-done; err != nil {
		t.Errorf("the agent's end is no error for one that follows: %v", err)
	}
	if err := Follow(t.Context(), path, "/v1/lines", nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no agent: %v", err)
	}
	if err := Follow(t.Context(), path, "/v1/none", nil); err == nil {
		t.Error("no such resource")
	}
}
