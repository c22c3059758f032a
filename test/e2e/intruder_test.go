// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/control"
)

// intruderVariable holds what a process of another user is to get at, as JSON.
const intruderVariable = "CELLWARD_E2E_INTRUDER"

// intrusion says where things are.
type intrusion struct {
	Agent              int
	Ring, Control, TPM string
	State              string
	Files              []string // in State
	Documents          []string
	Pins               string
}

// attempt is one thing that was tried; an empty result is success.
type attempt struct{ What, Result string }

// intrude tries everything and prints what came of it.
func intrude(text string) error {
	var p intrusion
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	var all []attempt
	try := func(what string, err error) {
		a := attempt{What: what}
		if err != nil {
			a.Result = err.Error()
		}
		all = append(all, a)
	}
	open := func(what, path string, flags int) {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		try(what, err)
	}

	// The ring, with the descriptor that the agent itself hands out.
	fd, err := receiveRing(p.Ring)
	try("ring: connect", err)
	if err == nil {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		mapped := func(what string, prot int) {
			b, err := unix.Mmap(fd, 0, int(st.Size), prot, unix.MAP_SHARED)
			if err == nil && prot&unix.PROT_WRITE == 0 {
				try("ring: make the mapping writable", unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE))
			}
			try(what, err)
		}
		mapped("ring: map to read", unix.PROT_READ)
		mapped("ring: map to write", unix.PROT_READ|unix.PROT_WRITE)
		path := fmt.Sprintf("/proc/self/fd/%d", fd)
		open("ring: open again to write", path, unix.O_RDWR)
		open("ring: open again to append", path, unix.O_WRONLY|unix.O_APPEND)
		_, err = unix.Pwrite(fd, []byte{1}, 0)
		try("ring: write", err)
		try("ring: shorten", unix.Ftruncate(fd, 0))
		try("ring: change the mode", unix.Fchmod(fd, 0o666))
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
		try("ring: add a seal", err)
	} else {
		for _, what := range []string{"map to read", "map to write", "open again to write", "write"} {
			try("ring: "+what, err)
		}
	}
	for _, s := range []struct{ what, path string }{{"ring", p.Ring}, {"control", p.Control}} {
		try(s.what+": remove the socket", unix.Unlink(s.path))
		try(s.what+": replace the socket", unix.Rename(s.path, s.path+".old"))
		try(s.what+": change the mode", unix.Chmod(s.path, 0o666))
	}

	// The control socket.
	conn, err := net.Dial("unix", p.Control)
	if err == nil {
		_ = conn.Close()
	}
	try("control: connect", err)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		try("control: "+method, request(p.Control, method))
	}

	// State, documents, TPM.
	open("state: list", p.State, unix.O_RDONLY|unix.O_DIRECTORY)
	open("state: new file", filepath.Join(p.State, "new"), unix.O_RDWR|unix.O_CREAT)
	for _, f := range p.Files {
		open("state: read "+f, filepath.Join(p.State, f), unix.O_RDONLY)
		open("state: write "+f, filepath.Join(p.State, f), unix.O_WRONLY)
	}
	for i, d := range p.Documents {
		open(fmt.Sprintf("document %d: read", i), d, unix.O_RDONLY)
		open(fmt.Sprintf("document %d: write", i), d, unix.O_RDWR)
		try(fmt.Sprintf("document %d: replace", i), unix.Rename(d, d+".old"))
	}
	conn, err = net.Dial("unix", p.TPM)
	if err == nil {
		_ = conn.Close()
	}
	try("TPM: connect", err)

	// The pins.
	open("pins: list", p.Pins, unix.O_RDONLY|unix.O_DIRECTORY)
	for _, name := range []string{"streams", "windows", "epochs", "meta"} {
		for what, ro := range map[string]bool{"read": true, "write": false} {
			m, err := ebpf.LoadPinnedMap(filepath.Join(p.Pins, "maps", name), &ebpf.LoadPinOptions{ReadOnly: ro})
			if err == nil {
				_ = m.Close()
			}
			try("pins: "+what+" "+name, err)
		}
	}
	try("pins: remove the link", unix.Unlink(filepath.Join(p.Pins, "bus_1", "link")))
	try("pins: remove the folder", unix.Rmdir(p.Pins))

	// The process itself.
	proc := fmt.Sprintf("/proc/%d/", p.Agent)
	open("agent: memory", proc+"mem", unix.O_RDWR)
	open("agent: descriptors", proc+"fd", unix.O_RDONLY|unix.O_DIRECTORY)
	open("agent: environment", proc+"environ", unix.O_RDONLY)
	try("agent: ptrace", unix.PtraceAttach(p.Agent))
	try("agent: signal", unix.Kill(p.Agent, 0))
	return json.NewEncoder(os.Stdout).Encode(all)
}

// receiveRing takes the ring's descriptor by hand, as an intruder would.
func receiveRing(socket string) (int, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(s)
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: socket}); err != nil {
		return -1, err
	}
	message, rights := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(s, message, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

// request makes a request for the status resource; an answer other than 200 is an error.
func request(socket, method string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequest(method, "http://agent"+control.StatusPath, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}
