// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
)

func newFaultCommand() *cobra.Command {
	var at agent.Where
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Show or clear the BMS Security Fault of the running agent",
		Long: `Show the BMS Security Fault of the running agent: its state, the data sources that cannot be trusted, what speaks against them, and what to
do. A fault flags samples and holds none back. It is cleared by rule when the evidence ends, or by an operator with a reason; a latched
one by an operator only.`,
		Args: cobra.NoArgs,
	}
	status := &cobra.Command{Use: "status", Short: "Show the fault", Args: cobra.NoArgs}
	clearing := &cobra.Command{
		Use:   "clear --reason TEXT [SOURCE]",
		Short: "Clear the fault of a data source, or of all",
		Long: `Clear the fault of a data source, or of all, latched ones too. The reason becomes part of the event log. Evidence that goes on raises the fault
anew. Only root and the agent's own user may.`,
		Example: `  cellward fault clear --reason "harness of module 3 replaced" cell_voltage_array`,
		Args:    cobra.MaximumNArgs(1),
	}
	whereFlags(status, &at)
	statusOutput := outputFlag(status, "text", "json")
	show := func(cmd *cobra.Command, format string) error {
		f, err := agent.ReadFault(cmd.Context(), at)
		if err != nil {
			return err
		}
		if format == "json" {
			return writeJSON(cmd, f)
		}
		return f.WriteText(cmd.OutOrStdout())
	}
	status.RunE = func(cmd *cobra.Command, _ []string) error { return show(cmd, *statusOutput) }
	whereFlags(cmd, &at)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return show(cmd, *output) }

	whereFlags(clearing, &at)
	var reason string
	clearing.Flags().StringVar(&reason, "reason", "", "why: 1 to 200 bytes of printable text")
	_ = clearing.MarkFlagRequired("reason") // it is there
	clearOutput := outputFlag(clearing, "text", "json")
	clearing.RunE = func(cmd *cobra.Command, args []string) error {
		q := agent.ClearRequest{Reason: reason}
		if len(args) > 0 {
			q.Source = args[0]
		}
		done, err := agent.ClearFault(cmd.Context(), at, q)
		if err != nil {
			return err
		}
		if *clearOutput == "json" {
			return writeJSON(cmd, done)
		}
		for _, s := range done.Cleared {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: cleared\n", s); err != nil {
				return err
			}
		}
		return done.Fault.WriteText(cmd.OutOrStdout())
	}
	cmd.AddCommand(status, clearing)
	return cmd
}

func writeJSON(cmd *cobra.Command, v any) error {
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}
