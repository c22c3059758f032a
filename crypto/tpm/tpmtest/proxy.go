// SPDX-License-Identifier: Apache-2.0

package tpmtest

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Codes that a TPM answers in a condition of its own (TPM 2.0 Part 2, 6.6.3).
const (
	NotStarted    = 0x100 // TPM_RC_INITIALIZE
	InFailure     = 0x101 // TPM_RC_FAILURE
	NVFull        = 0x14B // TPM_RC_NV_SPACE
	ObjectsFull   = 0x902 // TPM_RC_OBJECT_MEMORY
	SessionsFull  = 0x903 // TPM_RC_SESSION_MEMORY
	LockedOut     = 0x921 // TPM_RC_LOCKOUT
	Retry         = 0x922 // TPM_RC_RETRY
	NoAuth        = 0x98E // TPM_RC_AUTH_FAIL of session 1
	PolicyRefused = 0x99D // TPM_RC_POLICY_FAIL of session 1
	NoHandle      = 0x18B // TPM_RC_HANDLE of handle 1
)

// Fault is what happens to one command. The zero value lets it through.
type Fault struct {
	// Delay passes before the command is sent.
	Delay time.Duration
	// Wait, if not nil, is waited for before the command is sent.
	Wait <-chan struct{}
	// Cut ends the connection instead of sending the command, Lose after the command was carried out.
	Cut, Lose bool
	// Code, if not 0, is answered in the TPM's place.
	Code uint32
}

// Proxy stands between a client and an emulator and does to its commands what a test says. Its methods are safe for concurrent
// use.
type Proxy struct {
	// Socket is the path of the Unix socket that takes the place of the emulator's.
	Socket string

	backend string
	done    chan struct{}

	mu    sync.Mutex
	fault func(n int, command []byte) Fault
	n     int
	conns map[net.Conn]struct{}
}

// StartProxy runs a proxy before an emulator until the test ends.
func StartProxy(tb testing.TB, socket string) *Proxy {
	tb.Helper()
	dir, err := os.MkdirTemp("", "tpm-proxy-") // a test's own folder may be too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Socket: filepath.Join(dir, "tpm.sock"), backend: socket, done: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	ln, err := net.Listen("unix", p.Socket)
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = struct{}{}
			p.mu.Unlock()
			wg.Go(func() {
				p.serve(c)
				p.mu.Lock()
				delete(p.conns, c)
				p.mu.Unlock()
			})
		}
	})
	tb.Cleanup(func() {
		close(p.done)
		_ = ln.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return p
}

// Path is what tpm.Open takes for the proxy.
func (p *Proxy) Path() string { return "unix:" + p.Socket }

// Set says what happens to each command from now on; the function is given their number, from 0, and bytes. nil lets all through.
// The function is called by the proxy's goroutines, one for each connection, also for a command that came just before a later Set.
func (p *Proxy) Set(fault func(n int, command []byte) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.n = fault, 0
}

// Commands returns how many commands came since the last Set.
func (p *Proxy) Commands() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *Proxy) next(command []byte) Fault {
	p.mu.Lock()
	fault, n := p.fault, p.n
	p.n++
	p.mu.Unlock()
	if fault == nil {
		return Fault{}
	}
	return fault(n, command)
}

// serve carries commands of one connection. Whatever fails ends it, as it does on an emulator that was killed.
func (p *Proxy) serve(c net.Conn) {
	defer c.Close()
	var tpm net.Conn
	defer func() {
		if tpm != nil {
			_ = tpm.Close()
		}
	}()
	for {
		command, err := readMessage(c)
		if err != nil {
			return
		}
		f := p.next(command)
		select {
		case <-time.After(f.Delay):
		case <-p.done:
			return
		}
		if f.Wait != nil {
			select {
			case <-f.Wait:
			case <-p.done:
				return
			}
		}
		if f.Cut {
			return
		}
		answer := refusal(f.Code)
		if f.Code == 0 {
			if tpm == nil {
				if tpm, err = net.Dial("unix", p.backend); err != nil {
					return
				}
			}
			if _, err := tpm.Write(command); err != nil {
				return
			}
			if answer, err = readMessage(tpm); err != nil || f.Lose {
				return
			}
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// readMessage reads a command or a response: both have their length in bytes 2 to 5 (TPM 2.0 Part 1, 18).
func readMessage(c net.Conn) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	b := make([]byte, max(10, int(min(binary.BigEndian.Uint32(head[2:]), 1<<16))))
	copy(b, head)
	_, err := io.ReadFull(c, b[10:])
	return b, err
}

// refusal is a response that consists of a code.
func refusal(rc uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, rc)
}
