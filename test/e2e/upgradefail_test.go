// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/takeover"
	"github.com/cellward/cellward/loader"
)

// traffic is a laboratory under load with a reader that follows all the time.
type traffic struct {
	*demo.Lab
	t         *testing.T
	simulated time.Duration
	got       readings
	gateway   *demo.Process
	reader    *demo.Process
	edge      *demo.Process
	wire      *demo.Wire
}

// startTraffic seals until finish, with an attacker on the bus.
func startTraffic(t *testing.T) *traffic {
	t.Helper()
	return startTrafficOf(t, program())
}

// startTrafficOf is startTraffic with a program of the test's own and arguments of its agents.
func startTrafficOf(t *testing.T, program string, args ...string) *traffic {
	t.Helper()
	const speed = 15 / min(slowdown, 5) // 15: 5,100 frames a second, for three minutes
	x := &traffic{t: t, simulated: 45 * time.Minute}
	x.Lab = newLab(t, demo.LabOptions{Frames: 200_000, Program: program, AgentArgs: args}, x.simulated)
	var err error
	if x.gateway, err = x.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x.reader, err = x.StartReader(t.Context(), "--reconnect"); err != nil {
		t.Fatal(err)
	}
	x.got.follow(t, x.reader)
	x.followed()
	x.wire = x.StartAttackedWire(11)
	if x.edge, err = x.StartEdge("", nil, speed, packInput(x.simulated)...); err != nil {
		t.Fatal(err)
	}
	x.flows("at the beginning")
	return x
}

// followed waits until the reader has the ring of the agent that was started, and goes along with it from then on. Samples that come
// are no sign of that: they may be the rest of the ring before. And what an agent publishes that is killed before, nobody has seen.
func (x *traffic) followed() {
	x.t.Helper()
	until(x.t, "the reader to the ring", func() bool {
		s, err := x.Status(x.t.Context())
		return err == nil && s.Ring.Following > 0
	})
}

// flows wants samples to come.
func (x *traffic) flows(when string) {
	x.t.Helper()
	before := x.got.count()
	for deadline := time.Now().Add(patience); x.got.count() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("%s: no sample comes", when)
		}
	}
}

// finish ends it all and compares.
func (x *traffic) finish() (c comparison, status agent.Status) {
	x.t.Helper()
	if !x.edge.Running() {
		x.t.Error("the edge has ended before")
	}
	if err := x.edge.Stop(); err != nil {
		x.t.Fatal(err)
	}
	if err := x.wire.Finish(); err != nil {
		x.t.Fatal(err)
	}
	status = settled(x.t, x.Lab)
	sealed := report(x.t, x.edge)
	waitFor(x.t, &x.got, sealed.Sealed)
	if err := errors.Join(x.gateway.Stop(), x.reader.Stop()); err != nil {
		x.t.Fatal(err)
	}
	x.got.wg.Wait()
	return compareWithSealed(x.t, x.Lab, &x.got, sealed, x.simulated), status
}

// lost is what agents had committed and not published when they were killed.
func lost(status agent.Status) (sum uint64) {
	for _, s := range status.Streams {
		sum += s.Lost
	}
	return sum
}

// accounted wants nothing doubled, nothing that nobody sealed, and nothing lost but what is counted, at most a batch for each kill.
func (x *traffic) accounted(r comparison, status agent.Status, kills int) {
	x.t.Helper()
	counted := lost(status)
	if r.doubled != 0 || r.foreign != 0 || r.lost > counted || counted > uint64(kills)*agent.BatchSize {
		b, err := json.Marshal(status)
		x.t.Errorf("doubled %d, not sealed %d, lost %d, counted %d, lost were %v: %s, %v", r.doubled, r.foreign, r.lost, counted, x.got.holes(), b, err)
	}
}

// programs lists what is at the hooks of the gateway's interfaces.
func (x *traffic) programs() (ids []uint32) {
	x.t.Helper()
	hooks, err := loader.Hooks()
	if err != nil {
		x.t.Fatal(err)
	}
	for _, h := range hooks {
		for _, p := range h.Programs {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// pid is that of the agent that answers.
func (x *traffic) pid() int {
	x.t.Helper()
	s, err := x.Status(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	return s.PID
}

// asSuccessor begins the conversation in the name of a successor that fits.
func (x *traffic) asSuccessor() (*takeover.Conn, takeover.Hello) {
	x.t.Helper()
	raw, _, err := control.OpenStream(x.t.Context(), x.ControlSocket(), control.UpgradePath)
	if err != nil {
		x.t.Fatal(err)
	}
	c := takeover.NewConn(raw)
	x.t.Cleanup(func() { _ = c.Close() })
	return c, x.hello()
}

// hello is the first word of a successor that fits.
func (x *traffic) hello() takeover.Hello {
	x.t.Helper()
	facts, err := loader.Facts()
	if err != nil {
		x.t.Fatal(err)
	}
	set, err := policy.Load(x.Documents().Policy, x.Documents().Binding)
	if err != nil {
		x.t.Fatal(err)
	}
	return takeover.Hello{Version: takeover.Version, Program: "test", Policy: set.PolicySum, Binding: set.BindingSum, Layout: facts.Layout}
}

// upTo leads the conversation up to a message of the successor's, which is not sent, and returns the descriptors that came.
func (x *traffic) upTo(c *takeover.Conn, hello takeover.Hello, next takeover.Kind) (files []*os.File) {
	x.t.Helper()
	if next == takeover.KindHello {
		return nil
	}
	for _, step := range []struct {
		kind takeover.Kind
		v    any
		next takeover.Kind
	}{
		{takeover.KindHello, hello, takeover.KindPrepared},
		{takeover.KindPrepared, takeover.Prepared{}, takeover.KindTaken},
	} {
		if err := c.Send(step.kind, step.v); err != nil {
			x.t.Fatal(err)
		}
		if step.kind == takeover.KindHello {
			lock, err := c.Receive(takeover.KindWelcome, &takeover.Welcome{}, 1)
			if err != nil {
				x.t.Fatal(err)
			}
			files = append(files, lock...)
		} else {
			readers, status, followers, err := c.ReceiveState(&takeover.State{})
			if err != nil {
				x.t.Fatal(err)
			}
			files = append(append(files, readers, status), followers...)
		}
		if next == step.next {
			return files
		}
	}
	return files
}

// stillThere finds out whether the agent goes on after its successor was killed, or had been taken over from and ends.
func (x *traffic) stillThere() bool {
	x.t.Helper()
	for deadline := time.Now().Add(patience); x.gateway.Running(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("the agent neither goes on nor ends: %s", x.gateway.Log())
		}
		raw, _, err := control.OpenStream(x.t.Context(), x.ControlSocket(), control.UpgradePath)
		if err != nil {
			continue // about to end
		}
		c := takeover.NewConn(raw)
		err = c.Send(takeover.KindHello, x.hello())
		if err == nil {
			var files []*os.File
			files, err = c.Receive(takeover.KindWelcome, &takeover.Welcome{}, 1)
			closeFiles(files)
		}
		_ = c.Close()
		if err == nil {
			return true
		}
	}
	return false
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// TestSuccessorFails has successors fail at every step of the conversation, and real ones be killed at any instant of theirs. The agent
// goes on each time, with its own programs at the hooks, and no sample is lost or doubled.
func TestSuccessorFails(t *testing.T) {
	needRoot(t)
	x := startTraffic(t)
	own, first := x.programs(), x.pid()
	goesOn := func(name string) {
		t.Helper()
		if got := x.pid(); got != first {
			t.Fatalf("%s: agent %d answers, want %d", name, got, first)
		}
		if got := x.programs(); fmt.Sprint(got) != fmt.Sprint(own) {
			t.Errorf("%s: programs %v at the hooks, want %v", name, got, own)
		}
		x.flows(name)
	}
	for _, tt := range []struct {
		name  string
		spoil func(h *takeover.Hello)
		says  string
	}{
		{"another version", func(h *takeover.Hello) { h.Version++ }, "version"},
		{"another policy", func(h *takeover.Hello) { h.Policy[0] ^= 1 }, "cellward apply"},
		{"another binding", func(h *takeover.Hello) { h.Binding[0] ^= 1 }, "cellward apply"},
	} {
		c, hello := x.asSuccessor()
		tt.spoil(&hello)
		if err := c.Send(takeover.KindHello, hello); err != nil {
			t.Fatal(err)
		}
		_, err := c.Receive(takeover.KindWelcome, &takeover.Welcome{}, 1)
		if !errors.Is(err, takeover.ErrRefused) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
		_ = c.Close()
		goesOn(tt.name)
	}
	for _, next := range []takeover.Kind{takeover.KindHello, takeover.KindPrepared, takeover.KindTaken} {
		for how, leave := range map[string]func(c *takeover.Conn){
			"goes":        func(*takeover.Conn) {},
			"refuses":     func(c *takeover.Conn) { c.Refuse(errors.New("cannot")) },
			"breaks rule": func(c *takeover.Conn) { _ = c.Send(takeover.KindWelcome, takeover.Welcome{}) },
		} {
			c, hello := x.asSuccessor()
			files := x.upTo(c, hello, next)
			leave(c)
			_ = c.Close()
			closeFiles(files)
			goesOn(fmt.Sprintf("%s instead of %v", how, next))
		}
	}
	// Two at a time: the second is told.
	c, hello := x.asSuccessor()
	files := x.upTo(c, hello, takeover.KindPrepared)
	d, hello := x.asSuccessor()
	if _, err := d.Receive(takeover.KindWelcome, &takeover.Welcome{}, 1); !errors.Is(err, takeover.ErrRefused) {
		t.Errorf("second successor: %v", err)
	}
	_, _ = d.Close(), hello
	_ = c.Close()
	closeFiles(files)
	goesOn("two at a time")
	// One that says nothing when all is its own is given up, and cannot take it afterwards.
	c, hello = x.asSuccessor()
	files = x.upTo(c, hello, takeover.KindTaken)
	if _, err := c.Receive(takeover.KindWelcome, &takeover.Welcome{}, 0); !errors.Is(err, takeover.ErrRefused) && !errors.Is(err, io.EOF) {
		t.Errorf("a successor that says nothing is told %v", err)
	}
	if err := c.Send(takeover.KindTaken, takeover.Taken{}); err == nil {
		t.Error("a successor that was given up has taken over")
	}
	closeFiles(files)
	goesOn("nothing instead of taken")
	// Real ones, killed anywhere on their way, or when they have just taken over.
	killed, late := 0, 0
	for i := range 12 {
		own, first = x.programs(), x.pid()
		p, err := x.BeginUpgrade()
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			time.Sleep(time.Duration(rand.IntN(160)) * time.Millisecond)
		} else {
			// On a busy machine that is never late enough.
			until(t, "the successor to its take-over", func() bool {
				return !x.gateway.Running() || strings.Contains(x.gateway.Log(), `"upgraded"`)
			})
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
		p.Kill()
		if x.stillThere() {
			killed++
			goesOn("successor killed")
			continue
		}
		// It had taken over before: the agent before has ended well.
		late++
		if err := x.gateway.Wait(); err != nil {
			t.Fatal(err)
		}
		if x.gateway, err = x.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.followed()
		x.flows("successor killed late")
	}
	// With documents of its own.
	other := filepath.Join(x.Folder(), "other.yaml")
	text, err := os.ReadFile(x.Documents().Policy)
	if err == nil {
		err = os.WriteFile(other, append(text, "# changed\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	own, first = x.programs(), x.pid()
	p, err := x.BeginUpgrade("--policy", other)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "cellward apply") {
		t.Errorf("successor with other documents: %v", err)
	}
	goesOn("successor with other documents")
	// Without --upgrade a second start is told what there is.
	if p, err = x.BeginAgent(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "--upgrade") {
		t.Errorf("second agent: %v", err)
	}
	goesOn("second agent")
	r, status := x.finish()
	counted := lost(status)
	t.Logf("%d real successors killed on their way, %d had taken over; %d read, doubled %d, not sealed %d, lost %d, counted %d, %d shed",
		killed, late, r.read, r.doubled, r.foreign, r.lost, counted, status.Verdict(loader.Shed))
	x.accounted(r, status, late)
}

// TestPredecessorKilled kills the running agent at every step of a take-over, and at any instant of a real one. The next start finds a
// free lock and consistent tables: nothing is doubled, and what is lost is counted.
func TestPredecessorKilled(t *testing.T) {
	needRoot(t)
	x := startTraffic(t)
	restart := func(name string) {
		t.Helper()
		var err error
		if x.gateway, err = x.StartAgent(t.Context()); err != nil {
			t.Fatalf("start after %s: %v", name, err)
		}
		x.followed()
		x.flows(name)
	}
	kills := 0
	for _, next := range []takeover.Kind{takeover.KindHello, takeover.KindPrepared, takeover.KindTaken} {
		c, hello := x.asSuccessor()
		files := x.upTo(c, hello, next)
		x.gateway.Kill()
		kills++
		if err := c.Send(takeover.KindTaken, takeover.Taken{}); err == nil {
			t.Errorf("taken from an agent that is dead before %v", next)
		}
		if next != takeover.KindHello {
			// The successor holds the lock as long as it lives.
			p, err := x.BeginAgent()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("start beside a successor that has the lock: %v", err)
			}
		}
		_ = c.Close()
		closeFiles(files)
		restart(fmt.Sprintf("a kill before %v", next))
	}
	taken := 0
	for range 12 {
		p, err := x.BeginUpgrade()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(160)) * time.Millisecond)
		x.gateway.Kill()
		kills++
		// Either the successor had taken over, or it ends.
		var status agent.Status
		for deadline := time.Now().Add(patience); p.Running() && status.PID == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the successor of a killed agent neither runs nor ends: %s", p.Log())
			}
			if strings.Contains(p.Log(), `"taken_over"`) || strings.Contains(p.Log(), `"agent is running"`) {
				status, _ = x.Status(t.Context())
			}
		}
		if p.Running() {
			taken++
			x.gateway = p
			x.followed()
			x.flows("a kill after the take-over")
			continue
		}
		restart("a kill in a take-over")
	}
	r, status := x.finish()
	counted := lost(status)
	t.Logf("%d kills, %d of them when the successor had taken over or started by itself; %d read, doubled %d, not sealed %d, lost %d, counted %d, %d shed",
		kills, taken, r.read, r.doubled, r.foreign, r.lost, counted, status.Verdict(loader.Shed))
	x.accounted(r, status, kills)
}
