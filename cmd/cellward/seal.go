// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/notify"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/trace"
)

// errSource says that not exactly one source of frames was named.
var errSource = errors.New("name one of --log, --from and --simulate")

// stationFlags say where a node's state folder and keys are.
type stationFlags struct{ opts station.Options }

func (s *stationFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.opts.Dir, "state", "", "state folder (required)")
	cmd.Flags().StringVar(&s.opts.TPM, "tpm", "", "TPM device, or unix: and the path of a socket")
	cmd.Flags().BoolVar(&s.opts.Software, "software-key", false, "keep the keys in files of the state folder, on a node without a TPM")
	_ = cmd.MarkFlagRequired("state")
	cmd.MarkFlagsOneRequired("tpm", "software-key")
	cmd.MarkFlagsMutuallyExclusive("tpm", "software-key")
}

// sourceFlags say where frames come from.
type sourceFlags struct {
	log, from     string
	simulate      time.Duration
	seed          uint64
	temperatureID string
}

func (s *sourceFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.log, "log", "", "seal a capture: candump, Vector ASC or GVRET CSV")
	f.StringVar(&s.from, "from", "", "seal what comes in on a CAN interface")
	f.DurationVar(&s.simulate, "simulate", 0, "seal a simulated battery pack for this long")
	f.Uint64Var(&s.seed, "seed", 1, "seed of the simulated pack")
	f.StringVar(&s.temperatureID, "temperature-id", "0", "identifier for the simulated temperatures, 0 to send them with the cells")
	cmd.MarkFlagsOneRequired("log", "from", "simulate")
	cmd.MarkFlagsMutuallyExclusive("log", "from", "simulate")
}

func (s *sourceFlags) open() (trace.Source, func() error, error) {
	switch {
	case s.log != "":
		r, err := trace.Open(s.log)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	case s.from != "":
		l, err := edge.OpenLive(s.from)
		if err != nil {
			return nil, nil, err
		}
		return l, l.Close, nil
	case s.simulate > 0:
		var id uint32
		if _, err := fmt.Sscanf(s.temperatureID, "%v", &id); err != nil {
			return nil, nil, usageError{fmt.Errorf("--temperature-id %q: %w", s.temperatureID, err)}
		}
		p, err := trace.NewPack(trace.PackOptions{Seed: s.seed, Duration: s.simulate, TemperatureID: id})
		return p, func() error { return nil }, err
	default:
		return nil, nil, usageError{errSource}
	}
}

func newSealCommand() *cobra.Command {
	var (
		docs       documents
		at         stationFlags
		from       sourceFlags
		opts       edge.NodeOptions
		interfaces map[string]string
		buses      map[string]string
		user       string
		seccomp    privilege.Enforcement
	)
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Be the sensor edge: seal a node's frames onto CAN FD",
		Long: `Be one node of the binding: announce its start, seal every frame that one of its streams claims, send heartbeats, and say at
the end what was done. Every run begins with fresh keys and counters that were never used, whatever happened to the state folder.

Once its interfaces are open the edge gives up all capabilities, becomes another user if one is named, and has the kernel filter its
system calls. On SocketCAN it needs no right to begin with: run it as the user whose state folder it is.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	at.flags(cmd)
	from.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	f := cmd.Flags()
	f.StringVar(&opts.Node, "node", "", "node of the binding (required)")
	f.Float64Var(&opts.Speed, "speed", 1, "factor on the pace of the time stamps; 0 sends as fast as it goes")
	f.StringVar(&opts.Netns, "netns", "", "path of the network namespace with the node's interfaces (default: this one)")
	f.StringToStringVar(&interfaces, "interface", nil, "NAME=LOCAL: what an interface of the binding is called here")
	f.StringToStringVar(&buses, "bus", nil, "BUS=NAME: which interface of the binding a bus of the log is")
	f.StringVar(&user, "user", "", "as root: user to become, whose the state folder is (default: stay)")
	f.Var(&seccomp, "seccomp", "filter on system calls: log lets all through and has the kernel's log name what enforce refuses")
	_ = cmd.MarkFlagRequired("node")
	cmd.MarkFlagsMutuallyExclusive("user", "software-key") // a plain key is read by nobody but its owner
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := agent.Harden(); err != nil {
			return err
		}
		set, err := docs.load()
		if err != nil {
			return err
		}
		src, done, err := from.open()
		if err != nil {
			return err
		}
		stop := context.AfterFunc(cmd.Context(), func() {
			if from.from != "" {
				_ = done() // ends the wait for a frame
			}
		})
		defer stop()
		opts.Set, opts.Station, opts.Interfaces, opts.Buses, opts.Source = set, at.opts, interfaces, buses, src
		if from.from != "" {
			opts.Speed = 0 // frames come at their own pace
		}
		var become *privilege.User
		if user != "" {
			if become, err = privilege.Lookup(user); err != nil {
				return err
			}
			opts.Station.Owner = become.UID
		}
		log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
		manager, err := notify.New(log)
		if err != nil {
			return err
		}
		defer manager.Close()
		opts.Ready = func() error {
			if err := privilege.Drop(become, 0); err != nil {
				return fmt.Errorf("give up rights: %w", err)
			}
			if err := privilege.KeepParentDeath(cmd.Context()); err != nil {
				return err
			}
			if err := privilege.Confine(privilege.EdgeProfile(), seccomp); err != nil {
				return fmt.Errorf("confine the edge: %w", err)
			}
			manager.Ready("node " + opts.Node)
			return nil
		}
		report, err := edge.RunNode(cmd.Context(), opts)
		if from.from == "" {
			err = errors.Join(err, done())
		}
		if err != nil {
			return err
		}
		return writeReport(cmd.OutOrStdout(), *output, report)
	}
	return cmd
}

func writeReport(w io.Writer, format string, r edge.Report) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := fmt.Fprintf(w, "node %s, epoch %d, counters from %d: sealed %d of %d frames (%d unclaimed, %d remote or error, %d more dropped by the kernel), %d heartbeats, %d start records, %.1f s\n",
		r.Node, r.Epoch, r.FirstCounter, r.Sealed, r.Offered, r.Unclaimed, r.Other, r.Dropped, r.Heartbeats, r.Starts, r.ElapsedS)
	return err
}
