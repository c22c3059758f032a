// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary starts itself in these roles.
const (
	roleVariable = "CELLWARD_RING_TEST_ROLE"
	roleReader   = "reader"   // reads to the end and reports
	roleProducer = "producer" // publishes until it is killed
	roleHalfway  = "halfway"  // kills itself in the middle of a batch
	roleDial     = "dial"     // says how Dial ends
)

// What the roles that publish have in common.
const (
	childStreams = 3
	childBody    = 36
	childSlots   = 1024
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

func play(role, socket string) error {
	switch role {
	case roleReader:
		return playReader(socket)
	case roleProducer, roleHalfway:
		return playProducer(socket, role == roleHalfway)
	case roleDial:
		r, err := Dial(context.Background(), socket, Options{})
		switch {
		case err == nil:
			fmt.Println("ok")
			return r.Close()
		case errors.Is(err, ErrNotAuthorized):
			fmt.Println("not authorized")
		case errors.Is(err, fs.ErrPermission):
			fmt.Println("permission denied")
		default:
			fmt.Println(err)
		}
		return nil
	}
	return errors.New("unknown role")
}

// endWithParent ends this process when its standard input does, so that none outlives a test that was cut short.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

// account is what a reading process reports.
type account struct {
	Start, Read, Missed, Next uint64
	Bad                       string
}

func playReader(socket string) error {
	r, err := Dial(context.Background(), socket, Options{From: FromNow, StaleAfter: -1})
	if err != nil {
		return err
	}
	a := account{Start: r.position.Load()}
	go endWithParent()
	fmt.Println("ready")
	a = readAll(r, a, func(uint64) {})
	return json.NewEncoder(os.Stdout).Encode(a)
}

// readAll reads until the producer is gone and checks every sample. seen is told how many have been read.
func readAll(r *Reader, a account, seen func(uint64)) account {
	batch := make([]Sample, 32)
	for {
		n, err := r.Next(context.Background(), batch)
		if err != nil {
			if !errors.Is(err, ErrProducerGone) {
				a.Bad = err.Error()
			}
			a.Missed, a.Next = r.Missed(), r.position.Load()
			return a
		}
		for i := range batch[:n] {
			if err := verify(&batch[i], childStreams, childBody); err != nil {
				a.Bad = err.Error()
			}
		}
		a.Read += uint64(n)
		seen(a.Read)
	}
}

func playProducer(socket string, halfway bool) error {
	p, err := NewProducer(Config{Streams: testStreams(childStreams), Slots: childSlots, BodyMax: childBody})
	if err != nil {
		return err
	}
	if _, err := Serve(p, ServerConfig{Socket: socket}); err != nil {
		return err
	}
	if halfway {
		if err := p.Publish(stampedBatch(nil, 0, 2*childSlots, childStreams, childBody)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil { // the parent's word
		return err
	}
	if halfway {
		batch := stampedBatch(nil, p.tail, 8, childStreams, childBody)
		d := p.announce(len(batch), 1)
		for i := range batch {
			d.put(i, &batch[i])
		}
		newest := p.findNewest(batch)
		p.announceLatest(&d, p.tail+uint64(len(batch)), newest, p.places)
		p.copyLatest(&d, newest, p.places[:1])
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	go endWithParent()
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	var batch []Sample
	for {
		batch = stampedBatch(batch, p.tail, 4096, childStreams, childBody)
		for part := batch; len(part) > 0; {
			size := min(1+rng.IntN(64), len(part))
			if err := p.Publish(part[:size]); err != nil {
				return err
			}
			part = part[size:]
		}
	}
}

// child is a process in one of the roles.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts the test binary in a role. With /proc/self/exe other users can run it wherever it lies.
func start(t *testing.T, role, socket string, who *syscall.Credential) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", socket)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // of a child that has ended this does nothing
		_ = cmd.Wait()
	})
	return c
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("child says nothing: %v", err)
	}
	return strings.TrimSpace(s)
}

func (c *child) expect(t *testing.T, want string) {
	t.Helper()
	if got := c.line(t); got != want {
		t.Fatalf("child says %q, want %q", got, want)
	}
}

// TestReadersInOtherProcesses: each accounts for every sample, torn by none.
func TestReadersInOtherProcesses(t *testing.T) {
	const total = 100_000
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(childStreams), Slots: 256, BodyMax: childBody})
	s := serve(t, p, ServerConfig{Socket: path})
	readers := []*child{start(t, roleReader, path, nil), start(t, roleReader, path, nil)}
	for _, c := range readers {
		c.expect(t, "ready")
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var batch []Sample
	for next := uint64(0); next < total; {
		batch = stampedBatch(batch, next, min(1000, int(total-next)), childStreams, childBody)
		for part := batch; len(part) > 0; {
			size := min(1+rng.IntN(64), len(part))
			if err := p.Publish(part[:size]); err != nil {
				t.Fatal(err)
			}
			part = part[size:]
		}
		next += uint64(len(batch))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, c := range readers {
		var a account
		if err := json.Unmarshal([]byte(c.line(t)), &a); err != nil {
			t.Fatal(err)
		}
		if a.Bad != "" || a.Start != 0 || a.Next != total || a.Read+a.Missed != total || a.Read == 0 {
			t.Errorf("reader %d: %+v", i, a)
		}
	}
}

// TestKilledProducer: a kill at any moment leaves whole samples up to the tail, which the reader gets before it hears
// of the end.
func TestKilledProducer(t *testing.T) {
	path := socketPath(t)
	rng := rand.New(rand.NewPCG(5, 6))
	for round := range 12 {
		c := start(t, roleProducer, path, nil)
		c.expect(t, "ready")
		r := dialTest(t, path, Options{StaleAfter: -1})
		if _, err := c.in.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
		enough := uint64(rng.IntN(30_000))
		killed := false
		a := readAll(r, account{}, func(n uint64) {
			if n >= enough && !killed {
				killed = true
				if err := c.cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		})
		tail := r.link.view.tail()
		if a.Bad != "" || a.Next != tail || a.Read+a.Missed != tail || a.Read < enough {
			t.Errorf("round %d: %+v, tail %d", round, a, tail)
		}
		_, err := r.Next(context.Background(), make([]Sample, 1))
		if !errors.Is(err, ErrProducerGone) || !strings.Contains(err.Error(), "without closing") {
			t.Errorf("round %d: %v", round, err)
		}
		if st, err := r.Status(); err != nil || st.Closed || !st.Gone {
			t.Errorf("round %d: status %+v, %v", round, st, err)
		}
		_ = r.Close()
	}
}

// TestKilledHalfway: the kill comes when a batch is announced and partly written. Nothing of it is delivered, what it
// overwrote is counted as missed, and a latest value that was hit is not returned.
func TestKilledHalfway(t *testing.T) {
	path := socketPath(t)
	c := start(t, roleHalfway, path, nil)
	c.expect(t, "ready")
	r := dialTest(t, path, Options{StaleAfter: -1})
	if _, err := c.in.Write([]byte{'\n'}); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err == nil {
		t.Fatal("child ended well")
	}
	a := readAll(r, account{}, func(uint64) {})
	if want := (account{Read: childSlots - 8, Missed: 8, Next: 2 * childSlots}); a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
	batch := stampedBatch(nil, 2*childSlots, 8, childStreams, childBody)
	hit := map[uint32]bool{}
	for i := range batch {
		hit[batch[i].Stream] = true
	}
	for stream := range uint32(childStreams) {
		var s Sample
		ok, err := r.Latest(stream, &s)
		if hit[stream] != errors.Is(err, ErrLatestBusy) || hit[stream] == ok {
			t.Errorf("latest of stream %d: %v, %v", stream, ok, err)
		}
	}
}

// TestReconnect: a reader goes on with the next producer's history, from its oldest sample.
func TestReconnect(t *testing.T) {
	path := socketPath(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a reader that hangs fails instead
	defer cancel()
	first := start(t, roleHalfway, path, nil)
	first.expect(t, "ready")
	r := dialTest(t, path, Options{Reconnect: true})
	generation := r.Generation()
	if _, err := first.in.Write([]byte{'\n'}); err != nil {
		t.Fatal(err)
	}
	batch := make([]Sample, 64)
	for got := 0; got < childSlots-8; {
		n, err := r.Next(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	// The reader waits for a producer before there is one.
	result := make(chan error, 1)
	go func() {
		n, err := r.Next(ctx, batch)
		if err == nil && (batch[0].Position != childSlots || n != len(batch)) {
			err = fmt.Errorf("%d samples from %d", n, batch[0].Position)
		}
		if err == nil {
			err = verify(&batch[0], childStreams, childBody)
		}
		result <- err
	}()
	_ = first.cmd.Wait()
	second := start(t, roleHalfway, path, nil)
	second.expect(t, "ready")
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if r.Reconnects() != 1 || r.Generation() == generation {
		t.Errorf("%d reconnects, generation %x after %x", r.Reconnects(), r.Generation(), generation)
	}
}
