// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
)

// Of the rings with stamped samples.
const (
	stampStreams = 3
	stampBody    = 36
)

// stamp fills s as the sample at position p: every field follows from p, and the body, of a length that varies, holds p
// and ends with a checksum over itself. It reuses s.Body.
func stamp(s *ring.Sample, p uint64, streams, bodyMax int) {
	length := 12 + int(p*7%uint64(bodyMax-11))
	body := binary.LittleEndian.AppendUint64(s.Body[:0], p)
	for x := p; len(body) < length-4; {
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = x ^ x>>27 + 0x9e3779b97f4a7c15
		body = binary.LittleEndian.AppendUint64(body, x)
	}
	body = body[:length-4]
	body = binary.LittleEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
	*s = ring.Sample{
		Stream: uint32(p % uint64(streams)), Epoch: uint32(p >> 7), Counter: p * 3 & (1<<48 - 1), SourceTime: uint32(p * 5),
		Flags: ring.Flags(p & 15), ReceiveTime: int64(p * 11), Body: body,
	}
}

func checkStamp(s *ring.Sample, streams, bodyMax int) error {
	n := len(s.Body)
	if n < 12 || crc32.ChecksumIEEE(s.Body[:n-4]) != binary.LittleEndian.Uint32(s.Body[n-4:]) {
		return fmt.Errorf("position %d: torn body %x", s.Position, s.Body)
	}
	var want ring.Sample
	stamp(&want, s.Position, streams, bodyMax)
	if s.Stream != want.Stream || s.Epoch != want.Epoch || s.Counter != want.Counter || s.SourceTime != want.SourceTime ||
		s.Flags != want.Flags || s.ReceiveTime != want.ReceiveTime || string(s.Body) != string(want.Body) {
		return fmt.Errorf("position %d: fields of another sample: %+v", s.Position, s)
	}
	return nil
}

// writer publishes stamped samples one after another.
type writer struct {
	producer *ring.Producer
	batch    []ring.Sample
	rng      *rand.Rand
	next     uint64
}

func newWriter(p *ring.Producer) *writer {
	w := &writer{producer: p, batch: make([]ring.Sample, 1024), rng: rand.New(rand.NewPCG(1, 2))}
	for i := range w.batch {
		w.batch[i].Body = make([]byte, 0, stampBody+8)
	}
	return w
}

// publish publishes n samples in batches of random size. Stamping costs more than publishing, so it is done ahead: the
// batches follow one another as fast as they can.
func (w *writer) publish(n int) error {
	for n > 0 {
		batch := w.batch[:min(n, len(w.batch))]
		for i := range batch {
			stamp(&batch[i], w.next+uint64(i), stampStreams, stampBody)
		}
		for part := batch; len(part) > 0; {
			size := min(1+w.rng.IntN(64), len(part))
			if err := w.producer.Publish(part[:size]); err != nil {
				return err
			}
			part = part[size:]
		}
		w.next += uint64(len(batch))
		n -= len(batch)
	}
	return nil
}

// plainStreams returns n streams with opaque bodies.
func plainStreams(n int) []ring.Stream {
	streams := make([]ring.Stream, n)
	for i := range streams {
		streams[i] = ring.Stream{
			ID: uint32(i + 1), SourceID: 7, Name: fmt.Sprintf("stream %d", i), Source: "pack_current",
			Interface: "can0", CANID: uint32(0x100 + i), Period: 100 * time.Millisecond, Sensitivity: ring.SensitivityCritical,
		}
	}
	return streams
}

func newProducer(t testing.TB, cfg ring.Config) *ring.Producer {
	t.Helper()
	p, err := ring.NewProducer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func serve(t testing.TB, p *ring.Producer, socket string) *ring.Server {
	t.Helper()
	s, err := ring.Serve(p, ring.ServerConfig{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// stampedRing serves an empty ring for stamped samples.
func stampedRing(t testing.TB, slots int) (*writer, *ring.Server, string) {
	t.Helper()
	p := newProducer(t, ring.Config{Streams: plainStreams(stampStreams), Slots: slots, BodyMax: stampBody})
	path := socketPath(t)
	return newWriter(p), serve(t, p, path), path
}

// socketPath returns a path that is short enough for a socket, in a folder that other users can reach.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ring")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// sampleLine is how the programs print a sample.
func sampleLine(s *ring.Sample) string {
	body := fmt.Sprintf("%x", s.Body)
	if body == "" {
		body = "-"
	}
	return fmt.Sprintf("sample %d %d %d %d %d %d %d %d %s", s.Position, s.Stream, s.Epoch, s.Counter, s.SourceTime, s.Flags,
		s.ReceiveTime, s.PublishTime, body)
}
