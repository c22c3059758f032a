// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/cellward/cellward/crypto/spdu"
)

// engines are all engines that this machine can run, those with kernels that it does not need, and the twin.
func engines() []Engine {
	all := realEngines()
	for _, k := range append(otherKernels(), twin) {
		all = append(all, &SideBySide{kernel: k, mem: new(KeyMemory)})
	}
	return all
}

// realEngines are all engines that this machine can run.
func realEngines() []Engine {
	all := []Engine{NewStd()}
	for _, k := range kernels() {
		all = append(all, &SideBySide{kernel: k, mem: new(KeyMemory)})
	}
	return all
}

func forEach(t *testing.T, f func(t *testing.T, e Engine)) {
	for _, e := range engines() {
		t.Run("engine="+e.Name(), func(t *testing.T) { f(t, e) })
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, e Engine, seed uint32) *Key {
	t.Helper()
	key, iv := secret(seed)
	k, err := e.NewKey(&key, &iv)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func secret(seed uint32) (key [KeySize]byte, iv [IVSize]byte) {
	fill(key[:], 2*seed+1)
	fill(iv[:], 2*seed+2)
	return key, iv
}

// sealed returns a sealed record with n bytes of ciphertext and its plaintext.
func sealed(t testing.TB, e Engine, k *Key, n int, counter uint64) (record, plain []byte) {
	t.Helper()
	record = make([]byte, Overhead+n)
	fill(record[AADSize:AADSize+n], uint32(counter)+uint32(n))
	spdu.PutPrefix(record, 0x1234, 7)
	spdu.Header{EpochLow: 7, Counter: counter}.Put(record[spdu.PrefixSize:])
	plain = bytes.Clone(record[AADSize : AADSize+n])
	if err := e.Seal([]Op{{Key: k, Record: record}}); err != nil {
		t.Fatal(err)
	}
	return record, plain
}
