// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/chain"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/loader"
)

// log makes a log of three events and returns its folder, the file of the key, and the last head.
func log(t *testing.T) (dir, keyFile string, head chain.Head) {
	t.Helper()
	key, err := identity.GenerateKey(elliptic.P384())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := identity.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir, keyFile = t.TempDir(), filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, pub.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := chain.Open(chain.Options{Dir: dir, Signer: chain.Identity{Key: key}, Generation: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*event.Record{
		{Kind: kind.BadTag, Severity: kind.High, Count: 1, Interface: "can0", Frame: &loader.CANFrame{ID: 0x6F2, Len: 32, Flags: loader.CANFDFDF}},
		{Kind: kind.Silence, Severity: kind.High, Count: 2},
		{Kind: kind.AgentStopped, Severity: kind.Informational, Count: 3},
	} {
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	head, _ = l.Head()
	return dir, keyFile, head
}

func TestInspect(t *testing.T) {
	dir, key, head := log(t)
	r, err := Verify(VerifyOptions{Paths: []string{dir}, Key: key, Head: head.String(), Generation: 4})
	if err != nil || !r.Good() || r.Events != 3 || !r.Closed || r.Heads != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	var text, errs bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "nothing was altered") {
		t.Errorf("%s, %v", &text, err)
	}
	var out bytes.Buffer
	if err := Print(&out, &errs, []string{dir}, encode.JSON); err != nil || strings.Count(out.String(), "\n") != 3 || errs.Len() > 0 {
		t.Errorf("%s, %s, %v", &out, &errs, err)
	}
	capture := filepath.Join(t.TempDir(), "a.pcapng")
	if n, err := ExportPCAPNG(capture, nil, &errs, []string{dir}); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	f, err := os.Open(capture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	if data, _, err := p.ReadPacketData(); err != nil || len(data) != 40 {
		t.Errorf("%x, %v", data, err)
	}

	// An altered line is found, named, and shown all the same.
	name := filepath.Join(dir, "events-00000001.log")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, bytes.Replace(b, []byte(`"count":2`), []byte(`"count":9`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err = Verify(VerifyOptions{Paths: []string{name}, Key: key})
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Line != 3 || r.Findings[0].Problem != chain.Altered || r.Findings[0].File != name {
		t.Errorf("%+v, %v", r, err)
	}
	out.Reset()
	if err := Print(&out, &errs, []string{dir}, encode.Text); !errors.Is(err, ErrUnreadable) || !strings.Contains(out.String(), "count=9") || !strings.Contains(errs.String(), ":3: altered") {
		t.Errorf("%s, %s, %v", &out, &errs, err)
	}
	if _, err := ExportPCAPNG(filepath.Join(t.TempDir(), "none", "a"), nil, &errs, []string{dir}); err == nil {
		t.Error("written to a folder that is not there")
	}
}

func TestVerifyNeedsAKey(t *testing.T) {
	dir, key, head := log(t)
	for name, o := range map[string]VerifyOptions{
		"no binding": {Binding: filepath.Join(dir, "none.yaml")}, "no key": {Key: filepath.Join(dir, "none.pem")}, "no public key": {Key: filepath.Join(dir, "events-00000001.log")},
		"head": {Key: key, Head: "x"}, "hash": {Key: key, Head: strings.Replace(head.String(), ":", ":1:", 1)},
	} {
		o.Paths = []string{dir}
		if r, err := Verify(o); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r, err := Verify(VerifyOptions{Paths: []string{dir}, HashesOnly: true})
	if err != nil || !r.Good() || r.Checked {
		t.Errorf("%+v, %v", r, err)
	}
}
