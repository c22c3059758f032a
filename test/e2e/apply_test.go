// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

var applyKills = flag.Int("apply-kills", 12, "how often TestKilledInApply kills the agent")

// endless is longer than any of these tests: the edge is stopped, so that frames arrive to the end however slow the machine is.
const endless = 24 * time.Hour

// papers makes documents from those of a laboratory.
type papers struct {
	t       *testing.T
	dir     string
	lab     *demo.Lab
	policy  *policy.Policy
	aux     policy.Identity
	written int
}

func newPapers(t *testing.T, l *demo.Lab) *papers {
	t.Helper()
	p, err := policy.LoadPolicy(l.Documents().Policy)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := policy.NewIdentity(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &papers{t: t, dir: t.TempDir(), lab: l, policy: p, aux: id}
}

// node is another controller with streams on one bus.
func (p *papers) node(bus string, ids ...policy.CANID) policy.Node {
	n := policy.Node{Name: "aux", Identity: p.aux, Heartbeats: []policy.Heartbeat{{StreamID: 1000, Interface: bus, CANID: 0x500}}}
	for i, id := range ids {
		n.Streams = append(n.Streams, policy.Stream{StreamID: uint32(1001 + i), Interface: bus, CANID: id, Source: p.policy.DataSources[0].Identifier})
	}
	return n
}

// write writes documents that edit has changed, and returns their paths.
func (p *papers) write(edit func(pol *policy.Policy, b *policy.Binding)) agent.DocumentPaths {
	p.t.Helper()
	texts := make([][]byte, 2)
	var err error
	for i, d := range []policy.Document{p.policy, p.lab.Binding()} {
		if texts[i], err = policy.Marshal(d); err != nil {
			p.t.Fatal(err)
		}
	}
	pol, err := policy.ParsePolicy("policy", texts[0])
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := policy.ParseBinding("binding", texts[1])
	if err != nil {
		p.t.Fatal(err)
	}
	edit(pol, b)
	for i, d := range []policy.Document{pol, b} {
		if texts[i], err = policy.Marshal(d); err != nil {
			p.t.Fatal(err)
		}
	}
	return p.put(texts[0], texts[1])
}

func (p *papers) put(pol, binding []byte) agent.DocumentPaths {
	p.t.Helper()
	p.written++
	at := agent.DocumentPaths{
		Policy: filepath.Join(p.dir, fmt.Sprintf("policy%d.yaml", p.written)), Binding: filepath.Join(p.dir, fmt.Sprintf("binding%d.yaml", p.written)),
	}
	for path, text := range map[string][]byte{at.Policy: pol, at.Binding: binding} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	return at
}

// answer is what `cellward apply -o json` prints.
type answer struct {
	*agent.Change
	Error  string        `json:"error"`
	Errors policy.Errors `json:"errors"`
}

// apply runs the verb and returns its exit status.
func (p *papers) apply(at agent.DocumentPaths, args ...string) (answer, int) {
	p.t.Helper()
	args = append([]string{"apply", "--policy", at.Policy, "--binding", at.Binding, "--socket", p.lab.Binding().Gateway.Control.Socket, "-o", "json"}, args...)
	cmd := exec.CommandContext(p.t.Context(), program(), args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	var a answer
	if len(out) > 0 {
		if err := json.Unmarshal(out, &a); err != nil {
			p.t.Fatalf("apply printed %q: %v", out, err)
		}
	}
	return a, cmd.ProcessState.ExitCode()
}

func (p *papers) mustApply(at agent.DocumentPaths, args ...string) *agent.Change {
	p.t.Helper()
	a, code := p.apply(at, args...)
	if code != 0 || a.Change == nil || !a.Applied || !a.Saved {
		p.t.Fatalf("apply: exit %d, %+v, %s", code, a.Change, a.Error)
	}
	return a.Change
}

// reload puts documents where the agent reads them, sends SIGHUP, and returns what status says of it.
func (p *papers) reload(gateway *demo.Process, from agent.DocumentPaths) agent.LastChange {
	p.t.Helper()
	own := p.lab.Documents()
	for src, dst := range map[string]string{from.Policy: own.Policy, from.Binding: own.Binding} {
		b, err := os.ReadFile(src)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := os.WriteFile(dst+".new", b, 0o644); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Rename(dst+".new", dst); err != nil {
			p.t.Fatal(err)
		}
	}
	before := p.status().Documents
	if err := gateway.Signal(unix.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if d := p.status().Documents; d.Applied+d.Refused > before.Applied+before.Refused {
			return *d.Last
		}
		if time.Now().After(deadline) {
			p.t.Fatal("SIGHUP was not answered")
		}
	}
}

func (p *papers) status() agent.Status {
	p.t.Helper()
	s, err := p.lab.Status(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// shape is what documents decide of a status.
func shape(s agent.Status) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Policy, s.Binding)
	for _, i := range s.Interfaces {
		fmt.Fprintln(&b, i.Name, i.Slot)
	}
	for _, n := range s.Nodes {
		fmt.Fprintln(&b, n.Name, n.KID, len(n.Epochs))
	}
	for _, x := range s.Streams {
		fmt.Fprintln(&b, x.Stream, x.Node, x.Interface, x.CANID, x.Source, x.SamplingRate)
	}
	return b.String()
}

func unchanged(*policy.Policy, *policy.Binding) {}

// TestApplyUnderLoad brings document after document into a running agent while frames arrive at full rate: nodes, streams and an
// interface come, change and go, parameters change, bad documents are refused, by apply and by SIGHUP. Of the streams that no
// document changes nothing is lost and nothing doubled, and a reader that follows sees all of it.
func TestApplyUnderLoad(t *testing.T) {
	needRoot(t)
	const speed = 60 / slowdown // 60: 20,400 frames a second
	l := newLab(t, demo.LabOptions{Frames: 150_000}, 10*time.Second)
	p := newPapers(t, l)
	other, err := loader.NewTUN(nil, "can9")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if a, code := p.apply(p.write(unchanged)); code != 1 || !strings.Contains(a.Error, "no agent") {
		t.Errorf("without an agent: exit %d, %q", code, a.Error)
	}
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	reader, err := l.StartReader(t.Context(), "--reconnect")
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	behind, err := l.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, speed, packInput(endless)...)
	if err != nil {
		t.Fatal(err)
	}
	own := len(p.status().Streams)
	for deadline := time.Now().Add(10 * time.Second); got.count() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no sample before the first document")
		}
	}
	step := func(name string, f func()) {
		t.Helper()
		f()
		// The reader is where the frames are that arrive now before the next documents come.
		for before, deadline := got.count(), time.Now().Add(20*time.Second); got.count() == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: nothing is read any more", name)
			}
		}
	}
	withAux := func(_ *policy.Policy, b *policy.Binding) { b.Nodes = append(b.Nodes, p.node("can0", 0x501, 0x502)) }
	step("add a node", func() {
		if a, code := p.apply(p.write(withAux), "--dry-run"); code != 0 || a.Applied || len(a.Streams.Added) != 3 || len(p.status().Streams) != own {
			t.Errorf("dry run: exit %d, %+v", code, a.Change)
		}
		x := p.mustApply(p.write(withAux))
		if len(x.Streams.Added) != 3 || x.Streams.Kept != own || len(x.Nodes.Added) != 1 || len(x.Agreements) != 1 || !x.RingReplaced || x.Note == "" {
			t.Errorf("%+v", x)
		}
		if n := len(p.status().Streams); n != own+3 {
			t.Errorf("%d streams", n)
		}
	})
	step("change a node", func() {
		at := p.write(func(_ *policy.Policy, b *policy.Binding) { b.Nodes = append(b.Nodes, p.node("can0", 0x501, 0x503)) })
		if a, code := p.apply(at); code != 1 || a.Applied || len(a.Confirm) != 1 || !strings.Contains(a.Error, "502") {
			t.Errorf("an identifier was opened unasked: exit %d, %+v", code, a.Change)
		}
		if x := p.mustApply(at, "--confirm"); len(x.Streams.Changed) != 3 || x.Streams.Kept != own {
			t.Errorf("%+v", x)
		}
	})
	step("parameters", func() {
		x := p.mustApply(p.write(func(pol *policy.Policy, b *policy.Binding) {
			b.Nodes = append(b.Nodes, p.node("can0", 0x501, 0x503))
			pol.Transport.ReplayProtection.WindowSize = 512
			pol.KeyManagement.RotationPolicy.Interval = 10 * 24 * time.Hour
			pol.DataSources[0].Sensitivity = policy.Low
			b.Gateway.Grace = 24 * time.Hour
			b.Gateway.Ring.Slots *= 2
			b.Nodes[0].Streams[0].SamplingRate = policy.RateOf(2 * time.Second)
		}))
		if len(x.Parameters) != 4 || len(x.Agreements) != 0 || !x.RingReplaced {
			t.Errorf("%+v", x)
		}
	})
	step("add an interface", func() {
		at := p.write(func(_ *policy.Policy, b *policy.Binding) {
			b.Interfaces = append(b.Interfaces, policy.Interface{Name: "can9", Index: 9, Carrier: policy.CANFD})
			b.Nodes = append(b.Nodes, p.node("can9", 0x501))
		})
		if !passes(t, other, 0x501) {
			t.Error("the interface was closed before")
		}
		p.mustApply(at, "--confirm")
		if passes(t, other, 0x501) || !passes(t, other, 0x111) {
			t.Error("the interface is not filtered as it should be")
		}
		t.Logf("paused for %d us", p.mustApply(at).PausedUS)
	})
	step("bad documents", func() { p.refusals(gateway) })
	step("all or nothing", func() { p.failures() })
	step("remove it all", func() {
		at := p.write(unchanged)
		if _, code := p.apply(at); code != 1 {
			t.Errorf("exit %d without a confirmation", code)
		}
		p.mustApply(at, "--confirm")
		if !passes(t, other, 0x501) {
			t.Error("the interface is still filtered")
		}
		if n := len(p.status().Streams); n != own {
			t.Errorf("%d streams", n)
		}
	})
	step("SIGHUP", func() {
		if c := p.reload(gateway, p.write(withAux)); !c.Applied || c.By != "signal" {
			t.Errorf("%+v", c)
		}
		if c := p.reload(gateway, p.write(unchanged)); c.Applied || !strings.Contains(c.Error, "confirm") {
			t.Errorf("identifiers were opened by a signal: %+v", c)
		}
		if c := p.reload(gateway, p.put([]byte("kind: x\n"), []byte("?"))); c.Applied || !strings.Contains(c.Error, "policy.yaml:1:") {
			t.Errorf("%+v", c)
		}
		if n := len(p.status().Streams); n != own+3 {
			t.Errorf("%d streams", n)
		}
	})
	step("restart", func() {
		if c := p.reload(gateway, p.write(withAux)); !c.Applied {
			t.Errorf("%+v", c)
		}
		if err := gateway.Stop(); err != nil {
			t.Fatal(err)
		}
		if gateway, err = l.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := running(t, gateway); strings.Contains(m, "tables_renewed") || !strings.Contains(m, `"resumed":true`) {
			t.Errorf("the tables were not taken over: %s", m)
		}
	})
	if err := errors.Join(edge.Stop(), wire.Finish()); err != nil {
		t.Fatal(err)
	}
	status := settled(t, l)
	sealed := report(t, edge)
	// The reader may be behind on a slow machine; it has stopped when nothing more comes for a while.
	for n, since := got.count(), time.Now(); uint64(n) < sealed.Sealed && time.Since(since) < 20*time.Second; {
		time.Sleep(10 * time.Millisecond)
		if now := got.count(); now > n {
			n, since = now, time.Now()
		}
	}
	if err := errors.Join(behind.Finish(), gateway.Stop(), reader.Stop()); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	seen := make(map[[2]uint64]bool)
	for _, s := range got.all {
		seen[[2]uint64{uint64(s.Stream), s.Counter}] = true
	}
	if sealed.Sealed == 0 || uint64(len(seen)) != sealed.Sealed || uint64(len(got.all)) != sealed.Sealed {
		t.Errorf("%d sealed, %d read, %d of them different", sealed.Sealed, len(got.all), len(seen))
	}
	for _, s := range status.Streams {
		if s.Lost != 0 || s.Deleted != 0 || s.Missing != 0 {
			t.Errorf("stream %d: lost %d, deleted %d, missing %d", s.Stream, s.Lost, s.Deleted, s.Missing)
		}
	}
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack", n)
	}
	t.Logf("%d sealed, %d read, %d of them different", sealed.Sealed, len(got.all), len(seen))
}

// running waits until an agent says that it runs, which is behind its first answer, and returns what it has said until then.
func running(t *testing.T, p *demo.Process) (messages string) {
	t.Helper()
	until(t, "the agent's word that it runs", func() bool {
		messages = p.Log()
		return strings.Contains(messages, `"agent is running"`)
	})
	return messages
}

// refusals brings documents that are wrong, or that a running agent cannot go by. Nothing of them takes effect.
func (p *papers) refusals(gateway *demo.Process) {
	p.t.Helper()
	good := p.write(unchanged)
	pol, err := os.ReadFile(good.Policy)
	if err != nil {
		p.t.Fatal(err)
	}
	binding, err := os.ReadFile(good.Binding)
	if err != nil {
		p.t.Fatal(err)
	}
	before := shape(p.status())
	for name, c := range map[string]struct {
		at   agent.DocumentPaths
		want string
		cli  bool // the verb says it before the agent is asked
	}{
		"no YAML":        {p.put(pol, []byte("{")), "yaml:1:", true},
		"unknown field":  {p.put(pol, append(bytes.Clone(binding), "surplus: 1\n"...)), "surplus", true},
		"too long":       {p.put(pol, append(bytes.Clone(binding), bytes.Repeat([]byte("#"), policy.MaxSize)...)), "larger than 1 MiB", true},
		"no UTF-8":       {p.put(append(bytes.Clone(pol), 0xFF), binding), "not UTF-8", true},
		"other policy":   {p.put(bytes.Replace(pol, []byte("name: "), []byte("name: other-"), 1), binding), "policy", true},
		"state folder":   {p.write(func(_ *policy.Policy, b *policy.Binding) { b.Gateway.StateDirectory = "/elsewhere" }), "spec.gateway.stateDirectory", false},
		"TPM":            {p.write(func(_ *policy.Policy, b *policy.Binding) { b.Gateway.TPM = "/dev/tpm7" }), "spec.gateway.tpm", false},
		"identity":       {p.write(func(_ *policy.Policy, b *policy.Binding) { b.Gateway.Identity = p.aux }), "spec.gateway.identity", false},
		"candidate ring": {p.write(func(_ *policy.Policy, b *policy.Binding) { b.Gateway.CandidateRing *= 2 }), "spec.gateway.candidateRing", false},
		"other device":   {p.write(rename), "spec.interfaces", false},
		"no such device": {p.write(func(_ *policy.Policy, b *policy.Binding) {
			b.Interfaces = append(b.Interfaces, policy.Interface{Name: "can77", Index: 7, Carrier: policy.CANFD})
			b.Nodes = append(b.Nodes, p.node("can77", 0x501))
		}), "can77", false},
	} {
		for _, dry := range [][]string{{"--confirm"}, {"--dry-run"}} {
			a, code := p.apply(c.at, dry...)
			if code != 1 || a.Change != nil && a.Applied || !strings.Contains(a.Error, c.want) {
				p.t.Errorf("%s %v: exit %d, %q", name, dry, code, a.Error)
			}
			if c.cli && (len(a.Errors) == 0 || a.Errors[0].Line == 0 || a.Errors[0].Column == 0) {
				p.t.Errorf("%s: no place: %+v", name, a.Errors)
			}
		}
	}
	if _, code := p.apply(good, "--no-such-flag"); code != 2 {
		p.t.Errorf("unknown flag: exit %d", code)
	}
	if after := shape(p.status()); after != before {
		p.t.Errorf("refused documents have changed the agent from\n%sto\n%s", before, after)
	}
	if m := gateway.Log(); !strings.Contains(m, `"documents_refused"`) {
		p.t.Error("the log does not name the refusal")
	}
}

// failures brings documents that are good and whose change fails half-way. Everything is as before.
func (p *papers) failures() {
	p.t.Helper()
	root := p.lab.Binding().Gateway.BPFFS
	spare, err := loader.NewTUN(nil, "can8")
	if err != nil {
		p.t.Fatal(err)
	}
	defer spare.Close()
	// Pins that nobody made keep the filter from the second of two new interfaces.
	blocked := filepath.Join(root, "bus_7")
	tun, err := loader.NewTUN(nil, "can7")
	if err != nil {
		p.t.Fatal(err)
	}
	defer tun.Close()
	if err := os.Mkdir(blocked, 0o700); err != nil {
		p.t.Fatal(err)
	}
	table := func() string {
		i, err := loader.Inspect(root)
		if err != nil {
			p.t.Fatal(err)
		}
		var all []string
		for _, s := range i.Streams {
			all = append(all, fmt.Sprint(s.Key, s.Stream))
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	before, tableBefore := shape(p.status()), table()
	interfaces := p.write(func(_ *policy.Policy, b *policy.Binding) {
		b.Interfaces = append(b.Interfaces, policy.Interface{Name: "can8", Index: 6, Carrier: policy.CANFD}, policy.Interface{Name: "can7", Index: 7, Carrier: policy.CANFD})
		n := p.node("can8", 0x501)
		n.Heartbeats = append(n.Heartbeats, policy.Heartbeat{StreamID: 1010, Interface: "can7", CANID: 0x500})
		n.Streams = append(n.Streams, policy.Stream{StreamID: 1011, Interface: "can7", CANID: 0x501, Source: p.policy.DataSources[0].Identifier})
		b.Nodes = append(b.Nodes, n)
	})
	socket := p.write(func(_ *policy.Policy, b *policy.Binding) {
		b.Gateway.Ring.Socket = "/dev/null/ring.sock"
		b.Nodes = append(b.Nodes, p.node(b.Interfaces[0].Name, 0x505, 0x506))
	})
	for _, at := range []agent.DocumentPaths{interfaces, socket} {
		a, code := p.apply(at, "--confirm")
		if code != 1 || a.Change == nil || a.Applied || len(a.Refused) > 0 || len(a.Errors) > 0 {
			p.t.Errorf("exit %d, %+v", code, a)
		}
		p.t.Log(a.Error)
		if after := shape(p.status()); after != before {
			p.t.Errorf("the agent was changed from\n%sto\n%s", before, after)
		}
		if after := table(); after != tableBefore {
			p.t.Errorf("the filter's streams were changed from\n%s\nto\n%s", tableBefore, after)
		}
	}
	if !passes(p.t, spare, 0x501) {
		p.t.Error("the first of two interfaces is filtered")
	}
	if err := os.Remove(blocked); err != nil {
		p.t.Fatal(err)
	}
}

// rename gives the first interface another name.
func rename(_ *policy.Policy, b *policy.Binding) {
	b.Interfaces[0].Name = "can8"
	for i := range b.Nodes[0].Streams {
		b.Nodes[0].Streams[i].Interface = "can8"
	}
	for i := range b.Nodes[0].Heartbeats {
		b.Nodes[0].Heartbeats[i].Interface = "can8"
	}
}

// passes sends a plain frame to an interface of this namespace and says whether it reaches the CAN stack.
func passes(t *testing.T, tun *loader.TUN, id uint32) bool {
	t.Helper()
	c, err := loader.OpenCAN(nil, tun.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, x := range []uint32{id, 0x7FF} { // the second passes always, and comes behind the first
		f := loader.CANFrame{ID: x, Len: 1}
		if err := tun.WriteCAN(&f, loader.CANMTU); err != nil {
			t.Fatal(err)
		}
	}
	var f loader.CANFrame
	if _, err := c.Receive(&f, time.Now().Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return f.ID == id
}

// TestKilledInApply kills the agent (SIGKILL) at random moments of changes to and fro, and starts it by the old documents or by the
// new ones. It always starts; nothing is published twice, protected identifiers are closed throughout, and samples resume.
func TestKilledInApply(t *testing.T) {
	needRoot(t)
	const speed = 25 / min(slowdown, 5)
	l := newLab(t, demo.LabOptions{Frames: 150_000}, 10*time.Second)
	p := newPapers(t, l)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	reader, err := l.StartReader(t.Context(), "--reconnect")
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	behind, err := l.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, speed, packInput(endless)...)
	if err != nil {
		t.Fatal(err)
	}
	variants := []agent.DocumentPaths{
		p.write(unchanged),
		p.write(func(_ *policy.Policy, b *policy.Binding) { b.Nodes = append(b.Nodes, p.node("can0", 0x501, 0x502)) }),
		p.write(func(pol *policy.Policy, b *policy.Binding) {
			b.Nodes = append(b.Nodes, p.node("can0", 0x502, 0x501, 0x503))
			pol.Transport.ReplayProtection.WindowSize = 512
		}),
	}
	rng := mrand.New(mrand.NewPCG(7, 8))
	renewed, resumed := 0, 0
	for i := range *applyKills {
		time.Sleep(100 * time.Millisecond)
		next := variants[rng.IntN(len(variants))]
		cmd := exec.CommandContext(t.Context(), program(), "apply", "--confirm", "--policy", next.Policy, "--binding", next.Binding)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		gateway.Kill()
		_ = cmd.Wait() // it may have been answered or not
		start := next
		if rng.IntN(2) == 0 {
			start = variants[0]
		}
		own := l.Documents()
		for src, dst := range map[string]string{start.Policy: own.Policy, start.Binding: own.Binding} {
			b, err := os.ReadFile(src)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dst, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		before := got.count()
		if gateway, err = l.StartAgent(t.Context()); err != nil {
			t.Fatalf("start after kill %d: %v", i+1, err)
		}
		if strings.Contains(running(t, gateway), `"resumed":true`) {
			resumed++
		} else {
			renewed++
		}
		if n := len(p.status().Nodes[len(p.status().Nodes)-1].Epochs); n != 1 {
			t.Fatalf("kill %d: the node has %d epochs", i+1, n)
		}
		for deadline := time.Now().Add(patience); got.count() == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no sample after kill %d", i+1)
			}
		}
	}
	if err := errors.Join(edge.Stop(), wire.Finish()); err != nil {
		t.Fatal(err)
	}
	status := settled(t, l)
	if err := errors.Join(behind.Finish(), gateway.Stop()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // the reader takes what is left
	if err := reader.Stop(); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	sealed := report(t, edge)
	const perSecond = 340 // frames of the simulated pack
	want := bodies(t, l.Binding(), time.Duration(sealed.Offered/perSecond+2)*time.Second)
	seen := make(map[[2]uint64]bool)
	for _, s := range got.all {
		k := [2]uint64{uint64(s.Stream), s.Counter}
		if seen[k] {
			t.Fatalf("published twice: %+v", s)
		}
		seen[k] = true
		if n := s.Counter - sealed.FirstCounter; n >= uint64(len(want[s.Stream])) || want[s.Stream][n] != s.Body {
			t.Fatalf("not what was sealed: %+v", s)
		}
	}
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack", n)
	}
	t.Logf("%d kills: tables taken over %d times, renewed %d times; %d sealed, %d came out", *applyKills, resumed, renewed, sealed.Sealed, len(seen))
	// A window, a start or a key at a wrong place would show here.
	for _, v := range []loader.Verdict{loader.BadTag, loader.BadStart, loader.NodeRollback, loader.NoStart, loader.BadPlaintext, loader.AgentUnknownStream} {
		if n := status.Verdict(v); n != 0 {
			t.Errorf("%v: %d", v, n)
		}
	}
}
