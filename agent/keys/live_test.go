// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"testing"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/vault"
)

// TestLockedFolder: while somebody holds the state folder each verb asks the agent, and without one says both.
func TestLockedFolder(t *testing.T) {
	gateway, node, set := newPair(t)
	ctx := t.Context()
	o, err := Offer(ctx, set, testNode)
	if err != nil {
		t.Fatal(err)
	}
	if o.Via != agent.ViaFolder {
		t.Errorf("offer by way of %q", o.Via)
	}
	holder, err := station.Open(ctx, gateway.at)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	calls := map[string]func() (via string, err error){
		control.OfferPath: func() (string, error) {
			o, err := Offer(ctx, set, testNode)
			if err != nil {
				return "", err
			}
			if string(o.Bytes) != "message" {
				t.Errorf("offer %q", o.Bytes)
			}
			return o.Via, nil
		},
		control.AcceptPath: func() (string, error) {
			a, err := Accept(ctx, set, []byte("reply"))
			if err != nil {
				return "", err
			}
			return a.Via, nil
		},
		control.RetirePath: func() (string, error) {
			r, err := Retire(ctx, set, testNode, 3)
			if err != nil {
				return "", err
			}
			return r.Via, nil
		},
		control.RotateOffersPath: func() (string, error) {
			r, err := RotateOffers(ctx, set)
			if err != nil {
				return "", err
			}
			return r.Via, nil
		},
		control.KeysPath: func() (string, error) {
			l, err := List(ctx, set)
			if err != nil {
				return "", err
			}
			return l.Via, nil
		},
	}
	for path, call := range calls {
		if _, err := call(); !errors.Is(err, vault.ErrLocked) || !errors.Is(err, control.ErrNotRunning) {
			t.Errorf("%s without an agent: %v", path, err)
		}
	}
	requests := make(map[string]string)
	answer := func(path string, v any) control.Action {
		return func(_ context.Context, body []byte) (any, error) {
			requests[path] = string(body)
			return v, nil
		}
	}
	server, err := control.Serve(set.Binding.Gateway.Control.Socket, "", map[string]func() any{
		control.KeysPath: func() any { return agent.KeyList{Via: agent.ViaAgent} },
	}, map[string]control.Action{
		control.OfferPath:        answer(control.OfferPath, agent.OfferAnswer{Offered: agree.Offered{Via: agent.ViaAgent}, Offer: []byte("message")}),
		control.AcceptPath:       answer(control.AcceptPath, agree.Accepted{Via: agent.ViaAgent}),
		control.RetirePath:       answer(control.RetirePath, agree.Retired{Via: agent.ViaAgent}),
		control.RotateOffersPath: answer(control.RotateOffersPath, agree.Rotated{Via: agent.ViaAgent}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for path, call := range calls {
		if via, err := call(); err != nil || via != agent.ViaAgent {
			t.Errorf("%s: by way of %q, %v", path, via, err)
		}
	}
	for path, want := range map[string]string{
		control.OfferPath: `{"node":"bmu"}`, control.AcceptPath: `{"reply":"cmVwbHk="}`, control.RetirePath: `{"node":"bmu","epoch":3}`, control.RotateOffersPath: `{}`,
	} {
		if requests[path] != want {
			t.Errorf("%s was asked for with %s, want %s", path, requests[path], want)
		}
	}

	// A node has no agent that could be asked.
	edge, err := station.Open(ctx, node.at)
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	if _, err := Enroll(ctx, set, testNode, node.at, o.Bytes); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("enroll while the node runs: %v", err)
	}
}
