// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/notify"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/privilege"
)

// documents are the two documents that most verbs need.
type documents struct{ policy, binding string }

func (d *documents) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.policy, "policy", "/etc/cellward/policy.yaml", "policy document")
	cmd.Flags().StringVar(&d.binding, "binding", "/etc/cellward/binding.yaml", "binding document")
}

func (d *documents) load() (*policy.Set, error) { return policy.Load(d.policy, d.binding) }

func newRunCommand() *cobra.Command {
	var docs documents
	var engine, hook, user string
	var all bool
	var seccomp privilege.Enforcement
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway's agent: filter, verify, publish",
		Long: `Run the gateway's agent: attach the filter to the binding's interfaces, verify what it lets through, and publish accepted samples
in the shared-memory ring. Ends cleanly on SIGTERM and SIGINT; the filter stays attached, so protected identifiers stay closed, and
what comes in meanwhile is taken by the next run. SIGHUP makes it read its documents again and go on by them, see apply; what would
need --confirm there is refused. Security events go where the binding says
(spec.events; else to stderr as JSON lines), and into the event log in the state folder, see events. The agent's own log goes to stderr.

Once the filter is attached the agent becomes the user that the binding names, keeps three capabilities, and has the kernel filter
its system calls. Documents, state or sockets that somebody else could have written are refused.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	cmd.Flags().StringVar(&engine, "engine", "", "AEAD engine to use (default: the fastest of this CPU that passes its tests)")
	cmd.Flags().StringVar(&hook, "hook", "", "hook to attach by: tcx_ingress or clsact_ingress (default: what is attached already, else tcx where the kernel has it)")
	cmd.Flags().BoolVar(&all, "require-interfaces", false, "end if an interface is missing at the start, which leaves the others open as well")
	cmd.Flags().StringVar(&user, "user", "", "user to become, in place of the binding's; root stays root, for laboratories")
	cmd.Flags().Var(&seccomp, "seccomp", "filter on system calls: log lets all through and has the kernel's log name what enforce refuses")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// From here on: a signal that comes while the agent starts is not lost, and does not end it.
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, unix.SIGHUP)
		defer signal.Stop(reload)
		set, err := docs.load()
		if err != nil {
			return err
		}
		if user != "" {
			set.Binding.Gateway.User = user
		}
		log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
		manager, err := notify.New(log)
		if err != nil {
			return err
		}
		defer manager.Close()
		return agent.RunGateway(cmd.Context(), agent.Options{
			Documents: agent.DocumentPaths{Policy: docs.policy, Binding: docs.binding}, Reload: reload,
			Hook: hook, RequireInterfaces: all,
			Set: set, Log: log, Events: os.Stderr, Engine: engine, Version: agent.Build().Version, Notify: manager,
			Privileges: &agent.Privileges{Documents: []string{docs.policy, docs.binding}, Seccomp: seccomp},
		})
	}
	return cmd
}
