// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/policy"
)

// applied is what `cellward apply -o json` prints: what changes, or why not.
type applied struct {
	*agent.Change
	Error  string        `json:"error,omitempty"`
	Errors policy.Errors `json:"errors,omitempty"`
}

func newApplyCommand() *cobra.Command {
	var docs documents
	var socket string
	var dryRun, confirm bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the running agent go on by new documents",
		Long: `Check a policy and a binding and make the running agent go on by them, without losing a frame of the streams that they do not change.
Documents with an error change nothing; the error names file, line and column. What cannot be changed while the agent runs is
refused by name. What ends keys or opens identifiers is listed, and done only with --confirm.

The agent's own files are not touched: put the documents there too, or the next start goes by the old ones.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&socket, "socket", "", "control socket of the agent, in place of the binding's")
	f.BoolVar(&dryRun, "dry-run", false, "only say what would change")
	f.BoolVar(&confirm, "confirm", false, "also do what ends keys or opens identifiers")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		x, err := agent.Apply(cmd.Context(), agent.DocumentPaths{Policy: docs.policy, Binding: docs.binding}, socket, dryRun, confirm)
		if *output == "json" {
			a := applied{Change: x}
			if err != nil {
				a.Error = err.Error()
				errors.As(err, &a.Errors)
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return errors.Join(err, e.Encode(a))
		}
		if x != nil {
			err = errors.Join(err, x.WriteText(cmd.OutOrStdout()))
		}
		return err
	}
	return cmd
}
