// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/loader"
)

func newDetachCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Take the filter off all interfaces: opens the bus",
		Long: `Take the filter off all interfaces and remove its pinned maps, replay windows and unread records. From then on the
identifiers that were protected reach the CAN stack unverified. Nothing else opens the bus: a stopped or killed agent leaves the
filter in place. Stop the agent first, so that it leaves its counters behind; after an unclean stop the epochs in use are refused
when their windows are gone, and keys must be agreed anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loader.Detach(root); err != nil {
				return fmt.Errorf("detach: %w", err)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "detached: the bus is open")
			return err
		},
	}
	cmd.Flags().StringVar(&root, "bpffs", loader.DefaultRoot, "folder of the pinned maps and links")
	return cmd
}
