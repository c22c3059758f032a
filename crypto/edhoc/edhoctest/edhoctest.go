// SPDX-License-Identifier: Apache-2.0

// Package edhoctest gives tests keys in a TPM emulator for use with crypto/edhoc: on P-384, and on P-256 as a TPM has
// them that knows no P-384.
//
// It may import crypto/edhoc and crypto/tpm with its test packages, and is imported by tests only.
package edhoctest

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

// TPM starts an emulator that ends with the test. Its keys are on the curve of the suite.
func TPM(tb testing.TB, s edhoc.Suite) *tpm.TPM {
	tb.Helper()
	p := tpmtest.Start(tb)
	if s.Curve == edhoc.P384 {
		return tpmtest.OpenAt(tb, p, tpm.Options{})
	}
	socket := filepath.Join(tb.TempDir(), "p256.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go serve(l, p.Socket)
	t, err := tpm.Open(context.Background(), "unix:"+socket, tpm.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = t.Close() })
	if t.Curve() != ecdh.P256() {
		tb.Fatal("the TPM still offers P-384")
	}
	return t
}

// serve hands each connection on to the emulator, one after the other as the emulator itself does.
func serve(l net.Listener, emulator string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		relay(client, emulator)
		_ = client.Close()
	}
}

// relay passes commands and responses, but answers for the TPM when it is asked whether it has P-384.
func relay(client net.Conn, emulator string) {
	server, err := net.Dial("unix", emulator)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		command, err := message(client)
		if err != nil {
			return
		}
		// TPM2_TestParms for ECDSA with SHA-384 on TPM_ECC_NIST_P384: TPM_RC_CURVE for parameter 1.
		if binary.BigEndian.Uint32(command[6:]) == 0x18A && bytes.Contains(command, []byte{0x00, 0x18, 0x00, 0x0C, 0x00, 0x04}) {
			if _, err := client.Write([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0xE6}); err != nil {
				return
			}
			continue
		}
		if _, err := server.Write(command); err != nil {
			return
		}
		response, err := message(server)
		if err != nil {
			return
		}
		if _, err := client.Write(response); err != nil {
			return
		}
	}
}

// message reads one command or response: both have their size behind a tag of two bytes.
func message(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < 10 || size > 4096 {
		return nil, errors.New("not a TPM message")
	}
	out := append(head, make([]byte, size-10)...)
	_, err := io.ReadFull(r, out[10:])
	return out, err
}
