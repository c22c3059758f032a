// SPDX-License-Identifier: Apache-2.0

// Command peers times the AES-256-GCM engines of this project against installed libraries: OpenSSL (EVP) and Intel's
// Multi-Buffer Crypto for IPsec, each through a small C program in the folder programs. All contenders take turns
// within one run, so that what else the machine does meets all of them, and first show that they give the same tags.
//
// It is no test: figures depend on the machine. It needs a C compiler, and the libraries' headers (Debian: libssl-dev,
// libipsec-mb-dev); a peer that cannot be built is named and left out.
//
// It may import crypto/aead and crypto/spdu.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// shape is one kind of batch.
type shape struct{ text, batch, keys int }

func main() {
	rounds := flag.Int("rounds", 7, "how many turns each contender gets")
	turn := flag.Duration("turn", 40*time.Millisecond, "length of a turn")
	text := flag.Int("ct", 32, "bytes of ciphertext")
	batch := flag.Int("batch", 64, "PDUs in a batch")
	keys := flag.Int("keys", 16, "keys in turn")
	plot := flag.String("plot", "", "write a bar chart to this file (SVG)")
	flag.Parse()
	if err := run(shape{*text, *batch, *keys}, *rounds, *turn, *plot); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(s shape, rounds int, turn time.Duration, plot string) error {
	if s.text < 0 || s.text > 2000 || s.batch < 1 || s.batch > 1024 || s.keys < 1 || s.keys > s.batch || rounds < 1 {
		return fmt.Errorf("choose ct in 0..2000, batch in 1..1024, keys in 1..batch and at least one round")
	}
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return fmt.Errorf("make folder for programs: %w", err)
	}
	defer os.RemoveAll(dir)
	all, err := engines(s)
	if err != nil {
		return err
	}
	libraries, missing := build(dir, s)
	for _, err := range missing {
		fmt.Fprintln(os.Stderr, "peers: left out:", err)
	}
	all = append(all, libraries...)
	if err := sameTags(all); err != nil {
		return err
	}
	r, err := measure(all, rounds, turn)
	if err != nil {
		return err
	}
	fmt.Printf("%d bytes of ciphertext, batches of %d, %d keys; median of %d turns of %v; ns a PDU\n\n", s.text, s.batch, s.keys, rounds, turn)
	fmt.Print(r.table())
	if plot != "" {
		if err := os.WriteFile(plot, []byte(r.svg(s)), 0o644); err != nil {
			return fmt.Errorf("write plot: %w", err)
		}
	}
	return nil
}
