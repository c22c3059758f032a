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

// maxRequest bounds what an action is given: two documents of 1 MiB in base64, and what else comes with them.
const maxRequest = 4 << 20

// Errors of actions and of Post.
var (
	// ErrRequest says that the body of a request was not understood. An action that returns it has done nothing.
	ErrRequest = errors.New("request was not understood")
	// ErrNotAllowed says that the agent takes writes from root and from its own user only.
	ErrNotAllowed = errors.New("only root and the agent's own user may change a running agent")
	// ErrRefused says that the agent has understood a request and does not do it; the text behind it is the agent's.
	ErrRefused = errors.New("the agent refuses")
)

// Action does what a POST request asks for. The request's body is JSON and at most 4 MiB. What it returns is the answer, as JSON;
// with an error the answer says so and carries both. Actions are called from many goroutines; ctx ends with the connection.
type Action func(ctx context.Context, body []byte) (any, error)

// failure is the answer of an action that failed. Result is what the action returned beside the error.
type failure struct {
	Error  string `json:"error"`
	Result any    `json:"result,omitempty"`
}

// peerKey is the key of the peer's user id in a connection's context.
type peerKey struct{}

// notePeer keeps who is at the other end: the kernel's word at the time of connect(2), which nothing that the peer sends can
// change. A connection whose peer cannot be read has none and may not write.
func notePeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// mayWrite says whether the peer is root or the agent's own user. The socket's group may read, and no more: it is given to
// programs that show data, and whoever can change documents can take protection away.
func mayWrite(ctx context.Context) bool {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	return ok && (uid == 0 || int(uid) == os.Geteuid())
}

// serveAction answers POST requests with what an action does.
func serveAction(do Action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !mayWrite(r.Context()) {
			http.Error(w, ErrNotAllowed.Error(), http.StatusForbidden)
			return
		}
		// The server's own bound is for reads, which wait for nothing. A TPM may take seconds for each of its commands, and the
		// agent bounds what it does itself.
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			http.Error(w, fmt.Sprintf("lift deadline of the answer: %v", err), http.StatusInternalServerError)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			http.Error(w, fmt.Sprintf("read request: %v", err), http.StatusBadRequest)
			return
		}
		status := http.StatusOK
		answer, err := do(r.Context(), body)
		switch {
		case errors.Is(err, ErrRequest):
			status, answer = http.StatusBadRequest, failure{Error: err.Error()}
		case err != nil:
			status, answer = http.StatusUnprocessableEntity, failure{err.Error(), answer}
		}
		b, err := json.MarshalIndent(answer, "", "  ")
		if err != nil {
			http.Error(w, fmt.Sprintf("encode answer: %v", err), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(append(b, '\n'))
	}
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

// Post asks the agent that listens on socket to do something and decodes its answer into out. ErrRefused: the agent has answered
// that it does not; out then holds what it said beside its reason. ErrNotRunning, ErrNotAllowed: nobody to ask.
func Post(ctx context.Context, socket, resource string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request for %s: %w", resource, err)
	}
	status, b, err := exchange(ctx, socket, http.MethodPost, resource, bytes.NewReader(body))
	if err != nil {
		return err
	}
	switch status {
	case http.StatusOK:
	case http.StatusForbidden:
		return ErrNotAllowed
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		f := failure{Result: out}
		if err := json.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("decode answer of agent: %w", err)
		}
		return fmt.Errorf("%w: %s", ErrRefused, f.Error)
	default:
		return fmt.Errorf("agent answered %d to %s: %s", status, resource, bytes.TrimSpace(b))
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode answer of agent: %w", err)
	}
	return nil
}
