// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent/policy"
)

// errInvalidDocuments is what `policy validate` ends with after it has written what is wrong.
var errInvalidDocuments = errors.New("not all documents are valid")

// newPolicyCommand returns the verb that looks at documents and changes nothing.
func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check and show policy and binding documents",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyValidateCommand(), newPolicyShowCommand(), newPolicySchemaCommand())
	return cmd
}

func newPolicyValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check documents, and each binding against its policy if that is given too",
		Args:  cobra.MinimumNArgs(1),
	}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		findings, err := policy.Validate(files)
		if err != nil {
			return err
		}
		if *output == "json" {
			err = writePolicyJSON(cmd.OutOrStdout(), findings)
		} else {
			err = policy.WriteFindings(cmd.OutOrStdout(), findings)
		}
		if err != nil {
			return err
		}
		if !policy.AllValid(findings) {
			return errInvalidDocuments
		}
		return nil
	}
	return cmd
}

func newPolicyShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show FILE [FILE]",
		Short: "Print a policy, a binding, or both, with references and defaults resolved",
		Args:  cobra.RangeArgs(1, 2),
	}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		view, err := policy.Show(files)
		if err != nil {
			return err
		}
		if *output == "json" {
			return writePolicyJSON(cmd.OutOrStdout(), view)
		}
		return view.WriteText(cmd.OutOrStdout())
	}
	return cmd
}

func newPolicySchemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:       "schema [KIND]",
		Short:     "Print the JSON Schema of a kind of document, or one for all kinds",
		Long:      "Print the JSON Schema (draft 2020-12) of a kind of document, or one for all kinds. It is JSON with either -o.",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: policy.Kinds(),
	}
	outputFlag(cmd, "json", "text")
	cmd.RunE = func(cmd *cobra.Command, kinds []string) error {
		read := policy.BundledSchema
		if len(kinds) == 1 {
			read = func() ([]byte, error) { return policy.Schema(kinds[0]) }
		}
		schema, err := read()
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(schema)
		return err
	}
	return cmd
}

// writePolicyJSON writes a value as indented JSON.
func writePolicyJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
