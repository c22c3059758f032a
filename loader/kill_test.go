// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary play an agent that will be killed.
const childEnv = "CELLWARD_LOADER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := killedAgent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(migrateEnv) != "" {
		if err := killedMigration(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(inspectEnv) != "" {
		if err := inspectingChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// killedAgent takes over the bus of file descriptors 3 (bpffs) and 4 (network namespace), reads two batches of
// 40, releases the first, says so, and holds the second until it is killed.
func killedAgent() error {
	ns, err := OpenNetns("/proc/self/fd/4")
	if err != nil {
		return err
	}
	set, err := Open(Options{Root: "/proc/self/fd/3/cellward"})
	if err != nil {
		return err
	}
	buses, err := set.Attach(BusOptions{Interface: labDevice, Netns: ns, Slot: testIface})
	if err != nil {
		return err
	}
	p, err := NewPoller(PollerOptions{}, buses[0].Candidates())
	if err != nil {
		return err
	}
	var batch [40]Record
	for range 2 {
		if err := p.Wait(soon()); err != nil {
			return err
		}
		r, n, err := p.Peek(batch[:])
		if err != nil || n != len(batch) {
			return fmt.Errorf("peeked %d: %w", n, err)
		}
		if binary.LittleEndian.Uint64(batch[0].SPDU())>>16 == 10001 {
			r.Release()
		}
	}
	fmt.Println("holding")
	time.Sleep(time.Hour)
	return nil
}

// kill -9 between reading a batch and releasing it: the bus stays closed, and the next process reads exactly
// that batch again, then what came in meanwhile.
func TestKilledAgent(t *testing.T) { eachHook(t, testKilledAgent) }

func testKilledAgent(t *testing.T, kind string) {
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	counter := uint64(10001)
	send := func(n int) {
		for range n {
			l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: counter}).view(CANFDMTU))
			counter++
		}
	}
	ok(t, l.set.Close())
	send(100)

	child := exec.Command(must[string](t)(os.Executable()))
	child.Env = append(os.Environ(), childEnv+"=1")
	child.ExtraFiles = []*os.File{l.fs, l.ns.File()}
	child.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(child.StdoutPipe())
	ok(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "holding" {
		t.Errorf("agent said %q, %v", line, err)
	}
	ok(t, child.Process.Kill())
	_ = child.Wait() // "signal: killed"

	send(50)
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through", len(got))
	}
	l.start(t, false)
	records := take(t, l.bus.Candidates())
	if len(records) != 110 {
		t.Fatalf("%d records, want 110: 60 not released and 50 sent later", len(records))
	}
	for i, r := range records {
		if c := binary.LittleEndian.Uint64(r.SPDU()) >> 16; c != uint64(10041+i) {
			t.Fatalf("record %d has counter %d, want %d", i, c, 10041+i)
		}
	}
}
