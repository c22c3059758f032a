// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cellward/cellward/agent/tooltest"
)

// buildDir is the folder of compiled programs; TestMain removes it.
var buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "cellward-readers") })

// Compilers are asked for all warnings, and each is an error.
func warnings() []string {
	return []string{"-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-pedantic"}
}

func sanitizers() []string {
	return []string{"-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"}
}

// The programs, each compiled at most once.
var (
	buildC = sync.OnceValues(func() (string, error) {
		return compile("gcc", "reader-c", append(warnings(), "-std=c99", "-O2", "programs/reader.c")...)
	})
	buildSanitizedC = sync.OnceValues(func() (string, error) {
		return compile("gcc", "reader-c-sanitized", append(append(warnings(), sanitizers()...), "-std=c99", "programs/reader.c")...)
	})
	buildCpp = sync.OnceValues(func() (string, error) {
		return compile("g++", "reader-cpp", append(warnings(), "-std=c++17", "-O2", "programs/reader.cpp")...)
	})
	buildLibrary = sync.OnceValues(func() (string, error) {
		return compile("gcc", "libcellward_ring.so", append(warnings(), "-std=c99", "-O2", "-shared", "-fPIC",
			"-DCELLWARD_RING_IMPLEMENTATION", "-x", "c", "../../agent/ring/c/cellward_ring.h", "-x", "none")...)
	})
	buildFuzz = sync.OnceValues(func() (string, error) {
		return compile("gcc", "fuzz", append(append(warnings(), sanitizers()...), "-std=c99", "programs/fuzz.c")...)
	})
)

func compile(compiler, name string, args ...string) (string, error) {
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, name)
	args = append(args, "-I../../agent/ring/c", "-o", out, "-pthread")
	if text, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s %v: %w\n%s", compiler, args, err, text)
	}
	return out, nil
}

// needC fails without a C compiler: `make test` promises the readers' tests on any machine that has one, and asks for it.
func needC(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatal("gcc is missing: apt-get install gcc libc6-dev")
	}
}

func program(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// python returns Debian's interpreter where it is, another one otherwise.
func python() (string, error) {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3", nil
	}
	return exec.LookPath("python3")
}

// subject is a reader under test.
type subject struct {
	name    string
	skip    string // why it is not tested on this machine
	command []string
	env     []string
	polls   bool // wakes up now and then while it waits
}

func cSubject(t testing.TB) subject {
	needC(t)
	return subject{name: "C", command: []string{program(t, buildC)}}
}

func sanitizedSubject(t testing.TB) subject {
	needC(t)
	return subject{name: "C sanitized", command: []string{program(t, buildSanitizedC)},
		env: []string{"ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1", "UBSAN_OPTIONS=print_stacktrace=1"}}
}

func cppSubject(t testing.TB) subject {
	s := subject{name: "C++"}
	if _, err := exec.LookPath("g++"); err != nil {
		s.skip = "g++ is not installed: apt-get install g++"
		return s
	}
	s.command = []string{program(t, buildCpp)}
	return s
}

func pythonSubject(t testing.TB, name string, args ...string) subject {
	s := subject{name: name}
	interpreter, err := python()
	if err != nil {
		s.skip = "python3 is not installed: apt-get install python3"
		return s
	}
	s.command = append([]string{interpreter, "programs/reader.py"}, args...)
	s.env = []string{"PYTHONPATH=../../agent/ring/python", "PYTHONDONTWRITEBYTECODE=1"}
	return s
}

// subjects returns every reader: each language, and the ways in which the Python reader can work.
func subjects(t testing.TB) []subject {
	all := []subject{cSubject(t), sanitizedSubject(t), cppSubject(t), pythonSubject(t, "Python")}
	library := pythonSubject(t, "Python through the C reader", "--library", program(t, buildLibrary))
	numpy := pythonSubject(t, "Python with numpy", "--numpy")
	if numpy.skip == "" && exec.Command(numpy.command[0], "-c", "import numpy").Run() != nil {
		numpy.skip = "numpy is not installed: apt-get install python3-numpy"
	}
	sleeping := pythonSubject(t, "Python without ctypes", "--sleep")
	sleeping.polls = true
	return append(all, library, numpy, sleeping)
}

// each runs a test for every reader that this machine can run.
func each(t *testing.T, test func(*testing.T, subject)) {
	for _, s := range subjects(t) {
		t.Run(s.name, func(t *testing.T) {
			if s.skip != "" {
				tooltest.Missing(t, s.skip)
			}
			test(t, s)
		})
	}
}
