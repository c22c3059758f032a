// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

func TestOrders(t *testing.T) {
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
	for name, bad := range map[string]any{"unknown field": map[string]string{"when": "now"}, "another type": []int{1}} {
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
	if mayWrite(t.Context()) {
		t.Error("a peer that the kernel did not name may write")
	}
	if err := Post(t.Context(), path+"x", RetirePath, order{}, &got); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no agent: %v", err)
	}
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
