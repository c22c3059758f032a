// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/metrics"
	"github.com/cellward/cellward/agent/policy"
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
	var every time.Duration
	var engine, hook string
	var all bool
	var scrape string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway's agent: filter, verify, publish",
		Long: `Run the gateway's agent: attach the filter to the binding's interfaces, verify what it lets through, and publish accepted samples
in the shared-memory ring. Ends cleanly on SIGTERM and SIGINT; the filter stays attached, so protected identifiers stay closed, and
what comes in meanwhile is taken by the next run. Security events go to stderr as JSON lines, one per kind and interval.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	cmd.Flags().DurationVar(&every, "report-every", 10*time.Second, "interval of the lines about refused frames")
	cmd.Flags().StringVar(&engine, "engine", "", "AEAD engine to use (default: the fastest of this CPU that passes its tests)")
	cmd.Flags().StringVar(&hook, "hook", "", "hook to attach by: tcx_ingress or clsact_ingress (default: what is attached already, else tcx where the kernel has it)")
	cmd.Flags().BoolVar(&all, "require-interfaces", false, "end if an interface is missing at the start, which leaves the others open as well")
	cmd.Flags().StringVar(&scrape, "metrics-listen", "", "serve metrics on this TCP address as well, IP:PORT or the PORT of 127.0.0.1 (default: on the control socket only)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := metrics.CheckAddress(scrape); err != nil {
			return usageError{fmt.Errorf("--metrics-listen: %w", err)}
		}
		set, err := docs.load()
		if err != nil {
			return err
		}
		log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
		return agent.RunGateway(cmd.Context(), agent.Options{
			Set: set, Log: log, Metrics: metrics.Serve(metrics.Options{Listen: scrape, Build: agent.Build(), Log: log}), ReportEvery: every, Engine: engine, Version: agent.Build().Version,
			Hook: hook, RequireInterfaces: all,
		})
	}
	return cmd
}
