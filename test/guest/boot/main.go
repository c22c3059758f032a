// SPDX-License-Identifier: Apache-2.0

// Command boot runs the tests of test/socketcan on Debian's kernels in guests and prints the list of cases for each kernel.
//
// It imports test/guest only; what it runs in the guests it builds with the go command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/test/guest"
)

func main() {
	var o options
	flag.StringVar(&o.kernels, "kernels", "all", "kernels to run, such as 6.1-amd64,6.12-arm64")
	flag.StringVar(&o.guest.Cache, "cache", "", "folder for packages (default: cellward/guests in the user's cache folder)")
	flag.StringVar(&o.guest.Mirror, "mirror", "", "address of a Debian archive (default: the one of this machine's apt)")
	flag.StringVar(&o.data, "data", "../shared/data", "folder with captures; without it, the tests make a log of their own")
	flag.StringVar(&o.match, "run", "", "cases to run, as go test -run takes them")
	flag.DurationVar(&o.limit, "limit", 6*time.Minute, "how long a guest may take")
	flag.BoolVar(&o.verbose, "v", false, "show all that the tests write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "guests:", err)
		os.Exit(1)
	}
}

type options struct {
	guest   guest.Options
	kernels string
	data    string
	match   string
	limit   time.Duration
	verbose bool
}

// errUsage says that there is no kernel of a name.
var errUsage = errors.New("no such kernel")

// pick returns the kernels that names name.
func pick(names string) ([]guest.Kernel, error) {
	all := guest.Kernels()
	if names == "all" {
		return all, nil
	}
	var picked []guest.Kernel
	for _, name := range strings.Split(names, ",") {
		found := false
		for _, k := range all {
			if k.String() == name {
				picked, found = append(picked, k), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%w: %q; there are %v", errUsage, name, all)
		}
	}
	return picked, nil
}

func run(ctx context.Context, o *options) error {
	kernels, err := pick(o.kernels)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "guests-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	var results []*result
	for _, k := range kernels {
		r := &result{kernel: k}
		results = append(results, r)
		begun := time.Now()
		if r.err = o.one(ctx, r, filepath.Join(dir, k.Arch)); r.err != nil {
			fmt.Fprintf(os.Stderr, "guest %s: %v\n", k, r.err)
		}
		r.took = time.Since(begun)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return summary(os.Stdout, results)
}

// one runs the tests on one kernel.
func (o *options) one(ctx context.Context, r *result, dir string) error {
	begun := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "guest %s: %4.0f s: %s\n", r.kernel, time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	g := o.guest
	g.Progress = say
	s, err := guest.Prepare(ctx, r.kernel, g)
	if err != nil {
		return err
	}
	r.pkg = s.Package
	say("building the programs")
	b, err := build(ctx, r.kernel.Arch, dir)
	if err != nil {
		return err
	}
	files := map[string]string{"/usr/bin/cellward": b.cellward, "/socketcan.test": b.suite}
	captures, err := filepath.Glob(filepath.Join(o.data, "can", "*"))
	if err != nil {
		return fmt.Errorf("look for captures: %w", err)
	}
	for _, c := range captures {
		files["/data/can/"+filepath.Base(c)] = c
	}
	command := []string{"/socketcan.test", "-test.v", "-test.timeout", (o.limit - o.limit/10).String()}
	if o.match != "" {
		command = append(command, "-test.run", o.match)
	}
	limited, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("the guest takes more than %v", o.limit))
	defer cancel()
	p := &parser{result: r, verbose: o.verbose, say: say}
	r.code, err = s.Run(limited, guest.Job{
		Init: b.init, Modules: guest.Modules(), TPM: true, CAN: true, Files: files, Output: p, Progress: say, Command: command, Dir: "/root",
		Programs: []string{
			"/usr/bin/swtpm", "/usr/bin/cansend", "/usr/bin/candump", "/usr/bin/cangen", "/usr/bin/canplayer", "/usr/bin/cangw",
			"/usr/bin/isotpsend", "/usr/bin/isotprecv",
		},
		Env: []string{
			"PATH=/usr/bin", "HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8",
			"CELLWARD_GUEST=" + r.kernel.String(), "CELLWARD_PROGRAM=/usr/bin/cellward", "CELLWARD_DATA=/data", "CELLWARD_TPM=/dev/tpmrm0",
		},
	})
	return errors.Join(err, p.end())
}
