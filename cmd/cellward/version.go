// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
)

func newVersionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print build facts", Args: cobra.NoArgs}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := agent.Build()
		if *output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(b)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "cellward %s (%s, %s/%s, cgo %t)\n", b.Version, b.Go, b.OS, b.Arch, b.CGO)
		return err
	}
	return cmd
}
