// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Options say where packages come from and go to. The zero value is usable.
type Options struct {
	// Cache is the folder for packages; empty: cellward/guests in the user's cache folder.
	Cache string
	// Mirror is the address of a Debian archive; empty: the one that apt on this machine uses.
	Mirror string
	// Progress gets a line for each step; nil: nobody does.
	Progress func(format string, args ...any)
}

func (o *Options) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(format, args...)
	}
}

func (o *Options) cache() (string, error) {
	if o.Cache != "" {
		return filepath.Abs(o.Cache)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "cellward", "guests"), nil
}

// System is a kernel with its modules and programs, unpacked.
type System struct {
	Kernel Kernel
	// Package is the kernel's package with its version, as its file is called.
	Package string

	arch arch
	root string // what the packages hold
	boot string // the kernel's image
	mods string // lib/modules/VERSION
}

// Prepare fetches and unpacks what a guest of kernel k needs. What is in the cache is used again; without the network, as it is.
func Prepare(ctx context.Context, k Kernel, o Options) (*System, error) {
	s := &System{Kernel: k}
	var err error
	if s.arch, err = archOf(k.Arch); err != nil {
		return nil, err
	}
	cache, err := o.cache()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, k.Release+"-"+k.Arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	debs, err := s.packages(ctx, dir, o)
	if err != nil {
		return nil, fmt.Errorf("fetch packages of %s for %s: %w", k.Release, k.Arch, err)
	}
	s.root = filepath.Join(dir, "root")
	if err := unpack(ctx, debs, s.root, &o); err != nil {
		return nil, err
	}
	return s, s.find(debs)
}

// lock keeps others out of a folder until the process that holds it lets go.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock cache folder: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func (s *System) packages(ctx context.Context, dir string, o Options) ([]string, error) {
	mirror := o.Mirror
	if mirror == "" {
		var err error
		if mirror, err = machineMirror(ctx); err != nil {
			return nil, err
		}
	}
	o.say("packages of %s for %s from %s", s.Kernel.Release, s.Kernel.Arch, mirror)
	a, err := openArchive(dir, s.Kernel, mirror)
	if err != nil {
		return nil, err
	}
	whole := filepath.Join(dir, "whole") // says that the last fetch went through
	if err := a.update(ctx); err != nil {
		debs, lerr := a.list()
		if _, serr := os.Stat(whole); serr != nil || lerr != nil || len(debs) == 0 {
			return nil, err
		}
		o.say("the mirror does not answer; using the %d packages of the cache as they are: %v", len(debs), err)
		return debs, nil
	}
	if err := os.RemoveAll(whole); err != nil {
		return nil, fmt.Errorf("mark cache folder: %w", err)
	}
	debs, err := a.fetch(ctx, s.Kernel)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(whole, nil, 0o644); err != nil {
		return nil, fmt.Errorf("mark cache folder: %w", err)
	}
	return debs, nil
}

// unpack unpacks packages to root, unless the same ones have been.
func unpack(ctx context.Context, debs []string, root string, o *Options) error {
	var names []string
	for _, d := range debs {
		names = append(names, filepath.Base(d))
	}
	stamp, want := root+".packages", strings.Join(names, "\n")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return nil
	}
	o.say("unpacking %d packages", len(debs))
	for _, old := range []string{stamp, root} {
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("remove what former packages held: %w", err)
		}
	}
	for _, d := range debs {
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", d, root)); err != nil {
			return fmt.Errorf("unpack package: %w", err)
		}
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return fmt.Errorf("note unpacked packages: %w", err)
	}
	return nil
}

// find finds the kernel and its modules.
func (s *System) find(debs []string) error {
	one := func(what string, patterns ...string) (string, error) {
		var all []string
		for _, p := range patterns {
			names, err := filepath.Glob(filepath.Join(s.root, p))
			if err != nil {
				return "", fmt.Errorf("look for %s: %w", what, err)
			}
			all = append(all, names...)
		}
		if len(all) != 1 {
			return "", fmt.Errorf("packages of %s hold %d files of the %s, want one: %v", s.Kernel, len(all), what, all)
		}
		return all[0], nil
	}
	var err error
	if s.boot, err = one("kernel's image", "boot/vmlinuz-"+s.Kernel.Version+".*"); err != nil {
		return err
	}
	// With /usr merged the packages say usr/lib, before that lib.
	version := strings.TrimPrefix(filepath.Base(s.boot), "vmlinuz-")
	if s.mods, err = one("kernel's modules", "lib/modules/"+version, "usr/lib/modules/"+version); err != nil {
		return err
	}
	for _, d := range debs {
		if strings.HasPrefix(filepath.Base(d), "linux-image-") {
			s.Package = strings.TrimSuffix(filepath.Base(d), ".deb")
		}
	}
	return nil
}
