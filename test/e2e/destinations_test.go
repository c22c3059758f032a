// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
)

// TestDestinationsOfAConfinedAgent has an agent that has given up its rights write its events to a file, to syslog over a socket and over
// IP, and to a journal. One that could not is refused at the start, with what would help.
func TestDestinationsOfAConfinedAgent(t *testing.T) {
	needRoot(t)
	upLoopback(t)
	const simulated = time.Second
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true}, simulated)
	dir := t.TempDir()
	openFolders(t, dir)
	listen := func(path string) net.PacketConn {
		t.Helper()
		c, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := os.Chown(path, demo.AgentUID, demo.AgentUID); err != nil {
			t.Fatal(err)
		}
		return c
	}
	syslog, journal := listen(filepath.Join(dir, "log")), listen(filepath.Join(dir, "journal"))
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(logs, "events.json")
	b := *l.Binding()
	b.Destinations = []policy.Destination{
		{Type: policy.ToFile, Encoding: policy.EncodeJSON, Path: file},
		{Type: policy.ToSyslog, Network: "unixgram", Path: filepath.Join(dir, "log")},
		{Type: policy.ToSyslog, Network: "udp", Address: udp.LocalAddr().String()},
		{Type: policy.ToJournal, Path: filepath.Join(dir, "journal")},
	}
	doc, err := policy.Marshal(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.BindingPath(), doc, 0o644); err != nil {
		t.Fatal(err)
	}

	refused, err := l.BeginAgent()
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Wait(); err == nil || !bytes.Contains([]byte(err.Error()), []byte("events could not be written")) ||
		!bytes.Contains([]byte(err.Error()), []byte("install -d")) {
		t.Errorf("an agent that could not write its events: %v", err)
	}

	if err := os.Chown(logs, demo.AgentUID, demo.AgentUID); err != nil {
		t.Fatal(err)
	}
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	started := []byte("agent_started")
	for name, c := range map[string]net.PacketConn{"syslog": syslog, "syslog over IP": udp, "journal": journal} {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 1<<16); ; {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				s, serr := l.Status(t.Context())
				t.Fatalf("%s: %v; %+v, %v", name, err, s.Events.Destinations, serr)
			}
			if bytes.Contains(buf[:n], started) {
				break
			}
		}
	}
	until(t, "the file", func() bool {
		got, err := os.ReadFile(file)
		return err == nil && bytes.Contains(got, started)
	})
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range s.Events.Destinations {
		if d.Failures != 0 {
			t.Errorf("%s: %d failures, %s", d.Name, d.Failures, d.LastError)
		}
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}

// openFolders has every user find a test's folder, which is root's alone.
func openFolders(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
}
