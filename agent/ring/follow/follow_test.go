// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/ring/format"
)

type rig struct {
	path     string
	producer *ring.Producer
	server   *ring.Server
}

func newRig(t *testing.T, cfg ring.Config) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "follow")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &rig{path: filepath.Join(dir, "s")}
	if cfg.Streams == nil {
		cfg.Streams = []ring.Stream{
			{ID: 17, Name: "cells", Source: "cell_voltage_array", Interface: "can0", CANID: 0x6f2},
			{ID: 0x20, Name: "current", Source: "pack_current", Interface: "can0", CANID: 0x102},
		}
	}
	g.start(t, cfg)
	return g
}

func (g *rig) start(t *testing.T, cfg ring.Config) {
	t.Helper()
	var err error
	if g.producer, err = ring.NewProducer(cfg); err != nil {
		t.Fatal(err)
	}
	if g.server, err = ring.Serve(g.producer, ring.ServerConfig{Socket: g.path, Replace: true}); err != nil {
		t.Fatal(err)
	}
	server, producer := g.server, g.producer
	t.Cleanup(func() {
		_ = server.Close()
		_ = producer.Close()
	})
}

func boottime(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

// publish publishes n samples of alternating streams.
func (g *rig) publish(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		s := ring.Sample{Stream: uint32(i % 2), Epoch: 1, Counter: uint64(i + 1), ReceiveTime: boottime(t), Body: []byte{byte(i)}}
		if err := g.producer.Publish([]ring.Sample{s}); err != nil {
			t.Fatal(err)
		}
	}
}

func (g *rig) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(g.producer.Close(), g.server.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRunToTheEnd(t *testing.T) {
	g := newRig(t, ring.Config{Slots: 8})
	before := time.Now()
	g.publish(t, 11)
	var out, stderr bytes.Buffer
	type result struct {
		stats Stats
		err   error
	}
	done := make(chan result, 1)
	go func() {
		st, err := Run(context.Background(), Config{Socket: g.path, Output: format.JSON, Stats: true, Out: &out, Err: &stderr})
		done <- result{st, err}
	}()
	for g.server.Stats().Served == 0 {
		time.Sleep(time.Millisecond)
	}
	g.end(t)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.stats.Read != 8 || r.stats.Written != 8 || r.stats.Missed != 0 || r.stats.Latency.Max <= 0 || r.stats.Latency.P50 > r.stats.Latency.P99 {
		t.Errorf("%+v", r.stats)
	}
	var printed Stats
	if err := json.Unmarshal(stderr.Bytes(), &printed); err != nil || printed != r.stats {
		t.Errorf("%q: %v", stderr.String(), err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 8 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for i, line := range lines {
		var o struct {
			Counter uint64
			Body    string
			Latency int64 `json:"latency_ns"`
			Time    time.Time
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		if o.Counter != uint64(i+4) || o.Body != fmt.Sprintf("%02x", i+3) || o.Latency <= 0 ||
			o.Time.Before(before.Add(-time.Second)) || o.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("line %d: %+v", i, o)
		}
	}
}

func TestSelectAndCount(t *testing.T) {
	g := newRig(t, ring.Config{})
	g.publish(t, 10)
	for _, c := range []struct {
		streams []string
		count   uint64
		want    string
	}{
		{nil, 3, "6F2#00 102#01 6F2#02"},
		{[]string{"current"}, 2, "102#01 102#03"},
		{[]string{"17"}, 5, "6F2#00 6F2#02 6F2#04 6F2#06 6F2#08"},
		{[]string{"0x20", "cells"}, 2, "6F2#00 102#01"},
	} {
		var out bytes.Buffer
		st, err := Run(context.Background(), Config{Socket: g.path, Output: format.Candump, Streams: c.streams, Count: c.count, Out: &out})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			got = append(got, strings.Fields(line)[2])
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) || st.Written != c.count {
			t.Errorf("%v, %d: %v, %+v", c.streams, c.count, got, st)
		}
	}
	for _, name := range []string{"voltage", "18", ""} {
		_, err := Run(context.Background(), Config{Socket: g.path, Streams: []string{name}, Out: &bytes.Buffer{}})
		if err == nil || !strings.Contains(err.Error(), `"current" (32)`) {
			t.Errorf("stream %q: %v", name, err)
		}
	}
}

// TestGone: a producer that vanishes is an error, one that closes is not, and neither is the end of the context.
func TestGone(t *testing.T) {
	g := newRig(t, ring.Config{})
	run := func(ctx context.Context) <-chan error {
		served := g.server.Stats().Served
		done := make(chan error, 1)
		go func() {
			_, err := Run(ctx, Config{Socket: g.path, Out: &bytes.Buffer{}})
			done <- err
		}()
		for g.server.Stats().Served == served {
			time.Sleep(time.Millisecond)
		}
		return done
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := run(ctx)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("end of the context: %v", err)
	}
	done = run(context.Background())
	if err := g.server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ring.ErrProducerGone) {
		t.Errorf("producer vanished: %v", err)
	}
	if _, err := Run(context.Background(), Config{Socket: g.path, Out: &bytes.Buffer{}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no producer: %v", err)
	}
}

// TestEndWhileConnecting: the end of the context is no error either while the server has said nothing yet, nor before the beginning; the
// counts are written all the same.
func TestEndWhileConnecting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	silent, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, accepted := range map[string]bool{"before the beginning": false, "silent server": true} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if !accepted {
			cancel()
		}
		var stderr bytes.Buffer
		done := make(chan error, 1)
		go func() {
			_, err := Run(ctx, Config{Socket: path, Stats: true, Out: &bytes.Buffer{}, Err: &stderr})
			done <- err
		}()
		if accepted {
			c, err := silent.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			cancel()
		}
		if err := <-done; err != nil || !strings.HasPrefix(stderr.String(), "read 0, written 0, ") {
			t.Errorf("%s: %v, %q", name, err, stderr.String())
		}
	}
}

// TestNextProducer: with Reconnect the output goes on, with the new stream table.
func TestNextProducer(t *testing.T) {
	g := newRig(t, ring.Config{})
	g.publish(t, 2)
	var out bytes.Buffer
	done := make(chan error, 1)
	var st Stats
	go func() {
		var err error
		st, err = Run(context.Background(), Config{Socket: g.path, Output: format.Candump, Count: 3, Reconnect: true, Out: &out})
		done <- err
	}()
	for g.server.Stats().Served == 0 {
		time.Sleep(time.Millisecond)
	}
	g.end(t)
	g.start(t, ring.Config{Streams: []ring.Stream{{ID: 9, Name: "other", Interface: "can9", CANID: 0x123}}})
	if err := g.producer.Publish([]ring.Sample{{Body: []byte{0xab}}}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[2], " can9 123#AB") || st.Reconnects != 1 {
		t.Errorf("%q, %+v", lines, st)
	}
}

// TestSilence: a stale heartbeat is told once, and reading goes on.
func TestSilence(t *testing.T) {
	g := newRig(t, ring.Config{HeartbeatPeriod: time.Millisecond})
	var out bytes.Buffer
	warned := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		_, err := Run(context.Background(), Config{Socket: g.path, Count: 1, Out: &out, Err: writerFunc(func(s string) { warned <- s })})
		done <- err
	}()
	if w := <-warned; !strings.Contains(w, "stale") {
		t.Errorf("%q", w)
	}
	g.publish(t, 1)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(warned) != 0 {
		t.Errorf("and again: %q", <-warned)
	}
}

type writerFunc func(string)

func (f writerFunc) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

func TestBadConfig(t *testing.T) {
	g := newRig(t, ring.Config{})
	if _, err := Run(context.Background(), Config{Socket: g.path, Output: format.CSV, Decode: true, Out: &bytes.Buffer{}}); err == nil {
		t.Error("decoded values in CSV accepted")
	}
}

func TestStatsLine(t *testing.T) {
	g := newRig(t, ring.Config{})
	g.publish(t, 2)
	var stderr bytes.Buffer
	st, err := Run(context.Background(), Config{Socket: g.path, Count: 2, Stats: true, Out: &bytes.Buffer{}, Err: &stderr})
	if err != nil || stderr.String() != st.String()+"\n" || !strings.HasPrefix(stderr.String(), "read 2, written 2, missed 0, reconnects 0, latency p50 ") {
		t.Errorf("%q, %v", stderr.String(), err)
	}
}

// TestHistogram compares quantiles with a sorted list.
func TestHistogram(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(-5, 1<<62), 1, 300).Draw(rt, "values")
		var h histogram
		for i, v := range values {
			h.add(v)
			values[i] = max(v, 0)
		}
		slices.Sort(values)
		for _, q := range []int{50, 99} {
			exact := values[(len(values)*q+99)/100-1]
			if got := h.quantile(uint64(q), 100); got < exact || got-exact > exact/32 {
				rt.Fatalf("p%d %d, exactly %d", q, got, exact)
			}
		}
		if s := h.summary(); s.Max != values[len(values)-1] || s.P99 > s.Max {
			rt.Fatalf("%+v", s)
		}
	})
	var empty histogram
	if empty.summary() != (Latency{}) {
		t.Error("quantiles of nothing")
	}
}

// TestBuckets: every value lies in its bucket, and buckets follow one another without a hole.
func TestBuckets(t *testing.T) {
	for b := range 59 * subBuckets {
		top := upperBound(b)
		if got := bucketOf(uint64(top)); got != b {
			t.Fatalf("%d, the top of bucket %d, is in %d", top, b, got)
		}
		if got := bucketOf(uint64(top) + 1); got != b+1 {
			t.Fatalf("%d, above bucket %d, is in %d", top+1, b, got)
		}
	}
}
