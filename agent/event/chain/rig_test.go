// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/crypto/identity"
)

// clock is a clock that moves when it is told to.
type clock struct{ now event.Instant }

func (c *clock) Now() event.Instant { return c.now }

func (c *clock) pass(d time.Duration) {
	c.now.Boot += int64(d)
	c.now.Wall += int64(d)
}

func newClock() *clock {
	return &clock{event.Instant{Boot: 1e12, Wall: time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC).UnixNano()}}
}

// keys make and check signatures. What was checked once is remembered: a test verifies the same head thousands of times.
type keys struct {
	Identity
	public PublicKey

	mu   sync.Mutex
	seen map[[32]byte]verdict
}

type verdict struct {
	payload []byte
	err     error
}

func newKeys(tb testing.TB) *keys {
	tb.Helper()
	key, err := identity.GenerateKey(elliptic.P384())
	if err != nil {
		tb.Fatal(err)
	}
	pub, err := identity.NewPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return &keys{Identity: Identity{key}, public: PublicKey{pub}, seen: make(map[[32]byte]verdict)}
}

func (k *keys) VerifyHead(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.seen[sum]; ok {
		return v.payload, v.err
	}
	payload, err := k.public.VerifyHead(message)
	k.seen[sum] = verdict{payload, err}
	return payload, err
}

func record(i int, c *clock) *event.Record {
	k := kind.All()[i%len(kind.All())]
	return &event.Record{
		Kind: k, Severity: k.Severity(), Subject: event.Stream(i % 7), Interface: "can0", Stream: uint32(i%7) + 1,
		Count: uint64(i) + 1, First: c.now, Last: c.now, Detail: fmt.Sprintf("event %d", i),
	}
}

func open(tb testing.TB, o Options) *Log {
	tb.Helper()
	l, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func fill(tb testing.TB, l *Log, c *clock, from, to int) {
	tb.Helper()
	for i := from; i < to; i++ {
		c.pass(time.Millisecond)
		if err := l.Append(record(i, c)); err != nil {
			tb.Fatal(err)
		}
	}
}

func closeLog(tb testing.TB, l *Log) Head {
	tb.Helper()
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	h, _ := l.Head()
	return h
}

func load1(tb testing.TB, dir string) []Source {
	tb.Helper()
	s, err := Load([]string{dir})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newest(tb testing.TB, dir string) string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, filePrefix+"*"+fileSuffix))
	if err != nil || len(names) == 0 {
		tb.Fatal(names, err)
	}
	slices.Sort(names)
	return names[len(names)-1]
}

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func writeFile(tb testing.TB, name string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func wantGood(tb testing.TB, r *Report) {
	tb.Helper()
	for _, f := range r.Findings {
		tb.Errorf("%v", f)
	}
}

func has(r *Report, p Problem) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Problem == p })
}

func hasNotice(notices []event.Record, k kind.Kind) bool {
	return slices.ContainsFunc(notices, func(r event.Record) bool { return r.Kind == k })
}
