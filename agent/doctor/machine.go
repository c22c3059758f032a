// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/loader"
)

// Machine is where the probes look. A field that is nil takes the machine that this process runs on. Documents, state folder,
// sockets and pins are looked at as files, wherever the documents say that they are.
type Machine struct {
	// Release returns the kernel's release and the machine's architecture.
	Release func() (release, arch string, err error)
	// ReadFile reads a file under /proc or /sys; Exists tells whether there is one.
	ReadFile func(path string) ([]byte, error)
	Exists   func(path string) bool
	// LoadFilter, TryTCX and TryClsact are loader.ProbeFilter, loader.ProbeTCX and loader.ProbeClsact.
	LoadFilter func() (loader.Program, error)
	TryTCX     func() error
	TryClsact  func() error
	// TryCAN opens a CAN socket, TryKind makes an interface of a kind (loader.ProbeLinkKind).
	TryCAN  func() error
	TryKind func(kind string) error
	// Interface finds an interface by its name.
	Interface func(name string) (loader.Link, error)
	// Capabilities returns the effective ones as bits (linux/capability.h).
	Capabilities func() (uint64, error)
	// Limit returns a resource limit of this process (getrlimit(2)).
	Limit func(resource int) (unix.Rlimit, error)
	// Free returns how many bytes this user can still write to the file system of a path, and whether it is read-only.
	Free func(path string) (bytes uint64, readOnly bool, err error)
	// TPM asks a TPM how it is, within some seconds; pin may be nil.
	TPM func(ctx context.Context, path string, pin tpm.Name) (*tpm.Health, error)
	// Agent asks a running agent.
	Agent func(ctx context.Context, socket string) (agent.Status, error)
	// Now is the wall clock; Synchronised tells whether somebody keeps it right.
	Now          func() time.Time
	Synchronised func() (bool, error)
	// Build says what this program was built from.
	Build func() agent.BuildInfo
}

// Times that a probe may take.
const (
	agentTimeout = 3 * time.Second
	tpmCommand   = 5 * time.Second
	tpmRetry     = 2 * time.Second
)

// thisMachine is the one that this process runs on.
func thisMachine() Machine {
	return Machine{
		Release:      release,
		ReadFile:     os.ReadFile,
		Exists:       func(path string) bool { _, err := os.Stat(path); return err == nil },
		LoadFilter:   loader.ProbeFilter,
		TryTCX:       loader.ProbeTCX,
		TryClsact:    loader.ProbeClsact,
		TryCAN:       tryCAN,
		TryKind:      loader.ProbeLinkKind,
		Interface:    findInterface,
		Capabilities: capabilities,
		Limit:        limit,
		Free:         free,
		TPM:          examineTPM,
		Agent:        askAgent,
		Now:          time.Now,
		Synchronised: synchronised,
		Build:        agent.Build,
	}
}

// setDefaults fills the fields that are nil, all of which are functions.
func (m *Machine) setDefaults() {
	to, from := reflect.ValueOf(m).Elem(), reflect.ValueOf(thisMachine())
	for i := range to.NumField() {
		if to.Field(i).IsNil() {
			to.Field(i).Set(from.Field(i))
		}
	}
}

func release() (string, string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", fmt.Errorf("ask for the kernel's name: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), nil
}

func tryCAN() error {
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.CAN_RAW)
	if err != nil {
		return fmt.Errorf("open CAN socket: %w", err)
	}
	return unix.Close(fd)
}

func findInterface(name string) (loader.Link, error) {
	links, err := loader.DialLinks()
	if err != nil {
		return loader.Link{}, err
	}
	l, err := links.ByName(name)
	return l, errors.Join(err, links.Close())
}

func capabilities() (uint64, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, nil
}

func limit(resource int) (l unix.Rlimit, err error) {
	if err := unix.Getrlimit(resource, &l); err != nil {
		return l, fmt.Errorf("read limit: %w", err)
	}
	return l, nil
}

func free(path string) (uint64, bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, false, fmt.Errorf("ask file system of %s: %w", path, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Flags&unix.ST_RDONLY != 0, nil
}

func examineTPM(ctx context.Context, path string, pin tpm.Name) (*tpm.Health, error) {
	return tpm.Examine(ctx, path, tpm.Options{SRKName: pin, CommandTimeout: tpmCommand, RetryFor: tpmRetry})
}

func askAgent(ctx context.Context, socket string) (s agent.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	err = control.Get(ctx, socket, control.StatusPath, &s)
	return s, err
}

// synchronised asks the kernel's clock discipline (adjtimex(2)) without touching it.
func synchronised() (bool, error) {
	var t unix.Timex
	state, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &t)
	if err != nil {
		return false, fmt.Errorf("ask clock discipline: %w", err)
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}
