// SPDX-License-Identifier: Apache-2.0

// Command fuzzall runs every fuzz target of the module for a given time each and prints how many inputs each executed.
//
// It imports nothing of this module.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

var (
	targetLine = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	execsLine  = regexp.MustCompile(`execs: (\d+)`)
)

func main() {
	fuzztime := flag.String("fuzztime", "10s", "time for each target, as go test -fuzztime takes it")
	match := flag.String("run", "", "run only targets whose package or name matches this expression")
	flag.Parse()
	if err := run(*fuzztime, *match); err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
}

func run(fuzztime, match string) error {
	filter, err := regexp.Compile(match)
	if err != nil {
		return fmt.Errorf("read -run: %w", err)
	}
	targets, err := find()
	if err != nil {
		return err
	}
	failed, ran := 0, 0
	for _, t := range targets {
		if !filter.MatchString(t.pkg + " " + t.name) {
			continue
		}
		ran++
		execs, out, err := t.fuzz(fuzztime)
		if err != nil {
			failed++
			fmt.Printf("%-60s %-24s FAIL: %v\n%s\n", t.pkg, t.name, err, out)
			continue
		}
		fmt.Printf("%-60s %-24s %12s executions\n", t.pkg, t.name, execs)
	}
	fmt.Printf("fuzz: %d targets, %d failed, %s each\n", ran, failed, fuzztime)
	if failed > 0 {
		return fmt.Errorf("%d targets failed", failed)
	}
	return nil
}

type target struct{ pkg, name string }

// find lists the fuzz targets of all packages of the module.
func find() ([]target, error) {
	list, err := exec.Command("go", "list", "-f", "{{$d := .Dir}}{{$p := .ImportPath}}{{range .TestGoFiles}}{{$p}} {{$d}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$p}} {{$d}}/{{.}}\n{{end}}", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var all []target
	for s := bufio.NewScanner(bytes.NewReader(list)); s.Scan(); {
		pkg, file, ok := strings.Cut(s.Text(), " ")
		if !ok {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read test file: %w", err)
		}
		for _, m := range targetLine.FindAllSubmatch(src, -1) {
			all = append(all, target{pkg, string(m[1])})
		}
	}
	return all, nil
}

// fuzz runs one target and returns the number of executions that go test printed last.
func (t target) fuzz(fuzztime string) (execs string, out []byte, err error) {
	out, err = exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", fuzztime, "-fuzzminimizetime", "5x", t.pkg).CombinedOutput()
	if err != nil {
		return "", out, fmt.Errorf("go test -fuzz: %w", err)
	}
	all := execsLine.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return "", out, fmt.Errorf("go test printed no executions")
	}
	return string(all[len(all)-1][1]), out, nil
}
