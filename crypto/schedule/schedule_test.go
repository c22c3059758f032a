// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"testing"
)

// testPRK is 40 41 .. 6f, testStart(b) is b b+1 .. b+15.
func testPRK() *PRK {
	var p PRK
	for i := range p {
		p[i] = byte(0x40 + i)
	}
	return &p
}

func testStart(first byte) *[StartSize]byte {
	var s [StartSize]byte
	for i := range s {
		s[i] = first + byte(i)
	}
	return &s
}

const testEpoch = 0x01020304

// TestVectors compares with values computed by another implementation (OpenSSL's
// HKDF-Expand and HMAC).
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name   string
		source uint32
		start  byte
		want   string
	}{
		{"source 7, first start", 7, 0, "f56d35a4d9eceb3b46470fbd23c50919304dde2787223ba9327285502be3dbf6bbb137a11cafefb8a1b787aa"},
		{"source 7, second start", 7, 16, "3eeb4ed03aa8421fc15b139517258a5864d6bb1e18bd6b8ce702d995803cfe7c59468923550b042189349318"},
		{"heartbeat, first start", HeartbeatSource, 0, "fbbced2a35687faa3df908f23e9ef81f3f935b7737c7e33a37c8ea3e5d676c2733de11fdc6d66652c45f501b"},
		{"heartbeat, second start", HeartbeatSource, 16, "b8d7b0e7bd2ba73ec9f659f35099a4b9df1f30890730a8efeba5ed23b4797e6b89a4b68d397730782141032d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k TrafficKey
			if err := Traffic(testPRK(), c.source, testEpoch, testStart(c.start), &k); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(k.Key[:]) + hex.EncodeToString(k.IV[:]); got != c.want {
				t.Fatalf("K || IV = %s, want %s", got, c.want)
			}
		})
	}
	var ks StartKey
	if err := Start(testPRK(), testEpoch, &ks); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(ks[:]); got != "afd3c80511d02cad2e65330c7c6d17ef849d89ded2f777258f80f85d8d63382075166289a2cd46be5e8a6c67ad163525" {
		t.Errorf("K_start = %s", got)
	}
	var kc ControlKey
	if err := Control(testPRK(), testEpoch, &kc); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(kc[:]); got != "2e92199652eea4dde7f84a2b41efa6dcd993f34fb7dab6c3bba3c8f9a9457d5a9e2b6a5a9576e457f880f501e9a2e3d9" {
		t.Errorf("K_ctl = %s", got)
	}
}

func TestStartMAC(t *testing.T) {
	var key StartKey
	copy(key[:], testPRK()[:])
	for n := range 300 {
		message := bytes.Repeat([]byte{byte(n)}, n)
		h := hmac.New(sha512.New384, key[:])
		h.Write(message)
		if got := StartMAC(&key, message); !bytes.Equal(got[:], h.Sum(nil)[:16]) {
			t.Fatalf("%d bytes: MAC %x", n, got)
		}
	}
}

// TestSeparation: every input of the schedule changes every output it goes into,
// and no two labels share an output.
func TestSeparation(t *testing.T) {
	seen := map[string]string{}
	add := func(name string, b []byte) {
		t.Helper()
		s := string(b[:KeySize])
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s give one key", name, other)
		}
		seen[s] = name
	}
	traffic := func(name string, prk *PRK, source, epoch uint32, start *[StartSize]byte) {
		t.Helper()
		var k TrafficKey
		if err := Traffic(prk, source, epoch, start, &k); err != nil {
			t.Fatal(err)
		}
		add(name, k.Key[:])
	}
	other := testPRK()
	other[47] ^= 1
	flipped := testStart(0)
	flipped[15] ^= 0x80
	traffic("traffic", testPRK(), 7, testEpoch, testStart(0))
	traffic("other prk", other, 7, testEpoch, testStart(0))
	traffic("other source", testPRK(), 8, testEpoch, testStart(0))
	traffic("heartbeat", testPRK(), HeartbeatSource, testEpoch, testStart(0))
	traffic("other epoch", testPRK(), 7, testEpoch+1<<24, testStart(0))
	traffic("other start", testPRK(), 7, testEpoch, flipped)
	traffic("source and epoch exchanged", testPRK(), testEpoch, 7, testStart(0))
	for _, epoch := range []uint32{testEpoch, testEpoch + 256} {
		var ks StartKey
		var kc ControlKey
		if err := errors.Join(Start(testPRK(), epoch, &ks), Control(testPRK(), epoch, &kc)); err != nil {
			t.Fatal(err)
		}
		add("start", ks[:])
		add("control", kc[:])
	}
}

func TestRefusals(t *testing.T) {
	var zero PRK
	prk, start := testPRK(), testStart(0)
	for _, c := range []struct {
		name string
		err  func(out *TrafficKey) error
		want error
	}{
		{"source 0", func(k *TrafficKey) error { return Traffic(prk, 0, 1, start, k) }, ErrSource},
		{"epoch 0", func(k *TrafficKey) error { return Traffic(prk, 1, 0, start, k) }, ErrEpoch},
		{"no start", func(k *TrafficKey) error { return Traffic(prk, 1, 1, new([StartSize]byte), k) }, ErrZeroStart},
		{"no prk", func(k *TrafficKey) error { return Traffic(&zero, 1, 1, start, k) }, ErrZeroPRK},
		{"wiped prk", func(k *TrafficKey) error { p := testPRK(); p.Wipe(); return Traffic(p, 1, 1, start, k) }, ErrZeroPRK},
		{"start key, epoch 0", func(*TrafficKey) error { return Start(prk, 0, new(StartKey)) }, ErrEpoch},
		{"start key, no prk", func(*TrafficKey) error { return Start(&zero, 1, new(StartKey)) }, ErrZeroPRK},
		{"control key, epoch 0", func(*TrafficKey) error { return Control(prk, 0, new(ControlKey)) }, ErrEpoch},
		{"control key, no prk", func(*TrafficKey) error { return Control(&zero, 1, new(ControlKey)) }, ErrZeroPRK},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k TrafficKey
			if err := c.err(&k); !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if k != (TrafficKey{}) {
				t.Fatal("output was touched")
			}
		})
	}
}
