// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// trace checks one file of values. Each value is fetched by name and compared; what is never fetched is found at the end.
type trace struct {
	v    map[string]any
	used map[string]bool
	bad  []string
}

func (tr *trace) errorf(format string, args ...any) {
	tr.bad = append(tr.bad, fmt.Sprintf(format, args...))
}

func (tr *trace) has(key string) bool { _, ok := tr.v[key]; return ok }

// hex is a value in bytes.
func (tr *trace) hex(key string) []byte {
	tr.used[key] = true
	s, _ := tr.v[key].(string)
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		tr.errorf("%s is no hex string", key)
	}
	return b
}

// numbers is a list of integers.
func (tr *trace) numbers(key string) []int {
	tr.used[key] = true
	list, _ := tr.v[key].([]any)
	var out []int
	for _, v := range list {
		f, _ := v.(float64)
		out = append(out, int(f))
	}
	return out
}

func (tr *trace) number(key string) int {
	tr.used[key] = true
	f, ok := tr.v[key].(float64)
	if !ok {
		tr.errorf("%s is no number", key)
	}
	return int(f)
}

// identifier is a connection identifier: the files give an integer that has a one-byte encoding by its value, and any
// other byte by itself.
func (tr *trace) identifier(key string) []byte {
	n := tr.numbers(key)
	if len(n) != 1 {
		tr.errorf("%s has %d elements", key, len(n))
		return nil
	}
	if n[0] >= -24 && n[0] <= 23 {
		return sequence(n[0])
	}
	return []byte{byte(n[0])}
}

// suites is a list of cipher suites; chapter 3 gives the bytes of the encoded array instead of its elements.
func (tr *trace) suites(key string) []int {
	n := tr.numbers(key)
	if len(n) < 2 {
		return n
	}
	b := make([]byte, len(n))
	for i, v := range n {
		b[i] = byte(v)
	}
	seq, e := items(b)
	if e != nil || len(seq) != 1 {
		tr.errorf("%s is no CBOR item", key)
		return n
	}
	list, e := parseSuites(seq[0])
	if e != nil {
		tr.errorf("%s: %v", key, e)
		return n
	}
	var out []int
	for _, s := range list {
		out = append(out, int(s))
	}
	return out
}

// eq compares a value, if the file has it, with what we computed.
func (tr *trace) eq(key string, got []byte) {
	if !tr.has(key) {
		return
	}
	if want := tr.hex(key); !bytes.Equal(got, want) {
		tr.errorf("%s is %x, computed %x", key, want, got)
	}
}

// side is one party of a trace.
type side struct {
	eph      *ecdh.PrivateKey
	identity Identity
	signed   *recorder
	static   *ecdh.PrivateKey
}

// clamped are the X25519 private keys of RFC 9529, 2.1 and 2.2.
var clamped = map[string]string{
	"X": "892ec28e5cb6669108470539500b705e60d008d347c5817ee9f3327c8a87bb03",
	"Y": "e69c23fbf81bc435942446837fe827bf206c8fa10a39db47449e5a813421e1e8",
}

// side builds a party from ephemeral key, private key and credential; x is "I" or "R".
func (tr *trace) side(s Suite, x string, static bool) (out side, err error) {
	names := map[string][2]string{"I": {"X", "G_X"}, "R": {"Y", "G_Y"}}[x]
	if out.eph, err = s.Curve.ecdh().NewPrivateKey(tr.hex(names[0])); err != nil {
		return out, err
	}
	tr.eq(names[1], compact(s.Curve, out.eph.PublicKey()))
	if s.Curve == X25519 {
		// Five bits of such a key are overridden when it is used (RFC 7748, 5), so that no result shows them.
		if want := clamped[names[0]]; tr.v[names[0]] != want {
			tr.errorf("%s is not %s", names[0], want)
		}
	}

	sk := tr.hex("SK_" + x)
	var signer crypto.Signer
	switch {
	case static:
		if out.static, err = s.Curve.ecdh().NewPrivateKey(sk); err != nil {
			return out, err
		}
		tr.eq("PK_"+x, compact(s.Curve, out.static.PublicKey()))
	case s.Signature == EdDSA:
		if len(sk) != ed25519.PrivateKeySize {
			return out, errors.New("private key length")
		}
		key := ed25519.NewKeyFromSeed(sk[:ed25519.SeedSize])
		tr.eq("SK_"+x, key)
		tr.eq("PK_"+x, key.Public().(ed25519.PublicKey))
		signer = key
	default:
		key, err := ecdsa.ParseRawPrivateKey(s.Curve.weierstrass(), sk)
		if err != nil {
			return out, err
		}
		pub, err := key.PublicKey.Bytes()
		if err != nil {
			return out, err
		}
		tr.eq("PK_"+x, pub)
		signer = deterministic{key}
	}

	if tr.has("CRED_" + x) {
		der := tr.hex("CRED_" + x)
		cred, err := NewCertificate(der)
		if err != nil {
			return out, err
		}
		tr.eq("CRED_"+x+"_cborised", cred.encoded)
		if err := verifyWithCA(cred.cert, tr.hex("PK_CA")); err != nil {
			return out, err
		}
		out.identity = Identity{Credential: cred, ID: ByX5T(SHA256_64, der), Signer: signer}
	} else {
		cred, err := ParseCCS(tr.hex("CRED_" + x + "_cborised"))
		if err != nil {
			return out, err
		}
		if out.static == nil {
			return out, errors.New("a CCS with a signature key")
		}
		// Made from its parts it is the same again.
		again, err := NewCCS(cred.Subject(), cred.KID(), out.static.PublicKey())
		if err != nil {
			return out, err
		}
		tr.eq("CRED_"+x+"_cborised", again.encoded)
		out.identity = Identity{Credential: cred, ID: ByKID(cred.kid), KeyExchanger: out.static}
		tr.eq("ID_CRED_"+x+"_raw_cborised", sequence(tr.number("ID_CRED_"+x+"_raw")))
		tr.eq("ID_CRED_"+x+"_raw_cborised", out.identity.ID.wire())
	}
	if signer != nil {
		out.signed = &recorder{Signer: signer}
		out.identity.Signer = out.signed
	}
	tr.eq("ID_CRED_"+x+"_cborised", out.identity.ID.Bytes())
	return out, nil
}

// verifyWithCA checks the signature on a certificate.
func verifyWithCA(c *x509.Certificate, ca []byte) error {
	if len(ca) == ed25519.PublicKeySize {
		if !ed25519.Verify(ca, c.RawTBSCertificate, c.Signature) {
			return errors.New("certificate signature")
		}
		return nil
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(P384.weierstrass(), ca)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(pub, SHA384.sum(c.RawTBSCertificate), c.Signature) {
		return errors.New("certificate signature")
	}
	return nil
}

// digest of a suite 24 exchange with the keys of suite24-keys-and-certificates.json, which lists no messages: SHA-256
// over the four messages, TH_4 and PRK_out with RFC 6979 signatures. It makes each of the file's values count.
const suite24Digest = "99ea855a48ec79d1feb8240d4bdfd4dc5c680060b35768d630ed4f5f4bc3773c"

// check runs the exchange of a trace and compares everything. It returns what is wrong.
func check(v map[string]any) (err error) {
	tr := &trace{v: v, used: map[string]bool{}}
	defer func() {
		for key := range v {
			if err == nil && len(tr.bad) == 0 && !tr.used[key] {
				tr.errorf("%s is not checked by anything", key)
			}
		}
		if err == nil && len(tr.bad) > 0 {
			slices.Sort(tr.bad)
			err = errors.New(strings.Join(tr.bad, "\n"))
		}
	}()

	method := Method(tr.number("METHOD"))
	if !method.valid() {
		return errors.New("METHOD")
	}
	suitesI, suitesR := tr.suites("SUITES_I"), tr.suites("SUITES_R")
	var cfgI, cfgR Config
	for _, id := range suitesI {
		s, err := SuiteByID(id)
		if err != nil {
			return err
		}
		cfgI.Suites = append(cfgI.Suites, s)
	}
	for _, id := range suitesR {
		s, err := SuiteByID(id)
		if err != nil {
			return err
		}
		cfgR.Suites = append(cfgR.Suites, s)
	}
	if len(cfgR.Suites) == 0 {
		return errors.New("SUITES_R")
	}
	s := cfgR.Suites[0]
	i, err := tr.side(s, "I", method.InitiatorStatic())
	if err != nil {
		return err
	}
	r, err := tr.side(s, "R", method.ResponderStatic())
	if err != nil {
		return err
	}

	// The exchange itself, through the state machines.
	cfgI.Methods, cfgR.Methods = []Method{method}, []Method{method}
	cfgI.PeerSuites = suitesR
	cfgI.ConnectionID, cfgR.ConnectionID = tr.identifier("C_I"), tr.identifier("C_R")
	cfgI.Identities, cfgR.Identities = []Identity{i.identity}, []Identity{r.identity}
	cfgI.Lookup, cfgR.Lookup = LookupKnown(r.identity.Credential), LookupKnown(i.identity.Credential)
	cfgI.Ephemeral = (&fixedKey{PrivateKey: i.eph}).factory
	cfgR.Ephemeral = (&fixedKey{PrivateKey: r.eph}).factory
	cfgI.Message4, cfgR.Message4 = true, true
	ini, err := NewInitiator(cfgI)
	if err != nil {
		return err
	}
	res, err := NewResponder(cfgR)
	if err != nil {
		return err
	}
	m1, err := ini.Message1()
	if err != nil {
		return err
	}
	tr.eq("message_1", m1)
	if _, err := res.Message1(m1); err != nil {
		return err
	}
	m2, err := res.Message2()
	if err != nil {
		return err
	}
	tr.eq("message_2", m2)
	if _, err := ini.Message2(m2); err != nil {
		return err
	}
	m3, err := ini.Message3()
	if err != nil {
		return err
	}
	tr.eq("message_3", m3)
	if _, err := res.Message3(m3); err != nil {
		return err
	}
	m4, err := res.Message4()
	if err != nil {
		return err
	}
	tr.eq("message_4", m4)
	if _, err := ini.Message4(m4); err != nil {
		return err
	}
	si, err := ini.Session()
	if err != nil {
		return err
	}
	sr, err := res.Session()
	if err != nil {
		return err
	}
	if !bytes.Equal(si.prkOut, sr.prkOut) || !bytes.Equal(si.th4, sr.th4) {
		return errors.New("the two sides disagree")
	}

	if !tr.has("message_1") {
		h := sha256.New()
		for _, b := range [][]byte{m1, m2, m3, m4, si.th4, si.prkOut} {
			h.Write(b)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != suite24Digest {
			tr.errorf("digest of the exchange is %s", got)
		}
		return nil
	}

	// The values in between, each from the file's own inputs by the functions the state machines use.
	v1 := &vault{}
	tr.eq("H_message_1", s.Hash.sum(m1))
	th2 := s.transcript(tr.hex("G_Y"), tr.hex("H_message_1"))
	tr.eq("TH_2", th2)
	gXY, err := i.eph.ECDH(r.eph.PublicKey())
	if err != nil {
		return err
	}
	tr.eq("G_XY", gXY)
	prk2e := s.extract(v1, th2, gXY)
	tr.eq("PRK_2e", prk2e)
	prk3e2m := prk2e
	if method.ResponderStatic() {
		gRX, err := r.static.ECDH(i.eph.PublicKey())
		if err != nil {
			return err
		}
		tr.eq("G_RX", gRX)
		tr.eq("SALT_3e2m_info", kdfInfo(labelSalt3e2m, th2, s.Hash.Size()))
		tr.eq("SALT_3e2m", s.kdf(v1, prk2e, labelSalt3e2m, th2, s.Hash.Size()))
		prk3e2m = s.saltPRK(v1, prk2e, labelSalt3e2m, th2, gRX)
	}
	tr.eq("PRK_3e2m", prk3e2m)

	st2 := &statement{message: 2, static: method.ResponderStatic(), cR: encodeIdentifier(cfgR.ConnectionID),
		idCred: r.identity.ID.Bytes(), th: th2, cred: r.identity.Credential.encoded}
	auth2 := tr.authenticator(s, "2", st2, prk3e2m, r.signed, "MAC_2_info_cborised")
	pt2 := append(append(encodeIdentifier(cfgR.ConnectionID), r.identity.ID.wire()...), sequence(auth2)...)
	tr.eq("PLAINTEXT_2", pt2)
	tr.eq("KEYSTREAM_2_info", kdfInfo(labelKeystream2, th2, len(pt2)))
	stream := s.keystream2(v1, prk2e, th2, len(pt2))
	tr.eq("KEYSTERAM_2", stream)
	ct2 := make([]byte, len(pt2))
	subtle.XORBytes(ct2, pt2, stream)
	tr.eq("CIPHERTEXT_2", ct2)
	tr.eq("message_2", sequence(append(tr.hex("G_Y"), ct2...)))

	th3Input := sequence(th2, raw(pt2), raw(r.identity.Credential.encoded))
	tr.eq("TH_3_input", th3Input)
	th3 := s.Hash.sum(th3Input)
	tr.eq("TH_3", th3)
	prk4e3m := prk3e2m
	if method.InitiatorStatic() {
		gIY, err := i.static.ECDH(r.eph.PublicKey())
		if err != nil {
			return err
		}
		tr.eq("G_IY", gIY)
		tr.eq("SALT_4e3m_info", kdfInfo(labelSalt4e3m, th3, s.Hash.Size()))
		tr.eq("SALT_4e3m", s.kdf(v1, prk3e2m, labelSalt4e3m, th3, s.Hash.Size()))
		prk4e3m = s.saltPRK(v1, prk3e2m, labelSalt4e3m, th3, gIY)
	}
	tr.eq("PRK_4e3m", prk4e3m)
	st3 := &statement{message: 3, static: method.InitiatorStatic(),
		idCred: i.identity.ID.Bytes(), th: th3, cred: i.identity.Credential.encoded}
	auth3 := tr.authenticator(s, "3", st3, prk4e3m, i.signed, "MAC_3_info")
	pt3 := append(i.identity.ID.wire(), sequence(auth3)...)
	tr.eq("PLAINTEXT_3", pt3)
	tr.eq("PLAINTET_3", pt3) // as chapter 2 has it

	if err := tr.sealed(s, 3, prk3e2m, th3, pt3, m3); err != nil {
		return err
	}
	th4Input := sequence(th3, raw(pt3), raw(i.identity.Credential.encoded))
	tr.eq("TH_4_input", th4Input)
	th4 := s.Hash.sum(th4Input)
	tr.eq("TH_4", th4)
	if !bytes.Equal(th4, si.th4) {
		tr.errorf("TH_4 of the session differs")
	}
	if err := tr.sealed(s, 4, prk4e3m, th4, nil, m4); err != nil {
		return err
	}

	// The result.
	tr.eq("PRK_out_info", kdfInfo(labelPRKOut, th4, s.Hash.Size()))
	tr.eq("PRK_out", si.prkOut)
	tr.eq("PRK_exporter_info", kdfInfo(labelPRKExporter, nil, s.Hash.Size()))
	tr.eq("PRK_exporter", si.prkExporter)
	tr.eq("OSCORE_Master_Secret_info", kdfInfo(uint64(0), nil, s.AppAEAD.KeyLength()))
	tr.eq("OSCORE_Master_Salt_info", kdfInfo(uint64(1), nil, 8))
	o, err := si.OSCORE()
	if err != nil {
		return err
	}
	tr.eq("OSCORE_Master_Secret", o.MasterSecret)
	tr.eq("OSCORE_Master_Salt", o.MasterSalt)
	tr.eq("OSCORE_C_I", o.RecipientID)
	tr.eq("OSCORE_C_R", o.SenderID)
	if err := si.KeyUpdate(tr.hex("keyUpdate_context")); err != nil {
		return err
	}
	tr.eq("keyUpdate_PRK_out", si.prkOut)
	tr.eq("keyUpdate_PRK_exporter", si.prkExporter)
	if o, err = si.OSCORE(); err != nil {
		return err
	}
	tr.eq("keyUpdate_OSCORE_Master_Secret", o.MasterSecret)
	tr.eq("keyUpdate_OSCORE_Master_Salt", o.MasterSalt)
	return nil
}

// authenticator checks MAC_x and Signature_or_MAC_x with what they are made from, and returns the latter.
func (tr *trace) authenticator(s Suite, x string, st *statement, prk []byte, signed *recorder, info string) []byte {
	context := st.context()
	tr.eq("context_"+x, context)
	mac := st.mac(s, &vault{}, prk)
	label := map[string]int{"2": labelMAC2, "3": labelMAC3}[x]
	tr.eq(info, kdfInfo(label, context, len(mac)))
	tr.eq("MAC_"+x, mac)
	auth := tr.hex("Signature_or_MAC_" + x)
	if signed != nil {
		tr.eq("Signature_or_MAC_"+x+"_input", signed.content)
	}
	var key crypto.PublicKey
	if signed != nil {
		key = signed.Public()
	}
	if e := st.verify(s, &vault{}, prk, key, auth); e != nil {
		tr.errorf("Signature_or_MAC_%s: %v", x, e)
	}
	return auth
}

// sealed checks the AEAD inputs and output of message_3 or message_4.
func (tr *trace) sealed(s Suite, n int, prk, th, plaintext, msg []byte) error {
	x := fmt.Sprint(n)
	kl, il := labelK3, labelIV3
	if n == 4 {
		kl, il = labelK4, labelIV4
	}
	kn, in, _, _ := s.AEAD.lengths()
	tr.eq("A_"+x, encStructure(th))
	tr.eq("K_"+x+"_info", kdfInfo(kl, th, kn))
	tr.eq("IV_"+x+"_info", kdfInfo(il, th, in))
	key, iv := s.messageKeys(&vault{}, prk, n, th)
	tr.eq("K_"+x, key)
	tr.eq("IV_"+x, iv)
	ct, e := s.seal(&vault{}, prk, n, th, plaintext)
	if e != nil {
		return e
	}
	tr.eq("CIPHERTEXT_"+x, ct)
	if !bytes.Equal(sequence(ct), msg) {
		tr.errorf("message_%d is not its ciphertext", n)
	}
	return nil
}

var traceFiles = []string{
	"rfc9529-chapter2-method0-suite0.json",
	"rfc9529-chapter3-method3-suite2.json",
	"suite24-keys-and-certificates.json",
}

func TestTraces(t *testing.T) {
	for _, name := range traceFiles {
		t.Run(name, func(t *testing.T) {
			v := sharedData(t, name)
			if err := check(v); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d values", len(v))
		})
	}
}

// TestTracesEveryValueCounts alters each value in turn, several ways, and demands that the check fails.
func TestTracesEveryValueCounts(t *testing.T) {
	for _, name := range traceFiles {
		t.Run(name, func(t *testing.T) {
			v := sharedData(t, name)
			altered := 0
			for key, value := range v {
				for _, other := range alter(value) {
					w := maps.Clone(v)
					w[key] = other
					if check(w) == nil {
						t.Errorf("%s: %v in place of %v is not noticed", key, other, value)
					}
					altered++
				}
			}
			if altered < 3*len(v) {
				t.Fatalf("%d alterations of %d values", altered, len(v))
			}
			w := maps.Clone(v)
			w["extra"] = "00"
			if check(w) == nil {
				t.Error("a value that nothing checks is not noticed")
			}
		})
	}
}

// alter gives wrong values in place of a right one.
func alter(value any) []any {
	switch v := value.(type) {
	case float64:
		return []any{v + 1, v - 1, v + 2}
	case []any:
		var out []any
		for i, e := range v {
			for _, d := range []float64{1, -1, 8} {
				w := slices.Clone(v)
				w[i] = e.(float64) + d
				out = append(out, w)
			}
		}
		return append(out, v[:0], append(slices.Clone(v), float64(3)))
	case string:
		b, err := hex.DecodeString(v)
		if err != nil {
			return nil
		}
		flip := func(bit int) any {
			w := slices.Clone(b)
			w[bit/8] ^= 1 << (bit % 8)
			return hex.EncodeToString(w)
		}
		return []any{flip(0), flip(len(b)*8 - 1), flip(rand.IntN(len(b) * 8)), v[:len(v)-2], v + "00"}
	}
	return nil
}
