// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent/demo"
)

func newDemoCommand() *cobra.Command {
	var opts demo.Options
	var attacks string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole line on this machine, in network namespaces of its own, and show what came through",
		Long: `Run the whole line on this machine: two software TPMs, a CAN bus (vxcan, or a TUN device where the kernel has no CAN),
keys agreed between gateway and edge, and agent, edge and reader as processes of their own. Everything lives in network namespaces
of its own and ends with the command. Needs root.

--attack puts an attacker on the bus. Of each group one can be chosen; what was done and what the agent's events tell of it is
in the result, and the command fails unless both are equal:

` + listAttacks(),
		Example: `  cellward demo --attack
  cellward demo --attack deletion,delay -o json
  cellward demo --attack flood,deletion_tail --log capture.log`,
		// The selection may stand behind the flag with a space between.
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("attack") {
				return cobra.MaximumNArgs(1)(cmd, args)
			}
			return cobra.NoArgs(cmd, args)
		},
	}
	output := outputFlag(cmd, "text", "json")
	f := cmd.Flags()
	f.StringVar(&opts.Log, "log", "", "capture to seal: candump, Vector ASC or GVRET CSV (default: the simulated pack)")
	f.DurationVar(&opts.Duration, "duration", demo.DefaultDuration, "length of the simulated pack's run")
	f.Uint64Var(&opts.Seed, "seed", 1, "seed of the simulated pack")
	f.Float64Var(&opts.Speed, "speed", 1, "factor on the pace of the time stamps; 0 sends as fast as it goes")
	f.StringVar(&attacks, "attack", "", "put an attacker on the bus: insertion (without a value), or others, see above, with commas")
	f.Lookup("attack").NoOptDefVal = demo.Insertion
	f.StringVar(&opts.Policy, "policy", "", "policy document (default: the built-in one)")
	f.StringVar(&opts.Binding, "binding", "", "binding document with one node (default: made from the log)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			attacks = args[0]
		}
		if attacks != "" {
			var err error
			if opts.Attacks, err = demo.ParseAttacks(attacks); err != nil {
				return usageError{err}
			}
		}
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

// listAttacks is the part of the help about what can be selected.
func listAttacks() string {
	var b strings.Builder
	family := ""
	for _, a := range demo.AllAttacks() {
		if a.Family != family && family != "" {
			b.WriteByte('\n')
		}
		family = a.Family
		fmt.Fprintf(&b, "  %-14s %s\n", a.Name, a.Does)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
