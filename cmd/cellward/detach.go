// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
)

func newDetachCommand() *cobra.Command {
	var at agent.Where
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Take the filter off all interfaces: opens the bus",
		Long: `Take the filter off all interfaces and remove its pinned maps, replay windows, unread records and the sockets that a killed agent
has left, and say what was removed. From then on the identifiers that were protected reach the CAN stack unverified. Nothing else
opens the bus: a stopped or killed agent leaves the filter in place. Stop the agent first, so that it leaves its counters behind exactly; after an unclean stop the next agent cannot
tell what lies below the ceilings from a replay, and up to ten seconds of each stream are refused.`,
		Args: cobra.NoArgs,
	}
	whereFlags(cmd, &at)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := agent.Detach(cmd.Context(), at)
		if err != nil {
			return fmt.Errorf("detach: %w", err)
		}
		if *output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(d)
		}
		return d.WriteText(cmd.OutOrStdout())
	}
	return cmd
}
