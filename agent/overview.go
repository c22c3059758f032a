// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

// Standard places, where a binding says nothing else.
const (
	DefaultBinding       = "/etc/cellward/binding.yaml"
	DefaultControlSocket = "/run/cellward/control.sock"
)

// Where says where a gateway is to be looked for. The zero value looks at the standard places.
type Where struct {
	// Binding is the path of a binding document, which names everything. Empty: DefaultBinding, if there is one.
	Binding string
	// Socket and BPFFS, if not empty, stand in for what the binding says.
	Socket string
	BPFFS  string
}

// found is a Where with all its places known.
type found struct {
	binding       *policy.Binding // nil: there is none
	socket, bpffs string
	ring          string
}

// find reads the binding. One at the standard place that cannot be used is reported in the second result and done without.
func (w Where) find() (f found, note error, err error) {
	path := w.Binding
	if path == "" {
		path = DefaultBinding
	}
	b, err := policy.LoadBinding(path)
	switch {
	case err == nil:
		f.binding, f.socket, f.bpffs, f.ring = b, b.Gateway.Control.Socket, b.Gateway.BPFFS, b.Gateway.Ring.Socket
	case w.Binding != "":
		return f, nil, fmt.Errorf("read binding: %w", err)
	case !errors.Is(err, fs.ErrNotExist):
		note = fmt.Errorf("binding is not used: %w", err)
	}
	for _, s := range []struct {
		to         *string
		given, std string
	}{{&f.socket, w.Socket, DefaultControlSocket}, {&f.bpffs, w.BPFFS, loader.DefaultRoot}} {
		if s.given != "" {
			*s.to = s.given
		}
		if *s.to == "" {
			*s.to = s.std
		}
	}
	return f, note, nil
}

// RingSocket returns where the socket of the ring is: what the binding says, or the standard place.
func (w Where) RingSocket() (string, error) {
	f, _, err := w.find()
	if err != nil {
		return "", err
	}
	if f.ring == "" {
		return ring.DefaultSocket, nil
	}
	return f.ring, nil
}

// Overview is what `cellward status` shows: what a running agent says, and what the kernel says, each where it can be had.
type Overview struct {
	*Status               // nil where no agent answers
	Running bool          `json:"running"`
	Kernel  *KernelStatus `json:"kernel,omitempty"`
	// AgentError and KernelError say why a part is missing.
	AgentError  string `json:"agent_error,omitempty"`
	KernelError string `json:"kernel_error,omitempty"`
	// Note is what else is worth knowing about where this was read.
	Note string `json:"note,omitempty"`
}

// ErrNothing says that there is neither an agent nor anything of one in the kernel.
var ErrNothing = errors.New("no agent answers and nothing is pinned")

// ReadOverview asks agent and kernel. It fails only if it has nothing to show.
func ReadOverview(ctx context.Context, w Where) (*Overview, error) {
	f, note, err := w.find()
	if err != nil {
		return nil, err
	}
	o := &Overview{}
	if note != nil {
		o.Note = note.Error()
	}
	var s Status
	agentErr := control.Get(ctx, f.socket, control.StatusPath, &s)
	if agentErr == nil {
		o.Status, o.Running = &s, true
	} else {
		o.AgentError = agentErr.Error()
	}
	var kernelErr error
	if o.Kernel, kernelErr = ReadKernel(f.bpffs, f.binding); kernelErr != nil {
		o.KernelError = kernelErr.Error()
	}
	if agentErr != nil && kernelErr != nil {
		return nil, fmt.Errorf("%w: %w; %w", ErrNothing, agentErr, kernelErr)
	}
	return o, nil
}

func isPermission(err error) bool { return errors.Is(err, os.ErrPermission) }

// TablesHash identifies what gives the slots and indexes of the pinned tables their meaning if they are those of a set; table is
// the filter's. An agent goes on with the tables if they have this hash, and renews them otherwise.
func TablesHash(set *policy.Set, table map[loader.StreamKey]loader.Stream) ([32]byte, error) {
	at, err := placeAmong(set, table)
	if err != nil {
		return [32]byte{}, err
	}
	return at.hash(set)
}
