// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/identity"
)

// ErrIdentity says that a state folder holds another identity than the one that the binding pins.
var ErrIdentity = errors.New("identity in the state folder is not the one in the binding")

// OpenGateway opens the gateway's state folder and TPM as the binding names them and checks its identity.
func OpenGateway(ctx context.Context, b *policy.Binding) (*station.Station, error) {
	var owner uint32 // root's alone, where there is no such user
	user, err := GatewayUser(b)
	switch {
	case err == nil:
		owner = user.UID
	case !errors.Is(err, privilege.ErrNoUser):
		return nil, fmt.Errorf("open gateway: %w", err)
	}
	s, err := station.Open(ctx, stationOptions(b, owner))
	if err != nil {
		return nil, fmt.Errorf("open gateway: %w", err)
	}
	return checkIdentity(s, b)
}

func stationOptions(b *policy.Binding, owner uint32) station.Options {
	return station.Options{Dir: b.Gateway.StateDirectory, TPM: b.Gateway.TPM, Gateway: true, Owner: owner}
}

// checkIdentity wants the station to be the one that the binding pins, and closes any other.
func checkIdentity(s *station.Station, b *policy.Binding) (*station.Station, error) {
	if s.Public.Kid() != identity.Kid(b.Gateway.Identity.KID) {
		return nil, errors.Join(fmt.Errorf("open gateway: %w: %s, want %s", ErrIdentity, s.Public.Kid(), b.Gateway.Identity.KID), s.Close())
	}
	return s, nil
}

// openChecked is OpenGateway on a gateway that passes the checks of its privileges.
func openChecked(ctx context.Context, opts *Options) (*station.Station, error) {
	if err := opts.Privileges.prepare(opts.Set.Binding); err != nil {
		return nil, err
	}
	return OpenGateway(ctx, opts.Set.Binding)
}

// RunGateway is Run on the gateway of opts.Set: it opens state folder and TPM and closes them at the end.
func RunGateway(ctx context.Context, opts Options) (err error) {
	if err := Harden(); err != nil {
		return err
	}
	if err := LockMemory(); err != nil {
		opts.Log.Warn("memory is not locked, so keys may reach a swap device", "event", "memory_not_locked", "error", err.Error())
		opts.Before = append(opts.Before, event.Record{Kind: kind.MemoryNotLocked, Detail: err.Error()})
	}
	if err := opts.Privileges.checkDocuments(); err != nil {
		return err // what they say is not to be acted on
	}
	if opts.Upgrade {
		if err := opts.Privileges.prepare(opts.Set.Binding); err != nil {
			return err
		}
		err := succeed(ctx, opts)
		if !errors.Is(err, control.ErrNotRunning) {
			return err
		}
		opts.Log.Info("no agent runs that could be taken over from; starting", "event", "nothing_to_upgrade")
	}
	s, err := openChecked(ctx, &opts)
	if err != nil {
		opts.Before = append(opts.Before, event.Record{Kind: kind.ClosedWithoutState, Detail: err.Error()})
		if errors.Is(err, vault.ErrGeneration) {
			opts.Before = append(opts.Before, event.Record{Kind: kind.StateRefused, Detail: err.Error()})
			opts.Log.Error("state folder is a copy of an earlier time and is refused", "event", "state_refused", "error", err.Error())
		}
		// Another agent that holds the lock has attached the filter itself.
		if errors.Is(err, vault.ErrLocked) {
			return fmt.Errorf("%w; `cellward run --upgrade` takes over from a running agent", err)
		}
		absent, cerr := FailClosed(opts)
		if cerr != nil {
			return errors.Join(err, fmt.Errorf("close protected identifiers all the same: %w", cerr))
		}
		// It ends all the same, and whoever keeps it running starts it anew: that closes what has appeared since, and finds a
		// state that has been put right or a TPM that has come late, which a process that stays would have to look for.
		opts.Log.Warn("protected identifiers are closed, and nothing is verified", "event", "closed_without_state", "absent", absent)
		return errors.Join(err, tellBefore(opts))
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	opts.Store, opts.Station = NewStore(s.Epochs, s.Offline), s
	return Run(ctx, opts)
}

// tellBefore sends the events of an agent that ends without having run. There is no log for them: its folder is part of the state.
func tellBefore(opts Options) error {
	opts.Upgrade = false
	m, err := newMonitor(&opts)
	if err != nil {
		return fmt.Errorf("report why nothing is verified: %w", err)
	}
	for _, r := range opts.Before {
		m.report(r)
	}
	return m.close()
}
