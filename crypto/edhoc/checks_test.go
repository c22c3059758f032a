// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// checkCase is one demand of RFC 9528 on one message, and a message that only the check of it refuses. That it is only
// that check is shown in one of three ways. relaxed gives a configuration under which the same message, made in the same
// way, is accepted. Where no configuration may switch the check off, twin is the same message without the fault, by the
// same cheating peer, and it is accepted. With neither, the message is accepted in the state before the case's before.
type checkCase struct {
	role    Role
	message int // 0: error message
	check   Check
	name    string

	method  Method // of the exchange; 0 unless said otherwise
	suite   int    // noSuite: 24
	config  func(b *bench)
	relaxed func(b *bench)
	before  func(w *world) // brings the receiver into another state
	build   func(w *world) []byte
	twin    func(w *world) []byte
}

// suite0 stands for suite 0, since 0 stands for suite 24 in a case.
const suite0 = 1000

// world is what a cheating peer has at hand.
type world struct {
	*bench
	t          testing.TB
	i          *Initiator
	r          *Responder
	x, y       *fixedKey
	m1, m2, m3 []byte // the honest messages so far
	msg        []byte // the message of the case, where it must be the very same twice
}

// newWorld brings both sides to where the message of the case is due; an error message is due after message_1 and
// message_2 were sent.
func newWorld(t testing.TB, b *bench, message int) *world {
	t.Helper()
	w := &world{bench: b, t: t, x: freshKey(t, b.suite), y: freshKey(t, b.suite)}
	b.initCfg.Ephemeral, b.respCfg.Ephemeral = w.x.factory, w.y.factory
	w.i, w.r = b.initiator(t), b.responder(t)
	w.m1 = w.must(w.i.Message1())
	if message == 1 {
		return w
	}
	w.do(w.r.Message1(w.m1))
	if message == 2 {
		return w
	}
	w.m2 = w.must(w.r.Message2())
	if message == 0 {
		return w
	}
	w.do(w.i.Message2(w.m2))
	if message == 3 {
		return w
	}
	w.m3 = w.must(w.i.Message3())
	w.do(w.r.Message3(w.m3))
	return w
}

func (w *world) must(b []byte, err error) []byte { w.t.Helper(); w.do(nil, err); return b }

func (w *world) do(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// deliver gives the message to the receiver of the case.
func (w *world) deliver(c *checkCase, msg []byte) error {
	var err error
	switch {
	case c.message == 0 && c.role == RoleInitiator:
		_, err = w.i.Error(msg)
	case c.message == 0:
		_, err = w.r.Error(msg)
	case c.message == 1:
		_, err = w.r.Message1(msg)
	case c.message == 2:
		_, err = w.i.Message2(msg)
	case c.message == 3:
		_, err = w.r.Message3(msg)
	case c.message == 4:
		_, err = w.i.Message4(msg)
	}
	return err
}

// once makes a message and gives the same bytes from then on.
func once(build func(w *world) []byte) func(w *world) []byte {
	return func(w *world) []byte {
		if w.msg == nil {
			w.msg = build(w)
		}
		return w.msg
	}
}

// parts1 are the data items of message_1.
func (w *world) parts1(alter func(p []raw) []raw) []byte {
	p := []raw{sequence(int(w.method)), sequence(w.suite.ID), sequence(compact(w.suite.Curve, w.x.PublicKey())), {0x2d}}
	if alter != nil {
		p = alter(p)
	}
	return bytes.Join(asBytes(p), nil)
}

func asBytes(p []raw) (out [][]byte) {
	for _, b := range p {
		out = append(out, b)
	}
	return out
}

// replace gives something else at one place of message_1.
func replace(at int, with ...byte) func(w *world) []byte {
	return func(w *world) []byte {
		return w.parts1(func(p []raw) []raw { p[at] = with; return p })
	}
}

func plain1(w *world) []byte { return w.parts1(nil) }

func append1(b ...byte) func(w *world) []byte {
	return func(w *world) []byte { return append(plain1(w), b...) }
}

// forged makes message_2 or message_3 with an alteration.
func (w *world) forged(message int, alter func(w *world, f *forgery)) []byte {
	f := w.genuine(message)
	if alter != nil {
		alter(w, f)
	}
	if message == 2 {
		return f.message2(w.t, w.r, w.y.PrivateKey)
	}
	return f.message3(w.t, w.i)
}

// receiver is the configuration of the side that processes a message, sender the other side's keys.
func (b *bench) receiver(message int) *Config {
	if message == 2 || message == 4 {
		return &b.initCfg
	}
	return &b.respCfg
}

func (b *bench) sender(message int) *party {
	if message == 2 {
		return b.r
	}
	return b.i
}

func (b *bench) receiverParty(message int) *party {
	if message == 2 {
		return b.i
	}
	return b.r
}

func knows(labels ...int64) func(b *bench) {
	return func(b *bench) { b.initCfg.EADLabels, b.respCfg.EADLabels = labels, labels }
}

func limits(n int) func(b *bench) {
	return func(b *bench) { b.initCfg.MaxMessageSize, b.respCfg.MaxMessageSize = n, n }
}

// refuses lets the application refuse an item with value 07 in one message.
func refuses(message int) func(b *bench) {
	return func(b *bench) {
		b.receiver(message).ProcessEAD = func(m int, field []EAD) error {
			for _, e := range field {
				if m == message && bytes.Equal(e.Value, []byte{7}) {
					return errors.New("not in this way")
				}
			}
			return nil
		}
	}
}

func flipLast(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// offCurve finds an x coordinate that belongs to no point.
func offCurve(w *world) raw {
	x := make([]byte, w.suite.Curve.size())
	for range 256 {
		rand.Read(x)
		x[0] = 0
		if _, e := expand(w.suite.Curve, x); e != nil {
			return x
		}
	}
	w.t.Fatal("every x coordinate of 256 belongs to a point")
	return nil
}

// selfSigned makes a certificate of a signer.
func selfSigned(t testing.TB, signer crypto.Signer, usage x509.KeyUsage) *Credential {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "self"}, KeyUsage: usage,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func checkCases(t testing.TB) []checkCase {
	var cases []checkCase

	// ---- message_1, Responder (5.2.3) ----
	m1 := func(check Check, name string, c checkCase) {
		c.role, c.message, c.check, c.name = RoleResponder, 1, check, name
		if c.twin == nil && c.relaxed == nil && c.before == nil {
			c.twin = plain1
		}
		cases = append(cases, c)
	}
	m1(CheckState, "while message_3 is awaited", checkCase{
		before: func(w *world) { w.do(w.r.Message1(w.m1)); w.must(w.r.Message2()) },
		build:  replace(3, 0x2c),
	})
	m1(CheckDuplicate, "the same again", checkCase{
		before: func(w *world) { w.do(w.r.Message1(w.m1)) },
		build:  func(w *world) []byte { return w.m1 },
	})
	m1(CheckSize, "above the limit", checkCase{
		config: limits(54), relaxed: limits(55), build: append1(0x05),
	})
	m1(CheckCBOR, "cut short", checkCase{build: append1(0x00, 0x42, 0x00), twin: append1(0x00, 0x41, 0x00)})
	m1(CheckCBOR, "a tag", checkCase{build: replace(0, 0xc1, 0x00)})
	m1(CheckDeterminism, "METHOD in two bytes", checkCase{build: replace(0, 0x18, 0x00)})
	m1(CheckDeterminism, "length of G_X in two bytes", checkCase{build: func(w *world) []byte {
		return w.parts1(func(p []raw) []raw { p[2] = append(raw{0x59, 0x00}, p[2][1:]...); return p })
	}})
	m1(CheckDeterminism, "SUITES_I of indefinite length", checkCase{
		build: replace(1, 0x9f, 0x02, 0x18, 0x18, 0xff), twin: replace(1, 0x82, 0x02, 0x18, 0x18),
	})
	m1(CheckCDDL, "no C_I", checkCase{
		build: func(w *world) []byte { return w.parts1(func(p []raw) []raw { return p[:3] }) },
	})
	m1(CheckCDDL, "METHOD is text", checkCase{build: replace(0, 0x61, 'x')})
	m1(CheckCDDL, "SUITES_I is an array of one", checkCase{build: replace(1, 0x81, 0x18, 0x18)})
	m1(CheckCDDL, "SUITES_I is an empty array", checkCase{build: replace(1, 0x80)})
	m1(CheckCDDL, "SUITES_I holds text", checkCase{
		build: replace(1, 0x82, 0x61, 'x', 0x18, 0x18), twin: replace(1, 0x82, 0x02, 0x18, 0x18),
	})
	m1(CheckCDDL, "SUITES_I is text", checkCase{build: replace(1, 0x61, 'x')})
	m1(CheckCDDL, "G_X is text", checkCase{build: replace(2, 0x61, 'x')})
	m1(CheckCDDL, "C_I is 24", checkCase{build: replace(3, 0x18, 0x18), twin: replace(3, 0x17)})
	m1(CheckCDDL, "C_I is -25", checkCase{build: replace(3, 0x38, 0x18), twin: replace(3, 0x37)})
	m1(CheckCDDL, "C_I is text", checkCase{build: replace(3, 0x61, 'x'), twin: replace(3, 0x41, 'x')})
	m1(CheckCDDL, "EAD_1 begins with a value", checkCase{build: append1(0x41, 0x00), twin: append1(0x00, 0x41, 0x00)})
	m1(CheckCDDL, "EAD_1 holds two values in a row", checkCase{
		build: append1(0x00, 0x41, 0x00, 0x41, 0x00), twin: append1(0x00, 0x41, 0x00, 0x00, 0x41, 0x00),
	})
	m1(CheckCDDL, "an EAD label that is no integer", checkCase{build: append1(0xf5), twin: append1(0x05)})
	m1(CheckCDDL, "an EAD label that has no absolute value", checkCase{
		build: append1(0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255),
		twin:  append1(0x1b, 0x7f, 255, 255, 255, 255, 255, 255, 255),
	})
	m1(CheckIdentifier, "C_I as a byte string that could be an integer", checkCase{
		build: replace(3, 0x41, 0x2d), twin: replace(3, 0x41, 0x18),
	})
	m1(CheckMethod, "one that is not supported", checkCase{
		build:   replace(0, 0x03),
		relaxed: func(b *bench) { b.respCfg.Methods = []Method{0, 3} },
	})
	m1(CheckMethod, "one that does not exist", checkCase{build: replace(0, 0x04)})
	m1(CheckMethod, "beyond 64 bits", checkCase{build: replace(0, 0x1b, 255, 255, 255, 255, 255, 255, 255, 255)})
	m1(CheckSuite, "the selected one is not supported", checkCase{suite: -24,
		config:  func(b *bench) { b.respCfg.Suites = []Suite{mustSuite(t, 5)} },
		relaxed: func(b *bench) { b.respCfg.Suites = []Suite{mustSuite(t, -24)} },
		build:   plain1,
	})
	m1(CheckSuite, "beyond 64 bits", checkCase{build: replace(1, 0x1b, 255, 255, 255, 255, 255, 255, 255, 255)})
	m1(CheckSuiteOrder, "an earlier one is supported", checkCase{suite: -24,
		config:  func(b *bench) { b.respCfg.Suites = []Suite{mustSuite(t, -24), mustSuite(t, 5)} },
		relaxed: func(b *bench) { b.respCfg.Suites = []Suite{mustSuite(t, -24)} },
		build:   replace(1, 0x82, 0x05, 0x37),
	})
	m1(CheckSuitePinned, "another one is named", checkCase{
		config:  func(b *bench) { b.respCfg.PinSuite = true },
		relaxed: func(b *bench) { b.respCfg.PinSuite = false },
		build:   replace(1, 0x82, 0x02, 0x18, 0x18),
	})
	gX := func(alter func(w *world, x []byte) []byte) func(w *world) []byte {
		return func(w *world) []byte {
			return w.parts1(func(p []raw) []raw { p[2] = sequence(alter(w, compact(w.suite.Curve, w.x.PublicKey()))); return p })
		}
	}
	m1(CheckKeyLength, "G_X is short", checkCase{build: gX(func(_ *world, x []byte) []byte { return x[:47] })})
	m1(CheckKeyLength, "G_X is long", checkCase{build: gX(func(_ *world, x []byte) []byte { return append(x, 0) })})
	m1(CheckPublicKey, "G_X is no point", checkCase{build: gX(func(w *world, _ []byte) []byte { return offCurve(w) })})
	m1(CheckPublicKey, "G_X is above the field", checkCase{
		build: gX(func(_ *world, x []byte) []byte { return bytes.Repeat([]byte{255}, len(x)) }),
	})
	m1(CheckPublicKey, "G_X is of small order", checkCase{suite: suite0,
		build: gX(func(_ *world, x []byte) []byte { return append([]byte{1}, make([]byte, 31)...) }),
	})

	// ---- what message_2 and message_3 share (5.3.3 and 5.4.3) ----
	for _, n := range []int{2, 3} {
		role := map[int]Role{2: RoleInitiator, 3: RoleResponder}[n]
		genuine := func(w *world) []byte { return w.forged(n, nil) }
		m := func(check Check, name string, c checkCase) {
			c.role, c.message, c.check, c.name = role, n, check, name
			if c.twin == nil && c.relaxed == nil && c.before == nil {
				c.twin = genuine
			}
			cases = append(cases, c)
		}
		with := func(alter func(w *world, f *forgery)) func(w *world) []byte {
			return func(w *world) []byte { return w.forged(n, alter) }
		}
		body := func(alter func(b []byte) []byte) func(w *world) []byte {
			return with(func(_ *world, f *forgery) { f.body = alter })
		}
		plain := func(alter func(b []byte) []byte) func(w *world) []byte {
			return with(func(_ *world, f *forgery) { f.plain = alter })
		}
		ead := func(b ...byte) func(w *world) []byte {
			return with(func(_ *world, f *forgery) { f.ead = b })
		}
		id := func(v any) func(w *world) []byte {
			return with(func(_ *world, f *forgery) { f.idMap = sequence(v); f.idWire = f.idMap })
		}
		m(CheckState, "before its turn", checkCase{
			before: func(w *world) {
				w.msg = w.forged(n, nil)
				w.i, w.r = w.initiator(w.t), w.responder(w.t)
			},
			build: once(genuine),
		})
		m(CheckDuplicate, "the same again", checkCase{
			before: func(w *world) {
				w.msg = w.forged(n, nil)
				w.do(nil, w.deliver(&checkCase{role: role, message: n}, w.msg))
			},
			build: once(genuine),
		})
		m(CheckSize, "above the limit", checkCase{
			config: limits(200), relaxed: limits(300),
			build: ead(sequence(0, make([]byte, 120))...),
		})
		m(CheckCBOR, "cut short", checkCase{build: body(func(b []byte) []byte { return b[:len(b)-1] })})
		m(CheckCDDL, "nothing at all", checkCase{build: body(func([]byte) []byte { return nil })})
		m(CheckCDDL, "two items", checkCase{build: body(func(b []byte) []byte { return append(b, 0x00) })})
		m(CheckCDDL, "not a byte string", checkCase{build: body(func(b []byte) []byte { return sequence(strings.Repeat("x", len(b))) })})
		m(CheckDeterminism, "length in two bytes", checkCase{build: body(func(b []byte) []byte {
			return append([]byte{0x59, 0x00}, b[1:]...)
		})})
		m(CheckDeterminism, "indefinite length", checkCase{build: body(func(b []byte) []byte {
			return append(append([]byte{0x5f}, b...), 0xff)
		})})
		m(CheckCBOR, "a plaintext that is cut short", checkCase{build: plain(func(b []byte) []byte { return b[:len(b)-1] })})
		m(CheckDeterminism, "a plaintext that is not deterministic", checkCase{build: ead(0x18, 0x05), twin: ead(0x05)})
		m(CheckCDDL, "an empty plaintext", checkCase{build: plain(func([]byte) []byte { return nil })})
		m(CheckCDDL, "a plaintext without Signature_or_MAC", checkCase{build: with(func(_ *world, f *forgery) {
			f.plain = func([]byte) []byte { return sequence(f.cR, f.idWire) }
		})})
		m(CheckCDDL, "Signature_or_MAC is text", checkCase{build: with(func(_ *world, f *forgery) {
			f.plain = func([]byte) []byte { return sequence(f.cR, f.idWire, "x") }
		})})
		m(CheckCDDL, "EAD begins with a value", checkCase{build: ead(0x41, 0x00), twin: ead(0x00, 0x41, 0x00)})
		m(CheckEADCriticality, "one label both ways", checkCase{config: knows(5), build: ead(0x05, 0x24), twin: ead(0x24, 0x24)})
		m(CheckEADUnknown, "a critical item", checkCase{build: ead(0x24), relaxed: knows(5)})
		m(CheckEADRejected, "the application refuses the content", checkCase{
			config: refuses(n), build: ead(0x05, 0x41, 0x07), twin: ead(0x05, 0x41, 0x08),
		})

		// extra is another credential of the sender, known to the receiver beside the usual one.
		extra := func(make func(b *bench) *Credential) func(b *bench) {
			return func(b *bench) {
				b.extra = make(b)
				b.receiver(n).Lookup = func(r LookupRequest) ([]*Credential, error) {
					if bytes.Equal(r.ID.kid, b.sender(n).signCred.kid) {
						return []*Credential{b.sender(n).signCred}, nil
					}
					return []*Credential{b.extra}, nil
				}
			}
		}
		certificate := extra(func(b *bench) *Credential { return selfSigned(t, b.sender(n).signer, 0) })
		asExtra := func(id func(c *Credential) IDCred) func(w *world) []byte {
			return with(func(w *world, f *forgery) { f.as(w.extra, id(w.extra)) })
		}
		m(CheckIdentifier, "kid as a byte string that could be an integer", checkCase{
			config: extra(func(b *bench) *Credential { return mustCCS(t, "x", []byte{0x22}, b.sender(n).signer.Public()) }),
			build: with(func(w *world, f *forgery) {
				f.as(w.extra, ByKID(w.extra.kid))
				f.idWire = raw{0x41, 0x22}
			}),
			twin: asExtra(func(c *Credential) IDCred { return ByKID(c.kid) }),
		})
		m(CheckCDDL, "kid is 24", checkCase{build: with(func(_ *world, f *forgery) { f.idWire = raw{0x18, 0x18} })})
		m(CheckCDDL, "ID_CRED is text", checkCase{build: with(func(_ *world, f *forgery) { f.idWire = raw{0x61, 'x'} })})
		m(CheckIDCredForm, "a lone kid that is not compact", checkCase{build: with(func(_ *world, f *forgery) { f.idWire = f.idMap })})
		m(CheckIDCredForm, "x5t is not a pair", checkCase{build: id(map[int]any{34: []any{-16}})})
		m(CheckIDCredForm, "x5t without a hash", checkCase{build: id(map[int]any{34: []any{-16, "x"}})})
		m(CheckIDCredForm, "x5t with a short hash", checkCase{build: id(map[int]any{34: []any{-16, make([]byte, 31)}})})
		m(CheckIDCredForm, "x5chain of one in an array", checkCase{build: id(map[int]any{33: []any{[]byte{1}}})})
		m(CheckIDCredForm, "x5chain is text", checkCase{build: id(map[int]any{33: "x"})})
		m(CheckIDCredForm, "x5chain holds text", checkCase{build: id(map[int]any{33: []any{[]byte{1}, "x"}})})
		m(CheckIDCredType, "x5u", checkCase{build: id(map[int]any{35: "https://example.com"})})
		m(CheckIDCredType, "x5t with SHA-1", checkCase{build: id(map[int]any{34: []any{-14, make([]byte, 20)}})})
		m(CheckIDCredType, "x5t with an algorithm by name", checkCase{build: id(map[int]any{34: []any{"SHA-256", make([]byte, 32)}})})
		m(CheckIDCredType, "a parameter named by text", checkCase{build: id(map[string]any{"x": 1})})
		m(CheckIDCredType, "no parameter", checkCase{build: id(map[int]any{})})
		m(CheckIDCredType, "two parameters", checkCase{build: id(map[int]any{4: []byte{1}, 10: []byte{2}})})
		m(CheckCBOR, "one parameter twice", checkCase{build: id(raw{0xa2, 0x04, 0x40, 0x04, 0x40})})
		m(CheckCredentialUnknown, "nothing known under the kid", checkCase{
			config:  func(b *bench) { b.receiver(n).Lookup = LookupKnown() },
			relaxed: func(b *bench) { b.receiver(n).Lookup = LookupKnown(b.sender(n).signCred) },
			build:   genuine,
		})
		m(CheckCredentialRejected, "the application does not accept it", checkCase{
			config: func(b *bench) {
				b.receiver(n).Lookup = func(LookupRequest) ([]*Credential, error) { return nil, errors.New("not today") }
			},
			relaxed: func(b *bench) { b.receiver(n).Lookup = LookupKnown(b.sender(n).signCred) },
			build:   genuine,
		})
		m(CheckCredentialBinding, "the certificate has another hash than x5t", checkCase{config: certificate,
			build: asExtra(func(c *Credential) IDCred { return ByX5T(SHA256, []byte("another certificate")) }),
			twin:  asExtra(func(c *Credential) IDCred { return ByX5T(SHA256, c.cert.Raw) }),
		})
		m(CheckCredentialBinding, "x5t and a CCS", checkCase{
			config: extra(func(b *bench) *Credential { return mustCCS(t, "x", []byte{0x22}, b.sender(n).signer.Public()) }),
			build:  asExtra(func(c *Credential) IDCred { return ByX5T(SHA256, c.encoded) }),
			twin:   asExtra(func(c *Credential) IDCred { return ByKID(c.kid) }),
		})
		m(CheckCredentialBinding, "the certificate is not the first of x5chain", checkCase{config: certificate,
			build: asExtra(func(c *Credential) IDCred { return ByX5Chain([]byte{1}, c.cert.Raw) }),
			twin:  asExtra(func(c *Credential) IDCred { return ByX5Chain(c.cert.Raw, []byte{1}) }),
		})
		m(CheckCredentialKey, "a COSE_Key that is not for signatures", checkCase{
			config: extra(func(b *bench) *Credential {
				return keyOps(t, mustCCS(t, "x", []byte{0x22}, b.sender(n).signer.Public()), 7)
			}),
			build: asExtra(func(c *Credential) IDCred { return ByKID(c.kid) }),
		})
		m(CheckCredentialKey, "a certificate that is not for signatures", checkCase{
			config: extra(func(b *bench) *Credential { return selfSigned(t, b.sender(n).signer, x509.KeyUsageKeyAgreement) }),
			build:  asExtra(func(c *Credential) IDCred { return ByX5T(SHA256, c.cert.Raw) }),
		})
		m(CheckCredentialKey, "a key of another curve", checkCase{
			config: extra(func(b *bench) *Credential {
				return mustCCS(t, "x", []byte{0x22}, newParty(t, mustSuite(t, 2), "x", 0).signer.Public())
			}),
			build: asExtra(func(c *Credential) IDCred { return ByKID(c.kid) }),
		})
		m(CheckCredentialKey, "a certificate that is not for key agreement", checkCase{method: StaticStatic,
			config: func(b *bench) {
				// The sender's static key is its signature key in this exchange.
				signer := b.sender(n).signer.(interface{ ECDH() (*ecdhPrivate, error) })
				static, err := signer.ECDH()
				if err != nil {
					t.Fatal(err)
				}
				b.sender(n).static = static
				good := selfSigned(t, b.sender(n).signer, x509.KeyUsageKeyAgreement)
				bad := selfSigned(t, b.sender(n).signer, x509.KeyUsageDigitalSignature)
				b.sender(n).dhCred, b.extra = good, bad
				other := map[int]*Config{2: &b.respCfg, 3: &b.initCfg}[n]
				other.Identities = []Identity{{Credential: good, ID: ByX5T(SHA256, good.cert.Raw), KeyExchanger: static}}
				b.receiver(n).Lookup = LookupKnown(good, bad)
			},
			build: asExtra(func(c *Credential) IDCred { return ByX5T(SHA256, c.cert.Raw) }),
			twin: with(func(w *world, f *forgery) {
				c := w.sender(n).dhCred
				f.as(c, ByX5T(SHA256, c.cert.Raw))
			}),
		})
		m(CheckOwnCredential, "the peer is ourselves", checkCase{
			config: func(b *bench) {
				b.receiver(n).Lookup = LookupKnown(b.sender(n).signCred, b.receiverParty(n).signCred)
			},
			build: with(func(w *world, f *forgery) {
				us := w.receiverParty(n)
				f.as(us.signCred, ByKID(us.signCred.kid))
				f.signer = us.signer
			}),
		})
		m(CheckAuthLength, "a signature that is short", checkCase{
			build: with(func(_ *world, f *forgery) { f.auth = func(b []byte) []byte { return b[:len(b)-1] } }),
		})
		m(CheckAuthLength, "a MAC that is long", checkCase{method: StaticStatic,
			build: with(func(_ *world, f *forgery) { f.auth = func(b []byte) []byte { return append(bytes.Clone(b), 0) } }),
		})
		m(CheckSignature, "one bit is wrong", checkCase{
			build: with(func(_ *world, f *forgery) { f.auth = flipLast }),
		})
		m(CheckSignature, "made with another key", checkCase{
			build: with(func(w *world, f *forgery) { f.signer = newParty(t, w.suite, "x", 0).signer }),
		})
		m(CheckSignature, "over another credential", checkCase{
			build: with(func(_ *world, f *forgery) { f.cred = sequence(map[int]any{2: "someone else"}) }),
		})
		m(CheckMAC, "one bit is wrong", checkCase{method: StaticStatic,
			build: with(func(_ *world, f *forgery) { f.auth = flipLast }),
		})
		m(CheckMAC, "made with another static key", checkCase{method: StaticStatic,
			build: with(func(w *world, f *forgery) { f.static = newParty(t, w.suite, "x", 0).static }),
		})
	}

	// ---- message_2 alone ----
	m2 := func(check Check, name string, build func(w *world) []byte) {
		cases = append(cases, checkCase{role: RoleInitiator, message: 2, check: check, name: name, build: build,
			twin: func(w *world) []byte { return w.forged(2, nil) }})
	}
	m2(CheckKeyLength, "too short for G_Y", func(w *world) []byte { return sequence(make([]byte, 47)) })
	m2(CheckPublicKey, "G_Y is no point", func(w *world) []byte {
		return w.forged(2, func(_ *world, f *forgery) { f.gY = func([]byte) []byte { return offCurve(w) } })
	})
	m2(CheckKeyReuse, "G_Y is G_X", func(w *world) []byte { return w.genuine(2).message2(w.t, w.r, w.x.PrivateKey) })
	m2(CheckIdentifier, "C_R as a byte string that could be an integer", func(w *world) []byte {
		return w.forged(2, func(_ *world, f *forgery) { f.cR = raw{0x41, 0x21} })
	})
	m2(CheckCDDL, "C_R is text", func(w *world) []byte {
		return w.forged(2, func(_ *world, f *forgery) { f.cR = raw{0x61, 'x'} })
	})

	// ---- AEAD of message_3 ----
	m3 := func(name string, build func(w *world) []byte) {
		cases = append(cases, checkCase{role: RoleResponder, message: 3, check: CheckAEAD, name: name, build: build,
			twin: func(w *world) []byte { return w.forged(3, nil) }})
	}
	m3("one bit is wrong", func(w *world) []byte { return flipLast(w.forged(3, nil)) })
	m3("our own message_2, reflected", func(w *world) []byte { return w.m2 })
	m3("of another session", func(w *world) []byte {
		return newWorld(w.t, newBench(w.t, w.method, w.suite.ID), 3).forged(3, nil)
	})

	// ---- EAD_1, Responder, and EAD_4, Initiator ----
	for _, n := range []int{1, 4} {
		role := map[int]Role{1: RoleResponder, 4: RoleInitiator}[n]
		with := func(b ...byte) func(w *world) []byte {
			return func(w *world) []byte {
				if n == 1 {
					return append(plain1(w), b...)
				}
				return forge4(w.t, w.r, b)
			}
		}
		cases = append(cases,
			checkCase{role: role, message: n, check: CheckEADCriticality, name: "one label both ways", config: knows(5),
				build: with(0x05, 0x24), twin: with(0x24, 0x24)},
			checkCase{role: role, message: n, check: CheckEADUnknown, name: "a critical item",
				build: with(0x24), relaxed: knows(5)},
			checkCase{role: role, message: n, check: CheckEADRejected, name: "the application refuses the content",
				config: refuses(n), build: with(0x05, 0x41, 0x07), twin: with(0x05, 0x41, 0x08)})
	}

	// ---- message_4, Initiator (5.5.3) ----
	good4 := func(w *world) []byte { return forge4(w.t, w.r, nil) }
	m4 := func(check Check, name string, build func(w *world) []byte, c checkCase) {
		c.role, c.message, c.check, c.name, c.build = RoleInitiator, 4, check, name, build
		if c.twin == nil && c.relaxed == nil && c.before == nil {
			c.twin = good4
		}
		cases = append(cases, c)
	}
	m4(CheckState, "before its turn", good4, checkCase{before: func(w *world) { w.i = w.initiator(w.t) }})
	m4(CheckDuplicate, "the same again", once(good4), checkCase{
		before: func(w *world) { w.msg = good4(w); w.do(w.i.Message4(w.msg)) },
	})
	m4(CheckSize, "above the limit", func(w *world) []byte { return forge4(w.t, w.r, make([]byte, 300)) },
		checkCase{config: limits(299), relaxed: limits(400)})
	m4(CheckCBOR, "cut short", func(w *world) []byte { b := good4(w); return b[:len(b)-1] }, checkCase{})
	m4(CheckCDDL, "nothing at all", func(*world) []byte { return nil }, checkCase{})
	m4(CheckCDDL, "not a byte string", func(*world) []byte { return sequence("x") }, checkCase{})
	m4(CheckDeterminism, "length in two bytes", func(w *world) []byte { return append([]byte{0x58, 16}, good4(w)[1:]...) }, checkCase{})
	m4(CheckAEAD, "one bit is wrong", func(w *world) []byte { return flipLast(good4(w)) }, checkCase{})
	m4(CheckAEAD, "our own message_3, reflected", func(w *world) []byte { return w.m3 }, checkCase{})
	m4(CheckAEAD, "no tag", func(*world) []byte { return sequence([]byte{}) }, checkCase{})
	m4(CheckCBOR, "a plaintext that is cut short", func(w *world) []byte { return forge4(w.t, w.r, []byte{0x18}) }, checkCase{})
	m4(CheckDeterminism, "a plaintext that is not deterministic", func(w *world) []byte { return forge4(w.t, w.r, []byte{0x18, 0}) },
		checkCase{})
	m4(CheckCDDL, "EAD begins with a value", func(w *world) []byte { return forge4(w.t, w.r, []byte{0x40}) }, checkCase{
		twin: func(w *world) []byte { return forge4(w.t, w.r, []byte{0x00, 0x40}) },
	})

	// ---- error messages, both roles (6) ----
	fine := sequence(1, "x")
	for _, role := range []Role{RoleInitiator, RoleResponder} {
		er := func(check Check, name string, msg []byte, c checkCase) {
			c.role, c.check, c.name = role, check, name
			c.build = func(*world) []byte { return msg }
			if c.twin == nil && c.relaxed == nil && c.before == nil {
				c.twin = func(*world) []byte { return fine }
			}
			cases = append(cases, c)
		}
		er(CheckState, "when nothing was sent", fine, checkCase{
			before: func(w *world) { w.i, w.r = w.initiator(w.t), w.responder(w.t) },
		})
		er(CheckState, "after the last message", fine, checkCase{before: func(w *world) {
			w.do(w.i.Message2(w.m2))
			w.do(w.r.Message3(w.must(w.i.Message3())))
			w.do(w.i.Message4(w.must(w.r.Message4())))
		}})
		er(CheckSize, "above the limit", sequence(1, strings.Repeat("x", 600)), checkCase{config: limits(500), relaxed: limits(700)})
		er(CheckCBOR, "cut short", []byte{0x01, 0x62, 'x'}, checkCase{})
		er(CheckDeterminism, "code in two bytes", []byte{0x18, 0x01, 0x61, 'x'}, checkCase{})
		er(CheckCDDL, "no ERR_INFO", []byte{0x01}, checkCase{})
		er(CheckCDDL, "too long", append(bytes.Clone(fine), 0x00), checkCase{})
		er(CheckCDDL, "ERR_CODE is text", []byte{0x61, 'x', 0x61, 'x'}, checkCase{})
		er(CheckErrorCode, "success", []byte{0x00, 0x61, 'x'}, checkCase{})
		er(CheckErrorInfo, "of code 1 is no text", []byte{0x01, 0xf5}, checkCase{})
		er(CheckErrorInfo, "of code 2 is no suite", []byte{0x02, 0xf5}, checkCase{})
		er(CheckErrorInfo, "of code 3 is not true", []byte{0x03, 0xf4}, checkCase{})
	}
	place := func(role Role, name string, msg, twin []byte, before func(w *world)) {
		cases = append(cases, checkCase{role: role, check: CheckErrorPlace, name: name, before: before,
			build: func(*world) []byte { return msg }, twin: func(*world) []byte { return twin }})
	}
	place(RoleInitiator, "unknown credential in reply to message_1", sequence(3, true), sequence(2, 24), nil)
	place(RoleInitiator, "cipher suites in reply to message_3", sequence(2, 24), sequence(3, true), func(w *world) {
		w.do(w.i.Message2(w.m2))
		w.must(w.i.Message3())
	})
	place(RoleResponder, "cipher suites from an Initiator", sequence(2, 24), sequence(3, true), nil)
	return cases
}

// keyOps makes a CCS again with key_ops in its COSE_Key.
func keyOps(t testing.TB, c *Credential, ops ...int) *Credential {
	t.Helper()
	seq, e := items(c.encoded)
	if e != nil {
		t.Fatal(e)
	}
	claims := seq[0].val.(map[any]any)
	key := claims[int64(8)].(map[any]any)[int64(1)].(map[any]any)
	key[int64(4)] = ops
	out, err := ParseCCS(sequence(claims))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *checkCase) bench(t testing.TB, relaxed bool) *bench {
	suite := c.suite
	switch suite {
	case 0:
		suite = 24
	case suite0:
		suite = 0
	}
	b := newBench(t, c.method, suite)
	if c.config != nil {
		c.config(b)
	}
	if relaxed && c.relaxed != nil {
		c.relaxed(b)
	}
	return b
}

func TestChecks(t *testing.T) {
	covered := map[Check]bool{}
	for _, c := range checkCases(t) {
		covered[c.check] = true
		name := fmt.Sprintf("%v/message_%d/%s/%s", c.role, c.message, string(c.check), c.name)
		if c.message == 0 {
			name = fmt.Sprintf("%v/error/%s/%s", c.role, string(c.check), c.name)
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.bench(t, false), c.message)
			if c.before != nil {
				c.before(w)
			}
			before := [2]State{w.i.state, w.r.state}
			err := w.deliver(&c, c.build(w))
			wantCheck(t, err, c.message, c.check)
			if !strings.Contains(err.Error(), "RFC 9528, "+c.check.Section(c.message)) || !errors.Is(err, c.check) {
				t.Fatalf("%v does not name its section, or is not its check", err)
			}
			if after := [2]State{w.i.state, w.r.state}; after != before {
				t.Fatalf("states went from %v to %v", before, after)
			}

			w = newWorld(t, c.bench(t, true), c.message)
			accepted := c.build
			if c.twin != nil {
				if c.before != nil {
					c.before(w)
				}
				accepted = c.twin
			}
			if err := w.deliver(&c, accepted(w)); err != nil {
				t.Fatalf("without the fault: %v", err)
			}
		})
	}
	for _, c := range Checks() {
		if !covered[c] && c != CheckLocal {
			t.Errorf("check %q has no case", string(c))
		}
	}
}
