// SPDX-License-Identifier: Apache-2.0

// Command cellward makes battery sensor data trustworthy: it seals samples at the edge, filters and verifies them on a gateway,
// and hands them to readers. Each verb has a file of its own; what it does lives in the packages under agent.
//
// Exit status: 0 good, 1 failed, 2 the command line was not understood.
//
// It may import agent and the packages under it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/privilege"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that was not understood.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(privilege.WithParentDeath(context.Background()), os.Interrupt, unix.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "cellward:", err)
	var usage usageError
	if errors.As(err, &usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cellward",
		Short:         "Trustworthy battery sensor data on Linux gateway ECUs",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(
		newRunCommand(), newSealCommand(), newReadCommand(), newDemoCommand(), newKeysCommand(), newPolicyCommand(), newApplyCommand(),
		newStatusCommand(), newWatchCommand(), newEventsCommand(), newFaultCommand(), newDoctorCommand(), newDetachCommand(), newVersionCommand(),
	)
	markUsage(root)
	return root
}

// markUsage makes errors about flags and arguments known as such, on every verb.
func markUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	if run := cmd.RunE; run != nil {
		// Cobra looks at required flags after the arguments and says so with an error of no type of its own.
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, args) }
		pre := cmd.PreRunE
		cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
				return usageError{err}
			}
			if pre != nil {
				return pre(cmd, args)
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		markUsage(c)
	}
}

// outputFlag adds -o with the formats that a verb knows, the first being the default.
func outputFlag(cmd *cobra.Command, formats ...string) *string {
	value := formats[0]
	cmd.Flags().FuncP("output", "o", fmt.Sprintf("output format: %s (default %s)", join(formats), formats[0]), func(s string) error {
		for _, f := range formats {
			if s == f {
				value = s
				return nil
			}
		}
		return fmt.Errorf("want %s", join(formats))
	})
	return &value
}

func join(words []string) (s string) {
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			s += " or "
		default:
			s += ", "
		}
		s += w
	}
	return s
}
