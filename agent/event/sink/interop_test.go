// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/tooltest"
	"github.com/cellward/cellward/loader"
)

// start runs a program and ends it with the test.
func start(t *testing.T, cmd *exec.Cmd) *bytes.Buffer {
	t.Helper()
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait() // ended by a signal
		if t.Failed() {
			t.Logf("%s: %s", cmd.Path, out)
		}
	})
	return out
}

// TestRsyslog sends to a real rsyslog over every network and reads back what it has understood.
func TestRsyslog(t *testing.T) {
	rsyslogd := tooltest.Path(t, "Debian package rsyslog", "rsyslogd", "/usr/sbin/rsyslogd")
	dir := t.TempDir()
	log, dgram := filepath.Join(dir, "out"), filepath.Join(dir, "sock")
	conf := filepath.Join(dir, "conf")
	text := fmt.Sprintf(`global(workDirectory=%[1]q maxMessageSize="64k")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="%[2]s" UseSpecialParser="off" ParseHostname="on" UseSysTimeStamp="off" RateLimit.Interval="0")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="%[1]s/tcp")
module(load="imudp")
template(name="fields" type="string" string="%%pri%%|%%hostname%%|%%app-name%%|%%procid%%|%%msgid%%|%%structured-data%%|%%msg%%\n")
action(type="omfile" file="%[3]s" template="fields")
`, dir, dgram, log)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(rsyslogd, "-n", "-f", conf, "-i", filepath.Join(dir, "pid")))
	until(t, "rsyslogd", func() bool {
		port, err := os.ReadFile(filepath.Join(dir, "tcp"))
		_, errSock := os.Stat(dgram)
		return err == nil && errSock == nil && len(port) > 1
	})
	port, err := os.ReadFile(filepath.Join(dir, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	format := encode.Syslog{Host: "gateway", PID: 42}
	want := 0
	for network, address := range map[string]string{"unixgram": dgram, "tcp": "127.0.0.1:" + strings.TrimSpace(string(port))} {
		s, err := NewSyslog(SyslogOptions{Network: network, Address: address, Format: format})
		if err != nil {
			t.Fatal(err)
		}
		q := New(s, Options{Name: network})
		for slot, k := range kind.All() {
			q.Offer(record(k, slot, 2))
			want++
		}
		if err := q.Close(soon(t)); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	until(t, "messages in the log", func() bool {
		got, _ = os.ReadFile(log)
		return bytes.Count(got, []byte("\n")) >= want
	})
	if n := bytes.Count(got, []byte("\n")); n != want {
		t.Errorf("%d messages, want %d", n, want)
	}
	for _, k := range kind.All() {
		r := record(k, int(k)-1, 2)
		message := string(format.Append(nil, r))
		data := message[strings.Index(message, "["):]
		end := strings.Index(data, "] ")
		line := fmt.Sprintf("%s|gateway|cellward|42|%s|%s|%s\n", message[1:strings.Index(message, ">")], k, data[:end+1], data[end+2:])
		if n := bytes.Count(got, []byte(line)); n != 2 {
			t.Errorf("%v: %d lines are as sent:\n%s", k, n, line)
		}
	}
}

// TestJournald sends to a real systemd-journald with a /run of its own, and finds the entries by MESSAGE_ID.
func TestJournald(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: a private /run needs a mount namespace")
	}
	journald := tooltest.Path(t, "Debian package systemd", "/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald")
	journalctl := tooltest.Path(t, "Debian package systemd", "journalctl")
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		t.Fatal(err)
	} else if !regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ / `).Match(mounts) {
		t.Skip("the root is no mount point, as in a chroot, so what the test mounts could be seen outside")
	}
	cmd := exec.Command("/bin/sh", "-c", `mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal && exec "$0"`, journald)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	start(t, cmd)
	run := fmt.Sprintf("/proc/%d/root/run", cmd.Process.Pid)
	socket := run + "/systemd/journal/socket"
	until(t, "journald", func() bool {
		entries, err := os.ReadDir(run + "/log/journal")
		_, errSock := os.Stat(socket)
		return err == nil && errSock == nil && len(entries) > 0
	})
	j := NewJournal(socket)
	q := New(j, Options{})
	for slot, k := range kind.All() {
		q.Offer(record(k, slot, 3))
	}
	long := record(kind.Silence, 1, 1)
	q.Offer(long)
	if err := q.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	find := func(k kind.Kind) string {
		out, err := exec.Command(journalctl, "-D", run+"/log/journal", "--no-pager", "-o", "json", "MESSAGE_ID="+k.MessageID()).Output()
		if err != nil {
			return ""
		}
		return string(out)
	}
	until(t, "the last entry", func() bool { return find(kind.Misdirected) != "" })
	for _, k := range []kind.Kind{kind.BadTag, kind.FaultRaised, kind.Deletion, kind.OwnEcho} {
		got := find(k)
		for _, want := range []string{`"CELLWARD_KIND":"` + k.String() + `"`, `"SYSLOG_IDENTIFIER":"cellward"`, `"CELLWARD_COUNT":"3"`} {
			if strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
				t.Errorf("%v: %s is not in %s", k, want, got)
			}
		}
	}
	// One that is too long for a datagram.
	big := append(encode.Journal(nil, record(kind.KeyRetired, 1, 1)), "CELLWARD_BIG="+strings.Repeat("x", 1<<20)+"\n"...)
	if err := j.send(big); err != nil {
		t.Fatal(err)
	}
	until(t, "the long entry", func() bool { return strings.Count(find(kind.KeyRetired), "\n") == 2 })
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestCANInterface sends a frame on an interface and takes it at its other side.
func TestCANInterface(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: a network namespace cannot be made")
	}
	ns, err := loader.NewNetns()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	tun, err := loader.NewTUN(ns, "can0")
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	conn, err := loader.OpenCAN(ns, "can0")
	if err != nil {
		t.Fatal(err)
	}
	q := New(NewCAN(conn, encode.IdsM{CANID: 0x6A0}), Options{})
	q.Offer(record(kind.FaultRaised, 4, 1))
	var f loader.CANFrame
	size, err := tun.ReadCAN(&f)
	if err != nil || size != loader.CANFDMTU {
		t.Fatal(size, err)
	}
	f.Flags |= loader.CANFDFDF
	if e, err := encode.ParseIdsM(&f); err != nil || e.Kind != kind.FaultRaised || f.ID != 0x6A0 {
		t.Errorf("%+v, %v", e, err)
	}
	if err := q.Close(soon(t)); err != nil {
		t.Error(err)
	}
}
