// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/ring/follow"
)

func newReadCommand() *cobra.Command {
	var cfg follow.Config
	cmd := &cobra.Command{
		Use:   "read",
		Short: "follow the ring of verified samples",
		Long: `read connects to the agent's ring and writes each verified sample as one line: text for people, JSON lines,
CSV, or the grammar of candump logs, which cantools, canplayer and SavvyCAN understand. It ends after --count
samples, on a signal, or with the agent; --reconnect waits for the next agent instead. Samples that were
overwritten before they could be read are counted (--stats).`,
		Example: `  cellward read
  cellward read -o json --decode --stream cell_voltages
  cellward read -o candump --from now | cantools decode pack.dbc`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Out, cfg.Err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			_, err := follow.Run(cmd.Context(), cfg)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Socket, "socket", ring.DefaultSocket, "the agent's ring socket")
	f.VarP(&cfg.Output, "output", "o", "output format")
	f.BoolVar(&cfg.Decode, "decode", false, "add physical values (text and json)")
	f.StringArrayVar(&cfg.Streams, "stream", nil, "only streams with this name or id (repeatable)")
	f.Var(&cfg.From, "from", "where to begin")
	f.Uint64Var(&cfg.Count, "count", 0, "end after this many samples (0: no end)")
	f.BoolVar(&cfg.Reconnect, "reconnect", false, "wait for the next agent when this one ends")
	f.BoolVar(&cfg.Stats, "stats", false, "write counts and latency to stderr at the end")
	return cmd
}
