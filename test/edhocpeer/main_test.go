// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/crypto/edhoc"
)

// result is what one side printed and how it ended.
type result struct {
	code     int
	out, err string
}

// lines gives the value of each "name value" line.
func (r result) lines() map[string]string {
	m := map[string]string{}
	for _, l := range strings.Split(r.out, "\n") {
		if name, value, ok := strings.Cut(l, " "); ok {
			m[name] = value
		}
	}
	return m
}

// pair plays both sides against each other over pipes.
func pair(t *testing.T, initiator, responder []string) (i, r result) {
	t.Helper()
	toR, fromI := io.Pipe()
	toI, fromR := io.Pipe()
	done := make(chan result)
	play := func(args []string, in *io.PipeReader, out *io.PipeWriter) result {
		var stderr bytes.Buffer
		code := run(args, in, out, &stderr)
		_ = out.Close()
		_ = in.Close()
		return result{code: code, out: stderr.String()}
	}
	go func() { done <- play(append([]string{"-role", "responder"}, responder...), toR, fromR) }()
	i = play(append([]string{"-role", "initiator"}, initiator...), toI, fromI)
	return i, <-done
}

func agreed(t *testing.T, i, r result) {
	t.Helper()
	if i.code != 0 || r.code != 0 {
		t.Fatalf("initiator %d:\n%s\nresponder %d:\n%s", i.code, i.out, r.code, r.out)
	}
	a, b := i.lines(), r.lines()
	if a["TH_4"] == "" || a["TH_4"] != b["TH_4"] || len(a["secret"]) != 64 || a["secret"] != b["secret"] || a["suite"] != b["suite"] {
		t.Fatalf("initiator:\n%s\nresponder:\n%s", i.out, r.out)
	}
}

// scalars are private keys for any curve that is used here.
const (
	scalarI = "0101010101010101010101010101010101010101010101010101010101010101"
	scalarR = "0202020202020202020202020202020202020202020202020202020202020202"
)

// ccsOf makes the CCS of a private key in hex, as -cred ccs: makes it.
func ccsOf(t *testing.T, name, kid, scalar string, suite int, static bool) string {
	t.Helper()
	o := &options{key: "hex:" + scalar, cred: "ccs:" + name, id: "kid:" + kid}
	s, err := edhoc.SuiteByID(suite)
	if err != nil {
		t.Fatal(err)
	}
	id, err := o.identity(s, static)
	if err != nil {
		t.Fatal(err)
	}
	return "hex:" + hex.EncodeToString(id.Credential.Bytes())
}

func TestPairs(t *testing.T) {
	for _, suite := range []int{0, 2, 3, 6, 24, -24} {
		scalarI, scalarR := scalarI, scalarR
		if suite == 24 {
			scalarI, scalarR = strings.Repeat("01", 48), strings.Repeat("02", 48)
		}
		for method := range 4 {
			t.Run(fmt.Sprintf("suite=%d/method=%d", suite, method), func(t *testing.T) {
				m := edhoc.Method(method)
				common := []string{"-suite", fmt.Sprint(suite), "-method", fmt.Sprint(method), "-label", "52753", "-context", "abcd"}
				i, r := pair(t,
					append([]string{"-key", "hex:" + scalarI, "-cred", "ccs:I", "-id", "kid:2b",
						"-peer", ccsOf(t, "R", "0102030405060708", scalarR, suite, m.ResponderStatic())}, common...),
					append([]string{"-key", "hex:" + scalarR, "-cred", "ccs:R", "-id", "kid:0102030405060708",
						"-peer", ccsOf(t, "I", "2b", scalarI, suite, m.InitiatorStatic())}, common...))
				agreed(t, i, r)
				if i.lines()["peer"] != "kid 0102030405060708" || r.lines()["peer"] != "kid 2b" {
					t.Fatalf("%s\n%s", i.out, r.out)
				}
			})
		}
	}
}

// base are arguments of both sides for suite 2.
func base(t *testing.T) (i, r []string) {
	return []string{"-suite", "2", "-key", "hex:" + scalarI, "-cred", "ccs:I", "-id", "kid:01", "-peer", ccsOf(t, "R", "02", scalarR, 2, false)},
		[]string{"-suite", "2", "-key", "hex:" + scalarR, "-cred", "ccs:R", "-id", "kid:02", "-peer", ccsOf(t, "I", "01", scalarI, 2, false)}
}

func TestVariants(t *testing.T) {
	for _, c := range []struct {
		name       string
		i, r       []string
		codeI      int
		codeR      int
		inI, inR   string
		wantAgreed bool
	}{
		{name: "without message_4", i: []string{"-message4=false"}, r: []string{"-message4=false"}, wantAgreed: true},
		{name: "connection identifiers", i: []string{"-cid", "2d"}, r: []string{"-cid", "0011"}, wantAgreed: true},
		{name: "EAD", i: []string{"-ead", "1:5", "-ead", "3:-7:aabb", "-ead-labels", "9"}, r: []string{"-ead", "2:6:00", "-ead", "4:-9", "-ead-labels", "7,8"}, wantAgreed: true},
		{name: "negotiated", i: []string{"-suite", "3,2"}, wantAgreed: true, inI: "suite 2"},
		{name: "negotiated, nothing in common", i: []string{"-suite", "3"}, codeI: 1, codeR: 1, inI: "none of the peer's cipher suites", inR: "receive message"},
		{name: "pinned", i: []string{"-suite", "3", "-pin"}, codeI: 1, codeR: 1, inI: "suite-pinned"},
		{name: "another method", i: []string{"-method", "1"}, codeI: 1, codeR: 1, inI: "method", inR: "method (RFC 9528, 3.2)"},
		{name: "an unknown critical item", i: []string{"-ead", "1:-5"}, codeI: 1, codeR: 1, inI: "ead-unknown", inR: "ead-unknown"},
		{name: "an unknown Responder", i: []string{"-peer", "hex:a1"}, codeI: 1, codeR: 1, inI: "read -peer"},
		{name: "another Responder", r: []string{"-id", "kid:03"}, codeI: 1, codeR: 1, inI: "credential-unknown", inR: "unknown credential"},
		{name: "another Initiator", i: []string{"-id", "kid:03"}, codeI: 1, codeR: 1, inI: "unknown credential", inR: "credential-unknown"},
		{name: "another name", i: []string{"-cred", "ccs:X"}, codeI: 1, codeR: 1, inI: "message_3 refused", inR: "signature (RFC 9528, 5.4.3)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			argsI, argsR := base(t)
			i, r := pair(t, append(argsI, c.i...), append(argsR, c.r...))
			if c.wantAgreed {
				agreed(t, i, r)
			} else if i.code != c.codeI || r.code != c.codeR {
				t.Fatalf("initiator %d:\n%s\nresponder %d:\n%s", i.code, i.out, r.code, r.out)
			}
			if !strings.Contains(i.out, c.inI) || !strings.Contains(r.out, c.inR) {
				t.Fatalf("initiator:\n%s\nresponder:\n%s", i.out, r.out)
			}
		})
	}
}

// TestSocket: over a Unix socket, with files: PEM keys, certificates by value against a root, and by hash.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, keyI, keyR := newKey(), newKey(), newKey()
	issue := func(name string, k *ecdsa.PrivateKey, parent *x509.Certificate) []byte {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: parent == nil, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent = tmpl
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	caDER := issue("root", caKey, nil)
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(keyI)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(keyR)
	if err != nil {
		t.Fatal(err)
	}
	root := write("root.pem", "CERTIFICATE", caDER)
	certI := write("i.pem", "CERTIFICATE", issue("I", keyI, ca))
	certR := write("r.pem", "CERTIFICATE", issue("R", keyR, ca))
	pemI, pemR := write("i.key", "PRIVATE KEY", pkcs8), write("r.key", "EC PRIVATE KEY", sec1)
	socket := filepath.Join(dir, "s")

	done := make(chan result)
	go func() {
		var out, errs bytes.Buffer
		code := run([]string{"-role", "responder", "-listen", socket, "-key", pemR, "-cred", certR, "-id", "x5chain", "-peer", certI}, nil, &out, &errs)
		done <- result{code, out.String(), errs.String()}
	}()
	for range 1000 { // until it listens
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	var out, errs bytes.Buffer
	code := run([]string{"-role", "initiator", "-connect", socket, "-key", pemI, "-cred", certI, "-id", "x5t", "-roots", root}, nil, &out, &errs)
	i, r := result{code, out.String(), errs.String()}, <-done
	if i.err != "" || r.err != "" {
		t.Fatalf("%s\n%s", i.err, r.err)
	}
	agreed(t, i, r)
}

// TestRFC9529 plays each side of both traces of RFC 9529 against the recorded other side: an implementation that is not
// ours.
func TestRFC9529(t *testing.T) {
	root := filepath.Join("..", "..", "..", "shared", "data")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("shared data is absent: %v", err)
	}
	for _, c := range []struct {
		file   string
		suites string // the Initiator's
		method string
		idI    string
		idR    string
	}{
		{"rfc9529-chapter2-method0-suite0.json", "0", "0", "x5t", "x5t"},
		{"rfc9529-chapter3-method3-suite2.json", "6,2", "3", "kid:2b", "kid:32"},
	} {
		b, err := os.ReadFile(filepath.Join(root, "edhoc", c.file))
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		text := func(key string) string { s, _ := v[key].(string); return s }
		msg := func(n int) []byte {
			b, err := hex.DecodeString(text(fmt.Sprintf("message_%d", n)))
			if err != nil || len(b) == 0 {
				t.Fatalf("message_%d", n)
			}
			return b
		}
		cred := func(x string) string {
			if s := text("CRED_" + x); s != "" {
				return "hex:" + s
			}
			return "hex:" + text("CRED_"+x+"_cborised")
		}
		common := []string{"-method", c.method, "-label", "0", "-length", "16"}
		for _, role := range []string{"initiator", "responder"} {
			t.Run(c.file+"/"+role, func(t *testing.T) {
				x, y, eph, id, cid := "I", "R", "X", c.idI, "OSCORE_C_I"
				theirs, ours := []int{2, 4}, []int{1, 3}
				suites := c.suites
				if role == "responder" {
					x, y, eph, id, cid = "R", "I", "Y", c.idR, "OSCORE_C_R"
					theirs, ours = ours, theirs
					suites = suites[len(suites)-1:]
				}
				var script, want bytes.Buffer
				for _, n := range theirs {
					if err := writeFrame(&script, msg(n)); err != nil {
						t.Fatal(err)
					}
				}
				for _, n := range ours {
					if err := writeFrame(&want, msg(n)); err != nil {
						t.Fatal(err)
					}
				}
				args := append([]string{"-role", role, "-suite", suites, "-key", "hex:" + text("SK_"+x), "-cred", cred(x), "-id", id,
					"-peer", cred(y), "-cid", text(cid), "-ephemeral", text(eph)}, common...)
				if role == "initiator" {
					args = append(args, "-peer-suites", suites[len(suites)-1:])
				}
				var out, errs bytes.Buffer
				code := run(args, &script, &out, &errs)
				if code != 0 {
					t.Fatalf("%d: %s", code, errs.String())
				}
				if !bytes.Equal(out.Bytes(), want.Bytes()) {
					t.Fatalf("sent %x, the trace has %x", out.Bytes(), want.Bytes())
				}
				l := result{out: errs.String()}.lines()
				if l["TH_4"] != text("TH_4") || l["secret"] != text("OSCORE_Master_Secret") {
					t.Fatalf("%v", l)
				}
			})
		}
	}
}

func TestUsage(t *testing.T) {
	argsI, _ := base(t)
	argsI = append([]string{"-role", "initiator"}, argsI...)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, 2, "-role is"},
		{"help", []string{"-h"}, 2, "exporter label"},
		{"no such flag", []string{"-nonsense"}, 2, "nonsense"},
		{"no key", []string{"-role", "initiator"}, 2, "-key, -cred and -id"},
		{"no peer", argsI[:len(argsI)-2], 2, "-peer or -roots"},
		{"an argument", append(argsI, "x"), 2, "unexpected argument"},
		{"two transports", append(argsI, "-listen", "a", "-connect", "b"), 2, "not both"},
		{"suite", append(argsI, "-suite", "x"), 2, `-suite "x"`},
		{"peer suites", append(argsI, "-peer-suites", "x"), 2, "-peer-suites"},
		{"no suite", append(argsI, "-suite", ""), 2, "-suite is empty"},
		{"no such suite", append(argsI, "-suite", "99"), 2, "no cipher suite 99"},
		{"EAD labels", append(argsI, "-ead-labels", "x"), 2, "-ead-labels"},
		{"EAD", append(argsI, "-ead", "1"), 2, "-ead"},
		{"EAD message", append(argsI, "-ead", "5:1"), 2, "message"},
		{"EAD label", append(argsI, "-ead", "1:x"), 2, "label"},
		{"EAD value", append(argsI, "-ead", "1:1:x"), 2, "value"},
		{"connection identifier", append(argsI, "-cid", "x"), 2, "-cid"},
		{"ephemeral key", append(argsI, "-ephemeral", "x"), 2, "-ephemeral"},
		{"an ephemeral key that is none", append(argsI, "-ephemeral", "00"), 1, "ephemeral"},
		{"context", append(argsI, "-context", "x"), 2, "-context"},
		{"key", append(argsI, "-key", "hex:00"), 1, "read -key"},
		{"key file", append(argsI, "-key", "/nonexistent"), 1, "read -key"},
		{"credential", append(argsI, "-cred", "hex:00"), 1, "read -cred"},
		{"identifier", append(argsI, "-id", "x5u"), 2, "-id is"},
		{"identifier of a certificate", append(argsI, "-id", "x5t"), 2, "for certificates"},
		{"identifier value", append(argsI, "-id", "kid:x"), 2, "-id"},
		{"roots", append(argsI, "-roots", "/nonexistent"), 1, "read -roots"},
		{"no peer answers", argsI, 1, "receive message"},
		{"no socket", append(argsI, "-connect", "/nonexistent/s"), 1, "connect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(c.args, strings.NewReader(""), &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
				t.Fatalf("exit %d, want %d: %s", code, c.code, errs.String())
			}
		})
	}
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	if err := writeFrame(&b, make([]byte, maxFrame+1)); err == nil {
		t.Fatal("a message that no length can name")
	}
	if err := writeFrame(&b, bytes.Repeat([]byte{7}, 0x0102)); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b.Bytes(), []byte{0x02, 0x01, 7}) {
		t.Fatalf("% x", b.Bytes()[:4])
	}
	msg, err := readFrame(&b)
	if err != nil || len(msg) != 0x0102 {
		t.Fatal(err)
	}
	for _, short := range []string{"", "\x01", "\x02\x00x"} {
		if _, err := readFrame(strings.NewReader(short)); err == nil {
			t.Fatalf("%q was read as a message", short)
		}
	}
}
