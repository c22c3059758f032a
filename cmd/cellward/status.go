// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
)

// whereFlags say where a gateway is to be looked for.
func whereFlags(cmd *cobra.Command, at *agent.Where) {
	f := cmd.Flags()
	f.StringVar(&at.Binding, "binding", "", "binding document, which names the places (default: "+agent.DefaultBinding+" if there is one)")
	f.StringVar(&at.Socket, "socket", "", "control socket of the agent, in place of the binding's")
	f.StringVar(&at.BPFFS, "bpffs", "", "folder of the pinned maps and links, in place of the binding's")
}

func newStatusCommand() *cobra.Command {
	var at agent.Where
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the agent says, and what the kernel says with or without one",
		Long: `Show the state of the running agent, and the filter as the kernel itself sees it: the programs at the hooks of the interfaces, how full
the rings are, and, where no agent runs, verdicts, epochs and streams from the pinned maps. The kernel's part is read without
changing anything and needs root, or the right to read the pins. It fails only if there is neither agent nor filter.`,
		Args: cobra.NoArgs,
	}
	whereFlags(cmd, &at)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := agent.ReadOverview(cmd.Context(), at)
		if err != nil {
			return err
		}
		if *output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(o)
		}
		return o.WriteText(cmd.OutOrStdout())
	}
	return cmd
}
