// SPDX-License-Identifier: Apache-2.0

// Package wire is what a guest and its host say to each other: the job that the host puts into the guest's initramfs, and the
// messages that the guest's init sends over a virtio console port.
//
// It may import the standard library only.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Names that both sides must agree on.
const (
	JobPath     = "/job.json"        // in the initramfs
	ControlPort = "cellward.control" // virtio console port of the messages
	TPMPort     = "cellward.tpm"     // virtio console port of TPM commands and responses, TPM 2.0 Part 1, 24
)

// Job is what a guest is booted for.
type Job struct {
	// Modules are paths of kernel modules, in the order in which they are loaded.
	Modules []string `json:"modules"`
	// VirtualTPM makes init join tpm_vtpm_proxy to TPMPort. Otherwise the machine has a TPM of its own, or none.
	VirtualTPM bool `json:"virtual_tpm"`
	// WantTPM makes init wait for /dev/tpmrm0 and fail without it.
	WantTPM bool `json:"want_tpm"`
	// Command is the program's path and its arguments, Env its whole environment, Dir its working folder.
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
}

// Kind says what a message is.
type Kind uint8

// Kinds of messages.
const (
	Output Kind = 1 // what the program writes to its standard output and standard error, as it comes
	Note   Kind = 2 // what init has to say, a line
	End    Kind = 3 // an Exit as JSON; the last message
)

// Exit says how the job ended.
type Exit struct {
	// Code is the program's exit code, 128 plus the signal if a signal ended it; of no meaning if Error is not empty.
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
	// Error says why init could not run the program.
	Error string `json:"error,omitempty"`
}

// MaxPayload bounds a message's payload in bytes.
const MaxPayload = 64 << 10

const headerSize = 5

// ErrMessage says that bytes are no message.
var ErrMessage = errors.New("not a message of a guest")

// Write writes one message. Payloads above MaxPayload are an error.
func Write(w io.Writer, k Kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("write message: %w: %d bytes", ErrMessage, len(payload))
	}
	b := make([]byte, headerSize, headerSize+len(payload))
	b[0] = byte(k)
	binary.LittleEndian.PutUint32(b[1:], uint32(len(payload)))
	if _, err := w.Write(append(b, payload...)); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

// WriteEnd writes the last message.
func WriteEnd(w io.Writer, e Exit) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode end of job: %w", err)
	}
	return Write(w, End, b)
}

// Read reads one message. It ends with io.EOF between two messages and with io.ErrUnexpectedEOF within one.
func Read(r io.Reader) (Kind, []byte, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	k, n := Kind(head[0]), binary.LittleEndian.Uint32(head[1:])
	if k < Output || k > End || n > MaxPayload {
		return 0, nil, fmt.Errorf("read message: %w: kind %d, %d bytes", ErrMessage, k, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return k, b, nil
}
