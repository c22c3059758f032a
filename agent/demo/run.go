// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/loader"
)

// attackSeed makes every run's attacks the same.
const attackSeed = 1

// run is one demonstration.
type run struct {
	opts    Options
	say     *progress
	policy  *policy.Policy
	binding *policy.Binding
	names   map[string]string // from the log's buses to the binding's interfaces
	compare *comparison
	claimed bool // every frame of the log has a stream
	lab     *Lab
	result  Result
}

// Run demonstrates the whole line in the namespaces that this process is in, which must be its own (see Outside), and
// returns what it found and what of it is not as it must be. An error means that it could not be carried through.
func Run(ctx context.Context, opts Options) (_ *Result, wrong []string, err error) {
	begun := time.Now()
	r := &run{opts: opts, say: newProgress(opts.Progress)}
	if err := r.prepare(); err != nil {
		return nil, nil, err
	}
	// Log, attacks and heartbeats together stay below three quarters of the rings.
	frames := r.compare.total
	insertion, _ := ofFamily(opts.Attacks, Insertion)
	frames += frames/attackEvery*uint64(max(insertion.flood, 1)) + frames/8 + 4096
	r.say.line("setting up buses, two network namespaces, and two software TPMs: the gateway's and the edge's")
	r.lab, err = NewLab(ctx, LabOptions{Policy: r.policy, Binding: r.binding, Frames: frames})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.lab.Close()) }()
	r.result.Bus, r.result.Carrier, r.result.TPM, r.result.Kernel = r.lab.Kind, string(policy.CANFD), "swtpm", release()
	r.say.line("bus: %d of kind %s", len(r.lab.Buses), r.lab.Kind)
	r.say.line("keys: identities, the gateway's offer (its key made in its TPM), the node's reply, accepted")
	if err := r.lab.AgreeKeys(ctx); err != nil {
		return nil, nil, err
	}
	if err := r.flow(ctx); err != nil {
		return nil, nil, err
	}
	r.result.ElapsedS = time.Since(begun).Seconds()
	return &r.result, r.result.Check(r.claimed), nil
}

// prepare reads documents and log.
func (r *run) prepare() error {
	var err error
	if r.opts.Policy != "" {
		r.policy, err = policy.LoadPolicy(r.opts.Policy)
	} else {
		r.policy, err = DefaultPolicy()
	}
	if err != nil {
		return err
	}
	sum, err := r.summary()
	if err != nil {
		return err
	}
	if err := r.bind(sum); err != nil {
		return err
	}
	src, done, err := r.opts.source()
	if err != nil {
		return err
	}
	r.compare, err = newComparison(r.binding, r.names, src)
	if err := errors.Join(err, done()); err != nil {
		return err
	}
	var data uint64
	for _, s := range sum.Streams {
		data += s.Count
	}
	r.claimed = r.compare.total == data
	what := "simulated battery pack"
	if r.opts.Log != "" {
		what = filepath.Base(r.opts.Log)
	}
	r.say.line("%s: %d frames on %d identifiers, %d of them bound", what, sum.Frames, len(sum.Streams), len(r.binding.Nodes[0].Streams))
	return nil
}

func (r *run) summary() (*trace.Summary, error) {
	src, done, err := r.opts.source()
	if err != nil {
		return nil, err
	}
	sum, err := trace.Summarize(src)
	return sum, errors.Join(err, done())
}

// bind takes the given binding, or makes one from the log.
func (r *run) bind(sum *trace.Summary) (err error) {
	if r.opts.Binding == "" {
		var layout []trace.Message
		if r.opts.Log == "" {
			if layout, err = trace.PackLayout(r.opts.pack()); err != nil {
				return err
			}
		}
		r.binding, r.names, err = BindingFor(r.policy, sum, layout)
		return err
	}
	if r.binding, err = policy.LoadBinding(r.opts.Binding); err != nil {
		return err
	}
	if n := len(r.binding.Nodes); n != 1 {
		return fmt.Errorf("binding %s has %d nodes; the demonstration's edge is one node", r.opts.Binding, n)
	}
	r.names = make(map[string]string)
	if len(sum.Buses) == 1 && len(r.binding.Interfaces) == 1 {
		r.names[sum.Buses[0]] = r.binding.Interfaces[0].Name
	}
	return nil
}

// flow runs agent, reader and edge, and sees every frame through.
func (r *run) flow(ctx context.Context) error {
	gateway, err := r.lab.StartAgent(ctx)
	if err != nil {
		return err
	}
	r.say.line("agent: running, filter attached, protected identifiers closed")
	reader, err := r.lab.StartReader(ctx)
	if err != nil {
		return err
	}
	followed := make(chan error, 1)
	go func() { followed <- r.compare.follow(reader.Lines) }()

	var a *attacker
	if i, ok := ofFamily(r.opts.Attacks, Insertion); ok {
		a = newAttacker(attackSeed, i.forge, i.flood)
	}
	x := newTampering(r.opts.Attacks, r.bodies())
	observed := &observer{steps: make(map[string][]step)}
	watch, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go r.lab.observe(watch, observed, r.opts.Attacks)
	w := startWire(r.lab.Buses, a, x, nil)
	behind, err := r.lab.TapStack()
	if err != nil {
		return err
	}
	edge, err := r.lab.StartEdge("", r.names, r.opts.Speed, r.opts.edgeInput()...)
	if err != nil {
		return err
	}
	if err := r.watchEdge(ctx, edge); err != nil {
		return err
	}
	if err := w.Finish(); err != nil {
		return err
	}
	var sealed SealCounts
	if err := json.Unmarshal(edge.Output(), &sealed); err != nil {
		return fmt.Errorf("read counts of the edge: %w", err)
	}
	r.compare.start(sealed.FirstCounter)
	when := w.injections(r.opts.Attacks)
	status, err := r.drain(ctx, gateway, func(s *agent.Status) bool {
		observed.look(r.opts.Attacks, s)
		return !slices.ContainsFunc(r.opts.Attacks, func(a string) bool { return noticedOf(a, s) != uint64(len(when[a])) })
	})
	if err != nil {
		return err
	}
	r.result.Events = make(map[string]EventResult)
	if x != nil {
		r.result.deleted = x.samples
	}
	for _, attack := range r.opts.Attacks {
		r.result.Events[attack] = observed.result(attack, when[attack], &status)
	}
	if err := behind.Finish(); err != nil {
		return err
	}
	r.settleResult(status, sealed, w, behind)
	if err := errors.Join(reader.Stop(), gateway.Stop()); err != nil {
		return err
	}
	if err := <-followed; err != nil {
		return err
	}
	r.compare.fill(&r.result)
	return nil
}

// bodies returns what the edge will send, by the identifiers that the wire sees.
func (r *run) bodies() map[target][][]byte {
	all := make(map[target][][]byte)
	for _, s := range r.binding.Nodes[0].Streams {
		i := slices.IndexFunc(r.lab.Buses, func(b *Bus) bool { return b.Name == s.Interface })
		all[target{i, uint32(s.CANID)}] = r.compare.offered[s.StreamID]
	}
	return all
}

// SealCounts is what `cellward seal -o json` ends with, as far as it matters here.
type SealCounts struct {
	FirstCounter uint64 `json:"first_counter"`
	Offered      uint64 `json:"offered"`
	Sealed       uint64 `json:"sealed"`
	Dropped      uint64 `json:"dropped"`
}

// watchEdge waits for the edge to end and shows how far it is.
func (r *run) watchEdge(ctx context.Context, edge *Process) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	defer r.say.endBar()
	for {
		select {
		case <-edge.done:
			r.say.bar(r.compare.count(), r.compare.total)
			return edge.failure()
		case <-ctx.Done():
			return fmt.Errorf("wait for the edge: %w", ctx.Err())
		case <-tick.C:
			r.say.bar(r.compare.count(), r.compare.total)
		}
	}
}

// patience is how long the last frames and the last events get: a sample counts as deleted 3 of its stream's periods after it was noticed
// to be missing.
func (r *run) patience() time.Duration {
	longest := time.Duration(0)
	for _, s := range r.binding.Nodes[0].Streams {
		longest = max(longest, s.SamplingRate.Period)
	}
	return settle + 3*longest
}

// drain waits until every candidate has its verdict, what the attacker did was noticed, and every published sample has been read.
func (r *run) drain(ctx context.Context, gateway *Process, noticed func(*agent.Status) bool) (agent.Status, error) {
	patience := r.patience()
	deadline := time.Now().Add(patience)
	for {
		s, err := r.lab.Status(ctx)
		if err != nil {
			return s, errors.Join(err, gateway.failure())
		}
		if s.Settled() && r.compare.count() >= s.Published() && noticed(&s) {
			return s, nil
		}
		if time.Now().After(deadline) {
			r.say.line("not everything has come through after %v", patience)
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("wait for the last samples: %w", ctx.Err())
		case <-gateway.done:
			return s, errors.Join(errors.New("agent has ended"), gateway.failure())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settleResult takes over what agent, edge and wire have counted.
func (r *run) settleResult(s agent.Status, sealed SealCounts, w *Wire, behind *StackTap) {
	res := &r.result
	res.Frames.Offered, res.Frames.Sealed = sealed.Offered, sealed.Sealed
	res.Frames.Candidates = s.Verdict(loader.Candidate)
	res.Samples.Published = s.Published()
	res.Rejected = make(map[string]uint64)
	for v := range loader.NumVerdicts {
		verdict := loader.Verdict(v)
		if n := s.Verdict(verdict); n > 0 && agent.Refusing(verdict) {
			res.Rejected[verdict.String()] = n
		}
	}
	res.Attacks.Injected = make(map[string]uint64)
	if w.attacker != nil {
		res.Attacks.Injected = w.attacker.injected
	}
	res.Stack = Stack{ErrorFramesSent: w.errors, ErrorFramesSeen: behind.ErrorFrames(), ProtectedSeen: behind.ProtectedFrames()}
}
