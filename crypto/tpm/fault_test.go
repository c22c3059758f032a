// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"
)

// errLink is what a faulty link returns.
var errLink = fmt.Errorf("link cut: %w", ErrTimeout)

// TestSlotsTaken: a process was killed and left all slots taken. Without a
// resource manager they are freed, at start and later; with one, whose business
// it is, the condition is reported.
func TestSlotsTaken(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m := openAt(t, p, Options{})
	blob := must(m.Seal(ctx, []byte("x"), nil))(t)
	fill := func() {
		raw(t, p, func(b *bus) {
			for range 3 {
				must(tpm2.CreatePrimary{
					PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
					InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
				}.Execute(b))(t)
				_, _, err := tpm2.HMACSession(b, tpm2.TPMAlgSHA256, 16)
				if err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := tpm2.HMACSession(b, tpm2.TPMAlgSHA256, 16)
			if rc, _ := responseCode(err); !outOfSlots(rc) {
				t.Fatalf("a fourth session: %v", err)
			}
		})
	}
	fill()
	must(m.Unseal(ctx, blob, nil))(t)
	wantNoHandles(t, m)

	fill()
	openAt(t, p, Options{})
	wantNoHandles(t, m)

	managed, err := open(ctx, rawLink{must(openLink("unix:"+p.Socket, 10*time.Second))(t)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer managed.Close()
	fill()
	_, err = managed.Unseal(ctx, blob, nil)
	wantError(t, err, ErrFull)
}

func TestRetry(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m, l := tapped(t, p, Options{})
	blob := must(m.Seal(ctx, []byte("secret"), nil))(t)
	for _, rc := range []uint32{0x908, 0x90A, 0x920, 0x922, 0x923} {
		refused := make(map[string]int)
		l.set(func(c []byte) ([]byte, []byte, error) {
			if refused[string(c)]++; refused[string(c)] <= 3 {
				return nil, refuse(rc), nil
			}
			return c, nil, nil
		}, nil)
		if got := must(m.Unseal(ctx, blob, nil))(t); string(got) != "secret" {
			t.Fatalf("0x%03X: %q", rc, got)
		}
	}
	l.set(nil, nil)
	m.Close()

	// Bounded: sleeping is counted, not timed.
	m, l = tapped(t, p, Options{RetryFor: 100 * time.Millisecond})
	sent := 0
	l.set(func([]byte) ([]byte, []byte, error) { sent++; return nil, refuse(0x922), nil }, nil)
	_, err := m.Unseal(ctx, blob, nil)
	wantError(t, err, ErrBusy)
	if !rcIs(err, tpm2.TPMRCRetry) {
		t.Errorf("refused with %v", err)
	}
	if sent < 3 || sent > 20 {
		t.Errorf("sent %d times within 100 ms of waiting", sent)
	}
	l.set(nil, nil)
}

// TestSlow holds the TPM in the middle of a command.
func TestSlow(t *testing.T) {
	p := emulator(t)
	m, l := tapped(t, p, Options{})
	blob := must(m.Seal(t.Context(), []byte("secret"), nil))(t)
	reached := make(chan struct{})
	release := make(chan struct{})
	var once sync.Once
	l.set(func(c []byte) ([]byte, []byte, error) {
		once.Do(func() { close(reached); <-release })
		return c, nil, nil
	}, nil)

	cause := errors.New("caller's own reason")
	slow, cancelSlow := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() { _, err := m.Unseal(slow, blob, nil); result <- err }()
	<-reached
	// A caller that waits behind it leaves when it wants to, with its
	// reason,
	waiting, cancelWaiting := context.WithCancelCause(t.Context())
	cancelWaiting(cause)
	_, err := m.Unseal(waiting, blob, nil)
	wantError(t, err, cause)
	// and so does the one whose operation is running.
	cancelSlow(cause)
	wantError(t, <-result, cause)
	// A third one, patient, is served once the TPM answers.
	go func() { _, err := m.Unseal(t.Context(), blob, nil); result <- err }()
	close(release)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	wantNoHandles(t, m)
}

// TestAbandonedSecret: an unsealed secret that nobody waits for any more is
// wiped.
func TestAbandonedSecret(t *testing.T) {
	p := emulator(t)
	m, _ := tapped(t, p, Options{})
	secret := []byte("secret")
	started, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- m.do(ctx, "test", func() { clear(secret) }, func(*tx) error {
			close(started)
			<-release
			return nil
		})
	}()
	<-started
	cancel()
	wantError(t, <-result, context.Canceled)
	close(release)
	wantNoHandles(t, m) // waits for the owner
	if !bytes.Equal(secret, make([]byte, 6)) {
		t.Fatalf("%q is still there", secret)
	}
}

func TestClose(t *testing.T) {
	m := fresh(t)
	key := must(m.CreateSigningKey(t.Context(), nil))(t)
	m.Close()
	m.Close()
	_, err := key.Sign(nil, make([]byte, 48), nil)
	wantError(t, err, ErrClosed)
	_, _, err = m.Handles(t.Context())
	wantError(t, err, ErrClosed)
}

// TestReset power-cycles the emulator between operations: nothing of this
// package lives in volatile memory.
func TestReset(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	p := emulatorIn(t, dir)
	m := openAt(t, p, Options{})
	id, value, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	policy := Policy{CounterAtMost(id, value+5)}
	blob := must(m.Seal(ctx, []byte("x"), policy))(t)
	key := must(m.CreateExchangeKey(ctx, policy))(t)
	for _, end := range []func(){p.Kill, func() { p.Stop() }} {
		end()
		p = emulatorIn(t, dir)
		must(m.Unseal(ctx, blob, policy))(t)
		must(key.ECDH(key.PublicKey()))(t)
	}
	// An emulator that nobody has started is started at Open, and named
	// later.
	notStarted := func(c []byte) ([]byte, []byte, error) { return nil, refuse(0x100), nil }
	tm, l := tapped(t, p, Options{})
	l.set(notStarted, nil)
	_, err = tm.Unseal(ctx, blob, policy)
	wantError(t, err, ErrReset)
	l.set(nil, nil)
	started := false
	fresh := &tap{link: must(openLink("unix:"+p.Socket, 10*time.Second))(t)}
	fresh.before = func(c []byte) ([]byte, []byte, error) {
		if commandOf(c) == uint32(tpm2.TPMCCStartup) {
			started = true
			return nil, refuse(0), nil
		}
		if !started {
			return nil, refuse(0x100), nil
		}
		return c, nil, nil
	}
	must(open(ctx, fresh, Options{}))(t).Close()
	if !started {
		t.Error("TPM2_Startup was not sent")
	}
}

func TestLockout(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m := openAt(t, p, Options{})
	blob := must(m.Seal(ctx, []byte("x"), nil))(t)
	id, _, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	// An object of somebody else, protected by a password and subject to
	// dictionary attack protection, and somebody who guesses.
	guess := func() error {
		return m.do(ctx, "guess", nil, func(x *tx) error {
			template := tpm2.ECCSRKTemplate
			template.ObjectAttributes.NoDA = false
			rsp, err := execute(x, "TPM2_CreatePrimary", tpm2.CreatePrimary{
				PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
				InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
					UserAuth: tpm2.TPM2BAuth{Buffer: []byte("password")},
				}},
				InPublic: tpm2.New2B(template),
			})
			if err != nil {
				return err
			}
			_, err = execute(x, "TPM2_Create", tpm2.Create{
				ParentHandle: tpm2.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name, Auth: tpm2.PasswordAuth([]byte("guess"))},
				InPublic:     tpm2.New2B(sealedKind().template(true)),
			})
			return err
		})
	}
	for range 200 {
		err = guess()
		if !errors.Is(err, ErrAuth) {
			break
		}
	}
	wantError(t, err, ErrLockout)
	var lockout *LockoutError
	if !errors.As(err, &lockout) {
		t.Fatalf("%v tells nothing about the lockout", err)
	}
	if lockout.Failures < lockout.Limit || lockout.Limit == 0 || lockout.Interval <= 0 {
		t.Errorf("%+v", lockout)
	}
	// Our keys do not suffer.
	must(m.Unseal(ctx, blob, nil))(t)
	must(m.IncrementCounter(ctx, id))(t)
	must(must(m.CreateSigningKey(ctx, nil))(t).Sign(nil, make([]byte, 48), nil))(t)
	wantNoHandles(t, m)
}

// TestNoTPM: what stands behind the path is no TPM 2.0.
func TestNoTPM(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead")
	unixListener(t, dead, nil).Close()
	if err := os.WriteFile(dead+"2", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(name string, answer []byte) string {
		path := filepath.Join(dir, name)
		unixListener(t, path, answer)
		return "unix:" + path
	}
	tpm12 := []byte{0x00, 0xC4, 0, 0, 0, 10, 0, 0, 0, 0x1E}
	family := append([]byte{0x80, 0x01, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0}, "9.9\x00"...)
	for name, tc := range map[string]struct {
		path string
		want error
	}{
		"no device":        {filepath.Join(dir, "tpmrm0"), ErrAbsent},
		"no socket":        {"unix:" + filepath.Join(dir, "sock"), ErrAbsent},
		"a file":           {file, ErrNotTPM2},
		"a file as socket": {"unix:" + file, ErrNotTPM2},
		"/dev/null":        {"/dev/null", ErrProtocol},
		"TPM 1.2":          {serve("12", tpm12), ErrNotTPM2},
		"another family":   {serve("99", family), ErrNotTPM2},
		"noise":            {serve("noise", []byte("HTTP/1.1 400 Bad Request\r\n\r\n")), ErrProtocol},
		"huge":             {serve("huge", []byte{0x80, 0x01, 0xFF, 0, 0, 0, 0, 0, 0, 0}), ErrProtocol},
		"closes":           {serve("closes", []byte{}), ErrAbsent},
		"silent":           {serve("silent", nil), ErrTimeout},
		"cut":              {serve("cut", []byte{0x80, 0x01, 0, 0, 0, 99, 0, 0, 0, 0}), ErrAbsent},
	} {
		_, err := Open(ctx, tc.path, Options{CommandTimeout: 300 * time.Millisecond})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for errno, want := range map[unix.Errno]error{
		unix.EACCES: ErrPermission, unix.EPERM: ErrPermission, unix.EBUSY: ErrBusy, unix.EAGAIN: ErrBusy,
		unix.ENOENT: ErrAbsent, unix.ENXIO: ErrAbsent, unix.ENODEV: ErrAbsent, unix.ECONNREFUSED: ErrAbsent,
	} {
		if err := openError(fmt.Errorf("open: %w", errno)); !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v: %v, want %v", errno, err, want)
		}
	}
}

// unixListener answers every command alike: nil says nothing, empty closes.
func unixListener(t *testing.T, path string, answer []byte) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, responseMax)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if answer == nil {
						continue
					}
					if _, err := c.Write(answer); err != nil || len(answer) == 0 || len(answer) == 10 {
						return
					}
				}
			}()
		}
	}()
	return l
}

// TestBusSecrecy records everything that crosses the bus.
func TestBusSecrecy(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m, l := tapped(t, p, Options{})
	var wire bytes.Buffer
	l.set(func(c []byte) ([]byte, []byte, error) { wire.Write(c); return c, nil, nil },
		func(_, r []byte) ([]byte, error) { wire.Write(r); return r, nil })
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	blob := must(m.Seal(ctx, secret, nil))(t)
	must(m.Unseal(ctx, blob, nil))(t)
	exchange := must(m.CreateExchangeKey(ctx, nil))(t)
	peer := must(ecdh.P384().GenerateKey(rand.Reader))(t)
	z := must(exchange.ECDH(peer.PublicKey()))(t)
	id, value, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	must(m.IncrementCounter(ctx, id))(t)
	_, _ = m.Unseal(ctx, must(m.Seal(ctx, secret, Policy{CounterEquals(id, value+1)}))(t), Policy{CounterEquals(id, value+1)})
	l.set(nil, nil)
	for name, s := range map[string][]byte{"sealed secret": secret, "shared secret": z, "counter authorisation": id.Auth} {
		for i := 0; i+8 <= len(s); i++ {
			if bytes.Contains(wire.Bytes(), s[i:i+8]) {
				t.Fatalf("the %s crosses the bus in clear", name)
			}
		}
	}
	if wire.Len() < 4000 {
		t.Fatalf("recorded only %d bytes", wire.Len())
	}
}

// TestBusTampering is somebody on the bus who alters responses and exchanges
// objects.
func TestBusTampering(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m, l := tapped(t, p, Options{})
	blob := must(m.Seal(ctx, bytes.Repeat([]byte{7}, 32), nil))(t)
	evil := must(decode(must(m.Seal(ctx, bytes.Repeat([]byte{8}, 32), nil))(t), sealedKind(), nil, DefaultSRKHandle))(t)

	for _, code := range []tpm2.TPMCC{tpm2.TPMCCUnseal, tpm2.TPMCCCreate} {
		for _, at := range []int{20, 40} {
			l.set(nil, func(c, r []byte) ([]byte, error) {
				if commandOf(c) == uint32(code) && len(r) > at {
					r[at] ^= 0x10
				}
				return r, nil
			})
			if code == tpm2.TPMCCUnseal {
				_, err := m.Unseal(ctx, blob, nil)
				wantError(t, err, ErrProtocol)
			} else {
				_, err := m.CreateSigningKey(ctx, nil)
				wantError(t, err, ErrProtocol)
			}
		}
	}
	// Load another object than asked for.
	l.set(func(c []byte) ([]byte, []byte, error) {
		if commandOf(c) != ccLoad {
			return c, nil, nil
		}
		head := bytes.Clone(c[:14+4+9]) // header, parent, password session
		load := append(head, tpm2.Marshal(evil.private)...)
		load = append(load, tpm2.Marshal(tpm2.New2B(evil.public))...)
		binary.BigEndian.PutUint32(load[2:], uint32(len(load)))
		return load, nil, nil
	}, nil)
	_, err := m.Unseal(ctx, blob, nil)
	wantError(t, err, ErrAuth)
	l.set(nil, nil)
	must(m.Unseal(ctx, blob, nil))(t)
	wantNoHandles(t, m)
}

// TestPanicContained: whatever the codec does with hostile bytes, the owner
// goroutine lives on.
func TestPanicContained(t *testing.T) {
	m := fresh(t)
	err := m.do(t.Context(), "test", nil, func(*tx) error { panic("codec") })
	wantError(t, err, ErrProtocol)
	must(m.Seal(t.Context(), []byte("x"), nil))(t)
}

// TestDamagedKeyFile flips one bit in each byte of the DER.
func TestDamagedKeyFile(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	blob := must(m.Seal(ctx, []byte("secret"), nil))(t)
	key := must(m.CreateExchangeKey(ctx, nil))(t)
	try := map[string]func([]byte) error{
		"sealed": func(b []byte) error { _, err := m.Unseal(ctx, b, nil); return err },
		"key": func(b []byte) error {
			k, err := m.ParseExchangeKey(b, nil)
			if err == nil {
				_, err = k.ECDH(key.PublicKey())
			}
			return err
		},
	}
	for name, file := range map[string][]byte{"sealed": blob, "key": key.PEM()} {
		block, _ := pem.Decode(file)
		if err := try[name](pem.EncodeToMemory(block)); err != nil {
			t.Fatal(err)
		}
		for i := range block.Bytes {
			bit := byte(1) << (i % 8)
			block.Bytes[i] ^= bit
			if err := try[name](pem.EncodeToMemory(block)); err == nil {
				t.Fatalf("%s: byte %d altered and still taken", name, i)
			}
			block.Bytes[i] ^= bit
		}
		for _, bad := range [][]byte{nil, []byte("x"), file[:len(file)-5], append(bytes.Clone(file), '\n'),
			append([]byte("\n"), file...), append(bytes.Clone(file), file...), make([]byte, maxKeyFile+1),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes}),
			pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: append(bytes.Clone(block.Bytes), 0)}),
			pem.EncodeToMemory(&pem.Block{Type: block.Type, Headers: map[string]string{"a": "b"}, Bytes: block.Bytes})} {
			if err := try[name](bad); !errors.Is(err, ErrBlob) {
				t.Errorf("%s: %.40q: %v", name, bad, err)
			}
		}
	}
	// Another parent handle.
	e := must(decode(blob, sealedKind(), nil, DefaultSRKHandle))(t)
	wantError(t, try["sealed"](e.encode(0x81000002)), ErrObject)
	wantNoHandles(t, m)
}

// TestWeakerObject makes objects that a password opens, or that may leave the
// TPM, and offers them as ours.
func TestWeakerObject(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	for name, weaken := range map[string]func(*tpm2.TPMTPublic){
		"userWithAuth":    func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true },
		"adminWithPolicy": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.AdminWithPolicy = false },
		"noDA":            func(p *tpm2.TPMTPublic) { p.ObjectAttributes.NoDA = false },
		"not fixed": func(p *tpm2.TPMTPublic) {
			p.ObjectAttributes.FixedTPM = false
			p.ObjectAttributes.FixedParent = false
		},
		"other policy": func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 32) },
		"no policy":    func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil },
	} {
		template := sealedKind().template(true)
		template.AuthPolicy.Buffer = must(Policy(nil).digest(tpm2.TPMCCUnseal))(t)
		weaken(&template)
		var blob []byte
		err := m.do(ctx, "create", nil, func(x *tx) error {
			template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})
			rsp, err := execute(x, "TPM2_Create", tpm2.Create{
				ParentHandle: x.parent(tpm2.PasswordAuth(nil)),
				InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
					Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("theirs")}),
				}},
				InPublic: tpm2.New2B(template),
			})
			if err != nil {
				return err
			}
			e := &entity{kind: sealedKind(), public: *must(rsp.OutPublic.Contents())(t), private: rsp.OutPrivate}
			blob = e.encode(DefaultSRKHandle)
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = m.Unseal(ctx, blob, nil)
		if !errors.Is(err, ErrObject) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConcurrent uses one TPM from many goroutines and a second process's worth
// of connections.
func TestConcurrent(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	a, b := openAt(t, p, Options{}), openAt(t, p, Options{})
	blob := must(a.Seal(ctx, []byte("secret"), nil))(t)
	signing := must(b.CreateSigningKey(ctx, nil))(t)
	exchange := must(b.CreateExchangeKey(ctx, nil))(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			m := []*TPM{a, b}[i%2]
			for range 5 {
				if got, err := m.Unseal(ctx, blob, nil); err != nil || string(got) != "secret" {
					t.Errorf("unseal: %q, %v", got, err)
				}
				if _, err := signing.Sign(nil, make([]byte, 48), nil); err != nil {
					t.Error(err)
				}
				if _, err := exchange.ECDH(exchange.PublicKey()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantNoHandles(t, a)
}

// TestDevice runs the character device's code over a SOCK_SEQPACKET pair, which
// has the same manner: one write is one command, one read one response.
func TestDevice(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	back := must(openLink("unix:"+p.Socket, 10*time.Second))(t).(*socketLink)
	var silent bool
	dev := &deviceLink{path: "/dev/tpmrm0", timeout: 300 * time.Millisecond, fd: -1, open: func() (int, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		go func(fd int, silent bool) {
			defer unix.Close(fd)
			buf := make([]byte, responseMax)
			for {
				n, err := unix.Read(fd, buf)
				if err != nil || n == 0 {
					return
				}
				if silent {
					continue
				}
				if back.begin() != nil {
					return
				}
				response, err := back.exchange(buf[:n])
				if err != nil {
					return
				}
				if _, err := unix.Write(fd, response); err != nil {
					return
				}
			}
		}(fds[1], silent)
		if err := unix.SetNonblock(fds[0], true); err != nil {
			return -1, err
		}
		return fds[0], nil
	}}
	dev.timeout = 10 * time.Second
	m := must(open(ctx, dev, Options{}))(t)
	defer m.Close()
	if !m.Info().Managed {
		t.Error("tpmrm0 has a resource manager")
	}
	sealer := Sealer{TPM: m}
	blob := must(sealer.Seal([]byte("secret")))(t)
	if got := must(sealer.Unseal(blob))(t); string(got) != "secret" {
		t.Fatalf("%q", got)
	}
	wantNoHandles(t, m)

	// A device that stops answering, and one that comes back.
	err := m.do(ctx, "stop", nil, func(*tx) error {
		silent, dev.timeout = true, 50*time.Millisecond
		return dev.close()
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Unseal(ctx, blob, nil)
	wantError(t, err, ErrTimeout)
	_ = m.do(ctx, "go on", nil, func(*tx) error {
		silent, dev.timeout = false, 10*time.Second
		return dev.close()
	})
	must(m.Unseal(ctx, blob, nil))(t)
}
