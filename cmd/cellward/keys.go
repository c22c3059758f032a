// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/keys"
	"github.com/cellward/cellward/agent/privilege"
)

// maxMessage bounds what is read as an offer or a reply.
const maxMessage = 64 << 10

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make identities and agree epochs between gateway and nodes",
		Long: `Make identities and agree epochs between gateway and nodes. On the gateway a running agent does the work and takes up what was agreed at
once, without losing a frame; without one it is done in the state folder. The output says which.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return agent.Harden()
		},
	}
	cmd.AddCommand(newKeysInitCommand(), newKeysOfferCommand(), newKeysEnrollCommand(), newKeysAcceptCommand(), newKeysListCommand(),
		newKeysRetireCommand(), newKeysRotateOffersCommand())
	return cmd
}

func newKeysInitCommand() *cobra.Command {
	var at stationFlags
	var owner string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the identity of a gateway or node, in its TPM",
		Args:  cobra.NoArgs,
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&at.opts.Gateway, "gateway", false, "a gateway's: also make its counters in the TPM")
	cmd.Flags().StringVar(&owner, "user", "", "as root: whose the state folder is to be, that of the binding's spec.gateway.user")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if owner != "" {
			u, err := privilege.Lookup(owner)
			if err != nil {
				return err
			}
			at.opts.Owner = u.UID
		}
		id, err := keys.Init(cmd.Context(), at.opts)
		if err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), *output, id, "identity: {kid: \"%s\", publicKey: \"%s\"}\n", id.KID, id.PublicKey)
	}
	return cmd
}

func newKeysOfferCommand() *cobra.Command {
	var docs documents
	var node, out string
	cmd := &cobra.Command{
		Use:   "offer",
		Short: "On the gateway: offer a node its next epoch",
		Args:  cobra.NoArgs,
	}
	docs.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&node, "node", "", "node of the binding (required)")
	cmd.Flags().StringVar(&out, "out", "", "file for the offer (required)")
	_ = cmd.MarkFlagRequired("node")
	_ = cmd.MarkFlagRequired("out")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := docs.load()
		if err != nil {
			return err
		}
		o, err := keys.Offer(cmd.Context(), set, node)
		if err != nil {
			return err
		}
		if err := writeMessage(out, o.Bytes); err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), *output, o, "offer of epoch %d to node %s (%s); compare its fingerprint on the node's side:\n%s\n", o.Epoch, o.Node, by(o.Via), o.Fingerprint)
	}
	return cmd
}

func newKeysEnrollCommand() *cobra.Command {
	var docs documents
	var at stationFlags
	var node, in, out string
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "On the node: take an offer and reply to it",
		Args:  cobra.NoArgs,
	}
	docs.flags(cmd)
	at.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&node, "node", "", "node of the binding (required)")
	cmd.Flags().StringVar(&in, "offer", "", "file with the offer (required)")
	cmd.Flags().StringVar(&out, "out", "", "file for the reply (required)")
	for _, f := range []string{"node", "offer", "out"} {
		_ = cmd.MarkFlagRequired(f)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := docs.load()
		if err != nil {
			return err
		}
		msg, err := readMessage(in)
		if err != nil {
			return err
		}
		e, err := keys.Enroll(cmd.Context(), set, node, at.opts, msg)
		if err != nil {
			return err
		}
		if err := writeMessage(out, e.Reply); err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), *output, e, "node %s has taken epoch %d, counters from %d; fingerprint of the offer:\n%s\n", e.Node, e.Epoch, e.FirstCounter, e.Fingerprint)
	}
	return cmd
}

func newKeysAcceptCommand() *cobra.Command {
	var docs documents
	var in string
	cmd := &cobra.Command{
		Use:   "accept",
		Short: "On the gateway: accept a node's reply",
		Args:  cobra.NoArgs,
	}
	docs.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&in, "reply", "", "file with the reply (required)")
	_ = cmd.MarkFlagRequired("reply")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := docs.load()
		if err != nil {
			return err
		}
		msg, err := readMessage(in)
		if err != nil {
			return err
		}
		a, err := keys.Accept(cmd.Context(), set, msg)
		if err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), *output, a, "epoch %d of node %s is agreed (%s), counters from %d\n", a.Epoch, a.Node, by(a.Via), a.FirstCounter)
	}
	return cmd
}

func newKeysListCommand() *cobra.Command {
	var docs documents
	cmd := &cobra.Command{
		Use:   "list",
		Short: "On the gateway: show the nodes' epochs, what was accepted under them, what failed, what is due and what is pending",
		Args:  cobra.NoArgs,
	}
	docs.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := docs.load()
		if err != nil {
			return err
		}
		all, err := keys.List(cmd.Context(), set)
		if err != nil {
			return err
		}
		if *output == "json" {
			return say(cmd.OutOrStdout(), *output, all, "")
		}
		return all.WriteText(cmd.OutOrStdout())
	}
	return cmd
}

func newKeysRetireCommand() *cobra.Command {
	var docs documents
	var node string
	var number uint32
	cmd := &cobra.Command{
		Use:   "retire",
		Short: "On the gateway: end epochs of a node, for good",
		Long: `End epochs of a node. When the command returns, the TPM refuses every copy of the state folder that holds their secrets. A running
agent refuses their frames and wipes their keys before anything else, whatever disk and TPM do. The node needs a new epoch to be
heard again.`,
		Args: cobra.NoArgs,
	}
	docs.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&node, "node", "", "node of the binding (required)")
	cmd.Flags().Uint32Var(&number, "epoch", 0, "epoch to end (default: all of the node)")
	_ = cmd.MarkFlagRequired("node")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := docs.load()
		if err != nil {
			return err
		}
		r, err := keys.Retire(cmd.Context(), set, node, number)
		if err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), *output, r, "retired epochs %v of node %s (%s); the TPM refuses every copy of their secrets\n", r.Retired, r.Node, by(r.Via))
	}
	return cmd
}

func newKeysRotateOffersCommand() *cobra.Command {
	var docs documents
	cmd := &cobra.Command{
		Use:   "rotate-offers",
		Short: "On the gateway: discard all pending offers; the TPM refuses their keys",
		Args:  cobra.NoArgs,
	}
	docs.flags(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		set, err := docs.load()
		if err != nil {
			return err
		}
		r, err := keys.RotateOffers(cmd.Context(), set)
		if err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), *output, r, "discarded %d pending offers (%s)\n", r.Discarded, by(r.Via))
	}
	return cmd
}

// by says in words who has done it.
func by(via string) string {
	if via == agent.ViaAgent {
		return "by the running agent"
	}
	return "in the state folder"
}

// say writes v as JSON, or a sentence.
func say(w io.Writer, format string, v any, text string, args ...any) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	_, err := fmt.Fprintf(w, text, args...)
	return err
}

func readMessage(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("read message: %s is longer than any offer or reply", path)
	}
	return b, nil
}

func writeMessage(path string, b []byte) error {
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}
