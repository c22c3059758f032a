// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type order struct {
	What string `json:"what"`
}

// serveOrders answers an action that takes orders, and counts those that it was given.
func serveOrders(t *testing.T) (path string, taken *int) {
	t.Helper()
	path, taken = filepath.Join(t.TempDir(), "control.sock"), new(int)
	s, err := Serve(path, "", nil, map[string]Action{RetirePath: func(_ context.Context, body []byte) (any, error) {
		var o order
		if err := Decode(body, &o); err != nil {
			return nil, err
		}
		*taken++
		switch o.What {
		case "fail":
			return nil, errors.New("the TPM does not answer")
		case "slow":
			time.Sleep(50 * time.Millisecond)
		}
		return o, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return path, taken
}

func TestPost(t *testing.T) {
	path, taken := serveOrders(t)
	var got order
	for _, what := range []string{"x", "slow"} {
		if err := Post(t.Context(), path, RetirePath, order{what}, &got); err != nil || got.What != what {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	err := Post(t.Context(), path, RetirePath, order{"fail"}, &got)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the TPM does not answer") {
		t.Fatal(err)
	}
	*taken = 0
	for name, bad := range map[string]any{"unknown field": map[string]string{"when": "now"}, "another type": []int{1}, "huge": order{strings.Repeat("x", maxRequest)}} {
		if err := Post(t.Context(), path, RetirePath, bad, &got); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Get(t.Context(), path, RetirePath, &got); err == nil {
		t.Error("an action was asked for with GET")
	}
	if *taken != 0 {
		t.Errorf("%d bad requests were acted on", *taken)
	}
	if err := Post(t.Context(), path+"x", RetirePath, order{}, &got); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no agent: %v", err)
	}
}

// TestPeerCredentials: members of the group read, and only root and the agent's user act, whatever the mode of the socket says.
func TestPeerCredentials(t *testing.T) {
	path, taken := serveOrders(t)
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot be another user")
	}
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[int]int{0: http.StatusOK, 65534: http.StatusForbidden} {
		if got := statusAs(t, path, uid); got != want {
			t.Errorf("user %d: status %d, want %d", uid, got, want)
		}
	}
	if *taken != 1 {
		t.Errorf("%d orders were taken, want 1", *taken)
	}
	if mayAct(t.Context()) {
		t.Error("a peer that the kernel did not name may act")
	}
}

// statusAs sends an order as another user. The kernel takes the credentials of the thread that connects.
func statusAs(t *testing.T, path string, uid int) int {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		t.Fatal(errno)
	}
	c, err := net.Dial("unix", path)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep); errno != 0 {
		t.Fatal(errno)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("POST " + RetirePath + " HTTP/1.1\r\nHost: agent\r\nContent-Length: 12\r\n\r\n{\"what\":\"x\"}")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"what":"x"}`, `{}`, `[]`, `{"what":1}`, `{"what":"x"}{}`, "\x00", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o order
		if err := Decode(b, &o); err != nil && !errors.Is(err, ErrRequest) {
			t.Fatal(err)
		}
	})
}
