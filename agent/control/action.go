// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Resources of the agent's keys. KeysPath is read; the others are actions.
const (
	KeysPath         = "/v1/keys"
	OfferPath        = "/v1/keys/offer"
	AcceptPath       = "/v1/keys/accept"
	RetirePath       = "/v1/keys/retire"
	RotateOffersPath = "/v1/keys/rotate-offers"
)

// maxRequest bounds the body of a request for an action.
const maxRequest = 1 << 20

var (
	// ErrRequest says that the body of a request was not understood. An action that returns it has done nothing.
	ErrRequest = errors.New("request was not understood")
	// ErrRefused is what the agent answered to a request for an action, in its own words.
	ErrRefused = errors.New("agent refused")
)

// Action does something that changes the agent's state, and returns what is answered as JSON. ctx ends when the client has gone.
type Action func(ctx context.Context, body []byte) (any, error)

// failure is the answer to a request that failed.
type failure struct {
	Error string `json:"error"`
}

type peerKey struct{}

// withPeer asks the kernel who is at the other end (SO_PEERCRED, unix(7)): as it was when the connection was made.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// mayAct admits root and the agent's own user. A peer that the kernel did not name is nobody.
func mayAct(ctx context.Context) bool {
	uid, known := ctx.Value(peerKey{}).(uint32)
	return known && (uid == 0 || int(uid) == os.Geteuid())
}

// act serves one request for an action.
func act(w http.ResponseWriter, r *http.Request, do Action) {
	if !mayAct(r.Context()) {
		answer(w, http.StatusForbidden, failure{"only root and the user of the agent may do this"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		answer(w, http.StatusBadRequest, failure{fmt.Sprintf("read request: %v", err)})
		return
	}
	// A TPM may take seconds for each of its commands. The agent bounds what it does itself.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		answer(w, http.StatusInternalServerError, failure{fmt.Sprintf("lift deadline of the answer: %v", err)})
		return
	}
	v, err := do(r.Context(), body)
	switch {
	case errors.Is(err, ErrRequest):
		answer(w, http.StatusBadRequest, failure{err.Error()})
	case err != nil:
		answer(w, http.StatusConflict, failure{err.Error()})
	default:
		answer(w, http.StatusOK, v)
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, fmt.Sprintf("encode answer: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone; that is its own affair.
	_, _ = w.Write(append(b, '\n'))
}

// Decode reads the body of a request into v, and refuses what v does not have.
func Decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON value", ErrRequest)
	}
	return nil
}

// Post asks the agent that listens on socket for an action and decodes the answer into out. The agent goes on with what it has
// begun if ctx ends.
func Post(ctx context.Context, socket, resource string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request for %s: %w", resource, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+resource, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request for %s: %w", resource, err)
	}
	req.Header.Set("Content-Type", "application/json")
	return exchange(socket, req, out)
}

// refusal makes an error of an answer that is not good.
func refusal(resp *http.Response, resource string, body []byte) error {
	var f failure
	if err := json.Unmarshal(body, &f); err != nil || f.Error == "" {
		return fmt.Errorf("agent answered %s to %s", resp.Status, resource)
	}
	return fmt.Errorf("%w: %s", ErrRefused, f.Error)
}
