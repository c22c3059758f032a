// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/tooltest"
	"github.com/cellward/cellward/loader"
)

func frame(id uint32, flags uint8, n uint8) *loader.CANFrame {
	f := &loader.CANFrame{ID: id, Len: n, Flags: flags}
	for i := range n {
		f.Data[i] = i + 1
	}
	return f
}

func records() []*event.Record {
	at := event.Instant{Wall: 1_795_000_000_123_456_789}
	return []*event.Record{
		{Kind: kind.BadTag, Interface: "can0", Source: "pack_current", Node: "bmu", First: at, Frame: frame(0x6F2, loader.CANFDFDF|loader.CANFDBRS, 64)},
		{Kind: kind.Replay, Interface: "can1", First: at, Frame: frame(0x18FF50E5|loader.CANEFFFlag, loader.CANFDFDF, 32)},
		{Kind: kind.Silence, Interface: "can0", First: at},
		{Kind: kind.PlaintextOnProtected, Interface: "can0", First: at, Frame: frame(0x123, 0, 3)},
		{Kind: kind.PlaintextOnProtected, Interface: "can0", First: at, Frame: frame(0x124|loader.CANRTRFlag, 0, 8)},
	}
}

func written(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, r := range records() {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriter(t *testing.T) {
	r, err := pcapgo.NewNgReader(bytes.NewReader(written(t)), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range records() {
		if want.Frame == nil {
			continue
		}
		data, info, opts, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil || i.Name != want.Interface || i.LinkType != LinkType {
			t.Errorf("%+v, %v", i, err)
		}
		n := int(want.Frame.Len)
		if want.Frame.ID&loader.CANRTRFlag != 0 {
			n = 0
		}
		if binary.BigEndian.Uint32(data) != want.Frame.ID || data[4] != want.Frame.Len || data[5] != want.Frame.Flags || !bytes.Equal(data[head:], want.Frame.Data[:n]) ||
			info.Timestamp.UnixNano() != want.First.Wall || len(opts.Comments) != 1 || !strings.HasPrefix(opts.Comments[0], want.Kind.String()) {
			t.Errorf("%x, %+v, %q", data, info, opts.Comments)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	var empty bytes.Buffer
	if err := NewWriter(&empty).Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := pcapgo.NewNgReader(&empty, pcapgo.DefaultNgReaderOptions); err != nil {
		t.Error(err)
	}
}

// TestTshark has an independent program read the capture.
func TestTshark(t *testing.T) {
	tshark := tooltest.Path(t, "Debian package tshark", "tshark")
	name := filepath.Join(t.TempDir(), "a.pcapng")
	if err := os.WriteFile(name, written(t), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-r", name, "-T", "fields", "-E", "separator=|", "-e", "frame.interface_name", "-e", "can.id", "-e", "can.len",
		"-e", "data.data", "-e", "frame.comment").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 4 {
		t.Fatalf("%s", out)
	}
	for i, want := range []string{"can0|1778|64|0102030405", "can1|419385573|32|0102", "can0|291|3|010203|plaintext_on_protected", "can0|292|8||plaintext_on_protected"} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("%q, want %q", lines[i], want)
		}
	}
	if !strings.HasSuffix(lines[0], "|bad_tag source=pack_current node=bmu") {
		t.Error(lines[0])
	}
}
