// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/policy"
)

// maxErrors is how many errors of the documents are repeated.
const maxErrors = 5

func documentsValid(x *exam) {
	set, err := policy.Load(x.opts.Policy, x.opts.Binding)
	if err == nil {
		x.set, x.binding = set, set.Binding
		x.ok("", "policy %s, binding %s: %d interfaces, %d nodes, %d streams", set.Policy.Name, set.Binding.Name, len(set.Interfaces), len(set.Nodes), len(set.Streams))
		return
	}
	help := fmt.Sprintf("cellward policy validate %s %s", x.opts.Policy, x.opts.Binding)
	why := "the agent does not start"
	if b, err := policy.LoadBinding(x.opts.Binding); err == nil {
		x.binding = b
	} else {
		why += ", and interfaces, state folder and sockets cannot be looked at without a binding"
	}
	x.fail("", firstLines(err), why, help)
}

// firstLines keeps the beginning of a long list of errors.
func firstLines(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if n := len(lines); n > maxErrors {
		lines = append(lines[:maxErrors], fmt.Sprintf("and %d more lines", n-maxErrors))
	}
	return strings.Join(lines, "\n")
}

func documentsSafe(x *exam) {
	for _, path := range []string{x.opts.Policy, x.opts.Binding} {
		if _, err := os.Stat(path); err != nil {
			continue // documents.valid has said so
		}
		switch at, err := untrusted(path); {
		case err != nil:
			x.unknown(path, err, x.asRoot())
		case at != nil:
			x.fail(path, at.What(), "the agent refuses them: who changes the documents says which identifiers are protected and whose keys are trusted", at.Help)
		default:
			x.ok(path, "may be changed by root and this user only")
		}
	}
}

func agentRunning(x *exam) {
	socket := x.gateway().Control.Socket
	s, err := x.m.Agent(x.ctx, socket)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		x.ok("", "no agent is running")
		return
	case err != nil:
		x.unknown("", err, x.asRoot())
		return
	}
	x.agent = &s
	mine := x.m.Build().Version
	switch {
	case s.SaveError != "":
		x.fail("", fmt.Sprintf("process %d cannot write its state: %s", s.PID, s.SaveError),
			"after a reboot the epochs in use are refused, and offline nodes are stopped already", "df -h "+x.gateway().StateDirectory)
	case s.Version != mine:
		x.warn("", fmt.Sprintf("process %d is version %s, this program is %s", s.PID, s.Version, mine),
			"what is looked at here may not be what runs", fmt.Sprintf("ls -l /proc/%d/exe", s.PID))
	default:
		x.ok("", "process %d, version %s, up %d s", s.PID, s.Version, s.UptimeS)
	}
}
