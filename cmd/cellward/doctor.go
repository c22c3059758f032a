// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent/doctor"
)

func newDoctorCommand() *cobra.Command {
	var docs documents
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong with this gateway, and say what helps",
		Long: `Look at documents, rights, kernel, interfaces, pins, state folder, sockets, TPM, memory and clock, and say for each fault why it
matters and which one command helps. Nothing is changed; what has to be tried out is tried in namespaces and maps that end with the
command, for which the kernel may load its CAN modules. Needs root to see everything. Fails if a finding does.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r := doctor.Run(cmd.Context(), doctor.Options{Policy: docs.policy, Binding: docs.binding})
		var err error
		if *output == "json" {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			err = e.Encode(r)
		} else {
			err = r.WriteText(cmd.OutOrStdout())
		}
		return errors.Join(err, r.Err())
	}
	return cmd
}
