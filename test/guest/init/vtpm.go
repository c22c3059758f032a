// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/test/guest/wire"
)

// vtpmNewDev is struct vtpm_proxy_new_dev of include/uapi/linux/vtpm_proxy.h.
type vtpmNewDev struct{ Flags, Number, FD, Major, Minor uint32 }

const (
	vtpmIOCNewDev = 0xC014A100 // VTPM_PROXY_IOC_NEW_DEV
	vtpmFlagTPM2  = 1          // VTPM_PROXY_FLAG_TPM2

	// setLocality is TPM2_CC_SET_LOCALITY of drivers/char/tpm/tpm_vtpm_proxy.c, by which the driver asks its server, not the
	// TPM, for a locality.
	setLocality = 0x20001000

	tpmHeader  = 10 // tag, size, code: TPM 2.0 Part 1, 18
	tpmMaxSize = 4096
)

// joinTPM makes a TPM device of the kernel whose commands go to the host and whose responses come from there.
func joinTPM(h *host) error {
	port, err := openPort(wire.TPMPort)
	if err != nil {
		return err
	}
	proxy, err := os.OpenFile("/dev/vtpmx", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open TPM proxy: %w", err)
	}
	dev := vtpmNewDev{Flags: vtpmFlagTPM2}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, proxy.Fd(), vtpmIOCNewDev, uintptr(unsafe.Pointer(&dev))); errno != 0 {
		return fmt.Errorf("make TPM device: %w", errno)
	}
	go func() {
		err := serveTPM(int(dev.FD), port)
		h.note("the TPM ends: %v", err)
	}()
	return nil
}

// serveTPM hands each command to the host's TPM and its response back.
func serveTPM(kernel int, host io.ReadWriter) error {
	b := make([]byte, tpmMaxSize)
	for {
		n, err := unix.Read(kernel, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read command: %w", err)
		}
		response, err := answer(b[:n], host)
		if err != nil {
			return err
		}
		if _, err := unix.Write(kernel, response); err != nil {
			return fmt.Errorf("hand over response: %w", err)
		}
	}
}

func answer(command []byte, host io.ReadWriter) ([]byte, error) {
	if len(command) >= tpmHeader && binary.BigEndian.Uint32(command[6:]) == setLocality {
		return []byte{0x80, 0x01, 0, 0, 0, tpmHeader, 0, 0, 0, 0}, nil // TPM_RC_SUCCESS
	}
	if _, err := host.Write(command); err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	response := make([]byte, tpmMaxSize)
	if _, err := io.ReadFull(host, response[:tpmHeader]); err != nil {
		return nil, fmt.Errorf("receive response: %w", err)
	}
	size := binary.BigEndian.Uint32(response[2:])
	if size < tpmHeader || size > tpmMaxSize {
		return nil, fmt.Errorf("receive response: it claims %d bytes", size)
	}
	if _, err := io.ReadFull(host, response[tpmHeader:size]); err != nil {
		return nil, fmt.Errorf("receive response: %w", err)
	}
	return response[:size], nil
}
