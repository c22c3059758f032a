// SPDX-License-Identifier: Apache-2.0

// Command privilege gives up rights as the agent does and then tries one thing, so that a test sees what the thing needs: rights
// belong to a process and cannot be had back. It works in the network namespace that it is started in, which should be one of its own.
//
// The package may import everything of this module; it is for tests only.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/loader"
)

// someUser is whom the process becomes: nobody's number.
const someUser = 65533

func main() {
	var keep string
	var seccomp privilege.Enforcement
	flag.StringVar(&keep, "keep", "", "capabilities to keep")
	busy := flag.Int("busy", 0, "goroutines that keep all threads at work, so that goroutines change threads")
	flag.Var(&seccomp, "seccomp", "enforce, log or off")
	flag.Parse()
	for range *busy {
		go keepBusy()
	}
	what, found := features()[flag.Arg(0)]
	var err error
	switch {
	case flag.NArg() == 2 && flag.Arg(0) == "call":
		err = tryCall(flag.Arg(1), seccomp)
	case flag.NArg() == 2 && flag.Arg(0) == "drop":
		err = drop(flag.Arg(1), 0)
	case found:
		err = tryFeature(what, keep, seccomp)
	default:
		err = fmt.Errorf("there is no %q to try", flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "privilege:", err)
		os.Exit(1)
	}
}

// keepBusy has the calling goroutine run and sleep in turn, for good: who sleeps leaves its thread to another.
func keepBusy() {
	for {
		time.Sleep(time.Microsecond)
		runtime.Gosched()
	}
}

// scene is what an agent has in hand when it gives up its rights.
type scene struct {
	dir  string
	set  *loader.Set
	pins *os.File
	file *vault.Dir
}

// feature is something that an agent does in service. limited says that locked memory is to have a limit.
type feature struct {
	limited bool
	do      func(*scene) error
}

// features lists them by name.
func features() map[string]feature {
	return map[string]feature{
		"streams": {do: func(s *scene) error {
			return s.set.Streams().Set(loader.StreamKey{Iface: 1, CANID: 0x6F2}, loader.Stream{Slot: 0, StreamID: 2, Carrier: loader.CarrierCANFD, WindowSize: 1024})
		}},
		"attach": {do: func(s *scene) error {
			_, err := s.set.Attach(loader.BusOptions{Interface: "can1", Slot: 2, Candidates: 1 << 16})
			return err
		}},
		"links": {do: func(*scene) error {
			l, err := loader.DialLinks()
			if err != nil {
				return err
			}
			_, err = l.ByName("can1")
			return errors.Join(err, l.Close())
		}},
		"state": {do: func(s *scene) error {
			if err := vault.Replace(s.file, "epochs.1.state", []byte("state")); err != nil {
				return err
			}
			_, err := s.file.ReadFile("epochs.1.state")
			return err
		}},
		"ring": {do: func(s *scene) error {
			p, err := ring.NewProducer(ring.Config{Streams: []ring.Stream{{ID: 2, Name: "cells", Interface: "can0", Source: "cells"}}, Slots: 64, BodyMax: 36})
			if err != nil {
				return err
			}
			r, err := ring.Serve(p, ring.ServerConfig{Socket: filepath.Join(s.dir, "ring.sock")})
			if err != nil {
				return errors.Join(err, p.Close())
			}
			return errors.Join(r.Close(), p.Close())
		}},
		"memory": {limited: true, do: lockSome},
	}
}

// lockSome locks more than the usual limit.
func lockSome(*scene) error {
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	if err := unix.Mlock(b); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}

func tryFeature(f feature, keep string, seccomp privilege.Enforcement) error {
	set, err := privilege.ParseCapabilities(keep)
	if err != nil {
		return err
	}
	s, err := newScene()
	if err != nil {
		return err
	}
	if f.limited {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
			return fmt.Errorf("set limit of locked memory: %w", err)
		}
	}
	if err := s.set.Give(someUser, someUser); err != nil {
		return err
	}
	if err := drop(fmt.Sprint(someUser), set); err != nil {
		return err
	}
	if err := privilege.Confine(privilege.AgentProfile(), seccomp); err != nil {
		return err
	}
	return f.do(s)
}

func drop(name string, keep privilege.Capabilities) error {
	u, err := privilege.Lookup(name)
	if err != nil {
		return err
	}
	return privilege.Drop(u, keep)
}

// newScene makes two interfaces, attaches the filter to the first, and opens a state folder.
func newScene() (*scene, error) {
	s := &scene{dir: os.Getenv("PRIVILEGE_FOLDER")}
	for _, name := range []string{"can0", "can1"} {
		if _, err := loader.NewTUN(nil, name); err != nil {
			return nil, err
		}
	}
	var err error
	if s.pins, err = loader.NewBPFFS(); err != nil {
		return nil, err
	}
	if s.set, err = loader.Open(loader.Options{Root: fmt.Sprintf("/proc/%d/fd/%d/cellward", os.Getpid(), s.pins.Fd())}); err != nil {
		return nil, err
	}
	if _, err := s.set.Attach(loader.BusOptions{Interface: "can0", Slot: 1, Candidates: 1 << 16}); err != nil {
		return nil, err
	}
	state := filepath.Join(s.dir, "state")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, someUser, someUser), os.Chown(s.dir, someUser, someUser)); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	s.file, err = vault.OpenDirOf(state, someUser)
	return s, err
}
