// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/inspect"
	"github.com/cellward/cellward/agent/event/kind"
)

// errLogNotGood is what `events --verify` ends with after it has written what is wrong.
var errLogNotGood = errors.New("the event log is not what was written")

// followEvents prints records as they come, each at once, or gives them to a program. No kinds: of all.
func followEvents(cmd *cobra.Command, at agent.Where, format string, kinds []kind.Kind, hook *eventHook) error {
	out := cmd.OutOrStdout()
	return agent.FollowEvents(cmd.Context(), at, func(line []byte) error {
		r, err := encode.ParseJSON(line)
		if err != nil {
			return fmt.Errorf("read event of agent: %w", err)
		}
		switch {
		case len(kinds) > 0 && !slices.Contains(kinds, r.Kind):
			return nil
		case hook != nil:
			hook.run(cmd.Context(), line)
			return nil
		case format == "text":
			line = encode.Text(nil, r)
		}
		_, err = fmt.Fprintf(out, "%s\n", line)
		return err
	})
}

// printFrames prints the frames that the running agent keeps, or writes them to the file that export names.
func printFrames(cmd *cobra.Command, at agent.Where, export, format string) error {
	out := cmd.OutOrStdout()
	records, err := agent.ReadFrames(cmd.Context(), at)
	if err != nil {
		return err
	}
	if export != "" {
		n, err := inspect.ExportFrames(export, out, records)
		return exported(out, export, n, err)
	}
	write := encode.Text
	if format == "json" {
		write = encode.JSON
	}
	for i := range records {
		if _, err := fmt.Fprintf(out, "%s\n", write(nil, &records[i])); err != nil {
			return fmt.Errorf("write frames: %w", err)
		}
	}
	return nil
}

// exported says how many frames a capture has, if it is not that which is written there.
func exported(out io.Writer, export string, frames int, err error) error {
	if err == nil && export != "-" {
		_, err = fmt.Fprintf(out, "%d frames\n", frames)
	}
	return err
}

// parseKinds reads names of kinds.
func parseKinds(names []string) (kinds []kind.Kind, err error) {
	for _, n := range names {
		k, ok := kind.Parse(n)
		if !ok {
			return nil, usageError{fmt.Errorf("no kind of event is called %q", n)}
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

func newEventsCommand() *cobra.Command {
	var o inspect.VerifyOptions
	var verify, follow, frames bool
	var socket string
	var export string
	var only []string
	var hook eventHook
	cmd := &cobra.Command{
		Use:   "events FILE|FOLDER...",
		Short: "Print, verify, export or follow security events",
		Long: `Print the security events in an event log, or in files of one. With --verify, check instead that nothing in it was altered, removed, put
elsewhere or cut off, and say which line was; with --export-pcapng, write the offending frames as a capture. With --frames, print or
export the last offending frames that the running agent keeps, which are more than those in the log. With --follow, print the
events of the running agent as they come, from now on; with --exec as well, run a program for each, which gets the record as a line of
JSON on its standard input. The program has the rights of this command, not those of the agent, and runs once at a time. Records that come
meanwhile wait, and are summed up, not lost, when there are many.

The signatures are checked with the gateway's key of the binding, or with --key. A log that was cut off behind a signed head
looks whole unless --head or --generation say what its end must be.`,
		Example: `  cellward events /var/lib/cellward/events
  cellward events --verify /var/lib/cellward/events
  cellward events --export-pcapng frames.pcapng /var/lib/cellward/events
  cellward events --frames --export-pcapng - | tshark -r -
  cellward events --follow -o json
  cellward events --follow --kind fault_raised,fault_cleared --exec /usr/local/sbin/limp-home`,
		Args: func(cmd *cobra.Command, args []string) error {
			if follow || frames {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&verify, "verify", false, "check the log instead of printing it")
	f.StringVar(&export, "export-pcapng", "", "write the frames in the log, or with --frames those of the agent, to this file (-: standard output)")
	f.BoolVar(&frames, "frames", false, "the last offending frames that the running agent keeps, of each kind")
	f.StringVar(&o.Binding, "binding", "", "binding document with the gateway's key (default: "+inspect.DefaultBinding+")")
	f.StringVar(&o.Key, "key", "", "file with the public key that has signed the log")
	f.BoolVar(&o.HashesOnly, "hashes-only", false, "leave signatures out: what is found then is no proof against whoever can write the log")
	f.StringVar(&o.Head, "head", "", "last head that is known from elsewhere (LOG:SEQ:HASH)")
	f.Uint64Var(&o.Generation, "generation", 0, "generation that the hardware counter shows")
	f.BoolVar(&follow, "follow", false, "print the events of the running agent as they come")
	f.StringVar(&socket, "socket", "", "with --follow or --frames: control socket of the agent, in place of the binding's")
	f.StringSliceVar(&only, "kind", nil, "with --follow: only events of these kinds, with commas")
	f.StringVar(&hook.program, "exec", "", "with --follow: run this program for each event instead of printing it")
	f.DurationVar(&hook.limit, "exec-limit", 30*time.Second, "with --exec: end the program when it takes longer")
	cmd.MarkFlagsMutuallyExclusive("verify", "export-pcapng", "follow")
	cmd.MarkFlagsMutuallyExclusive("verify", "frames", "follow")
	cmd.MarkFlagsMutuallyExclusive("key", "binding", "hashes-only")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
		switch {
		case follow:
			kinds, err := parseKinds(only)
			if err != nil {
				return err
			}
			var with *eventHook
			if hook.program != "" {
				hook.out, hook.errs = out, errs
				if err := hook.check(); err != nil {
					return err
				}
				with = &hook
			}
			return followEvents(cmd, agent.Where{Binding: o.Binding, Socket: socket}, *output, kinds, with)
		case len(only) > 0, hook.program != "":
			return usageError{errors.New("--kind and --exec go with --follow")}
		case frames:
			return printFrames(cmd, agent.Where{Binding: o.Binding, Socket: socket}, export, *output)
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
			return exported(out, export, n, err)
		case *output == "json":
			return inspect.Print(out, errs, paths, encode.JSON)
		}
		return inspect.Print(out, errs, paths, encode.Text)
	}
	return cmd
}
