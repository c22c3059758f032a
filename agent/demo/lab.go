// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
	"github.com/cellward/cellward/loader"
)

// maxQueue bounds the transmit queue of the edge's device, in frames; the kernel keeps a pointer for each.
const maxQueue = 1 << 22

// AgentUID is whom the agent of a laboratory becomes: a number that no distribution gives to anybody (Debian policy 9.2.2), so that a
// laboratory needs no user to be made.
const AgentUID = 65533

// LabOptions say what a Lab is for.
type LabOptions struct {
	// Program is the path of the cellward program; empty: this process's own.
	Program string
	// Policy and Binding are the documents. Identities, TPM, folders, sockets and sizes of the binding are replaced.
	Policy  *policy.Policy
	Binding *policy.Binding
	// Frames is how many frames rings must hold without shedding.
	Frames uint64
	// SoftwareEdge gives the edge a software key instead of a TPM.
	SoftwareEdge bool
	// GatewayTPM is the TPM that the gateway uses, as station.Options names it, and which the agent's user may open; empty: a
	// software one of its own.
	GatewayTPM string
	// TPMProxy, if not nil, is given the socket of the gateway's software TPM and returns the one that the gateway is to use.
	TPMProxy func(socket string) string
	// Group is the group whose members may read the ring; empty: none.
	Group string
	// Direct joins the edge's interfaces to the gateway's without a wire between: there is nothing to read or to inject then
	// but through sockets. It needs vxcan.
	Direct bool
	// AgentArgs are added to the agent's command line.
	AgentArgs []string
}

// Lab is a gateway and an edge on one machine: CAN buses between two network namespaces, a software TPM and a state folder on
// each side, and documents that name them. The gateway lives in the caller's network namespace, which should be its own (see
// Outside). Its methods are for one goroutine.
type Lab struct {
	// Kind is that of the buses: "vxcan" or "tun-can".
	Kind  string
	Buses []*Bus

	at      place
	bpf     *os.File
	policy  *policy.Policy
	binding *policy.Binding
	frames  uint64
	group   string
	edgeNS  *loader.Netns
	gateway []string // where the gateway's keys are, as the command line names it
	edge    []string // and the edge's
	// agentArgs are further arguments of the agent.
	agentArgs []string
	kids      *children
}

// NewLab makes buses and TPMs. Keys are agreed by AgreeKeys, processes started by the other methods.
func NewLab(ctx context.Context, o LabOptions) (_ *Lab, err error) {
	dir, err := os.MkdirTemp("", "cellward-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	l := &Lab{
		at: place{dir: dir}, policy: o.Policy, binding: o.Binding, frames: o.Frames, group: o.Group, agentArgs: o.AgentArgs,
		kids: &children{program: o.Program},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	// The agent's user finds its state folder, its sockets and its TPM through this folder, and cannot list it.
	if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(l.at.run(), 0o755), os.Chown(l.at.run(), AgentUID, AgentUID)); err != nil {
		return nil, fmt.Errorf("make folders: %w", err)
	}
	// A bpffs that is mounted nowhere: what is pinned there ends with this process at the latest.
	if l.bpf, err = loader.NewBPFFS(); err != nil {
		return nil, err
	}
	l.at.bpffs = fmt.Sprintf("/proc/%d/fd/%d/cellward", os.Getpid(), l.bpf.Fd())
	if l.edgeNS, err = loader.NewNetns(); err != nil {
		return nil, err
	}
	var names []string
	for _, i := range o.Binding.Interfaces {
		names = append(names, i.Name)
	}
	if o.Direct {
		l.Kind = busVXCAN
		l.Buses, err = newDirectBuses(l.edgeNS, names)
	} else {
		l.Kind, l.Buses, err = newBuses(l.edgeNS, names, uint32(min(max(2*o.Frames, 10_000), maxQueue)))
	}
	if err != nil {
		return nil, err
	}
	if l.gateway, err = l.gatewayTPM(ctx, o); err != nil {
		return nil, err
	}
	if o.SoftwareEdge {
		l.edge = []string{"--software-key"}
		return l, nil
	}
	if l.edge, err = l.startTPM(ctx, "edge", nil); err != nil {
		return nil, err
	}
	return l, nil
}

// gatewayTPM returns the arguments that name the gateway's TPM.
func (l *Lab) gatewayTPM(ctx context.Context, o LabOptions) ([]string, error) {
	if o.GatewayTPM != "" {
		return []string{"--tpm", o.GatewayTPM}, nil
	}
	arguments, err := l.startTPM(ctx, "gateway", o.TPMProxy)
	if err != nil {
		return nil, err
	}
	// As a device of the group tss would be.
	socket := strings.TrimPrefix(arguments[1], "unix:")
	for _, path := range []string{filepath.Dir(socket), socket} {
		if err := os.Lchown(path, AgentUID, AgentUID); err != nil {
			return nil, fmt.Errorf("give TPM to the agent's user: %w", err)
		}
	}
	return arguments, nil
}

// startTPM starts a software TPM and returns how the command line names it.
func (l *Lab) startTPM(ctx context.Context, name string, proxy func(string) string) ([]string, error) {
	p, err := swtpm.Start(ctx, filepath.Join(l.at.dir, "tpm-"+name))
	if err != nil {
		return nil, err
	}
	l.kids.onEnd(p.Stop)
	socket := p.Socket
	if proxy != nil {
		socket = proxy(socket)
	}
	return []string{"--tpm", "unix:" + socket}, nil
}

// Close ends all processes and removes everything.
func (l *Lab) Close() error {
	errs := []error{l.kids.endAll()}
	for _, b := range l.Buses {
		errs = append(errs, b.close())
	}
	if l.edgeNS != nil {
		errs = append(errs, l.edgeNS.Close())
	}
	if l.bpf != nil {
		errs = append(errs, l.bpf.Close())
	}
	if err := os.RemoveAll(l.at.dir); err != nil {
		errs = append(errs, fmt.Errorf("remove folder: %w", err))
	}
	return errors.Join(errs...)
}

// Reboot does to the gateway what a reboot does while no agent runs: everything pinned is gone, the filter with it.
func (l *Lab) Reboot() error {
	fresh, err := loader.NewBPFFS()
	if err != nil {
		return err
	}
	// In the place of the old one, so that the documents still name it.
	if err := unix.Dup3(int(fresh.Fd()), int(l.bpf.Fd()), unix.O_CLOEXEC); err != nil {
		return errors.Join(fmt.Errorf("replace bpffs: %w", err), fresh.Close())
	}
	return fresh.Close()
}

// BeginAgent starts the agent and does not wait for it. args are further flags of the verb.
func (l *Lab) BeginAgent(args ...string) (*Process, error) {
	return l.kids.start("agent", false, slices.Concat(l.documents("run"), l.agentArgs, args)...)
}

// EdgeState returns the edge's state folder.
func (l *Lab) EdgeState() string { return l.at.edgeState() }

// GatewayState returns the gateway's state folder.
func (l *Lab) GatewayState() string { return l.at.gatewayState() }

// GatewayTPM returns the gateway's TPM as station.Options names it.
func (l *Lab) GatewayTPM() string { return l.gateway[1] }

// EdgeTPM returns the edge's TPM as station.Options names it; empty with a software key.
func (l *Lab) EdgeTPM() string {
	if len(l.edge) < 2 {
		return ""
	}
	return l.edge[1]
}

// Keys runs a verb of `cellward keys` on the documents and returns what it printed.
func (l *Lab) Keys(ctx context.Context, verb string, args ...string) ([]byte, error) {
	return l.kids.output(ctx, append(l.documents("keys", verb), args...)...)
}

// RingSocket returns the socket of the agent's ring.
func (l *Lab) RingSocket() string { return l.at.ringSocket() }

// Binding returns the binding as the processes have it, after AgreeKeys.
func (l *Lab) Binding() *policy.Binding { return l.binding }

// Documents returns the paths of the documents that the agent reads.
func (l *Lab) Documents() agent.DocumentPaths {
	return agent.DocumentPaths{Policy: l.at.policy(), Binding: l.at.binding()}
}

// node is the name of the edge's node.
func (l *Lab) node() string { return l.binding.Nodes[0].Name }

// AgreeKeys makes both identities, writes the documents, and agrees the first epoch by offer and reply.
func (l *Lab) AgreeKeys(ctx context.Context) error {
	gateway, err := l.initIdentity(ctx, l.at.gatewayState(), append(slices.Clone(l.gateway), "--gateway", "--user", strconv.Itoa(AgentUID)))
	if err != nil {
		return err
	}
	node, err := l.initIdentity(ctx, l.at.edgeState(), l.edge)
	if err != nil {
		return err
	}
	complete(l.binding, l.at, l.gateway[1], gateway, node, l.frames)
	l.binding.Gateway.Ring.Group = l.group
	if err := l.writeDocuments(); err != nil {
		return err
	}
	return l.Rotate(ctx)
}

// Rotate agrees the next epoch of the edge by offer and reply. An agent may run, an edge may not.
func (l *Lab) Rotate(ctx context.Context) error {
	for _, args := range [][]string{
		append(l.documents("keys", "offer"), "--node", l.node(), "--out", l.at.offer()),
		append(append(l.documents("keys", "enroll"), "--node", l.node(), "--state", l.at.edgeState(), "--offer", l.at.offer(), "--out", l.at.reply()), l.edge...),
		append(l.documents("keys", "accept"), "--reply", l.at.reply()),
	} {
		if _, err := l.kids.output(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// documents begins a command line with a verb and the two documents.
func (l *Lab) documents(verb ...string) []string {
	return append(verb, "--policy", l.at.policy(), "--binding", l.at.binding())
}

func (l *Lab) initIdentity(ctx context.Context, state string, keys []string) (policy.Identity, error) {
	out, err := l.kids.output(ctx, append([]string{"keys", "init", "--state", state, "-o", "json"}, keys...)...)
	if err != nil {
		return policy.Identity{}, err
	}
	var id struct {
		PublicKey string `json:"publicKey"`
	}
	if err := json.Unmarshal(out, &id); err != nil {
		return policy.Identity{}, fmt.Errorf("read identity: %w", err)
	}
	return policy.ParseIdentity(id.PublicKey)
}

func (l *Lab) writeDocuments() error {
	for _, d := range []struct {
		path string
		doc  policy.Document
	}{{l.at.policy(), l.policy}, {l.at.binding(), l.binding}} {
		b, err := policy.Marshal(d.doc)
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.path, b, 0o644); err != nil {
			return fmt.Errorf("write document: %w", err)
		}
	}
	_, err := policy.Load(l.at.policy(), l.at.binding())
	return err
}

// StartAgent starts the agent and waits until it answers. args are further flags of the verb.
func (l *Lab) StartAgent(ctx context.Context, args ...string) (*Process, error) {
	p, err := l.BeginAgent(args...)
	if err != nil {
		return nil, err
	}
	return p, l.inService(ctx, p)
}

// BeginUpgrade starts an agent that takes over from the one that runs, and does not wait for it.
func (l *Lab) BeginUpgrade(args ...string) (*Process, error) {
	return l.kids.start("successor", false, append(append(l.documents("run"), "--upgrade"), args...)...)
}

// Upgrade has a new agent take over from the one that runs, and waits until it answers and the other has ended.
func (l *Lab) Upgrade(ctx context.Context, old *Process) (*Process, error) {
	p, err := l.BeginUpgrade()
	if err != nil {
		return nil, err
	}
	if err := l.inService(ctx, p); err != nil {
		return nil, err
	}
	select {
	case <-old.done:
		return p, old.failure()
	case <-time.After(settle):
		return nil, fmt.Errorf("the agent before has not ended: %s", old.errs.String())
	}
}

// inService waits until an agent answers.
func (l *Lab) inService(ctx context.Context, p *Process) error {
	deadline := time.Now().Add(settle)
	for {
		s, err := l.Status(ctx)
		if err == nil && s.PID == p.cmd.Process.Pid {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("agent does not answer: %w: %s", err, p.errs.String())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the agent: %w", ctx.Err())
		case <-p.done:
			return errors.Join(errors.New("agent has ended"), p.failure())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Status asks the agent.
func (l *Lab) Status(ctx context.Context) (agent.Status, error) {
	var s agent.Status
	err := control.Get(ctx, l.at.controlSocket(), control.StatusPath, &s)
	return s, err
}

// StartReader starts a reader whose lines, JSON objects, come out of Process.Lines, and waits until it has the ring: whatever the
// agent publishes, and however it ends, the reader sees it. args are further flags of the verb.
func (l *Lab) StartReader(ctx context.Context, args ...string) (*Process, error) {
	before, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	p, err := l.kids.start("reader", true, append([]string{"read", "--socket", l.at.ringSocket(), "-o", "json", "--from", "oldest"}, args...)...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(settle); ; {
		s, err := l.Status(ctx)
		if err == nil && s.Readers > before.Readers {
			return p, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("reader does not connect: %w: %s", err, p.errs.String())
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the reader: %w", ctx.Err())
		case <-p.done:
			return nil, errors.Join(errors.New("reader has ended"), p.failure())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// StartEdge starts the edge's node in the edge's network namespace. input names the source of its frames as `cellward seal`
// takes it, names maps the source's buses to interfaces. state is its state folder; empty: the one that was enrolled.
func (l *Lab) StartEdge(state string, names map[string]string, speed float64, input ...string) (*Process, error) {
	if state == "" {
		state = l.at.edgeState()
	}
	args := append(l.documents("seal"), "--node", l.node(), "--state", state,
		"--netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.edgeNS.File().Fd()), "--speed", fmt.Sprint(speed), "-o", "json")
	for from, to := range names {
		args = append(args, "--bus", from+"="+to)
	}
	args = append(args, l.edge...)
	return l.kids.start("edge", false, append(args, input...)...)
}

// protected lists the identifiers of the binding by bus.
func (l *Lab) protected() []target {
	var all []target
	for i, b := range l.Buses {
		for _, n := range l.binding.Nodes {
			for _, s := range n.Streams {
				if s.Interface == b.Name {
					all = append(all, target{i, uint32(s.CANID)})
				}
			}
			for _, h := range n.Heartbeats {
				if h.Interface == b.Name {
					all = append(all, target{i, uint32(h.CANID)})
				}
			}
		}
	}
	return all
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
