// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
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
