// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/tooltest"
)

// codeBlocks returns the blocks of one language in docs/ring.md.
func codeBlocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/ring.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, rest := range strings.Split(string(text), "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(rest, "\n```")
		blocks = append(blocks, block+"\n")
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/ring.md has no example in %s", language)
	}
	return blocks
}

// TestDocumentedExamples builds the programs of docs/ring.md by the commands that stand there, and runs them: all print
// what was published.
func TestDocumentedExamples(t *testing.T) {
	needC(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("reader.c", codeBlocks(t, "c")[0])
	write("reader.cpp", codeBlocks(t, "cpp")[0])
	write("reader.py", codeBlocks(t, "python")[0])
	build := func(command string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, "agent/ring/c", root+"/agent/ring/c"))
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	for _, block := range codeBlocks(t, "sh") {
		if strings.HasPrefix(block, "gcc ") {
			build("set -e\n" + strings.ReplaceAll(block, "gcc ", "gcc -Wall -Wextra -Werror "))
		}
	}
	programs := map[string][]string{"C": {filepath.Join(dir, "reader")}}
	var env []string
	if s := cppSubject(t); s.skip == "" {
		build("g++ -std=c++17 -Wall -Wextra -Werror -O2 -I agent/ring/c -o reader-cpp reader.cpp -pthread")
		programs["C++"] = []string{filepath.Join(dir, "reader-cpp")}
	} else {
		t.Log(s.skip)
	}
	if s := pythonSubject(t, "Python"); s.skip == "" {
		env = append(os.Environ(), s.env...)
		programs["Python"] = []string{s.command[0], filepath.Join(dir, "reader.py")}
	} else {
		t.Log(s.skip)
	}

	streams := plainStreams(2)
	streams[1].Signals = []ring.Signal{
		{Name: "mux", Length: 8}, {Name: "U", Unit: "V", Start: 8, Length: 8, Factor: 0.5, Multiplexor: "mux", MuxValue: 1},
		{Name: "T", Unit: "degC", Start: 8, Length: 8, ValueType: ring.Signed, Offset: 10, Multiplexor: "mux", MuxValue: 2},
	}
	const want = "stream 1 mux 1 \nstream 1 U 4.5 V\nstream 1 mux 2 \nstream 1 T 9 degC\n"
	for name, command := range programs {
		p := newProducer(t, ring.Config{Streams: streams})
		path := socketPath(t)
		server := serve(t, p, path)
		for _, body := range [][]byte{{1, 9}, {2, 0xff}} {
			if err := p.Publish([]ring.Sample{{Stream: 1, Body: body}}); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(command[0], append(command[1:], path)...)
		cmd.Env = env
		var out, errors strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errors
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for tries := 0; server.Stats().Served == 0; tries++ {
			if tries == 60_000 {
				t.Fatalf("%s does not connect", name)
			}
			time.Sleep(time.Millisecond)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || out.String() != want || errors.String() != "0 samples missed\n" {
			t.Errorf("%s: %v, printed %q, want %q; %q", name, err, out.String(), want, errors.String())
		}
	}
}

// TestPythonMemoryOrder: on a processor that may reorder loads the Python reader wants the C reader, says how to get it,
// and takes it from where it is said to be.
func TestPythonMemoryOrder(t *testing.T) {
	s := pythonSubject(t, "Python")
	if s.skip != "" {
		tooltest.Missing(t, s.skip)
	}
	needC(t)
	library := program(t, buildLibrary)
	const script = `
import sys, cellward_ring as ring
library, machine = sys.argv[1:]
try:
    print("found" if ring._find_library(library or None, machine) else "not needed")
except ring.RingError as err:
    print("cc -O2 -shared" in str(err) and "cellward_ring.h" in str(err) and machine in str(err) and "refused" or err)
`
	for _, c := range []struct{ library, variable, machine, want string }{
		{"", "", "x86_64", "not needed"},
		{"", "", "aarch64", "refused"},
		{"", "", "a later one", "refused"},
		{library, "", "aarch64", "found"},
		{library, "", "x86_64", "found"},
		{"", library, "aarch64", "found"},
		{"", "/nonexistent/lib.so", "x86_64", "open ring: load /nonexistent/lib.so: /nonexistent/lib.so: cannot open shared object file: No such file or directory"},
		{"", "libc.so.6", "aarch64", "open ring: load libc.so.6: "},
	} {
		cmd := exec.Command(s.command[0], "-c", script, c.library, c.machine)
		cmd.Env = append(os.Environ(), s.env...)
		if c.variable != "" {
			cmd.Env = append(cmd.Env, "CELLWARD_RING_LIBRARY="+c.variable)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := strings.TrimSpace(string(out)); got != c.want && !(strings.HasSuffix(c.want, ": ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, want %q", fmt.Sprintf("library %q, variable %q on %s", c.library, c.variable, c.machine), got, c.want)
		}
	}
}
