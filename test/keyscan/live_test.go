// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/offer/offertest"
	"github.com/cellward/cellward/crypto/schedule"
)

// longLife is an epoch that does not end by itself.
const longLife = time.Hour

// TestLiveKeys looks at an agent that has given up its rights while keys are worked on through its control socket, with frames coming
// in: after a second epoch was agreed, after the first and then the second was retired. It looks at memory, at the registers of all
// threads, and into a core file.
func TestLiveKeys(t *testing.T) {
	needRoot(t)
	for name, refuse := range map[string]bool{"memfd_secret": false, "locked pages": true} {
		t.Run(name, func(t *testing.T) { testLiveKeys(t, refuse) })
	}
}

func testLiveKeys(t *testing.T, refuse bool) {
	l, set := newLab(t, demo.LabOptions{Program: program(t, refuse), SoftwareEdge: true})
	first, second := &secrets{t: t}, &secrets{t: t}
	number, prk := gateway(t, l, set, first, longLife)
	public := []byte(set.Policy.Name)
	node := copyFolder(t, l.EdgeState())
	running, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the agent is confined", func() bool {
		all, err := privilege.Threads(running.PID())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if x.Seccomp != 2 || !x.NoNewPrivs {
				return false
			}
		}
		return len(all) > 0
	})
	var onWire starts
	wire := l.StartWire(onWire.record)
	edge, err := l.StartEdge("", nil, 1, "--simulate", "120s", "--seed", "3", "--temperature-id", "0x6F3")
	if err != nil {
		t.Fatal(err)
	}
	status := func() agent.Status {
		t.Helper()
		x, err := l.Status(t.Context())
		if err != nil {
			t.Fatalf("%v; the agent says: %s", err, running.Log())
		}
		return x
	}
	published := func() uint64 { x := status(); return x.Published() }
	until(t, "samples are published", func() bool { return published() > 0 })
	for _, random := range onWire.seen() {
		first.run(number, &prk, &random, sources(set))
	}
	allowed := nowhere
	if refuse {
		allowed = locked
	}
	inUse := func(name string, s *secrets) {
		t.Run(name, func(t *testing.T) {
			s := s.on(t)
			s.atRest(s.inUse(running.PID(), public, allowed), refuse)
		})
		if !refuse {
			t.Run(name+", core file", func(t *testing.T) { s.inCore(t, running.PID(), public, 3) })
		}
	}
	gone := func(name string, s *secrets) {
		t.Run(name, func(t *testing.T) {
			s := s.on(t)
			s.none("retired", s.scan(running.PID(), public))
		})
		t.Run(name+", core file", func(t *testing.T) { s.inCore(t, running.PID(), public, 1) })
	}
	inUse("first epoch in use", first)

	erasures := func() int { return strings.Count(running.Log(), "secrets_erased") }
	said := erasures()
	// erased wants the log to name an erasure since it was asked last. The log arrives through a pipe, so this comes behind the look at
	// memory, which must not wait for more than the answer.
	erased := func(what string) {
		t.Helper()
		until(t, "the log names an erasure: "+what, func() bool { return erasures() > said })
		said = erasures()
	}
	x := agreeLive(t, l, set, node, second)
	if n := len(status().Nodes[0].Epochs); n != 2 {
		t.Fatalf("%d epochs are acceptable", n)
	}
	both := &secrets{t: t, all: slices.Concat(first.all, second.all)}
	// What the agreement went through is gone before the answer; what came of it is in use.
	gone("what the agreement went through", x)
	erased("agreement")
	inUse("two epochs in use", both)

	before := published()
	retire := func(epoch string) {
		t.Helper()
		out, err := l.Keys(t.Context(), "retire", "--node", set.Nodes[0].Name, "--epoch", epoch)
		if err != nil || !strings.Contains(string(out), "by the running agent") {
			t.Fatalf("retire epoch %s: %q, %v", epoch, out, err)
		}
	}
	retire("1")
	gone("first epoch retired", first)
	erased("first epoch retired")
	inUse("second epoch still in use", second)
	retire("2")
	gone("both epochs retired", both)
	erased("both epochs retired")
	if before == 0 {
		t.Error("nothing came in")
	}
	edge.Kill()
	_ = edge.Wait()
	if err := wire.Finish(); err != nil {
		t.Error(err)
	}
	if err := running.Stop(); err != nil {
		t.Errorf("%v; the agent says: %s", err, running.Log())
	}
}

// agreeLive is the node: it answers an offer of the running agent with a key of its own choice, and has the reply accepted. What comes of it is
// added to s; what it went through is returned.
func agreeLive(t *testing.T, l *demo.Lab, set *policy.Set, node string, s *secrets) (through *secrets) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "offer")
	if _, err := l.Keys(t.Context(), "offer", "--node", set.Nodes[0].Name, "--out", name); err != nil {
		t.Fatal(err)
	}
	msg, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := set.Binding.Gateway.Identity.Key()
	if err != nil {
		t.Fatal(err)
	}
	o, err := offer.Parse(pinned, msg)
	if err != nil {
		t.Fatal(err)
	}
	n, err := station.Open(t.Context(), station.Options{Dir: node, Software: true})
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := o.PublicKey().Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	start := [16]byte{1, 2, 3}
	reply, _, x, err := offertest.Answer(o, n.Signer, ephemeral, offer.Reply{Floor: o.Epoch - 1, FirstCounter: 1 << 32, Start: start})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := l.Keys(t.Context(), "accept", "--reply", write(t, reply))
	if err != nil || !strings.Contains(string(out), "by the running agent") {
		t.Fatalf("accept: %q, %v", out, err)
	}
	through = &secrets{t: t}
	through.passing(x)
	prk := schedule.PRK(x.PRK)
	s.epoch(o.Epoch, &prk)
	s.run(o.Epoch, &prk, &start, sources(set))
	return through
}

// copyFolder copies the files of a folder to a new one, for nobody else to read.
func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	names, err := os.ReadDir(from)
	if err := errors.Join(err, os.Chmod(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(from, n.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, n.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}
