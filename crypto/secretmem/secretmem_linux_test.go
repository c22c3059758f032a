// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/secretmem/secretmemtest"
)

// mask hides what the test itself knows of a secret from its own scan.
const mask = 0xA5

// hidden is a random secret that this process holds only under the mask.
type hidden []byte

func newHidden(n int) hidden {
	h := make(hidden, n)
	_, _ = rand.Read(h)
	return h
}

// reveal writes the secret.
func (h hidden) reveal(out []byte) {
	for i := range h {
		out[i] = h[i] ^ mask
	}
}

// helperVariable makes the test binary the process that is looked at: its value names what it does.
const helperVariable = "CELLWARD_SECRETMEM_HELPER"

// TestMain is the process that is looked at, if it is told so.
func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) == "scan" {
		os.Exit(scanHelper())
	}
	os.Exit(m.Run())
}

// scanHelper looks through the memory of its parent for the secrets on its standard input, which come under the mask.
func scanHelper() int {
	var secrets []secretmemtest.Secret
	for {
		var name string
		var b []byte
		if _, err := fmt.Scanf("%s %x\n", &name, &b); err != nil {
			break
		}
		for i := range b {
			b[i] ^= mask
		}
		secrets = append(secrets, secretmemtest.Secret{Name: name, Value: b})
	}
	r, err := secretmemtest.Scan(os.Getppid(), secrets)
	if err != nil {
		fmt.Println("fault", err)
		return 1
	}
	for _, h := range r.Hits {
		fmt.Printf("hit %s at %x in %s %s\n", h.Secret, h.At, h.Mapping.Permissions, h.Mapping.Name)
	}
	return 0
}

// found has another process look for a secret in this one and returns what it says.
func found(t *testing.T, h hidden) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a process looks through the memory of its parent")
	}
	if raceDetector {
		t.Skip("the race detector maps terabytes for itself; `make test-secret` runs this without it")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVariable+"=scan")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("secret %x\n", []byte(h)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("scan: %v: %s", err, out)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// TestRegion asks the kernel what it thinks of both kinds of memory.
func TestRegion(t *testing.T) {
	secret, err := NewRegion(1)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Free()
	// The second kind, as it is taken where the first is refused.
	locked, err := NewRegion(1)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Free()
	if err := locked.lock(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r     *Region
		flags []string
	}{{secret, []string{"lo", "dd", "dc", "rd", "wr", "sh"}}, {locked, []string{"lo", "dd", "wf", "rd", "wr"}}} {
		all, err := secretmemtest.Mappings(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		at := uint64(uintptr(unsafe.Pointer(&c.r.Bytes[0])))
		for i, m := range all {
			if m.From > at || at >= m.To {
				continue
			}
			if !m.Has(c.flags...) || m.Has("ex") {
				t.Errorf("flags %v, want %v", m.Flags, c.flags)
			}
			for _, guard := range []secretmemtest.Mapping{all[i-1], all[i+1]} {
				if guard.Permissions != "---p" || guard.To != m.From && guard.From != m.To {
					t.Errorf("neighbour %x-%x %s of %x-%x is no guard", guard.From, guard.To, guard.Permissions, m.From, m.To)
				}
			}
		}
		c.r.Bytes[0], c.r.Bytes[len(c.r.Bytes)-1] = 1, 2
	}
	if secret.Backing.Kind != KindSecret || secret.Backing.Refused != nil {
		t.Errorf("this kernel has no memfd_secret: %+v", secret.Backing)
	}
	if _, err := os.ReadFile("/proc/self/mem"); err == nil {
		t.Error("address 0 can be read")
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var b [1]byte
	if _, err := mem.ReadAt(b[:], int64(uintptr(unsafe.Pointer(&secret.Bytes[0])))); !errors.Is(err, unix.EIO) {
		t.Errorf("the kernel reads memory of memfd_secret: %v", err)
	}
	if _, err := mem.ReadAt(b[:], int64(uintptr(unsafe.Pointer(&locked.Bytes[0])))); err != nil || b[0] != 1 {
		t.Errorf("locked pages: %d, %v", b[0], err)
	}
}

func TestArena(t *testing.T) {
	a := new(Arena)
	var boxes []*Box[[48]byte]
	slots := os.Getpagesize() / SlotSize
	seen := map[*[48]byte]bool{}
	for i := range slots + 1 {
		b, err := NewBox[[48]byte](a)
		if err != nil {
			t.Fatal(err)
		}
		if seen[b.Get()] || *b.Get() != [48]byte{} {
			t.Fatalf("slot %d is taken or not zero", i)
		}
		seen[b.Get()] = true
		b.Get()[0] = byte(i) | 1
		boxes = append(boxes, b)
		want := os.Getpagesize()
		if i >= slots {
			want *= 2
		}
		if n, size := a.Usage(); n != i+1 || size != want {
			t.Fatalf("%d values: usage %d, %d", i+1, n, size)
		}
	}
	p := boxes[0].Get()
	boxes[0].Free()
	boxes[0].Free()
	if *p != [48]byte{} || *boxes[0].Get() != [48]byte{} {
		t.Error("a freed value is not wiped")
	}
	if b, err := NewBox[[32]byte](a); err != nil || unsafe.Pointer(b.Get()) != unsafe.Pointer(p) {
		t.Errorf("the freed slot is not used again: %v", err)
	}
	var none *Box[[48]byte]
	none.Free()
	if *none.Get() != [48]byte{} {
		t.Error("a box that is nil does not read as zero")
	}
	if s := fmt.Sprintf("%v %+v %#v %s %x", boxes[1], boxes[1], boxes[1], boxes[1], boxes[1]); s != strings.TrimSpace(strings.Repeat("[redacted] ", 5)) {
		t.Error(s)
	}
	if a.Backing().Kind == KindNone {
		t.Error("no backing")
	}
	runtime.KeepAlive(boxes)
}

// TestDroppedBoxIsWiped: a value that nobody freed is wiped when nobody can use it any more.
func TestDroppedBoxIsWiped(t *testing.T) {
	a := new(Arena)
	p := func() *[32]byte {
		b, err := NewBox[[32]byte](a)
		if err != nil {
			t.Fatal(err)
		}
		b.Get()[5] = 1
		return b.Get()
	}()
	for range 500 {
		runtime.GC()
		if n, _ := a.Usage(); n == 0 {
			if *p != [32]byte{} {
				t.Error("value is not wiped")
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a dropped box keeps its slot")
}

// TestWipe: what the library keeps of a key is gone, and what it shares with others is not.
func TestWipe(t *testing.T) {
	key := make([]byte, 32)
	key[3] = 7
	mac := hmac.New(sha512.New384, key)
	mac.Write([]byte("message"))
	mac.Reset() // keeps the states after the padded keys, marshalled
	mac.Write([]byte("message"))
	first := mac.Sum(nil)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	random, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{mac, gcm, random, block} {
		Wipe(v)
		if p := reflect.ValueOf(v); p.Kind() == reflect.Struct {
			v = p.Field(0).Elem() // the value holds nothing but a pointer
		}
		if s := strings.Map(func(r rune) rune {
			if r >= '1' && r <= '9' {
				return r
			}
			return -1
		}, fmt.Sprintf("%d", v)); s != "" {
			t.Errorf("%T is left with %d", v, v)
		}
	}
	again := hmac.New(sha512.New384, key)
	again.Write([]byte("message"))
	if !hmac.Equal(again.Sum(nil), first) {
		t.Error("the library does not work any more")
	}
	Wipe(nil)
	var none *aes.KeySizeError
	Wipe(none)
}

// spill leaves a secret in frames of many sizes.
//
//go:noinline
func spill(h hidden, depth int) byte {
	var frame [1000]byte
	h.reveal(frame[:])
	h.reveal(frame[500:])
	if depth == 0 {
		return frame[0]
	}
	return spill(h, depth-1) ^ frame[700]
}

// TestDo: what a function leaves on its stack is gone, also when it panics, and without Do it is found.
func TestDo(t *testing.T) {
	bare := newHidden(48)
	done := make(chan byte)
	go func() { done <- spill(bare, 20) }()
	<-done
	if hits := found(t, bare); len(hits) == 0 {
		t.Error("the scan does not find what a stack without Do is left with")
	}
	for name, f := range map[string]func(hidden){
		"returns": func(h hidden) { spill(h, 60) },
		"panics":  func(h hidden) { spill(h, 60); panic("on purpose") },
		"nested":  func(h hidden) { spill(h, 10); Do(func() { spill(h, 40) }); spill(h, 10) },
		"collects": func(h hidden) {
			spill(h, 40)
			for range 3 {
				runtime.GC() // may shrink a stack
			}
			spill(h, 20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			// On a busy machine a signal may store a part of the secret, which is for Collect to overwrite. The next one has no such
			// part; what Do leaves it leaves of every secret.
			var hits []string
			for range 10 {
				h := newHidden(48)
				func() {
					defer func() {
						if r := recover(); (r != nil) != (name == "panics") {
							t.Errorf("panic %v", r)
						}
					}()
					Do(func() { f(h) })
				}()
				if hits = found(t, h); len(hits) == 0 {
					return
				}
			}
			for _, hit := range hits {
				t.Error(hit)
			}
		})
	}
}

// TestCollect: what was allocated and dropped is gone, and what is referred to is found.
func TestCollect(t *testing.T) {
	kept := newHidden(48)
	b := make([]byte, 48)
	kept.reveal(b)
	h := newHidden(48)
	var live [][]byte
	Do(func() {
		// Live values between the dropped ones keep their spans from being given back.
		for size := 48; size < 1200; size += size/5 + 1 {
			for i := range 400 {
				x := make([]byte, size)
				h.reveal(x)
				h.reveal(x[size-48:])
				if i%7 == 0 {
					clear(x)
					live = append(live, x)
				}
			}
		}
		for range 100 {
			p := &struct {
				next  *int
				value [48]byte
			}{next: new(int)}
			h.reveal(p.value[:])
			runtime.KeepAlive(p)
		}
	})
	Collect()
	for _, hit := range found(t, h) {
		t.Error(hit)
	}
	if len(found(t, kept)) == 0 {
		t.Error("the scan does not find a live value")
	}
	runtime.KeepAlive(live)
	runtime.KeepAlive(b)
}

func BenchmarkDo(b *testing.B) {
	for b.Loop() {
		Do(func() {})
	}
}

func BenchmarkCollect(b *testing.B) {
	for b.Loop() {
		Collect()
	}
}
