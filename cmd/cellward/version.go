// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
)

func newVersionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print build facts, as a report of a fault needs them", Args: cobra.NoArgs}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := agent.Build()
		if *output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(b)
		}
		return b.WriteText(cmd.OutOrStdout())
	}
	return cmd
}
