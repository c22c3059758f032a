// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	nobody    = 65534
	someGroup = 54321
)

// TestWhoMayRead starts peers with other users and groups.
func TestWhoMayRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to start processes of other users")
	}
	for name, c := range map[string]struct {
		group uint32
		who   *syscall.Credential
		loose bool // the socket's mode was loosened by mistake
		want  string
	}{
		"root":                            {0, nil, false, "ok"},
		"another user":                    {0, &syscall.Credential{Uid: nobody, Gid: nobody}, false, "permission denied"},
		"another user, loose mode":        {0, &syscall.Credential{Uid: nobody, Gid: nobody}, true, "not authorized"},
		"another group":                   {someGroup, &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{someGroup + 1}}, false, "permission denied"},
		"another group, loose mode":       {someGroup, &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{someGroup + 1}}, true, "not authorized"},
		"primary group":                   {someGroup, &syscall.Credential{Uid: nobody, Gid: someGroup}, false, "ok"},
		"supplementary group":             {someGroup, &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{7, someGroup}}, false, "ok"},
		"group 0 when none is configured": {0, &syscall.Credential{Uid: nobody, Gid: 0}, true, "not authorized"},
		"one of a hundred groups":         {someGroup, &syscall.Credential{Uid: nobody, Gid: nobody, Groups: manyGroups(100, someGroup)}, true, "ok"},
		"none of a hundred groups":        {someGroup, &syscall.Credential{Uid: nobody, Gid: nobody, Groups: manyGroups(100, 1)}, true, "not authorized"},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			p := newProducer(t, Config{Streams: testStreams(1)})
			s := serve(t, p, ServerConfig{Socket: path, Group: c.group})
			if c.loose {
				if err := os.Chmod(path, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			start(t, roleDial, path, c.who).expect(t, c.want)
			refused := s.Stats().Unauthorized
			if want := c.want == "not authorized"; want != (refused == 1) {
				t.Errorf("%d peers counted as unauthorized", refused)
			}
		})
	}
}

func manyGroups(n int, last uint32) []uint32 {
	groups := make([]uint32, n)
	for i := range groups {
		groups[i] = uint32(10_000 + i)
	}
	groups[n-1] = last
	return groups
}

func TestSocketFile(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{})
	s := serve(t, p, ServerConfig{Socket: path})
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Serve(p, ServerConfig{Socket: path}); !errors.Is(err, ErrInUse) {
		t.Errorf("second server: %v", err)
	}
	// A successor takes the name over; the old server's end does not remove it.
	successor := serve(t, newProducer(t, Config{}), ServerConfig{Socket: path, Replace: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := dialTest(t, path, Options{})
	if r.Generation() != successor.producer.Generation() {
		t.Error("connected to the old server")
	}
	if err := successor.Close(); err != nil {
		t.Fatal(err)
	}
	if err := successor.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket left behind: %v", err)
	}
	// What a crash left behind is replaced.
	stale, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	again := serve(t, newProducer(t, Config{}), ServerConfig{Socket: path})
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	// A file that is no socket is not.
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(p, ServerConfig{Socket: path}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("file is now %q, %v", b, err)
	}
	if _, err := Serve(p, ServerConfig{Socket: path + strings.Repeat("x", 100)}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("long path: %v", err)
	}
	entries, err := os.ReadDir(strings.TrimSuffix(path, "/s"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func TestTooManyClients(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{})
	s := serve(t, p, ServerConfig{Socket: path, MaxClients: 2})
	a, b := dialTest(t, path, Options{}), dialTest(t, path, Options{})
	if _, err := Dial(context.Background(), path, Options{}); !errors.Is(err, ErrTooManyClients) {
		t.Fatalf("third reader: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for { // until the server has noticed
		r, err := Dial(context.Background(), path, Options{})
		if err == nil {
			_ = r.Close()
			break
		}
		if !errors.Is(err, ErrTooManyClients) {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for s.Stats().Clients != 0 || p.listeners.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
	if st := s.Stats(); st.Served != 3 || st.TooMany == 0 || st.Unauthorized != 0 {
		t.Errorf("%+v", st)
	}
}

// TestBadClients: peers that talk, that never read and that stop reading disturb neither the producer nor others.
func TestBadClients(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 16})
	serve(t, p, ServerConfig{Socket: path})
	connect := func() *net.UnixConn {
		t.Helper()
		c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for range 10 {
		connect() // never reads what it was sent
	}
	slow := dialTest(t, path, Options{}) // never calls Next
	talker := connect()
	if _, err := talker.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	fd, err := receiveHello(talker)
	if err == nil {
		_ = unix.Close(fd)
		// It got the ring before it was heard; then it is disconnected.
		if n, err := talker.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("talker is still connected: %d, %v", n, err)
		}
	}
	for pos := uint64(0); pos < 100; pos += 10 {
		if err := p.Publish(stampedBatch(nil, pos, 10, 1, 36)); err != nil {
			t.Fatal(err)
		}
	}
	good := dialTest(t, path, Options{})
	batch := make([]Sample, 32)
	if n, err := good.Next(context.Background(), batch); n != 16 || err != nil {
		t.Errorf("good reader: %d, %v", n, err)
	}
	if n, err := slow.Next(context.Background(), batch); n != 16 || err != nil || slow.Missed() != 84 {
		t.Errorf("slow reader: %d, missed %d, %v", n, slow.Missed(), err)
	}
}

// TestOrderlyEnd: the reader gets what is left, then hears of an orderly end.
func TestOrderlyEnd(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(1)})
	s := serve(t, p, ServerConfig{Socket: path})
	r := dialTest(t, path, Options{})
	if err := p.Publish(stampedBatch(nil, 0, 5, 1, 36)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	batch := make([]Sample, 3)
	for _, want := range []int{3, 2} {
		if n, err := r.Next(context.Background(), batch); n != want || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if _, err := r.Next(context.Background(), batch); !errors.Is(err, ErrProducerGone) || !strings.Contains(err.Error(), "orderly") {
		t.Errorf("%v", err)
	}
}

// TestSameRingAgain: a server that comes back with the same ring is no new history.
func TestSameRingAgain(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(1)})
	s := serve(t, p, ServerConfig{Socket: path})
	r := dialTest(t, path, Options{Reconnect: true})
	if err := p.Publish(stampedBatch(nil, 0, 5, 1, 36)); err != nil {
		t.Fatal(err)
	}
	batch := make([]Sample, 8)
	if n, err := r.Next(context.Background(), batch); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, p, ServerConfig{Socket: path})
	result := make(chan uint64, 1)
	go func() {
		if n, err := r.Next(context.Background(), batch); n == 0 || err != nil {
			t.Error(n, err)
		}
		result <- batch[0].Position
	}()
	for r.Reconnects() == 0 { // before that it would read on without a connection
		time.Sleep(time.Millisecond)
	}
	if err := p.Publish(stampedBatch(nil, 5, 1, 1, 36)); err != nil {
		t.Fatal(err)
	}
	if pos := <-result; pos != 5 || r.Missed() != 0 {
		t.Errorf("went on at %d, missed %d", pos, r.Missed())
	}
}

// TestReconnectEnds: waiting for a producer ends with the context and with Close.
func TestReconnectEnds(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(1)})
	s := serve(t, p, ServerConfig{Socket: path})
	a, b := dialTest(t, path, Options{Reconnect: true}), dialTest(t, path, Options{Reconnect: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := <-next(ctx, a); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context: %v", err)
	}
	result := next(context.Background(), b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("Close: %v", err)
	}
}

// TestBadServers: whatever a server sends, Dial refuses it by name and keeps no descriptor.
func TestBadServers(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
	ring := p.memory.bytes
	hello := encodeHello(helloRing, 1, uint64(len(ring)))
	change := func(at int, b byte) []byte {
		h := bytes.Clone(hello)
		h[at] = b
		return h
	}
	good := sealedCopy(t, ring, seals)
	unsealed := sealedCopy(t, ring, 0)
	tooShort := sealedCopy(t, ring[:64], seals)
	damagedRing := bytes.Clone(ring)
	damagedRing[0] = 'X'
	otherMajor := bytes.Clone(ring)
	otherMajor[12] = 9
	for name, c := range map[string]struct {
		message []byte
		fds     []int
		want    string
	}{
		"good":                 {hello, []int{good}, ""},
		"ends at once":         {nil, nil, "EOF"},
		"no descriptor":        {hello, nil, "0 descriptors"},
		"two descriptors":      {hello, []int{good, good}, "2 descriptors"},
		"short message":        {hello[:31], []int{good}, "31 bytes"},
		"long message":         {append(bytes.Clone(hello), 0), []int{good}, "too long"},
		"other magic":          {change(0, 'X'), []int{good}, "no server's message"},
		"other major in hello": {change(8, 9), []int{good}, "unknown layout version"},
		"other major in ring":  {hello, []int{sealedCopy(t, otherMajor, seals)}, "unknown layout version"},
		"not authorized":       {encodeHello(helloNotAuthorized, 0, 0), nil, "not authorized"},
		"too many":             {encodeHello(helloTooMany, 0, 0), nil, "too many readers"},
		"unknown status":       {encodeHello(77, 0, 0), []int{good}, "status 77"},
		"unsealed":             {hello, []int{unsealed}, "not sealed"},
		"too short":            {hello, []int{tooShort}, "file_size"},
		"damaged":              {hello, []int{sealedCopy(t, damagedRing, seals)}, "magic"},
		"no memory at all":     {hello, []int{0}, "not sealed"},
	} {
		path := socketPath(t)
		l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		before := openFiles(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := l.AcceptUnix()
			if err != nil {
				t.Error(err)
				return
			}
			if c.message != nil {
				if _, _, err := conn.WriteMsgUnix(c.message, unix.UnixRights(c.fds...), nil); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			_ = conn.Close()
		}()
		r, err := Dial(context.Background(), path, Options{})
		<-served
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v does not contain %q", name, err, c.want)
		}
		if r != nil {
			_ = r.Close()
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d descriptors, %d before", name, after, before)
		}
		_ = l.Close()
	}
}

// TestSilentServer: Dial ends with its context.
func TestSilentServer(t *testing.T) {
	path := socketPath(t)
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := Dial(context.Background(), path+"x", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
}
