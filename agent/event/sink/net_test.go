// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

func TestSyslogDatagrams(t *testing.T) {
	for _, network := range []string{"unixgram", "udp"} {
		address := "127.0.0.1:0"
		if network == "unixgram" {
			address = filepath.Join(t.TempDir(), "log")
		}
		server, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSyslog(SyslogOptions{Network: network, Address: server.LocalAddr().String(), Format: encode.Syslog{Host: "gw"}})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		for _, k := range []kind.Kind{kind.BadTag, kind.Silence} {
			if err := s.Write(record(k, 1, 5)); err != nil {
				t.Fatal(err)
			}
			n, _, err := server.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			m, err := rfc5424.NewParser().Parse(buf[:n])
			if err != nil || *m.(*rfc5424.SyslogMessage).MsgID != k.String() {
				t.Errorf("%s: %q, %v", network, buf[:n], err)
			}
		}
		if err := errors.Join(s.Close(), server.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewSyslog(SyslogOptions{Network: "sctp"}); !errors.Is(err, ErrNetwork) {
		t.Error(err)
	}
	s, _ := NewSyslog(SyslogOptions{Network: "unixgram", Address: filepath.Join(t.TempDir(), "none")})
	if err := s.Write(record(kind.BadTag, 1, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestSyslogStreams has an independent parser cut the stream into messages, and a server that goes away and comes back.
func TestSyslogStreams(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "log")
		}
		server, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSyslog(SyslogOptions{Network: network, Address: server.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		for round := range 2 {
			for slot := range 10 {
				if err := s.Write(record(kind.BadTag, slot, 1)); err != nil {
					t.Fatal(err)
				}
			}
			conn, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil { // the next Write connects anew
				t.Fatal(err)
			}
			got := 0
			octetcounting.NewParser(syslog.WithListener(func(r *syslog.Result) {
				if r.Error != nil {
					t.Errorf("%s: %v", network, r.Error)
					return
				}
				got++
			})).Parse(conn)
			if got != 10 {
				t.Errorf("%s, round %d: %d messages", network, round, got)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Write(record(kind.BadTag, 1, 1)); err == nil {
			t.Errorf("%s: written to nobody", network)
		}
	}
}

func TestJournalEntryAsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	j := NewJournal(path)
	defer j.Close()
	long := bytes.Repeat([]byte("MESSAGE=0123456789\n"), 1<<16)
	if err := j.send(long); err != nil {
		t.Fatal(err)
	}
	buf, oob := make([]byte, 16), make([]byte, 256)
	n, oobn, _, _, err := server.ReadMsgUnix(buf, oob)
	if err != nil || n != 0 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	got := make([]byte, len(long))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, long) {
		t.Errorf("another entry: %v", err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL; err != nil || seals != want {
		t.Errorf("seals %x, %v", seals, err)
	}
	if err := NewJournal(filepath.Join(t.TempDir(), "none")).Write(record(kind.BadTag, 1, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// bus keeps the frames that were sent on it.
type bus struct {
	frames []loader.CANFrame
	closed int
}

func (b *bus) SendFD(f *loader.CANFrame) error { b.frames = append(b.frames, *f); return nil }
func (b *bus) Close() error                    { b.closed++; return nil }

func TestCAN(t *testing.T) {
	b := new(bus)
	q := New(NewCAN(b, encode.IdsM{CANID: 0x6A0, Instance: 3}), Options{})
	kinds := []kind.Kind{kind.BadTag, kind.FaultRaised, kind.LinkDown}
	for i, k := range kinds {
		q.Offer(record(k, i, 9))
	}
	if err := q.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	var got []kind.Kind
	for i := range b.frames {
		e, err := encode.ParseIdsM(&b.frames[i])
		if err != nil || e.Count != 9 || e.Instance != 3 {
			t.Errorf("%+v, %v", e, err)
		}
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, kinds) || b.closed != 1 {
		t.Errorf("%v, closed %d times", got, b.closed)
	}
}
