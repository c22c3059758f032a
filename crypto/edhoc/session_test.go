// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSession(t *testing.T) {
	b := newBench(t, SignatureStatic, 24)
	b.tracking = true
	h := b.through(t, 5)
	for _, s := range []*Session{h.si, h.sr} {
		if s.Method() != SignatureStatic || s.Suite().ID != 24 {
			t.Fatalf("method %d, %v", s.Method(), s.Suite())
		}
		if cI, cR := s.ConnectionIDs(); !bytes.Equal(cI, []byte{0x2d}) || !bytes.Equal(cR, []byte{0x18}) {
			t.Fatalf("C_I %x, C_R %x", cI, cR)
		}
	}
	if h.si.Role() != RoleInitiator || h.sr.Role() != RoleResponder {
		t.Fatal("roles")
	}
	if h.si.Peer().Credential != b.r.dhCred || h.sr.Peer().Credential != b.i.signCred {
		t.Fatal("peers")
	}
	if !bytes.Equal(h.si.Peer().ConnectionID, []byte{0x18}) || !bytes.Equal(h.sr.Peer().ConnectionID, []byte{0x2d}) {
		t.Fatal("connection identifiers of the peers")
	}

	exports := func() [][]byte {
		t.Helper()
		var out [][]byte
		for _, s := range []*Session{h.si, h.sr} {
			for _, label := range []uint64{0, 1, 52753, 1 << 40} {
				for _, context := range [][]byte{nil, {1}, {2}} {
					k, err := s.Exporter(label, context, 48)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, k)
				}
			}
		}
		return out
	}
	first := exports()
	for i := range 12 {
		if !bytes.Equal(first[i], first[12+i]) {
			t.Fatal("the sides export different keys")
		}
		for j := range i {
			if bytes.Equal(first[i], first[j]) {
				t.Fatal("two labels or contexts give one key")
			}
		}
	}
	old := h.si.prkOut
	for _, s := range []*Session{h.si, h.sr} {
		if err := s.KeyUpdate([]byte("event")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(old, make([]byte, 48)) {
		t.Fatal("the old PRK_out was not wiped")
	}
	second := exports()
	for i := range 12 {
		if !bytes.Equal(second[i], second[12+i]) || bytes.Equal(first[i], second[i]) {
			t.Fatal("key update")
		}
	}
	if err := h.si.KeyUpdate([]byte("other event")); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(h.si.prkOut, h.sr.prkOut) {
		t.Fatal("the context of the update does not count")
	}

	for _, n := range []int{0, -1, 255*48 + 1} {
		if _, err := h.si.Exporter(1, nil, n); err == nil {
			t.Fatalf("exported %d bytes", n)
		}
	}
	if k, err := h.si.Exporter(1, nil, 255*48); err != nil || len(k) != 255*48 {
		t.Fatal(err)
	}
	if _, err := h.i.Session(); !errors.Is(err, CheckState) {
		t.Fatalf("the result was handed out twice: %v", err)
	}
	if _, err := h.r.Session(); !errors.Is(err, CheckState) {
		t.Fatalf("the result was handed out twice: %v", err)
	}
	h.close()
	b.noSecrets(t)
	if _, err := h.si.Exporter(1, nil, 16); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := h.si.KeyUpdate(nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := h.si.OSCORE(); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestOSCORE(t *testing.T) {
	b := newBench(t, SignatureSignature, 2)
	h := b.through(t, 5)
	oi, err := h.si.OSCORE()
	if err != nil {
		t.Fatal(err)
	}
	or, err := h.sr.OSCORE()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(oi.MasterSecret, or.MasterSecret) || !bytes.Equal(oi.MasterSalt, or.MasterSalt) ||
		!bytes.Equal(oi.SenderID, or.RecipientID) || !bytes.Equal(oi.RecipientID, or.SenderID) ||
		len(oi.MasterSecret) != 16 || len(oi.MasterSalt) != 8 || oi.AEAD != AESCCM16_64_128 || oi.Hash != SHA256 {
		t.Fatalf("%+v and %+v", oi, or)
	}
	b.respCfg.ConnectionID = b.initCfg.ConnectionID
	h = b.through(t, 5)
	if _, err := h.si.OSCORE(); err == nil {
		t.Fatal("OSCORE with one identifier on both sides")
	}
}

// TestSessionIsHandedOutInTime: the Responder has its result when message_3 is verified, the Initiator only when the
// exchange is over.
func TestSessionIsHandedOutInTime(t *testing.T) {
	b := newBench(t, SignatureSignature, -24)
	h := b.through(t, 3)
	if _, err := h.i.Session(); !errors.Is(err, CheckState) {
		t.Fatal(err)
	}
	if _, err := h.r.Session(); !errors.Is(err, CheckState) {
		t.Fatal(err)
	}
	if _, err := h.r.Message3(h.m3); err != nil {
		t.Fatal(err)
	}
	sr, err := h.r.Session()
	if err != nil {
		t.Fatal(err)
	}
	// message_4 can still be made behind it.
	m4, err := h.r.Message4()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.i.Message4(m4); err != nil {
		t.Fatal(err)
	}
	si, err := h.i.Session()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(si.prkOut, sr.prkOut) {
		t.Fatal("PRK_out differs")
	}

	// Without message_4 the Initiator has its result behind message_3, and no message_4 is made.
	b.initCfg.Message4, b.respCfg.Message4 = false, false
	h = b.through(t, 3)
	if _, err := h.r.Message3(h.m3); err != nil {
		t.Fatal(err)
	}
	if _, err := h.r.Message4(); !errors.Is(err, CheckState) {
		t.Fatal(err)
	}
	if _, err := h.i.Message4(m4); !errors.Is(err, CheckState) {
		t.Fatal(err)
	}
	if si, err = h.i.Session(); err != nil {
		t.Fatal(err)
	}
	if sr, err = h.r.Session(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(si.prkOut, sr.prkOut) {
		t.Fatal("PRK_out differs")
	}
	if h.i.prk4e3m != nil || h.r.prk4e3m != nil {
		t.Fatal("PRK_4e3m is kept though nothing needs it")
	}
}

func TestClose(t *testing.T) {
	for n := 1; n <= 4; n++ {
		b := newBench(t, StaticStatic, 24)
		b.tracking = true
		h := b.through(t, n)
		h.close()
		h.close()
		b.noSecrets(t)
		if h.i.State() != StateAborted || h.r.State() != StateAborted {
			t.Fatal("state after Close")
		}
		for _, err := range []error{
			second(h.i.Message1()), secondP(h.i.Message2(h.m2)), second(h.i.Message3()), secondE(h.i.Message4(h.m4)),
			secondO(h.r.Message1(h.m1)), second(h.r.Message2()), secondP(h.r.Message3(h.m3)), second(h.r.Message4()),
		} {
			if !errors.Is(err, CheckState) {
				t.Fatalf("a closed session goes on: %v", err)
			}
		}
	}
}

func second(_ []byte, err error) error  { return err }
func secondP(_ *Peer, err error) error  { return err }
func secondE(_ []EAD, err error) error  { return err }
func secondO(_ *Offer, err error) error { return err }

// TestFailureEndsSession: the default of RFC 9528, 5.1.
func TestFailureEndsSession(t *testing.T) {
	b := newBench(t, SignatureSignature, 24)
	b.initCfg.KeepOnFailure, b.respCfg.KeepOnFailure = false, false
	b.tracking = true
	h := b.through(t, 3)
	_, err := h.r.Message3(flipLast(h.m3))
	wantCheck(t, err, 3, CheckAEAD)
	_, err = h.r.Message3(h.m3)
	wantCheck(t, err, 3, CheckState)
	if reply := h.r.ErrorReply(errors.Join(err)); reply != nil {
		t.Fatalf("an aborted session answers %x", reply)
	}
	// An error message ends it as well.
	i := b.initiator(t)
	if _, err := i.Message1(); err != nil {
		t.Fatal(err)
	}
	m, err := i.Error(sequence(1, "because"))
	if err != nil || m.Text != "because" || i.State() != StateAborted {
		t.Fatalf("%v, %v, state %v", m, err, i.State())
	}
	h.close()
	b.noSecrets(t)
	// A message out of turn ends nothing.
	h = b.through(t, 5)
	if _, err := h.i.Message4(h.m4); !errors.Is(err, CheckDuplicate) || h.i.State() != StatePersisted {
		t.Fatal(err)
	}
	if _, err := h.i.Message2(h.m2); !errors.Is(err, CheckDuplicate) {
		t.Fatal(err)
	}
	if _, err := h.r.Message1(h.m3); !errors.Is(err, CheckDuplicate) {
		t.Fatal(err)
	}
	if _, err := h.r.Message1(flipLast(h.m1)); !errors.Is(err, CheckState) {
		t.Fatal(err)
	}
}

func TestErrorReply(t *testing.T) {
	b := newBench(t, SignatureSignature, 24)
	h := b.through(t, 3)
	for _, c := range []struct {
		name string
		from *core
		err  error
		want []byte
	}{
		{"method", h.r.core, fail(CheckMethod, "x").at(1), sequence(1, "message_1 refused: method")},
		{"suite", h.r.core, fail(CheckSuite, "x").at(1), sequence(2, 24)},
		{"order", h.r.core, fail(CheckSuiteOrder, "x").at(1), sequence(2, 24)},
		{"pinned", h.r.core, fail(CheckSuitePinned, "x").at(1), sequence(2, 24)},
		{"credential", h.r.core, fail(CheckCredentialUnknown, "x").at(3), sequence(3, true)},
		{"what is encrypted is not spoken of", h.r.core, fail(CheckSignature, "x").at(3), sequence(1, "message_3 refused")},
		{"wrapped", h.i.core, errors.Join(fail(CheckAEAD, "x").at(4)), sequence(1, "message_4 refused")},
		{"state", h.r.core, fail(CheckState, "x").at(3), nil},
		{"duplicate", h.r.core, fail(CheckDuplicate, "x").at(3), nil},
		{"an error message", h.r.core, fail(CheckErrorInfo, "x"), nil},
		{"something else", h.r.core, errHardware, nil},
		{"nothing", h.r.core, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.from.ErrorReply(c.err); !bytes.Equal(got, c.want) {
				t.Fatalf("%x, want %x", got, c.want)
			}
		})
	}
	h = b.through(t, 5)
	if got := h.i.ErrorReply(fail(CheckAEAD, "x").at(4)); got != nil {
		t.Fatalf("a completed session answers %x", got)
	}
}

func TestErrorMessages(t *testing.T) {
	for _, c := range []struct {
		m    ErrorMessage
		wire string
		text string
	}{
		{ErrorMessage{Code: 1, Text: "Method not supported"}, "01744d6574686f64206e6f7420737570706f72746564", `"Method not supported"`},
		{ErrorMessage{Code: 2, Suites: []int{6}}, "0206", "[6]"},
		{ErrorMessage{Code: 2, Suites: []int{9, 8}}, "02820908", "[9 8]"},
		{ErrorMessage{Code: 3}, "03f5", "unknown credential"},
		{ErrorMessage{Code: -7, Info: []byte{0x82, 0x01, 0x02}}, "26820102", "error code -7"},
	} {
		if got := c.m.Encode(); !bytes.Equal(got, unhex(t, c.wire)) {
			t.Errorf("%+v is %x, want %s", c.m, got, c.wire)
		}
		back, err := ParseError(unhex(t, c.wire))
		if err != nil {
			t.Fatal(err)
		}
		if back.Code != c.m.Code || back.Text != c.m.Text || !slices.Equal(back.Suites, c.m.Suites) || !bytes.Equal(back.Info, c.m.Info) {
			t.Errorf("%+v became %+v", c.m, back)
		}
		if !strings.Contains(back.Error(), c.text) || !IsError(unhex(t, c.wire)) {
			t.Errorf("%q, IsError %v", back.Error(), IsError(unhex(t, c.wire)))
		}
	}
	if got := (&ErrorMessage{Code: 5}).Encode(); !bytes.Equal(got, []byte{0x05, 0x60}) {
		t.Errorf("%x", got)
	}
	if _, err := ParseError([]byte{0x00, 0x60}); !errors.Is(err, CheckErrorCode) {
		t.Error(err)
	}
	b := newBench(t, SignatureSignature, 24)
	h := b.through(t, 5)
	for _, m := range [][]byte{h.m2, h.m3, h.m4, nil} {
		if IsError(m) {
			t.Errorf("%x is taken for an error message", m)
		}
	}
}

// TestErrorText: the text of a refusal names message, check and section, and its parts can be asked for.
func TestErrorText(t *testing.T) {
	e := fail(CheckSignature, "detail").at(3)
	if got, want := e.Error(), "edhoc: message_3: signature (RFC 9528, 5.4.3): detail"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	bare := &Error{Message: 0, Check: CheckErrorCode}
	if got, want := bare.Error(), "edhoc: error message: error-code (RFC 9528, 6.1)"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	if !errors.Is(bare, CheckErrorCode) || errors.Is(bare, CheckAEAD) {
		t.Fatal("errors.Is")
	}
	if CheckAEAD.Error() != "edhoc: check aead" {
		t.Fatal(CheckAEAD.Error())
	}
	for _, c := range Checks() {
		for m := range 5 {
			if c.Section(m) == "" {
				t.Fatalf("%q has no section for message %d", string(c), m)
			}
		}
	}
	if CheckLocal.Section(1) != "6" {
		t.Fatal("section of a local failure")
	}
	for s := StateStart; s <= StateAborted; s++ {
		if s.String() == "" {
			t.Fatal("a state without a name")
		}
	}
}
