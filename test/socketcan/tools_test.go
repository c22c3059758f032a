// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/loader"
)

// need returns the path of a program of can-utils. Where it is missing the test is skipped, in a guest it fails.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) && !inGuest() {
		t.Skipf("%s is not installed (Debian package: can-utils)", name)
	}
	ok(t, err)
	return path
}

// tool runs a program of can-utils in a namespace to its end and returns what it printed.
func tool(t *testing.T, ns *loader.Netns, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(need(t, name), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ok(t, ns.Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out.String())
	}
	return out.String()
}

// background is a program that runs until the test ends it.
type background struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	errs bytes.Buffer
	once sync.Once
}

// begin starts a program in a namespace. out gets its standard output.
func begin(t *testing.T, ns *loader.Netns, out io.Writer, name string, args ...string) *background {
	t.Helper()
	b := &background{t: t, name: name, cmd: exec.Command(need(t, name), args...)}
	b.cmd.Stdout, b.cmd.Stderr = out, &b.errs
	ok(t, ns.Do(b.cmd.Start))
	t.Cleanup(b.kill)
	return b
}

func (b *background) kill() {
	b.once.Do(func() {
		_ = b.cmd.Process.Kill() // it may have ended by itself
		_ = b.cmd.Wait()
	})
}

// ended reports whether the program has ended by itself.
func (b *background) ended() bool {
	state, err := os.ReadFile("/proc/" + strconv.Itoa(b.cmd.Process.Pid) + "/stat")
	return err != nil || bytes.Contains(state, []byte(") Z "))
}

// dump is a running candump. Its lines are those of a log file without the time.
type dump struct {
	*background
	mu    sync.Mutex
	lines []string
}

// startDump starts candump on an interface and waits until it listens.
func startDump(t *testing.T, ns *loader.Netns, iface string, args ...string) *dump {
	t.Helper()
	r, w := io.Pipe()
	d := &dump{}
	d.background = begin(t, ns, w, "candump", append([]string{"-L", "-r", "16777216"}, append(args, iface)...)...)
	t.Cleanup(func() { _ = w.Close() })
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			if _, rest, found := strings.Cut(s.Text(), ") "); found {
				d.mu.Lock()
				d.lines = append(d.lines, rest)
				d.mu.Unlock()
			}
		}
	}()
	// It says nothing when it is ready, so frames of one's own are sent until one is seen.
	probe := openRaw(t, ns, iface, rawOptions{})
	eventually(t, "candump listens", func() bool {
		probe.send(&loader.CANFrame{ID: probeID}, loader.CANMTU)
		time.Sleep(20 * time.Millisecond)
		return d.count() > 0
	})
	return d
}

// probeID is what startDump sends.
const probeID = 0x7F1

func (d *dump) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.lines)
}

// until waits for a line that begins with the interface's name and then last, and returns those before it without probes.
func (d *dump) until(last string) (lines []string) {
	d.t.Helper()
	eventually(d.t, d.name+" shows "+last, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		lines = nil
		for _, l := range d.lines {
			if strings.HasSuffix(l, " "+last) {
				return true
			}
			if !strings.Contains(l, " 7F1#") {
				lines = append(lines, l)
			}
		}
		return false
	})
	return lines
}
