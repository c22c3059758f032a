// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

// TestTools uses our key files with tpm2-tools, an independent implementation:
// it satisfies the policy by hand and signs and unseals.
func TestTools(t *testing.T) {
	for _, name := range []string{"tpm2_load", "tpm2_sign", "tpm2_unseal"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is not installed (Debian package: tpm2-tools; `make setup` installs it)", name)
		}
	}
	ctx := t.Context()
	p := tpmtest.Start(t)
	m := tpmtest.OpenAt(t, p, tpm.Options{})
	key, err := m.CreateSigningKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := m.Seal(ctx, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+p.Socket)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	digest := sha512.Sum384([]byte("message"))
	write("key.pem", key.PEM())
	write("sealed.pem", sealed)
	write("digest", digest[:])

	run("tpm2_load", "-Q", "-r", "key.pem", "-c", "key.ctx")
	run("tpm2_startauthsession", "-Q", "--policy-session", "-S", "sign.session")
	run("tpm2_policycommandcode", "-Q", "-S", "sign.session", "TPM2_CC_Sign")
	run("tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha384", "-s", "ecdsa", "-f", "plain", "-d", "-o", "sig", "-p", "session:sign.session", "digest")
	run("tpm2_flushcontext", "sign.session")
	run("tpm2_flushcontext", "-t")
	sig, err := os.ReadFile(filepath.Join(dir, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Fatal("tpm2_sign's signature does not verify")
	}

	run("tpm2_load", "-Q", "-r", "sealed.pem", "-c", "sealed.ctx")
	run("tpm2_startauthsession", "-Q", "--policy-session", "-S", "unseal.session")
	run("tpm2_policycommandcode", "-Q", "-S", "unseal.session", "TPM2_CC_Unseal")
	if got := run("tpm2_unseal", "-c", "sealed.ctx", "-p", "session:unseal.session"); got != "secret" {
		t.Fatalf("tpm2_unseal gives %q", got)
	}
	// Our operations go on while the tools have left their things behind.
	if _, err := m.Unseal(ctx, sealed, nil); err != nil {
		t.Fatal(err)
	}
}
