// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/metrics"
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
	var all, upgrade, unlessSame, background bool
	var seccomp privilege.Enforcement
	var scrape string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway's agent: filter, verify, publish",
		Long: `Run the gateway's agent: attach the filter to the binding's interfaces, verify what it lets through, and publish accepted samples
in the shared-memory ring. Ends cleanly on SIGTERM and SIGINT; the filter stays attached, so protected identifiers stay closed, and
what comes in meanwhile is taken by the next run. SIGHUP makes it read its documents again and go on by them, see apply; what would
need --confirm there is refused. Security events go where the binding says
(spec.events; else to stderr as JSON lines), and into the event log in the state folder, see events. The agent's own log goes to stderr.

With --upgrade it takes over from the agent that runs: no frame is lost and none is published twice, and that one ends. If anything fails
before, that one goes on as if nothing had been. Only root may. Without --upgrade a second agent refuses to start.

Once the filter is attached the agent becomes the user that the binding names, keeps three capabilities, and has the kernel filter
its system calls. Documents, state or sockets that somebody else could have written are refused.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	cmd.Flags().StringVar(&engine, "engine", "", "AEAD engine to use (default: the fastest of this CPU that passes its tests)")
	cmd.Flags().StringVar(&hook, "hook", "", "hook to attach by: tcx_ingress or clsact_ingress (default: what is attached already, else tcx where the kernel has it)")
	cmd.Flags().BoolVar(&all, "require-interfaces", false, "end if an interface is missing at the start, which leaves the others open as well")
	cmd.Flags().BoolVar(&upgrade, "upgrade", false, "take over from the agent that runs, if one does: no frame is lost, none published twice")
	cmd.Flags().BoolVar(&unlessSame, "if-changed", false, "with --upgrade: end at once if the running agent is the same program file")
	cmd.Flags().BoolVar(&background, "background", false, "with --upgrade: end when the new agent is in service, which goes on by itself")
	cmd.Flags().StringVar(&user, "user", "", "user to become, in place of the binding's; root stays root, for laboratories")
	cmd.Flags().Var(&seccomp, "seccomp", "filter on system calls: log lets all through and has the kernel's log name what enforce refuses")
	cmd.Flags().StringVar(&scrape, "metrics-listen", "", "serve metrics on this TCP address as well, IP:PORT or the PORT of 127.0.0.1 (default: on the control socket only)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := metrics.CheckAddress(scrape); err != nil {
			return usageError{fmt.Errorf("--metrics-listen: %w", err)}
		}
		// From here on: a signal that comes while the agent starts is not lost, and does not end it.
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, unix.SIGHUP)
		defer signal.Stop(reload)
		if (unlessSame || background) && !upgrade {
			return usageError{errors.New("--if-changed and --background belong to --upgrade")}
		}
		set, err := docs.load()
		if err != nil {
			return err
		}
		if user != "" {
			set.Binding.Gateway.User = user
		}
		if background {
			return runInBackground(cmd.Context(), set.Binding.Gateway.Control.Socket)
		}
		log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
		manager, err := notify.New(log)
		if err != nil {
			return err
		}
		defer manager.Close()
		privileges := &agent.Privileges{Documents: []string{docs.policy, docs.binding}, Seccomp: seccomp}
		if scrape != "" {
			// An agent that takes over from another begins to listen when it is confined already.
			privileges.Allow = privilege.Sockets(unix.AF_INET, unix.AF_INET6)
		}
		return agent.RunGateway(cmd.Context(), agent.Options{
			Documents: agent.DocumentPaths{Policy: docs.policy, Binding: docs.binding}, Reload: reload,
			Metrics: metrics.Serve(metrics.Options{Listen: scrape, Build: agent.Build(), Log: log}),
			Hook:    hook, RequireInterfaces: all, Upgrade: upgrade, UnlessSame: unlessSame,
			Set: set, Log: log, Events: os.Stderr, Engine: engine, Version: agent.Build().Version, Notify: manager,
			Privileges: privileges,
		})
	}
	return cmd
}
