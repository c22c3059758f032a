// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
)

// DocumentsPath is the resource of the control socket that takes new documents: a DocumentsRequest, answered by a Change.
const DocumentsPath = "/v1/documents"

// DocumentPaths are the files of policy and binding.
type DocumentPaths struct{ Policy, Binding string }

// read reads both files whole and looks into neither.
func (p DocumentPaths) read() (pol, binding policy.File, err error) {
	if pol, err = policy.ReadFile(p.Policy); err != nil {
		return pol, binding, err
	}
	binding, err = policy.ReadFile(p.Binding)
	return pol, binding, err
}

// DocumentsRequest asks a running agent to go on by other documents. Data is base64 in JSON: what is checked is what was in the
// file, to the byte.
type DocumentsRequest struct {
	Policy  policy.File `json:"policy"`
	Binding policy.File `json:"binding"`
	// DryRun asks what would change. Confirm agrees to what Change.Confirm lists.
	DryRun  bool `json:"dry_run,omitempty"`
	Confirm bool `json:"confirm,omitempty"`
}

// errRequest says that a request was not understood.
var errRequest = errors.New("request is not one for new documents")

// parseDocumentsRequest reads a request and parses the documents in it.
func parseDocumentsRequest(body []byte) (*DocumentsRequest, *policy.Set, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var r DocumentsRequest
	if err := d.Decode(&r); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%w: there is more behind it", errRequest)
	}
	set, err := policy.ParseSet(r.Policy, r.Binding)
	if err != nil {
		return nil, nil, err
	}
	return &r, set, nil
}

// Apply checks the documents at two paths and asks the agent that listens on socket to go on by them; empty: the socket that the
// binding names. An error that wraps control.ErrRefused is the agent's, and the change, where there is one, is what it said
// beside it.
func Apply(ctx context.Context, paths DocumentPaths, socket string, dryRun, confirm bool) (*Change, error) {
	p, b, err := paths.read()
	if err != nil {
		return nil, err
	}
	// The agent does the same. This tells of an error also where no agent runs.
	set, err := policy.ParseSet(p, b)
	if err != nil {
		return nil, err
	}
	if socket == "" {
		socket = set.Binding.Gateway.Control.Socket
	}
	var x *Change
	err = control.Post(ctx, socket, DocumentsPath, DocumentsRequest{Policy: p, Binding: b, DryRun: dryRun, Confirm: confirm}, &x)
	return x, err
}

// takeDocuments is the control socket's action.
func (a *Agent) takeDocuments(ctx context.Context, body []byte) (any, error) {
	r, set, err := parseDocumentsRequest(body)
	if err != nil {
		a.noteChange("control", nil, err)
		return nil, err
	}
	x, err := a.apply(ctx, set, r.DryRun, r.Confirm)
	if !r.DryRun {
		a.noteChange("control", x, err)
	}
	if x == nil {
		return nil, err
	}
	if p, b, rerr := a.opts.Documents.read(); rerr == nil && (!bytes.Equal(p.Data, r.Policy.Data) || !bytes.Equal(b.Data, r.Binding.Data)) {
		x.Note = fmt.Sprintf("the next start and SIGHUP read %s and %s, which say something else", a.opts.Documents.Policy, a.opts.Documents.Binding)
	}
	return x, err
}

// reload reads the agent's own documents again whenever it is told to. What would have to be confirmed is refused: a signal cannot
// say that it was meant.
func (a *Agent) reload(signals <-chan os.Signal) {
	for {
		select {
		case <-a.ended:
			return
		case <-signals:
		}
		a.opts.Notify.Reloading()
		x, err := a.reloadOnce()
		a.noteChange("signal", x, err)
		a.opts.Notify.Ready(a.readyText())
	}
}

func (a *Agent) reloadOnce() (*Change, error) {
	p, b, err := a.opts.Documents.read()
	if err != nil {
		return nil, err
	}
	set, err := policy.ParseSet(p, b)
	if err != nil {
		return nil, err
	}
	return a.apply(context.Background(), set, false, false)
}

// DocumentsStatus says what became of new documents since the agent was started.
type DocumentsStatus struct {
	Applied uint64      `json:"applied"`
	Refused uint64      `json:"refused"`
	Last    *LastChange `json:"last,omitempty"`
}

// LastChange is what became of the documents that came last.
type LastChange struct {
	Time    time.Time `json:"time"`
	By      string    `json:"by"` // signal or control
	Applied bool      `json:"applied"`
	Error   string    `json:"error,omitempty"`
}

// noteChange writes to log and status what became of new documents.
func (a *Agent) noteChange(by string, x *Change, err error) {
	last := &LastChange{Time: time.Now().UTC().Truncate(time.Second), By: by, Applied: x != nil && x.Applied}
	if err != nil {
		last.Error = err.Error()
		a.log.Error("new documents are refused; nothing was changed", "event", "documents_refused", "by", by, "error", err.Error())
		a.monitor.report(event.Record{Kind: kind.DocumentsRefused, Detail: "by " + by + ": " + err.Error()})
	} else {
		a.log.Info("new documents are in effect", "event", "documents_applied", "by", by, "policy", x.Policy, "binding", x.Binding,
			"streams_added", len(x.Streams.Added), "streams_removed", len(x.Streams.Removed), "streams_changed", len(x.Streams.Changed),
			"streams_kept", x.Streams.Kept, "ring_replaced", x.RingReplaced, "paused_us", x.PausedUS)
		a.monitor.report(event.Record{Kind: kind.DocumentsApplied, Detail: "by " + by + ": policy " + x.Policy + ", binding " + x.Binding})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.documents.Refused++
	} else {
		a.documents.Applied++
	}
	a.documents.Last = last
}
