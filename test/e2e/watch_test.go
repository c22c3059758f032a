// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/tooltest"
)

var updateScreens = flag.Bool("update-screens", false, "write docs/watch.txt and docs/watch.svg anew from the screen of TestWatch")

// terminal is a terminal of tmux, with a server of its own.
type terminal struct {
	t      *testing.T
	socket string
}

// newTerminal runs a shell script on a terminal of 80 by 24.
func newTerminal(t *testing.T, script string) *terminal {
	t.Helper()
	tooltest.Path(t, "make setup-test gets it", "tmux")
	dir := t.TempDir()
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, socket: filepath.Join(dir, "tmux")}
	x.do("new-session", "-d", "-x", "80", "-y", "24", "sh "+path)
	t.Cleanup(func() { x.do("kill-server") })
	return x
}

// do gives tmux a command and returns what it prints.
func (x *terminal) do(args ...string) string {
	x.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", x.socket, "-f", "/dev/null"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color", "TMUX=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (x *terminal) screen() string { return x.do("capture-pane", "-p") }

// shows waits until the screen has all these words and none behind "!".
func (x *terminal) shows(words ...string) string {
	x.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		s, good := x.screen(), true
		for _, w := range words {
			unwanted := strings.HasPrefix(w, "!")
			good = good && strings.Contains(s, strings.TrimPrefix(w, "!")) != unwanted
		}
		if good {
			return s
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("the screen has not %q:\n%s", words, s)
		}
	}
}

func (x *terminal) file(path string) string {
	x.t.Helper()
	var b []byte
	eventually(x.t, path+" is written", func() (err error) {
		if b, err = os.ReadFile(path); err == nil && len(b) == 0 {
			err = errors.New("empty")
		}
		return err
	})
	return string(b)
}

// TestWatch runs the view on a real terminal, through everything that can happen to it: no gateway yet, a gateway at work, other
// sizes, keys, an agent that is killed and comes back, and the end, which leaves the terminal as it was.
func TestWatch(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 100_000, SoftwareEdge: true}, time.Minute)
	dir := t.TempDir()
	x := newTerminal(t, fmt.Sprintf("cd %s; stty -a >before; %s watch --binding %s --interval 200ms; echo $? >exit; stty -a >after; exec sleep 600\n",
		dir, program(), l.BindingPath()))
	x.shows("NOTHING TO SHOW", "nothing is pinned")
	if got := x.do("display-message", "-p", "#{alternate_on}"); got != "1\n" {
		t.Errorf("not on the alternate screen: %q", got)
	}

	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.shows("agent ", "can0", "none yet", "!NOTHING")
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, 1, packInput(time.Minute)...)
	if err != nil {
		t.Fatal(err)
	}
	x.shows("cell_voltage_array", "pack_current", " A ", " ok ", "▁", "█")
	forge(t, l, 12)
	x.shows("12 plaintext_on")
	if *updateScreens {
		x.do("send-keys", "Down", "Down")
		time.Sleep(5 * time.Second) // so that the sparklines are full
	}
	until(t, "the fault", func() bool {
		forge(t, l, 1)
		time.Sleep(600 * time.Millisecond) // evidence counts by the second
		return strings.Contains(x.screen(), "BMS SECURITY FAULT: inspect communication integrity and controller hardware\n")
	})
	// One identifier was forged, and nothing is said against the others.
	x.shows("fault fault", "  "+l.Binding().Nodes[0].Streams[0].Source+": plaintext_on_protected ", "!more (cellward fault)", "!none yet")
	if *updateScreens {
		writeScreens(t, x)
	}

	x.do("send-keys", "BTab", "BTab")
	x.shows("can0: frames by verdict", "plaintext_on_protected ")
	x.do("send-keys", "Tab")
	x.shows(": epochs", "agreed ")
	for _, size := range []struct {
		width, height string
		words         []string
	}{
		{"40", "10", []string{"STREAM", "q quit", "!tcx_ingress"}},
		{"120", "40", []string{"tcx_ingress", "demo", "space pause"}},
		{"80", "24", []string{"tcx_ingress", "space pause"}},
	} {
		x.do("resize-window", "-x", size.width, "-y", size.height)
		s := x.shows(size.words...)
		if lines := strings.Count(s, "\n"); fmt.Sprint(lines) != size.height {
			t.Errorf("%d lines on a terminal of %s", lines, size.height)
		}
	}

	// An agent that hangs makes the screen say so, and hang no more than that.
	status, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(status.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	x.shows("AGENT DOES NOT ANSWER", "can0")
	if err := unix.Kill(status.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	x.shows("!NOT ANSWER", "readers ")

	gateway.Kill()
	x.shows("AGENT NOT RUNNING", "can0")
	again, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.shows("!NOT RUNNING", "readers 1", " % ")
	x.do("send-keys", "q")
	if exit := x.file(filepath.Join(dir, "exit")); exit != "0\n" {
		t.Errorf("exit status %q", exit)
	}
	if before, after := x.file(filepath.Join(dir, "before")), x.file(filepath.Join(dir, "after")); before != after {
		t.Errorf("terminal before:\n%s\nafter:\n%s", before, after)
	}
	if got := x.do("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{bracket_paste_flag}"); !strings.HasPrefix(got, "0 1 0") {
		t.Errorf("terminal is left with %q", got)
	}
	if err := edge.Stop(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(wire.Finish(), again.Stop()); err != nil {
		t.Error(err)
	}
}

// TestWatchEnds ends the view by ctrl+c and by SIGTERM.
func TestWatchEnds(t *testing.T) {
	needRoot(t)
	for _, how := range []string{"ctrl+c", "SIGTERM"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			x := newTerminal(t, fmt.Sprintf("cd %[1]s; stty -a >before; sh -c 'echo $$ >pid; exec %[2]s watch --socket %[1]s/control --bpffs %[1]s/pins --ring %[1]s/ring'; "+
				"echo $? >exit; stty -a >after; exec sleep 600\n", dir, program()))
			x.shows("NOTHING TO SHOW")
			if how == "ctrl+c" {
				x.do("send-keys", "C-c")
			} else if pid, err := strconv.Atoi(strings.TrimSpace(x.file(filepath.Join(dir, "pid")))); err != nil {
				t.Fatal(err)
			} else if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if exit := x.file(filepath.Join(dir, "exit")); exit != "0\n" {
				t.Errorf("exit status %q", exit)
			}
			if before, after := x.file(filepath.Join(dir, "before")), x.file(filepath.Join(dir, "after")); before != after {
				t.Errorf("terminal before:\n%s\nafter:\n%s", before, after)
			}
			if got := x.do("display-message", "-p", "#{alternate_on} #{cursor_flag}"); got != "0 1\n" {
				t.Errorf("terminal is left with %q", got)
			}
		})
	}
}

func docs(name string) string { return filepath.Join("..", "..", "docs", name) }

// writeScreens writes the screen as text and as a picture.
func writeScreens(t *testing.T, x *terminal) {
	t.Helper()
	styled := x.do("capture-pane", "-p", "-e")
	if err := os.WriteFile(docs("watch.svg"), drawScreen(styled), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(docs("watch.txt"), []byte(plainScreen(styled)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestScreensInDocs: the page shows the text, and the picture shows the same.
func TestScreensInDocs(t *testing.T) {
	text, err := os.ReadFile(docs("watch.txt"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(docs("watch.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, append([]byte("```\n"), append(text, "```\n"...)...)) || !bytes.Contains(page, []byte("(watch.svg)")) {
		t.Error("docs/watch.md does not show docs/watch.txt and docs/watch.svg as they are")
	}
	picture, err := os.ReadFile(docs("watch.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if got := textOfPicture(t, picture); got != string(text) {
		t.Errorf("the picture shows\n%s\nthe text is\n%s", got, text)
	}
}
