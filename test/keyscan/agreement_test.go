// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/offer/offertest"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem/secretmemtest"
)

// agreement adds what an agreement goes through, and what comes of it.
func (s *secrets) agreement(number uint32, x *offertest.Secrets) {
	s.t.Helper()
	s.passing(x)
	prk := schedule.PRK(x.PRK)
	s.epoch(number, &prk)
}

// passing adds what nobody needs any more once an epoch is agreed.
func (s *secrets) passing(x *offertest.Secrets) {
	s.t.Helper()
	s.add("ECDH secret", x.DH)
	s.mac("KEM secret", x.KEM)
	s.mac("secret of the key schedule", x.Schedule)
	s.cipher("HPKE ", x.AESKey)
	s.add("HPKE base nonce", x.Nonce)
	s.mac("exporter secret", x.Exporter)
}

// TestScannerFinds: a copy that somebody has left is found, whatever has been done to keep the process closed.
func TestScannerFinds(t *testing.T) {
	needRoot(t)
	text := make([]byte, 48)
	_, _ = rand.Read(text)
	w := newParty(t, "leak", hex.EncodeToString(text))
	defer w.end()
	for i := range text {
		text[i] ^= 0x5A
	}
	s := &secrets{t: t}
	s.add("leak", text)
	// Arguments of a system call as they lie among the registers: the sixth stands before the fifth on amd64, and behind it on arm64.
	s.add("register leak", slices.Concat(text[8:16], text[:8]))
	s.add("register leak", text[:16])
	r := s.scan(w.cmd.Process.Pid, []byte(partyVariable))
	inRegisters := 0
	for _, h := range r.Hits {
		if strings.HasPrefix(h.Mapping.Name, secretmemtest.Registers) {
			inRegisters++
		}
	}
	if len(r.Hits)-inRegisters < 3 {
		t.Errorf("the leaked value is found %d times in memory", len(r.Hits)-inRegisters)
	}
	if inRegisters == 0 {
		t.Errorf("the leaked value is not found in registers, of %d threads", r.Threads)
	}
}

// TestAgreement looks at both parties after they have agreed an epoch and let go of it. The test is the other party each time,
// and so knows everything that the one that is looked at has had.
func TestAgreement(t *testing.T) {
	needRoot(t)
	for _, software := range []bool{true, false} {
		name := "node with a TPM"
		if software {
			name = "node with a software key"
		}
		t.Run(name, func(t *testing.T) {
			l, set := newLab(t, demo.LabOptions{Program: program(t, false), SoftwareEdge: software})
			testEnroll(t, l, set, software)
			if software {
				t.Run("gateway", func(t *testing.T) { testAccept(t, l, set) })
			}
		})
	}
}

// documents are the paths of the two documents of a laboratory.
func documents(l *demo.Lab) []string { return []string{l.PolicyPath(), l.BindingPath()} }

// testEnroll is the gateway: it makes an offer with a key that no TPM keeps from it.
func testEnroll(t *testing.T, l *demo.Lab, set *policy.Set, software bool) {
	g, err := station.Open(t.Context(), station.Options{Dir: l.GatewayState(), TPM: l.GatewayTPM(), Gateway: true, Owner: demo.AgentUID})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	key, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	node := set.Nodes[0]
	o, err := offer.New(g.Signer, key.PublicKey(), offer.Params{Node: identity.Kid(node.Identity.KID), Epoch: 9, Binding: node.BindingHash})
	if err != nil {
		t.Fatal(err)
	}
	args := append(documents(l), write(t, o.Bytes()), node.Name, l.EdgeState())
	at := station.Options{Dir: l.EdgeState(), Software: software}
	if !software {
		at.TPM = l.EdgeTPM()
		args = append(args, at.TPM)
	}
	w := newParty(t, append([]string{"enroll"}, args...)...)
	reply, err := hex.DecodeString(w.out)
	if err != nil {
		t.Fatal(err)
	}
	public, err := node.Identity.Key()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := identity.Verify(public, "cellward reply 1", reply)
	if err != nil {
		t.Fatal(err)
	}
	var fields []any
	if err := identity.Unmarshal(payload, &fields); err != nil {
		t.Fatal(err)
	}
	encapsulated, err := key.Curve().NewPublicKey(fields[2].([]byte))
	if err != nil {
		t.Fatal(err)
	}
	dh, err := key.ECDH(encapsulated)
	if err != nil {
		t.Fatal(err)
	}
	s := &secrets{t: t}
	x := offertest.Derive(o, encapsulated.Bytes(), dh)
	s.agreement(o.Epoch, x)
	if software {
		b, err := os.ReadFile(filepath.Join(l.EdgeState(), "software.key"))
		if err != nil {
			t.Fatal(err)
		}
		s.cipher("software ", b)
	}
	r := s.scan(w.cmd.Process.Pid, []byte(partyVariable))
	s.none("after keys enroll", r)
	w.end()
	// What was looked for is what the node has taken.
	n, err := station.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	store, err := n.Vault.Load()
	if err != nil {
		t.Fatal(err)
	}
	state, err := edge.UnmarshalState(store)
	if err != nil || string(state.PRK.Get()[:]) != string(x.PRK) {
		t.Errorf("the node has taken another secret: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// testAccept is the node: it answers with a key of its own choice.
func testAccept(t *testing.T, l *demo.Lab, set *policy.Set) {
	name := filepath.Join(t.TempDir(), "offer")
	if _, err := l.Keys(t.Context(), "offer", "--node", set.Nodes[0].Name, "--out", name); err != nil {
		t.Fatal(err)
	}
	msg, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := set.Binding.Gateway.Identity.Key()
	if err != nil {
		t.Fatal(err)
	}
	o, err := offer.Parse(pinned, msg)
	if err != nil {
		t.Fatal(err)
	}
	n, err := station.Open(t.Context(), station.Options{Dir: l.EdgeState(), Software: true})
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := o.PublicKey().Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	reply, _, x, err := offertest.Answer(o, n.Signer, ephemeral, offer.Reply{Floor: o.Epoch - 1, FirstCounter: 1 << 40, Start: [16]byte{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	w := newParty(t, append(append([]string{"accept"}, documents(l)...), write(t, reply))...)
	s := &secrets{t: t}
	s.agreement(o.Epoch, x)
	s.run(o.Epoch, (*schedule.PRK)(x.PRK), &[16]byte{1, 2, 3}, sources(set))
	r := s.scan(w.cmd.Process.Pid, []byte(partyVariable))
	s.none("after keys accept", r)
	w.end()
	out, err := l.Keys(t.Context(), "list", "-o", "json")
	if err != nil || !strings.Contains(string(out), `"hpke"`) {
		t.Errorf("list of keys %s: %v", out, err)
	}
}
