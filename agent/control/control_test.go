// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServeAndGet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	type answer struct{ A int }
	page := Page{Path: MetricsPath, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[1, 2]") })}
	s, err := Serve(path, "", map[string]func() any{StatusPath: func() any { return answer{7} }}, nil, page)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got answer
	if err := Get(context.Background(), path, StatusPath, &got); err != nil || got.A != 7 {
		t.Fatalf("got %+v, %v", got, err)
	}
	var list []int
	if err := Get(context.Background(), path, MetricsPath, &list); err != nil || len(list) != 2 {
		t.Fatalf("page: %v, %v", list, err)
	}
	if err := Get(context.Background(), path, "/v1/other", &got); err == nil || !strings.Contains(err.Error(), "404") {
		t.Fatalf("unknown resource: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Fatalf("socket without a group is open to others: %v %v", st.Mode(), err)
	}
	if _, err := Serve(path, "", nil, nil); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Fatalf("second server: %v", err)
	}
}

// TestCloseBesideClients closes a server that somebody is connected to who says nothing, and somebody whose request takes its time: both are
// cut off, and that is no error.
func TestCloseBesideClients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	asked, answer := make(chan struct{}), make(chan struct{})
	s, err := Serve(path, "", map[string]func() any{StatusPath: func() any {
		close(asked)
		<-answer
		return 1
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer close(answer)
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	got := make(chan error, 1)
	go func() { got <- Get(context.Background(), path, StatusPath, new(int)) }()
	<-asked // the silent one has been accepted before
	if err := s.Close(); err != nil {
		t.Fatal(err) // nothing ends the reads below
	}
	if n, err := silent.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on: %d, %v", n, err)
	}
	if err := <-got; err == nil {
		t.Error("a request was answered by a server that is closed")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestStaleSocketAndForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := Get(context.Background(), path, StatusPath, nil); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("no socket: %v", err)
	}
	if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(path, "", nil, nil); err == nil {
		t.Fatal("a plain file was replaced")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "keep" {
		t.Fatalf("plain file was harmed: %q %v", b, err)
	}
}

// TestReadAgain ends connections without an answer, as an agent does that hands its socket over. What is read is asked for again, some times;
// what changes something is not, since nobody knows whether it has.
func TestReadAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reset bool
		ended int // connections
		post  bool
		asked int
		good  bool
	}{
		{"answered", false, 0, false, 1, true},
		{"ended once", false, 1, false, 2, true},
		{"reset twice", true, 2, false, 3, true},
		{"never answered", false, 100, false, readTries, false},
		{"an action", false, 1, true, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "control.sock")
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			asked, done := 0, make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					asked++
					if !tt.reset || asked > tt.ended { // what is left unread resets the connection
						_, _ = c.Read(make([]byte, 4096))
					}
					if asked > tt.ended {
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\nConnection: close\r\n\r\n7")
					}
					_ = c.Close()
				}
			}()
			var got int
			if tt.post {
				err = Post(t.Context(), path, "/v1/do", struct{}{}, &got)
			} else {
				err = Get(t.Context(), path, StatusPath, &got)
			}
			_ = ln.Close()
			<-done
			if asked != tt.asked || (err == nil) != tt.good || tt.good && got != 7 {
				t.Errorf("asked %d times: %d, %v", asked, got, err)
			}
		})
	}
}
