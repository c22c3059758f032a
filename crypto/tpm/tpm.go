// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cellward/cellward/crypto/secretmem"
)

// Options configure Open. The zero value is usable.
type Options struct {
	// SRKName pins the storage root key: Open fails with ErrOtherTPM if the
	// TPM's differs. Empty takes whatever is there: do that once, at
	// provisioning, and pin SRKName() from then on. Without the pin, whoever
	// sits on the bus can pose as the TPM.
	SRKName Name
	// SRKHandle is the persistent handle of the SRK; 0 means 0x81000001, the
	// one that TCG's Provisioning Guidance reserves for it.
	SRKHandle uint32
	// SRKStrong asks for P-384, SHA-384 and AES-256 when an SRK has to be
	// made, in place of TCG's reference template (P-256, AES-128), which
	// other software on the machine expects to find or make.
	SRKStrong bool
	// OwnerAuth is the authorisation value of the owner hierarchy, needed to
	// make an SRK, persistent keys and counters. It must not contain a zero
	// byte.
	OwnerAuth []byte
	// CommandTimeout bounds one command; 0 means 30 s. Making a key takes
	// some chips several seconds.
	CommandTimeout time.Duration
	// RetryFor bounds how long a command is repeated while the TPM answers
	// TPM_RC_RETRY and the like; 0 means 10 s.
	RetryFor time.Duration
	// CallTimeout bounds calls that have no context of their own
	// (crypto.Signer, ecdh.KeyExchanger, Sealer), waiting included; 0 means
	// 60 s.
	CallTimeout time.Duration
}

// DefaultSRKHandle is the SRK's handle in TCG TPM v2.0 Provisioning Guidance.
const DefaultSRKHandle = 0x81000001

// Name is the Name of a TPM object: the algorithm id and a digest over its
// whole public area (TPM 2.0 Part 1, 16).
type Name []byte

// String returns the Name in hexadecimal.
func (n Name) String() string { return hex.EncodeToString(n) }

// ParseName reads what Name.String wrote.
func ParseName(s string) (Name, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("parse TPM Name: %w", err)
	}
	// Two bytes of algorithm id and a SHA-256, SHA-384 or SHA-512 digest.
	switch len(b) {
	case 34, 50, 66:
		return b, nil
	}
	return nil, fmt.Errorf("parse TPM Name: %d bytes", len(b))
}

// Info describes the TPM.
type Info struct {
	Manufacturer string // TPM_PT_MANUFACTURER, such as "IBM"
	Vendor       string // vendor strings, joined
	Firmware     uint64 // TPM_PT_FIRMWARE_VERSION_1 and _2
	P384         bool   // P-384 with SHA-384
	AES256       bool   // AES-256-CFB
	Managed      bool   // a resource manager stands in between
}

// TPM is an open TPM. Its methods are safe for concurrent use; operations run
// one after the other, in the order in which the owner goroutine takes them.
// A call returns when its context ends even if the TPM is still busy with it;
// the operation then still runs to its end and cleans up.
type TPM struct {
	opts    Options
	info    Info
	bus     *bus
	srk     tpm2.TPMTPublic
	srkName tpm2.TPM2BName
	// deferred says that the first operation is to open it; the owner goroutine's.
	deferred bool

	jobs    chan *job
	closing chan struct{} // closed first: no new jobs, no waiting
	closed  chan struct{} // closed when the owner has ended
	once    sync.Once
}

type job struct {
	ctx   context.Context
	op    string
	fn    func(*tx) error
	done  chan error
	state atomic.Int32 // jobPending, then whoever is first
	drop  func()       // wipes what nobody will read
}

const (
	jobPending = iota
	jobDelivered
	jobAbandoned
)

// tx is one operation in the owner goroutine.
type tx struct {
	ctx context.Context
	t   *TPM
	op  string
}

// Open connects to the TPM at path: a character device such as /dev/tpmrm0, or
// "unix:" and the path of a socket of swtpm. It checks that a TPM 2.0 answers,
// finds the storage root key or makes it, and compares it with the pinned Name.
func Open(ctx context.Context, path string, opts Options) (*TPM, error) {
	opts.setDefaults()
	if bytes.IndexByte(opts.OwnerAuth, 0) >= 0 {
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: the owner authorisation contains a zero byte", ErrAuth)}
	}
	l, err := openLink(path, opts.CommandTimeout)
	if err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	return open(ctx, l, opts)
}

func open(ctx context.Context, l link, opts Options) (*TPM, error) {
	opts.setDefaults()
	t := &TPM{
		opts:    opts,
		jobs:    make(chan *job),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	t.bus = &bus{link: l, retryFor: opts.RetryFor, sleep: t.sleep}
	go t.own()
	if err := t.do(ctx, "open", nil, (*tx).open); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

func (o *Options) setDefaults() {
	if o.SRKHandle == 0 {
		o.SRKHandle = DefaultSRKHandle
	}
	if o.CommandTimeout <= 0 {
		o.CommandTimeout = 30 * time.Second
	}
	if o.RetryFor <= 0 {
		o.RetryFor = 10 * time.Second
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = time.Minute
	}
	o.OwnerAuth = bytes.Clone(o.OwnerAuth)
	o.SRKName = bytes.Clone(o.SRKName)
}

// Close ends the connection after the operation in hand, if any. Waiting calls
// return ErrClosed.
func (t *TPM) Close() error {
	t.once.Do(func() { close(t.closing) })
	<-t.closed
	return nil
}

// SRKName returns the Name of the storage root key, to be pinned.
func (t *TPM) SRKName() Name { return bytes.Clone(t.srkName.Buffer) }

// Info describes the TPM as found at Open.
func (t *TPM) Info() Info { return t.info }

// Curve is the curve of the keys that this TPM makes: P-384, or P-256 if it has
// no P-384.
func (t *TPM) Curve() ecdh.Curve {
	if t.info.P384 {
		return ecdh.P384()
	}
	return ecdh.P256()
}

// Handles lists the transient objects and the sessions, loaded or saved, that
// the TPM holds for this client. Between operations a link without resource
// manager shows none unless other software left some.
func (t *TPM) Handles(ctx context.Context) (objects, sessions []uint32, err error) {
	err = t.do(ctx, "list handles", nil, func(x *tx) error {
		objects = t.bus.handles(handlesTransient)
		sessions = append(t.bus.handles(handlesLoadedSession), t.bus.handles(handlesSavedSession)...)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return objects, sessions, nil
}

// sleep waits d or until Close.
func (t *TPM) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.closing:
	}
}

// do runs fn in the owner goroutine and waits for it or for ctx. fn may write
// to the caller's variables: the caller must not read them after an error. drop,
// if given, wipes them; it is called when fn has run for nobody or will not run.
func (t *TPM) do(ctx context.Context, op string, drop func(), fn func(*tx) error) error {
	j := &job{ctx: ctx, op: op, fn: fn, drop: drop, done: make(chan error, 1)}
	if err := t.submit(ctx, j); err != nil {
		j.discard()
		return &Error{Op: op, Err: err}
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobPending, jobAbandoned) {
			return &Error{Op: op, Err: fmt.Errorf("wait for the TPM: %w", context.Cause(ctx))}
		}
		return <-j.done
	}
}

func (t *TPM) submit(ctx context.Context, j *job) error {
	select {
	case <-t.closing:
		return ErrClosed
	default:
	}
	select {
	case t.jobs <- j:
		return nil
	case <-t.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for the TPM: %w", context.Cause(ctx))
	}
}

func (j *job) discard() {
	if j.drop != nil {
		j.drop()
	}
}

// own is the owner goroutine: nothing else touches the bus.
func (t *TPM) own() {
	defer close(t.closed)
	defer func() { _ = t.bus.link.close() }()
	for {
		select {
		case <-t.closing:
			return
		case j := <-t.jobs:
			var err error
			// Sessions have keys, and what is unsealed comes through here in the clear.
			secretmem.Do(func() { err = t.run(j) })
			if !j.state.CompareAndSwap(jobPending, jobDelivered) {
				j.discard()
			}
			j.done <- err
		}
	}
}

// run is one operation: link up, commands, flush, link down.
func (t *TPM) run(j *job) (err error) {
	x := &tx{ctx: j.ctx, t: t, op: j.op}
	if cause := context.Cause(j.ctx); cause != nil {
		return &Error{Op: j.op, Err: cause}
	}
	if err := t.bus.link.begin(); err != nil {
		return &Error{Op: j.op, Err: err}
	}
	defer t.bus.link.end()
	// What an earlier operation could not flush because the link failed.
	if err := t.bus.flush(); err != nil {
		return x.failed("TPM2_FlushContext", err)
	}
	// Whatever fn's outcome is, it stands: a handle that cannot be flushed
	// now is flushed before the next operation.
	defer func() { _ = t.bus.flush() }()
	// The codec works by reflection on bytes that come over a bus which
	// others may be able to touch. A panic in it ends one operation, not the
	// agent, whose data path needs no TPM.
	defer func() {
		if r := recover(); r != nil {
			err = &Error{Op: j.op, Err: fmt.Errorf("%w: %v", ErrProtocol, r)}
		}
	}()
	if err := x.openFirst(); err != nil {
		return x.wrap("", err)
	}
	err = j.fn(x)
	if err != nil && j.op != "open" {
		err = x.diagnose(err)
	}
	return x.wrap("", err)
}

// wrap makes an *Error of err unless it is one already.
func (x *tx) wrap(command string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	rc, answered := responseCode(err)
	if !answered {
		return &Error{Op: x.op, Command: command, Err: err}
	}
	cause := condition(tpm2.TPMRC(rc))
	if cause == ErrLockout {
		cause = x.lockout()
	}
	return &Error{Op: x.op, Command: command, RC: rc, Err: cause}
}

func responseCode(err error) (rc uint32, answered bool) {
	var code tpm2.TPMRC
	if errors.As(err, &code) {
		return uint32(code), true
	}
	return 0, false
}

// execute runs one command unless the caller has gone.
func execute[R any](x *tx, name string, cmd tpm2.Command[R, *R], s ...tpm2.Session) (*R, error) {
	if cause := context.Cause(x.ctx); cause != nil {
		return nil, x.wrap(name, cause)
	}
	rsp, err := cmd.Execute(x.t.bus, s...)
	if err == nil {
		return rsp, nil
	}
	return nil, x.failed(name, err)
}

// failed wraps an error of a command. One that is neither a response code nor
// the link's comes from go-tpm's check of the response.
func (x *tx) failed(command string, err error) error {
	if _, answered := responseCode(err); !answered && !named(err) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return x.wrap(command, err)
}

func named(err error) bool {
	for _, known := range []error{ErrAbsent, ErrBusy, ErrTimeout, ErrProtocol, ErrNotTPM2, ErrPermission} {
		if errors.Is(err, known) {
			return true
		}
	}
	var errno interface{ Timeout() bool } // a system call failed
	return errors.As(err, &errno)
}

// diagnose tells the case that the TPM behind the path has been exchanged or
// cleared since Open from an ordinary refusal: both show as a wrong HMAC, a blob
// that cannot be unwrapped or a missing handle.
func (x *tx) diagnose(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.RC == 0 && !errors.Is(err, ErrProtocol) ||
		errors.Is(err, ErrLockout) || errors.Is(err, ErrBusy) || errors.Is(err, ErrReset) {
		return err
	}
	public, readErr := x.readPublic(x.t.opts.SRKHandle)
	if readErr != nil && !errors.Is(readErr, ErrNoObject) {
		return err
	}
	if readErr == nil {
		if name, nameErr := tpm2.ObjectName(public); nameErr == nil && bytes.Equal(name.Buffer, x.t.srkName.Buffer) {
			return err
		}
	}
	return &Error{Op: e.Op, Command: e.Command, RC: e.RC, Err: ErrOtherTPM}
}

// lockout asks the TPM for its dictionary attack parameters.
func (x *tx) lockout() error {
	rsp, err := tpm2.GetCapability{
		Capability:    tpm2.TPMCapTPMProperties,
		Property:      uint32(tpm2.TPMPTLockoutCounter),
		PropertyCount: 4,
	}.Execute(x.t.bus)
	if err != nil {
		return ErrLockout
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return ErrLockout
	}
	e := &LockoutError{}
	for _, p := range list.TPMProperty {
		switch p.Property {
		case tpm2.TPMPTLockoutCounter:
			e.Failures = p.Value
		case tpm2.TPMPTMaxAuthFail:
			e.Limit = p.Value
		case tpm2.TPMPTLockoutInterval:
			e.Interval = time.Duration(p.Value) * time.Second
		case tpm2.TPMPTLockoutRecovery:
			e.Recovery = time.Duration(p.Value) * time.Second
		}
	}
	return e
}

// open is the operation behind Open.
func (x *tx) open() error {
	if err := x.checkFamily(); err != nil {
		return err
	}
	if !x.t.bus.link.managed() {
		x.t.bus.sweep()
	}
	if err := x.probe(); err != nil {
		return err
	}
	return x.findSRK()
}

// checkFamily asks for TPM_PT_FAMILY_INDICATOR. An emulator that nobody has
// started is started; on a device the kernel does that.
func (x *tx) checkFamily() error {
	family, err := x.property(tpm2.TPMPTFamilyIndicator)
	if errors.Is(err, ErrReset) && !x.t.bus.link.managed() {
		if _, err := execute(x, "TPM2_Startup", tpm2.Startup{StartupType: tpm2.TPMSUClear}); err != nil {
			return err
		}
		family, err = x.property(tpm2.TPMPTFamilyIndicator)
	}
	if err != nil {
		return err
	}
	if text := propertyText(family); text != "2.0" {
		return fmt.Errorf("%w: family %q", ErrNotTPM2, text)
	}
	return nil
}

func (x *tx) property(p tpm2.TPMPT) (uint32, error) {
	rsp, err := execute(x, "TPM2_GetCapability", tpm2.GetCapability{
		Capability:    tpm2.TPMCapTPMProperties,
		Property:      uint32(p),
		PropertyCount: 1,
	})
	if err != nil {
		return 0, err
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil || len(list.TPMProperty) != 1 || list.TPMProperty[0].Property != p {
		return 0, fmt.Errorf("%w: property 0x%X not reported", ErrProtocol, uint32(p))
	}
	return list.TPMProperty[0].Value, nil
}

// propertyText reads a property that holds four characters.
func propertyText(v uint32) string {
	return strings.TrimRight(string([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), "\x00 ")
}

// probe fills in Info.
func (x *tx) probe() error {
	info := Info{Managed: x.t.bus.link.managed()}
	manufacturer, err := x.property(tpm2.TPMPTManufacturer)
	if err != nil {
		return err
	}
	info.Manufacturer = propertyText(manufacturer)
	for p := tpm2.TPMPTVendorString1; p <= tpm2.TPMPTVendorString4; p++ {
		v, err := x.property(p)
		if err != nil {
			return err
		}
		info.Vendor += propertyText(v)
	}
	for _, p := range []tpm2.TPMPT{tpm2.TPMPTFirmwareVersion1, tpm2.TPMPTFirmwareVersion2} {
		v, err := x.property(p)
		if err != nil {
			return err
		}
		info.Firmware = info.Firmware<<32 | uint64(v)
	}
	if info.P384, err = x.supports(eccParams(tpm2.TPMECCNistP384, tpm2.TPMTECCScheme{
		Scheme:  tpm2.TPMAlgECDSA,
		Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA384}),
	})); err != nil {
		return err
	}
	if info.AES256, err = x.supports(tpm2.TPMTPublicParms{
		Type: tpm2.TPMAlgSymCipher,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgSymCipher, &tpm2.TPMSSymCipherParms{
			Sym: aesCFB(256),
		}),
	}); err != nil {
		return err
	}
	x.t.info = info
	return nil
}

// supports asks the TPM about a combination of parameters. Any refusal counts
// as no: which code it gives differs between makers.
func (x *tx) supports(params tpm2.TPMTPublicParms) (bool, error) {
	_, err := execute(x, "TPM2_TestParms", tpm2.TestParms{Parameters: params})
	var e *Error
	if errors.As(err, &e) && e.RC != 0 && !retryable(e.RC) {
		return false, nil
	}
	return err == nil, err
}
