// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/inspect"
)

// errLogNotGood is what `events --verify` ends with after it has written what is wrong.
var errLogNotGood = errors.New("the event log is not what was written")

// followEvents prints records as they come, each at once.
func followEvents(cmd *cobra.Command, at agent.Where, format string) error {
	out := cmd.OutOrStdout()
	return agent.FollowEvents(cmd.Context(), at, func(line []byte) error {
		if format == "text" {
			r, err := encode.ParseJSON(line)
			if err != nil {
				return fmt.Errorf("read event of agent: %w", err)
			}
			line = encode.Text(nil, r)
		}
		_, err := fmt.Fprintf(out, "%s\n", line)
		return err
	})
}

func newEventsCommand() *cobra.Command {
	var o inspect.VerifyOptions
	var verify, follow bool
	var socket string
	var export string
	cmd := &cobra.Command{
		Use:   "events FILE|FOLDER...",
		Short: "Print, verify, export or follow security events",
		Long: `Print the security events in an event log, or in files of one. With --verify, check instead that nothing in it was altered, removed, put
elsewhere or cut off, and say which line was; with --export-pcapng, write the offending frames as a capture. With --follow, print the
events of the running agent as they come, from now on.

The signatures are checked with the gateway's key of the binding, or with --key. A log that was cut off behind a signed head
looks whole unless --head or --generation say what its end must be.`,
		Example: `  cellward events /var/lib/cellward/events
  cellward events --verify /var/lib/cellward/events
  cellward events --export-pcapng frames.pcapng /var/lib/cellward/events
  cellward events --follow -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if follow {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&verify, "verify", false, "check the log instead of printing it")
	f.StringVar(&export, "export-pcapng", "", "write the frames in the log to this file (-: standard output)")
	f.StringVar(&o.Binding, "binding", "", "binding document with the gateway's key (default: "+inspect.DefaultBinding+")")
	f.StringVar(&o.Key, "key", "", "file with the public key that has signed the log")
	f.BoolVar(&o.HashesOnly, "hashes-only", false, "leave signatures out: what is found then is no proof against whoever can write the log")
	f.StringVar(&o.Head, "head", "", "last head that is known from elsewhere (LOG:SEQ:HASH)")
	f.Uint64Var(&o.Generation, "generation", 0, "generation that the hardware counter shows")
	f.BoolVar(&follow, "follow", false, "print the events of the running agent as they come")
	f.StringVar(&socket, "socket", "", "with --follow: control socket of the agent, in place of the binding's")
	cmd.MarkFlagsMutuallyExclusive("verify", "export-pcapng", "follow")
	cmd.MarkFlagsMutuallyExclusive("key", "binding", "hashes-only")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
		switch {
		case follow:
			return followEvents(cmd, agent.Where{Binding: o.Binding, Socket: socket}, *output)
		case verify:
			o.Paths = paths
			r, err := inspect.Verify(o)
			if err != nil {
				return err
			}
			if *output == "json" {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				err = r.WriteText(out)
			}
			if err == nil && !r.Good() {
				err = errLogNotGood
			}
			return err
		case export != "":
			n, err := inspect.ExportPCAPNG(export, out, errs, paths)
			if err == nil && export != "-" {
				_, err = fmt.Fprintf(out, "%d frames\n", n)
			}
			return err
		case *output == "json":
			return inspect.Print(out, errs, paths, encode.JSON)
		}
		return inspect.Print(out, errs, paths, encode.Text)
	}
	return cmd
}
