// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

func key(tb testing.TB, curve elliptic.Curve) (*ecdsa.PrivateKey, *PublicKey) {
	tb.Helper()
	k, err := GenerateKey(curve)
	if err != nil {
		tb.Fatal(err)
	}
	pub, err := NewPublicKey(k.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return k, pub
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// The public keys of RFC 6979, A.2.5 and A.2.6, with SubjectPublicKeyInfo put
// together by hand (RFC 5480).
func spki(tb testing.TB) (p256, p384 []byte) {
	return unhex(tb, `3059301306072a8648ce3d020106082a8648ce3d030107034200 04
		60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
		7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299`),
		unhex(tb, `3076301006072a8648ce3d020106052b81040022036200 04
		EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13
		8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720`)
}

func TestPublicKey(t *testing.T) {
	p256, p384 := spki(t)
	for _, tc := range []struct {
		der   []byte
		curve string
	}{{p256, "P-256"}, {p384, "P-384"}} {
		k, err := ParseDER(tc.der)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(tc.der)
		if want := Kid(sum[:8]); k.Kid() != want {
			t.Errorf("%s: kid %v, want %v", tc.curve, k.Kid(), want)
		}
		if k.ECDSA().Params().Name != tc.curve {
			t.Errorf("read as %s", k.ECDSA().Params().Name)
		}
		for _, text := range []string{k.String(), string(k.PEM()), " " + k.String() + "\n", string(k.PEM()) + "\n\n"} {
			again, err := ParsePublicKey(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if !again.Equal(k) || again.Kid() != k.Kid() {
				t.Errorf("%s: another key", text)
			}
		}
		if parsed, err := ParseKid(k.Kid().String()); err != nil || parsed != k.Kid() {
			t.Errorf("ParseKid: %v, %v", parsed, err)
		}
	}
	a, b := must(ParseDER(p256))(t), must(ParseDER(p384))(t)
	if a.Equal(b) || a.Equal(nil) {
		t.Error("different keys are equal")
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func TestPublicKeyRefused(t *testing.T) {
	p256, p384 := spki(t)
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	off := bytes.Clone(p384)
	off[len(off)-1] ^= 1
	compressed := append(unhex(t, "3046301006072a8648ce3d020106052b81040022033200"), append([]byte{2}, p384[24:72]...)...)
	long := append(unhex(t, "30813f"), p256[2:]...) // length in a longer form
	long[2] = byte(len(p256) - 2)
	for name, der := range map[string][]byte{
		"empty": nil, "cut": p256[:len(p256)-1], "trailing": append(bytes.Clone(p256), 0),
		"off the curve": off, "compressed": compressed, "long length": long,
		"RSA":   must(x509.MarshalPKIXPublicKey(rsaKey.Public()))(t),
		"P-521": must(x509.MarshalPKIXPublicKey(p521.Public()))(t),
	} {
		if _, err := ParseDER(der); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b64 := base64.StdEncoding.EncodeToString(p256)
	for name, text := range map[string]string{
		"empty": "", "url base64": base64.URLEncoding.EncodeToString(p256) + "_", "two lines": b64[:20] + "\n" + b64[20:] + "x",
		"private": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p256})),
		"headers": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Headers: map[string]string{"a": "b"}, Bytes: p256})),
		"two":     strings.Repeat(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p256})), 2),
		"cut":     "-----BEGIN PUBLIC KEY-----\n",
	} {
		if _, err := ParsePublicKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	//lint:ignore SA1019 a point off the curve, as a TPM could name it, can be made in no other way
	offCurve := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	for _, pub := range []crypto.PublicKey{nil, rsaKey.Public(), p521.Public(), offCurve} {
		if _, err := NewPublicKey(pub); !errors.Is(err, ErrKey) {
			t.Errorf("%T: %v", pub, err)
		}
	}
	for _, s := range []string{"", "00", strings.Repeat("g", 16), strings.Repeat("0", 18)} {
		if _, err := ParseKid(s); err == nil {
			t.Errorf("ParseKid(%q) succeeds", s)
		}
	}
}

const testContext = "cellward test 1"

type testPayload struct {
	_       struct{} `cbor:",toarray"`
	Context string
	N       uint64
	B       []byte
}

func payload(tb testing.TB) []byte {
	return must(Marshal(testPayload{Context: testContext, N: 1 << 40, B: []byte{1, 2}}))(tb)
}

func TestSignVerify(t *testing.T) {
	k384, p384 := key(t, elliptic.P384())
	k256, p256 := key(t, elliptic.P256())
	hardware := must(tpmtest.Open(t).CreateSigningKey(t.Context(), nil))(t)
	tpmPub := must(NewPublicKey(hardware.Public()))(t)
	for name, tc := range map[string]struct {
		signer crypto.Signer
		pub    *PublicKey
		hash   crypto.Hash
		head   string // tag, array of 4, and the protected header up to the kid
	}{
		"P-384": {k384, p384, crypto.SHA384, "d2 84 4e a2 01 38 22 04 48"},
		"P-256": {k256, p256, crypto.SHA256, "d2 84 4d a2 01 26 04 48"},
		"TPM":   {hardware, tpmPub, crypto.SHA384, "d2 84 4e a2 01 38 22 04 48"},
	} {
		body := payload(t)
		msg := must(Sign(tc.signer, testContext, body))(t)
		if got := must(Verify(tc.pub, testContext, msg))(t); !bytes.Equal(got, body) {
			t.Fatalf("%s: payload %x", name, got)
		}
		if kid := must(SignerKid(msg))(t); kid != tc.pub.Kid() {
			t.Errorf("%s: kid %v", name, kid)
		}
		// The whole message and the Sig_structure of RFC 9052, 4.4, put
		// together by hand.
		head := unhex(t, tc.head)
		head = append(head, tc.pub.kid[:]...)
		size := (tc.pub.ECDSA().Params().BitSize + 7) / 8
		sig := msg[len(msg)-2*size:]
		want := append(bytes.Clone(head), 0xA0, 0x58, byte(len(body)))
		want = append(append(want, body...), 0x58, byte(2*size))
		if !bytes.Equal(msg, append(want, sig...)) {
			t.Fatalf("%s: message %x", name, msg)
		}
		tbs := append([]byte{0x84, 0x6A}, "Signature1"...)
		tbs = append(append(tbs, head[2:]...), 0x40, 0x58, byte(len(body)))
		h := tc.hash.New()
		h.Write(append(tbs, body...))
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		if !ecdsa.Verify(tc.pub.ECDSA(), h.Sum(nil), r, s) {
			t.Errorf("%s: signature over something else", name)
		}
	}
}

func TestVerifyRefused(t *testing.T) {
	k, pub := key(t, elliptic.P384())
	_, other := key(t, elliptic.P384())
	_, p256 := key(t, elliptic.P256())
	msg := must(Sign(k, testContext, payload(t)))(t)
	kid := pub.kid[:]

	// sign signs whatever protected header and payload it is given and puts
	// the message together from raw pieces.
	sign := func(protected, unprotected, body []byte) []byte {
		bstr := func(b []byte) []byte { return must(Marshal(b))(t) }
		tbs := append([]byte{0x84, 0x6A}, "Signature1"...)
		tbs = append(append(append(tbs, bstr(protected)...), 0x40), bstr(body)...)
		sum := sha512.Sum384(tbs)
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		sig := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
		m := append([]byte{0xD2, 0x84}, bstr(protected)...)
		m = append(append(m, unprotected...), bstr(body)...)
		return append(m, bstr(sig)...)
	}
	header := func(s string) []byte { return append(unhex(t, s), kid...) }
	good := header("a2 01 38 22 04 48")
	none := []byte{0xA0}
	if _, err := Verify(pub, testContext, sign(good, none, payload(t))); err != nil {
		t.Fatalf("the hand-made message is refused: %v", err)
	}
	untagged := msg[1:]
	for name, tc := range map[string]struct {
		msg  []byte
		want error
	}{
		"empty":                 {nil, ErrEncoding},
		"too long":              {make([]byte, MaxMessage+1), ErrEncoding},
		"untagged":              {untagged, ErrEncoding},
		"another tag":           {append([]byte{0xD8, 0x62}, untagged...), ErrEncoding},
		"tag in a longer form":  {append([]byte{0xD8, 18}, untagged...), ErrEncoding},
		"trailing byte":         {append(bytes.Clone(msg), 0), ErrEncoding},
		"cut":                   {msg[:len(msg)-1], ErrEncoding},
		"indefinite array":      {append(append([]byte{0xD2, 0x9F}, msg[2:]...), 0xFF), ErrEncoding},
		"payload null":          {append(append(bytes.Clone(msg[:18]), 0xF6), msg[18+2+len(payload(t)):]...), ErrEncoding},
		"length in longer form": {bytes.Replace(msg, []byte{0x58, 0x60}, []byte{0x59, 0, 0x60}, 1), ErrEncoding},
		"unprotected parameter": {sign(good, unhex(t, "a1 03 00"), payload(t)), ErrHeader},
		"unprotected kid":       {sign(unhex(t, "a1 01 38 22"), append(unhex(t, "a1 04 48"), kid...), payload(t)), ErrHeader},
		"no protected header":   {sign(nil, none, payload(t)), ErrEncoding},
		"no kid":                {sign(unhex(t, "a1 01 38 22"), none, payload(t)), ErrHeader},
		"unknown parameter":     {sign(append(good, unhex(t, "18 21 00")...), none, payload(t)), ErrEncoding}, // map says 2
		"third parameter":       {sign(append(append(unhex(t, "a3 01 38 22 04 48"), kid...), unhex(t, "18 63 00")...), none, payload(t)), ErrHeader},
		"crit":                  {sign(append(append(unhex(t, "a3 01 38 22 02 81 01 04 48"), kid...), nil...), none, payload(t)), ErrHeader},
		"kid as text":           {sign(append(unhex(t, "a2 01 38 22 04 68"), "abcdefgh"...), none, payload(t)), ErrEncoding},
		"algorithm as text":     {sign(append(unhex(t, "a2 01 65 4553333834 04 48"), kid...), none, payload(t)), ErrHeader},
		"duplicate alg":         {sign(append(unhex(t, "a3 01 38 22 01 38 22 04 48"), kid...), none, payload(t)), ErrEncoding},
		"order":                 {sign(append(append(unhex(t, "a2 04 48"), kid...), unhex(t, "01 38 22")...), none, payload(t)), ErrEncoding},
		"alg in a longer form":  {sign(header("a2 01 39 0022 04 48"), none, payload(t)), ErrEncoding},
		"indefinite map":        {sign(append(header("bf 01 38 22 04 48"), 0xFF), none, payload(t)), ErrEncoding},
		"ES256 named":           {sign(header("a2 01 26 04 48"), none, payload(t)), ErrAlgorithm},
		"EdDSA named":           {sign(header("a2 01 27 04 48"), none, payload(t)), ErrAlgorithm},
		"payload no array":      {sign(good, none, unhex(t, "01")), ErrEncoding},
		"payload empty array":   {sign(good, none, unhex(t, "80")), ErrContext},
		"payload other context": {sign(good, none, must(Marshal([]any{"cellward test 2"}))(t)), ErrContext},
		"context as bytes":      {sign(good, none, must(Marshal([]any{[]byte(testContext)}))(t)), ErrContext},
		"payload trailing":      {sign(good, none, append(payload(t), 0)), ErrEncoding},
		"payload indefinite":    {sign(good, none, append(append([]byte{0x9F, 0x6F}, testContext...), 0xFF)), ErrEncoding},
		"payload longer form":   {sign(good, none, append(append([]byte{0x82, 0x6F}, testContext...), 0x18, 1)), ErrEncoding},
		"payload tagged":        {sign(good, none, append(append([]byte{0x82, 0x6F}, testContext...), 0xC1, 1)), ErrEncoding},
		"payload duplicate key": {sign(good, none, append(append([]byte{0x82, 0x6F}, testContext...), 0xA2, 1, 1, 1, 1)), ErrEncoding},
		"payload nested deeply": {sign(good, none, append(append([]byte{0x82, 0x6F}, testContext...), 0x81, 0x81, 0x81, 0x81, 0x81, 1)), ErrEncoding},
		"payload bad UTF-8":     {sign(good, none, append(append([]byte{0x82, 0x6F}, testContext...), 0x61, 0xFF)), ErrEncoding},
	} {
		if _, err := Verify(pub, testContext, tc.msg); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := Verify(other, testContext, msg); !errors.Is(err, ErrSigner) {
		t.Errorf("another key of the curve: %v", err)
	}
	if _, err := Verify(p256, testContext, msg); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("a key of another curve: %v", err)
	}
	if _, err := Verify(pub, "cellward test 2", msg); !errors.Is(err, ErrContext) {
		t.Errorf("another context: %v", err)
	}
	impostor := *other
	impostor.kid = pub.kid
	if _, err := Verify(&impostor, testContext, msg); !errors.Is(err, ErrSignature) {
		t.Errorf("another key under the same kid: %v", err)
	}
}

// TestVerifyBitFlips flips every bit of a message.
func TestVerifyBitFlips(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P256()} {
		k, pub := key(t, curve)
		msg := must(Sign(k, testContext, payload(t)))(t)
		for i := range 8 * len(msg) {
			msg[i/8] ^= 1 << (i % 8)
			if _, err := Verify(pub, testContext, msg); err == nil {
				t.Fatalf("bit %d of byte %d flipped and still taken", i%8, i/8)
			}
			msg[i/8] ^= 1 << (i % 8)
		}
		if _, err := Verify(pub, testContext, msg); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignRefused(t *testing.T) {
	k, _ := key(t, elliptic.P384())
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	if _, err := Sign(rsaKey, testContext, payload(t)); !errors.Is(err, ErrKey) {
		t.Errorf("RSA: %v", err)
	}
	if _, err := Sign(k, "another", payload(t)); !errors.Is(err, ErrContext) {
		t.Errorf("another context: %v", err)
	}
	if _, err := Sign(k, testContext, []byte{1}); !errors.Is(err, ErrEncoding) {
		t.Errorf("no array: %v", err)
	}
	big := must(Marshal(testPayload{Context: testContext, B: make([]byte, MaxMessage)}))(t)
	if _, err := Sign(k, testContext, big); err == nil {
		t.Error("signed a message that nobody takes")
	}
}

func TestUnmarshal(t *testing.T) {
	var p testPayload
	if err := Unmarshal(payload(t), &p); err != nil || p.N != 1<<40 {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "80", "83", "84 6F", "82 60 01", "83 60 01 f6 00", "83 60 18 01 40", "83 60 20 40", "83 60 01 43 00"} {
		if err := Unmarshal(unhex(t, bad), &p); !errors.Is(err, ErrEncoding) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	p256, p384 := spki(f)
	pubs := []*PublicKey{must(ParseDER(p256))(f), must(ParseDER(p384))(f)}
	k, pub := key(f, elliptic.P384())
	msg := must(Sign(k, testContext, payload(f)))(f)
	f.Add(msg)
	f.Add(msg[:len(msg)/2])
	f.Add(bytes.Replace(msg, pub.kid[:], pubs[1].kid[:], 1))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, pub := range pubs {
			if _, err := Verify(pub, testContext, msg); err == nil {
				t.Fatal("a signature by nobody verifies")
			}
		}
		kid, err := SignerKid(msg)
		if err == nil && !bytes.Contains(msg, kid[:]) {
			t.Fatal("kid out of nowhere")
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	p256, p384 := spki(f)
	f.Add(p256)
	f.Add(p384)
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := ParseDER(der)
		if err == nil && !bytes.Equal(k.DER(), der) {
			t.Fatal("taken, but written differently")
		}
		_, _ = ParsePublicKey(string(der))
	})
}
