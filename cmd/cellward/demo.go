// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent/demo"
)

func newDemoCommand() *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole line on this machine, in network namespaces of its own, and show what came through",
		Long: `Run the whole line on this machine: two software TPMs, a CAN bus (vxcan, or a TUN device where the kernel has no CAN),
keys agreed between gateway and edge, and agent, edge and reader as processes of their own. Everything lives in network namespaces
of its own and ends with the command. Needs root.`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(cmd, "text", "json")
	f := cmd.Flags()
	f.StringVar(&opts.Log, "log", "", "capture to seal: candump, Vector ASC or GVRET CSV (default: the simulated pack)")
	f.DurationVar(&opts.Duration, "duration", demo.DefaultDuration, "length of the simulated pack's run")
	f.Uint64Var(&opts.Seed, "seed", 1, "seed of the simulated pack")
	f.Float64Var(&opts.Speed, "speed", 1, "factor on the pace of the time stamps; 0 sends as fast as it goes")
	f.BoolVar(&opts.Attack, "attack", false, "put an attacker on the bus who adds frames on protected identifiers")
	f.StringVar(&opts.Policy, "policy", "", "policy document (default: the built-in one)")
	f.StringVar(&opts.Binding, "binding", "", "binding document with one node (default: made from the log)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !demo.Inside() {
			return demo.Outside(cmd.Context(), os.Args[1:], cmd.OutOrStdout(), cmd.ErrOrStderr())
		}
		opts.Progress = os.Stderr
		result, wrong, err := demo.Run(cmd.Context(), opts)
		if err != nil {
			return err
		}
		if *output == "json" {
			err = result.WriteJSON(cmd.OutOrStdout())
		} else {
			err = result.WriteText(cmd.OutOrStdout())
		}
		for _, w := range wrong {
			fmt.Fprintln(cmd.ErrOrStderr(), "demo: FAIL:", w)
			err = errors.Join(err, demo.ErrFailed)
		}
		if err == nil && *output == "text" {
			fmt.Fprintln(cmd.OutOrStdout(), "demo: PASS: every sample came out identical, and nothing else did")
		}
		return err
	}
	return cmd
}
