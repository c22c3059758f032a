// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/vault"
)

// held says that somebody else works with the state folder: an agent that may be asked instead.
func held(err error) bool { return errors.Is(err, vault.ErrLocked) }

// ask has the agent that holds the state folder do something. locked is why it cannot be done here.
func ask(ctx context.Context, set *policy.Set, locked error, resource string, in, out any) error {
	return unanswered(locked, control.Post(ctx, set.Binding.Gateway.Control.Socket, resource, in, out))
}

// asked is ask for an answer of a type.
func asked[A any](ctx context.Context, set *policy.Set, locked error, resource string, in any) (*A, error) {
	a := new(A)
	if err := ask(ctx, set, locked, resource, in, a); err != nil {
		return nil, err
	}
	return a, nil
}

// unanswered says both why the folder could not be worked on and that no agent answers: an agent that has just been started, or
// one of another binding, or another call of `cellward keys`.
func unanswered(locked, err error) error {
	if errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("%w, and %w", locked, err)
	}
	return err
}

// gateway is the gateway's station with its epochs.
type gateway struct {
	*station.Station
	store *agent.Store
	state *epoch.State
}

// openGateway opens the state folder, and has the TPM retire what an earlier call, or an agent, could not.
func openGateway(ctx context.Context, set *policy.Set) (*gateway, error) {
	s, err := agent.OpenGateway(ctx, set.Binding)
	if err != nil {
		return nil, err
	}
	g := &gateway{Station: s, store: agent.NewStore(s.Epochs, s.Offline)}
	if g.state, _, err = g.store.Load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := errors.Join(g.closeBatch(), g.store.Settle()); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// closeBatch ends the offers' batch if none is pending.
func (g *gateway) closeBatch() error {
	if len(g.state.Offers) > 0 {
		return nil
	}
	return agree.CloseBatch(g.Station, g.state.Batch)
}

func (g *gateway) close() error {
	g.state.Wipe()
	return g.Close()
}
