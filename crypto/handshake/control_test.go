// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/cellward/cellward/crypto/schedule"
	"pgregory.net/rapid"
)

func key(b byte) *schedule.ControlKey {
	var k schedule.ControlKey
	for i := range k {
		k[i] = b
	}
	return &k
}

func TestDatagramForm(t *testing.T) {
	d := Datagram{Type: TypeMessage1, Session: 0x01020304, Body: []byte{0xAA, 0xBB, 0xCC}}
	b := must[[]byte](t)(d.Encode(FromNode, key(7)))
	head := "c0" + "01" + "0300" + "04030201" + "aabbcc"
	h := hmac.New(sha512.New384, key(7)[:])
	h.Write(append([]byte{0}, must[[]byte](t)(hex.DecodeString(head))...))
	want := head + hex.EncodeToString(h.Sum(nil)[:16])
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	zero := must[[]byte](t)(d.Encode(FromNode, nil))
	if !bytes.Equal(zero[len(zero)-16:], make([]byte, 16)) || !bytes.Equal(zero[:11], b[:11]) {
		t.Fatalf("%x", zero)
	}
	full := Datagram{Type: TypeMessage3, Session: 1, Body: make([]byte, MaxBody)}
	if b := must[[]byte](t)(full.Encode(FromNode, nil)); len(b) != MaxDatagram {
		t.Fatalf("%d bytes", len(b))
	}
}

func TestDatagramMAC(t *testing.T) {
	d := Datagram{Type: TypeError, Session: 9, Body: []byte("body")}
	live := []EpochKey{{5, key(5)}, {6, key(6)}}
	for _, c := range []struct {
		name  string
		key   *schedule.ControlKey
		live  []EpochKey
		epoch uint32
	}{
		{"the older epoch", key(5), live, 5},
		{"the newer epoch", key(6), live, 6},
		{"an epoch that is not live", key(4), live, 0},
		{"none", nil, live, 0},
		{"no live epoch", key(5), nil, 0},
	} {
		b := must[[]byte](t)(d.Encode(FromNode, c.key))
		r := must[*Received](t)(Parse(b, FromNode, c.live...))
		if r.Epoch != c.epoch || r.Type != d.Type || r.Session != d.Session || !bytes.Equal(r.Body, d.Body) {
			t.Errorf("%s: %+v", c.name, r)
		}
		// Reflected, it is good under no epoch.
		if r := must[*Received](t)(Parse(b, FromGateway, c.live...)); r.Epoch != 0 {
			t.Errorf("%s: a reflected datagram has epoch %d", c.name, r.Epoch)
		}
	}
	// No bit of it can be changed under its MAC.
	b := must[[]byte](t)(d.Encode(FromNode, key(5)))
	for bit := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if r, err := Parse(bad, FromNode, live...); err == nil && r.Epoch != 0 {
			t.Errorf("bit %d was changed under the MAC", bit)
		}
	}
}

func TestDatagramIsRefused(t *testing.T) {
	good := must[[]byte](t)((&Datagram{Type: TypeMessage1, Session: 1, Body: []byte{1, 2, 3}}).Encode(FromNode, nil))
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	rekey := must[[]byte](t)((&Datagram{Type: TypeRekey, Session: 1}).Encode(FromGateway, nil))
	long := append([]byte{0xC0, 1, 0x69, 0x01, 1, 0, 0, 0}, make([]byte, 361+16)...)
	for _, c := range []struct {
		name string
		b    []byte
		dir  Direction
		fine bool
	}{
		{"as it should be", good, FromNode, true},
		{"filled up with zeros", append(bytes.Clone(good), make([]byte, 21)...), FromNode, true},
		{"a rekey request", rekey, FromGateway, true},
		{"nothing", nil, FromNode, false},
		{"shorter than header and MAC", good[:23], FromNode, false},
		{"cut short", good[:len(good)-1], FromNode, false},
		{"something behind it", append(bytes.Clone(good), 0, 1), FromNode, false},
		{"another first byte", change(0, 0xC1), FromNode, false},
		{"type 0", change(1, 0), FromNode, false},
		{"type 7", change(1, 7), FromNode, false},
		{"message_2 from a node", change(1, 2), FromNode, false},
		{"message_1 from a gateway", good, FromGateway, false},
		{"a rekey request from a node", rekey, FromNode, false},
		{"a rekey request with a body", change(1, 6), FromGateway, false},
		{"session 0", change(4, 0), FromNode, false},
		{"a length beyond its end", change(2, 4), FromNode, false},
		{"no body", append(append(change(2, 0)[:8:8], make([]byte, 16)...), 0), FromNode, false},
		{"a body above the limit", long, FromNode, false},
	} {
		_, err := Parse(c.b, c.dir)
		if (err == nil) != c.fine || err != nil && !errors.Is(err, ErrDatagram) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, d := range []Datagram{
		{Type: TypeMessage2, Session: 1, Body: []byte{1}}, {Type: TypeMessage1, Body: []byte{1}}, {Type: TypeMessage1, Session: 1},
		{Type: TypeMessage1, Session: 1, Body: make([]byte, MaxBody+1)}, {Type: 0, Session: 1, Body: []byte{1}},
	} {
		if _, err := d.Encode(FromNode, nil); !errors.Is(err, ErrDatagram) {
			t.Errorf("%+v was made: %v", d.Type, err)
		}
	}
	for ty, want := range map[Type]string{1: "message_1", 4: "message_4", 5: "error", 6: "rekey request", 9: "type 9"} {
		if ty.String() != want {
			t.Errorf("%q, want %q", ty, want)
		}
	}
}

func opening(epoch, session uint32) *Received {
	return &Received{Datagram: Datagram{Type: TypeMessage1, Session: session, Body: []byte{1}}, Epoch: epoch}
}

func TestSessionRule(t *testing.T) {
	var r SessionRule
	for _, c := range []struct {
		epoch, session uint32
		ok             bool
	}{
		{0, 5, true}, {0, 5, true}, {0, 1, true}, // without a MAC: no order
		{3, 10, true}, {3, 10, false}, {3, 9, false}, {3, 11, true}, {3, 1<<32 - 1, true}, {3, 1, false},
		{4, 1, true}, {4, 1, false}, {3, 5, false}, // the older epoch is remembered
		{5, 7, true}, {4, 1, false}, {4, 2, true}, // 3 was forgotten, its key is no longer live
		{3, 1 << 31, false}, // and does not come back
		{2, 1, false},
		{5, 8, true}, {5, 8, false},
	} {
		next, err := r.Next(opening(c.epoch, c.session))
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSessionOld) {
			t.Fatalf("epoch %d session %d: %v", c.epoch, c.session, err)
		}
		if err == nil {
			r = next
		} else if next != r && next.Highest == r.Highest {
			t.Fatalf("a refusal changed the rule to %+v", next)
		}
	}
	if _, err := r.Next(&Received{Datagram: Datagram{Type: TypeMessage3, Session: 99}, Epoch: 5}); !errors.Is(err, ErrSessionOther) {
		t.Fatal(err)
	}
}

// TestSessionRuleNeverRepeats: whatever comes in whatever order, no (epoch, session) with a good MAC opens twice, as
// long as epochs are retired in order and keys of retired epochs verify nothing.
func TestSessionRuleNeverRepeats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r SessionRule
		opened := map[[2]uint32]bool{}
		newest := uint32(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "rotate") == 0 {
				newest++
			}
			epoch := newest - uint32(rapid.IntRange(0, 1).Draw(t, "older"))
			if epoch == 0 {
				continue
			}
			session := uint32(rapid.IntRange(1, 6).Draw(t, "session"))
			next, err := r.Next(opening(epoch, session))
			if err != nil {
				continue
			}
			r = next
			id := [2]uint32{epoch, session}
			if opened[id] {
				t.Fatalf("session %d of epoch %d opened twice", session, epoch)
			}
			opened[id] = true
		}
	})
}

func TestSessionAdmits(t *testing.T) {
	of := func(ty Type, session, epoch uint32) *Received {
		return &Received{Datagram: Datagram{Type: ty, Session: session}, Epoch: epoch}
	}
	for _, c := range []struct {
		name string
		s    Session
		d    *Received
		ok   bool
	}{
		{"its own", Session{4, 2}, of(TypeMessage3, 4, 2), true},
		{"an error of its own", Session{4, 2}, of(TypeError, 4, 2), true},
		{"another session", Session{4, 2}, of(TypeMessage3, 5, 2), false},
		{"without the MAC", Session{4, 2}, of(TypeMessage3, 4, 0), false},
		{"under another epoch", Session{4, 2}, of(TypeMessage3, 4, 3), false},
		{"one without a MAC", Session{4, 0}, of(TypeMessage3, 4, 0), true},
		{"a good MAC in one without", Session{4, 0}, of(TypeMessage3, 4, 2), true},
		{"an opening one", Session{4, 0}, of(TypeMessage1, 4, 0), false},
	} {
		err := c.s.Admits(c.d)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSessionOther) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRate(t *testing.T) {
	var r Rate
	for _, c := range []struct {
		at time.Duration
		ok bool
	}{
		{0, true}, {1, false}, {GoodSessionEvery - 1, false}, {GoodSessionEvery, true}, {GoodSessionEvery + 1, false},
		{3 * GoodSessionEvery, true},
	} {
		if err := r.Admit(c.at, GoodSessionEvery); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSessionLimit) {
			t.Errorf("at %v: %v", c.at, err)
		}
	}
	if OtherSessionEvery != 15*time.Second || GoodRekeyEvery != 10*time.Second || OtherRekeyEvery != time.Minute || Lifetime != 15*time.Second {
		t.Error("times of protocol version 1")
	}
	after := RepeatAfter()
	for i, d := range after {
		if d >= Lifetime || i > 0 && d <= after[i-1] {
			t.Errorf("repeats at %v", after)
		}
	}
}

func FuzzControlDatagram(f *testing.F) {
	for _, d := range []Datagram{{TypeMessage1, 1, []byte{1}}, {TypeError, 1 << 31, []byte{1, 2}}} {
		b, err := d.Encode(FromNode, key(1))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, dir byte) {
		d := Direction(dir % 2)
		r, err := Parse(b, d, EpochKey{1, key(1)})
		if err != nil {
			if !errors.Is(err, ErrDatagram) {
				t.Fatal(err)
			}
			return
		}
		var k *schedule.ControlKey
		if r.Epoch == 1 {
			k = key(1)
		}
		again, err := r.Encode(d, k)
		if err != nil {
			t.Fatal(err)
		}
		end := len(again)
		if r.Epoch == 0 {
			end -= MACSize
		}
		if !bytes.Equal(again[:end], b[:end]) || len(bytes.Trim(b[len(again):], "\x00")) != 0 {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzEADValues(f *testing.F) {
	r := big()
	b, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	g := Grant{Epoch: 1, CounterFloor: 2}
	if b, err = g.encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil {
			if again, err := r.encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x became %x, %v", b, again, err)
			}
		}
		if g, err := parseGrant(b); err == nil {
			if again, err := g.encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x became %x, %v", b, again, err)
			}
		}
	})
}
