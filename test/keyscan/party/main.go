// SPDX-License-Identifier: Apache-2.0

// Command party agrees an epoch by the product's own code, erases what that has left as the agent does, and stays: test/keyscan
// looks through its memory then. It is a program of its own, so that it has nothing in memory but this, whatever the tests are
// built with. It may import agent, packages under it, and crypto/secretmem.
//
// Arguments: "accept" POLICY BINDING REPLY, "enroll" POLICY BINDING OFFER NODE STATE [TPM], or "leak" HEX.
package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/keys"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/secretmem"
)

// mask is what the value to leak is given under: the text in the arguments must not be what is looked for.
const mask = 0x5A

var errUsage = errors.New("usage: party accept POLICY BINDING REPLY | enroll POLICY BINDING OFFER NODE STATE [TPM] | leak HEX")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "party:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if err := agent.Harden(); err != nil {
		return err
	}
	if err := agent.LockMemory(); err != nil {
		return err
	}
	var out string
	var kept []byte
	var err error
	switch {
	case len(args) == 2 && args[0] == "leak":
		// Against all rules: a value on the heap, for as long as the process lives.
		kept, err = hex.DecodeString(args[1])
		for i := range kept {
			kept[i] ^= mask
		}
		if err == nil && len(kept) >= 16 {
			go blockWith(kept)
		}
	case len(args) == 4 && args[0] == "accept", len(args) >= 6 && len(args) <= 7 && args[0] == "enroll":
		out, err = agree(args)
	default:
		err = errUsage
	}
	if err != nil {
		return err
	}
	secretmem.Collect()
	if _, err := fmt.Println("done", out); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	clear(kept)
	return err
}

// blockWith waits for ever in a system call whose fifth and sixth arguments are a value: they are in the thread's registers.
func blockWith(value []byte) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return
	}
	var b [1]byte
	_, _, _ = unix.Syscall6(unix.SYS_READ, uintptr(fds[0]), uintptr(unsafe.Pointer(&b[0])), 1, 0,
		uintptr(binary.LittleEndian.Uint64(value)), uintptr(binary.LittleEndian.Uint64(value[8:])))
}

// agree takes the message in a file and returns what answers it, in hexadecimal.
func agree(args []string) (string, error) {
	ctx := context.Background()
	set, err := policy.Load(args[1], args[2])
	if err != nil {
		return "", err
	}
	msg, err := os.ReadFile(args[3])
	if err != nil {
		return "", err
	}
	if args[0] == "accept" {
		_, err := keys.Accept(ctx, set, msg)
		return "", err
	}
	at := station.Options{Dir: args[5], Software: len(args) == 6}
	if !at.Software {
		at.TPM = args[6]
	}
	e, err := keys.Enroll(ctx, set, args[4], at, msg)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(e.Reply), nil
}
