// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
)

// defaultControlSocket is where an agent with the packaged binding listens.
const defaultControlSocket = "/run/cellward/control.sock"

func newStatusCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{Use: "status", Short: "Show the state of the running agent", Args: cobra.NoArgs}
	output := outputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&socket, "socket", defaultControlSocket, "control socket of the agent")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var s agent.Status
		if err := control.Get(cmd.Context(), socket, control.StatusPath, &s); err != nil {
			return err
		}
		if *output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(s)
		}
		return s.WriteText(cmd.OutOrStdout())
	}
	return cmd
}
