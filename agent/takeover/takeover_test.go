// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/vault"
)

// pair returns both ends of a conversation, and the raw socket of the second.
func pair(t testing.TB) (a, b *Conn, raw *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return NewConn(ends[0]), NewConn(ends[1]), ends[1]
}

func exampleState() State {
	return State{
		Epochs: []byte{1, 2}, Secrets: []byte("secret"), Surplus: true,
		Vaults: &station.Handover{
			Epochs:  &vault.Handover{Value: 7, File: &vault.HandoverFile{Sealed: []byte{9}, Key: [32]byte{1}}},
			Offline: &vault.Handover{Value: 8, Next: &vault.HandoverFile{Sealed: []byte{8}}},
		},
		Live: []LiveEpoch{{Number: 3, Age: 4, Promoted: 5, Frames: 6, Failed: 7}}, Streams: []Stream{{1, 2, 3, []byte{4}}},
		Faults: []byte{6}, Counted: []BusCounts{{1, []uint64{2, 3}}}, Manager: "/run/notify", WatchdogUS: 5,
	}
}

// TestConversation sends each message with descriptors and wants it back, and the descriptors to be of the same file.
func TestConversation(t *testing.T) {
	a, b, _ := pair(t)
	path := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := exampleState()
	done := make(chan error, 1)
	go func() {
		done <- errors.Join(a.Send(KindHello, Hello{Version: 1, Program: "x"}), a.Send(KindState, &want, f, f), a.Send(KindTaken, Taken{}))
	}()
	var hello Hello
	if _, err := b.Receive(KindHello, &hello, 0); err != nil || hello.Program != "x" {
		t.Fatal(hello, err)
	}
	var got State
	files, err := b.Receive(KindState, &got, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, exampleState()) {
		t.Errorf("state %+v", got)
	}
	here, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range files {
		if st, err := x.Stat(); err != nil || !os.SameFile(st, here) {
			t.Errorf("another file came: %v", err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
	if taken, err := b.Settle(); !taken || err != nil {
		t.Errorf("taken %t, %v", taken, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	got.Wipe()
	if got.Vaults.Epochs.File.Key != [32]byte{} || !bytes.Equal(got.Secrets, make([]byte, 6)) {
		t.Error("secrets are not wiped")
	}
}

// TestBadMessages wants what is none to be refused, with its descriptors closed.
func TestBadMessages(t *testing.T) {
	body := func(v any) []byte {
		b, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	frame := func(k Kind, length int, b []byte) []byte {
		h := make([]byte, headSize)
		h[0] = byte(k)
		binary.LittleEndian.PutUint32(h[1:], uint32(length))
		return append(h, b...)
	}
	hello := body(Hello{})
	for _, tt := range []struct {
		name string
		sent []byte
		want error
		says string
	}{
		{"nothing", nil, io.EOF, "wait for hello"},
		{"half a head", []byte{1, 2}, io.ErrUnexpectedEOF, "wait for hello"},
		{"half a body", frame(KindHello, len(hello), hello[:3]), io.ErrUnexpectedEOF, "wait for hello"},
		{"another kind", frame(KindTaken, 1, body(Taken{})), ErrMessage, "taken came"},
		{"no kind", frame(99, 1, body(Taken{})), ErrMessage, "kind 99 came"},
		{"too long", frame(KindHello, maxBody+1, nil), ErrMessage, "bytes"},
		{"no CBOR", frame(KindHello, 2, []byte{0xff, 0xff}), ErrMessage, ""},
		{"an unknown field", frame(KindHello, 4, []byte{0xa1, 0x18, 0x63, 0x01}), ErrMessage, ""},
		{"more behind", frame(KindHello, len(hello)+1, append(bytes.Clone(hello), 0)), ErrMessage, ""},
		{"a refusal as the same", frame(KindRefused, len(body(Refused{Unchanged: true})), body(Refused{Unchanged: true})), ErrUnchanged, "same program"},
		{"a refusal", frame(KindRefused, len(body(Refused{Reason: "no"})), body(Refused{Reason: "no"})), ErrRefused, `"no"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, y, _ := pair(t)
			if _, err := x.c.Write(tt.sent); err != nil {
				t.Fatal(err)
			}
			if err := x.c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_, err := y.Receive(KindHello, &Hello{}, 0)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.says)
			}
		})
	}
}

// TestDescriptors wants neither more nor fewer descriptors than a message brings.
func TestDescriptors(t *testing.T) {
	for n := range maxFiles + 3 {
		a, b, _ := pair(t)
		var files []*os.File
		for range n {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			files = append(files, f)
		}
		if err := a.Send(KindHello, Hello{}, files...); err != nil {
			t.Fatal(err)
		}
		got, err := b.Receive(KindHello, &Hello{}, 2)
		if n == 2 {
			if err != nil || len(got) != 2 {
				t.Errorf("%d descriptors: %v", len(got), err)
			}
			closeAll(got)
		} else if !errors.Is(err, ErrMessage) {
			t.Errorf("%d descriptors: %v", n, err)
		}
	}
}

// TestSettleDecidesOnce has one side give up while the other says Taken, at the same instant: both come to the same result every time.
func TestSettleDecidesOnce(t *testing.T) {
	yes, no := 0, 0
	for i := range 2000 {
		a, b, raw := pair(t)
		deadline := time.Now().Add(200 * time.Microsecond)
		if err := raw.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		var sent error
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Until(deadline) - 50*time.Microsecond + time.Duration(i%20)*5*time.Microsecond)
			sent = a.Send(KindTaken, Taken{})
		})
		taken, err := b.Settle()
		wg.Wait()
		if taken != (sent == nil) {
			t.Fatalf("round %d: one side says %t, %v, the other %v", i, taken, err, sent)
		}
		if taken {
			yes++
		} else {
			no++
		}
		_, _ = a.Close(), b.Close()
	}
	t.Logf("taken %d times, not %d times", yes, no)
}

// TestSettleOfOneWhoHasGone wants a side that ends without Taken not to have taken.
func TestSettleOfOneWhoHasGone(t *testing.T) {
	a, b, _ := pair(t)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if taken, err := b.Settle(); taken || err == nil {
		t.Errorf("taken %t, %v", taken, err)
	}
	c, d, _ := pair(t)
	c.Refuse(errors.New("thought better of it"))
	if taken, err := d.Settle(); taken || !errors.Is(err, ErrRefused) {
		t.Errorf("taken %t, %v", taken, err)
	}
}

// FuzzDecode reads any bytes as a message's body. What is understood is encoded to bytes that are understood as the same.
func FuzzDecode(f *testing.F) {
	s := exampleState()
	for kind, v := range map[Kind]any{KindHello: Hello{Version: 1}, KindWelcome: Welcome{"1"}, KindState: &s, KindTaken: Taken{}, KindRefused: Refused{Reason: "no"}} {
		b, err := Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(kind), b)
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		targets := map[Kind]any{
			KindHello: &Hello{}, KindWelcome: &Welcome{}, KindPrepared: &Prepared{}, KindState: &State{}, KindTaken: &Taken{}, KindRefused: &Refused{},
		}
		v, ok := targets[Kind(kind)]
		if !ok || Decode(b, v) != nil {
			return
		}
		first, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(first, v); err != nil {
			t.Fatalf("own encoding is not understood: %v", err)
		}
		again, err := Encode(v)
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("%x, then %x, %v", first, again, err)
		}
	})
}
