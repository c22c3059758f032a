// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
)

// The test binary starts itself in these roles.
const (
	roleVariable = "CELLWARD_READERS_TEST_ROLE"
	roleProducer = "producer" // publishes until it is killed
	roleFollow   = "follow"   // the Go reader, as the other programs' command of this name
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if dir, err := buildDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func play(role, socket string) error {
	switch role {
	case roleProducer:
		return playProducer(socket)
	case roleFollow:
		return playFollow(socket)
	}
	return errors.New("unknown role")
}

// playProducer publishes as fast as it can from the first byte on standard input until it is killed, or until the
// parent is gone.
func playProducer(socket string) error {
	p, err := ring.NewProducer(ring.Config{Streams: plainStreams(stampStreams), Slots: 1024, BodyMax: stampBody})
	if err != nil {
		return err
	}
	if _, err := ring.Serve(p, ring.ServerConfig{Socket: socket}); err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	w := newWriter(p)
	for {
		if err := w.publish(256); err != nil {
			return err
		}
	}
}

// playFollow verifies all samples from now on until the producer is gone.
func playFollow(socket string) error {
	r, err := ring.Dial(context.Background(), socket, ring.Options{From: ring.FromNow, StaleAfter: -1})
	if err != nil {
		return err
	}
	// Nothing has been published yet when this reader is started, so it begins with the first sample.
	var a account
	a.Start = 0
	next := a.Start
	fmt.Println("ready")
	batch := make([]ring.Sample, 64)
	for {
		n, err := r.Next(context.Background(), batch)
		if errors.Is(err, ring.ErrProducerGone) {
			break
		}
		if err != nil {
			a.Bad = err.Error()
			break
		}
		for i := range batch[:n] {
			s := &batch[i]
			if err := checkStamp(s, stampStreams, stampBody); err != nil {
				a.Bad = err.Error()
			}
			a.Jumped += s.Position - next
			next = s.Position + 1
			a.Read++
		}
	}
	st, err := r.Status()
	if err != nil {
		return err
	}
	a.Missed, a.Next = r.Missed(), st.Published
	a.Jumped += st.Published - next
	return json.NewEncoder(os.Stdout).Encode(a)
}

// account is what a following reader reports at the end.
type account struct {
	Start  uint64 // first position
	Read   uint64 // samples delivered
	Missed uint64 // samples missed, as the reader counts them
	Jumped uint64 // samples missed, as the positions show
	Next   uint64 // position after the last sample
	Bad    string // what was wrong with a sample
}

// process is a child that is driven over its standard input and output.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors bytes.Buffer
	ended  bool
}

// start starts a child. One that hangs is killed after two minutes, so that the test fails at the place where it waits.
func start(t testing.TB, env []string, command ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), *stressDuration+2*time.Minute)
	p := &process{t: t, cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.errors
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReaderSize(out, 1<<20)
	t.Cleanup(func() {
		p.end()
		cancel()
	})
	return p
}

// end lets the child end by itself and checks that it does so without an error, which is how sanitizers report.
func (p *process) end() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.in.Close()
	_, _ = io.Copy(io.Discard, p.out)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v\n%s", p.cmd.Path, err, p.errors.String())
	}
}

// kill ends the child by SIGKILL.
func (p *process) kill() {
	p.ended = true
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *process) line() string {
	p.t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		p.ended = true
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.t.Fatalf("%s says nothing: %v\n%s", p.cmd.Path, err, p.errors.String())
	}
	return strings.TrimSuffix(s, "\n")
}

func (p *process) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Fatalf("%s says %q, want %q", p.cmd.Path, got, want)
	}
}

func (p *process) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatalf("%s does not listen: %v\n%s", p.cmd.Path, err, p.errors.String())
	}
}

// answer reads the lines up to the dot.
func (p *process) answer() []string {
	p.t.Helper()
	var lines []string
	for {
		line := p.line()
		if line == "." {
			return lines
		}
		lines = append(lines, line)
	}
}

// ask sends one command of the shell and returns the answer.
func (p *process) ask(format string, args ...any) []string {
	p.t.Helper()
	p.say(format, args...)
	return p.answer()
}

// want is ask for a known answer of one line.
func (p *process) want(want string, format string, args ...any) {
	p.t.Helper()
	if got := strings.Join(p.ask(format, args...), "\n"); strings.TrimSpace(got) != want {
		p.t.Fatalf("%s: %q, want %q\n%s", fmt.Sprintf(format, args...), got, want, p.errors.String())
	}
}

// account reads the report of a following reader.
func (p *process) account() account {
	p.t.Helper()
	var a account
	if line := p.line(); json.Unmarshal([]byte(line), &a) != nil {
		p.t.Fatalf("%s reports %q", p.cmd.Path, line)
	}
	return a
}

func (s *subject) shell(t testing.TB) *process {
	t.Helper()
	return start(t, s.env, append(append([]string{}, s.command...), "shell")...)
}

// follow starts a reader that verifies stamped samples to the end. pause above 0 makes it stop after so many samples and
// wait for a line.
func (s *subject) follow(t testing.TB, socket, from string, batch, pause int) *process {
	t.Helper()
	p := start(t, s.env, append(append([]string{}, s.command...), "follow", socket, from, fmt.Sprint(batch), fmt.Sprint(pause))...)
	p.expect("ready")
	return p
}

func startRole(t testing.TB, role, socket string) *process {
	t.Helper()
	p := start(t, []string{roleVariable + "=" + role}, "/proc/self/exe", socket)
	p.expect("ready")
	return p
}
