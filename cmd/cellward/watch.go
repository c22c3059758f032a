// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/watch"
)

func newWatchCommand() *cobra.Command {
	var at agent.Where
	var socket string
	var interval time.Duration
	var count int
	var ascii bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch a gateway live: buses, nodes, streams, values",
		Long: `Show a gateway on the terminal, once a second: its buses with their frames by verdict, nodes with the age of their keys, streams with
rate, counter and values, and what is wrong in capitals. It changes nothing, needs the rights of status and read, shows what the
kernel has when no agent runs, and goes on by itself when one comes. The key ? lists the others; nothing is told by colour.
With -o json it writes what it would show, one object a line.`,
		Args: cobra.NoArgs,
	}
	whereFlags(cmd, &at)
	f := cmd.Flags()
	f.StringVar(&socket, "ring", "", "the agent's ring socket, in place of the binding's")
	f.DurationVar(&interval, "interval", time.Second, "time between two looks")
	f.IntVar(&count, "count", 0, "with -o json: end after this many objects (0: no end)")
	f.BoolVar(&ascii, "ascii", false, "draw sparklines in ASCII, as in a locale without UTF-8")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if interval < 100*time.Millisecond {
			return usageError{errors.New("--interval: at least 100ms")}
		}
		s, err := watch.Open(at, socket)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		if *output == "json" {
			return watch.WriteJSON(cmd.Context(), s, cmd.OutOrStdout(), interval, count)
		}
		return watch.Run(cmd.Context(), s, os.Stdin, os.Stdout, watch.Options{Interval: interval, ASCII: ascii})
	}
	return cmd
}
