// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/go-tpm/tpm2"
)

// CounterID is everything that is needed to use a counter again. Auth is as
// good as the right to increment it: it belongs into the state folder, not into
// a log.
type CounterID struct {
	Index uint32 // NV index, 0x01800000 to 0x01BFFFFF for the owner (TCG registry of reserved handles)
	Name  Name   // as it is once the counter has been incremented for the first time
	Auth  []byte // authorisation value of the index
}

// Format writes the index and nothing else for every verb: Auth must not reach a
// log or an error by way of a struct that was printed whole.
func (id CounterID) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "counter 0x%08X", id.Index) }

// LogValue is what log/slog shows: the same as Format.
func (id CounterID) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(id)) }

// authSize of a counter: what its Name algorithm allows at most.
const authSize = 32

// counterPublic is the public area of a counter: TPM_NT_COUNTER; increments and
// reads only with the index's own authorisation (OWNERWRITE clear), which is
// not subject to lockout (NO_DA); every increment durable before it is answered
// (ORDERLY clear). The owner may read it, which helps diagnosis and harms
// nothing.
func counterPublic(index uint32, written bool) *tpm2.TPMSNVPublic {
	return &tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index),
		NameAlg: sessionHash,
		Attributes: tpm2.TPMANV{
			NT:        tpm2.TPMNTCounter,
			AuthWrite: true,
			AuthRead:  true,
			OwnerRead: true,
			NoDA:      true,
			Written:   written,
		},
		DataSize: 8,
	}
}

// CreateCounter makes a counter at a free index with a random authorisation
// value and increments it once, because an index's Name changes at the first
// write and only then can be pinned. It returns the counter and its first
// value, which is not 1: a TPM starts a new counter at the highest value that
// any counter of it ever had. A taken index gives ErrHandleInUse.
func (t *TPM) CreateCounter(ctx context.Context, index uint32) (CounterID, uint64, error) {
	id := CounterID{Index: index, Auth: newAuth()}
	var value uint64
	err := t.do(ctx, "create counter", nil, func(x *tx) error {
		if err := x.defineCounter(id); err != nil {
			return err
		}
		// Known without asking: the area is the one that was just
		// defined, under a session that authenticates the answer.
		fresh, err := tpm2.NVName(counterPublic(index, false))
		if err == nil {
			id.Name = fresh.Buffer
			err = x.increment(id)
		}
		if err == nil {
			var written *tpm2.TPM2BName
			if written, err = tpm2.NVName(counterPublic(index, true)); err == nil {
				id.Name = written.Buffer
				value, err = x.readCounter(id)
			}
		}
		if err != nil {
			// Half a counter is of no use to anybody, nor is the index
			// that it blocks: removed even if the caller has gone.
			x.ctx = context.WithoutCancel(x.ctx)
			if undo := x.undefineCounter(id); undo != nil {
				return errors.Join(err, undo)
			}
			return err
		}
		return nil
	})
	if err != nil {
		return CounterID{}, 0, err
	}
	return id, value, nil
}

// ReadCounter returns the counter's value. An index whose Name is not the pinned
// one gives ErrCounter.
func (t *TPM) ReadCounter(ctx context.Context, id CounterID) (uint64, error) {
	var value uint64
	err := t.do(ctx, "read counter", nil, func(x *tx) (err error) {
		if err = x.checkCounter(id); err == nil {
			value, err = x.readCounter(id)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return value, nil
}

// IncrementCounter adds one, durably, and returns the new value. If it fails
// after the command was sent (ErrTimeout, a context that ended) the counter may
// or may not have moved: ReadCounter tells.
func (t *TPM) IncrementCounter(ctx context.Context, id CounterID) (uint64, error) {
	var value uint64
	err := t.do(ctx, "increment counter", nil, func(x *tx) (err error) {
		if err = x.checkCounter(id); err != nil {
			return err
		}
		if err = x.increment(id); err == nil {
			value, err = x.readCounter(id)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return value, nil
}

// DeleteCounter removes the index with the owner's authorisation. What is under
// a policy with this counter never opens again.
func (t *TPM) DeleteCounter(ctx context.Context, id CounterID) error {
	return t.do(ctx, "delete counter", nil, func(x *tx) error {
		if err := x.checkCounter(id); err != nil {
			return err
		}
		return x.undefineCounter(id)
	})
}

// newAuth returns random bytes without zeros: a TPM cuts trailing zeros off an
// authorisation value, and go-tpm cuts at the first zero, wherever it stands.
// That costs 0.2 of 256 bits.
func newAuth() []byte {
	auth := make([]byte, authSize)
	for i := range auth {
		for auth[i] == 0 {
			_, _ = rand.Read(auth[i : i+1]) // never fails (crypto/rand)
		}
	}
	return auth
}

// checkCounter tells a deleted or replaced index from a refusal. The proof is
// not in this answer, which somebody on the bus could forge, but in the Name
// that each session's HMAC covers.
func (x *tx) checkCounter(id CounterID) error {
	rsp, err := execute(x, "TPM2_NV_ReadPublic", tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(id.Index)})
	if err != nil {
		return err
	}
	if !bytes.Equal(rsp.NVName.Buffer, id.Name) {
		return fmt.Errorf("%w: index 0x%08X", ErrCounter, id.Index)
	}
	return nil
}

func (x *tx) defineCounter(id CounterID) error {
	o := sessionOptions{direction: encryptIn, auth: x.t.opts.OwnerAuth}
	return x.withSession(o, func(session tpm2.Session) error {
		_, err := execute(x, "TPM2_NV_DefineSpace", tpm2.NVDefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session},
			Auth:       tpm2.TPM2BAuth{Buffer: id.Auth},
			PublicInfo: tpm2.New2B(*counterPublic(id.Index, false)),
		})
		return err
	})
}

func (x *tx) undefineCounter(id CounterID) error {
	return x.withSession(sessionOptions{auth: x.t.opts.OwnerAuth}, func(session tpm2.Session) error {
		_, err := execute(x, "TPM2_NV_UndefineSpace", tpm2.NVUndefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session},
			NVIndex:    id.named(),
		})
		return err
	})
}

func (id CounterID) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: tpm2.TPMHandle(id.Index), Name: tpm2.TPM2BName{Buffer: id.Name}}
}

func (id CounterID) authorised(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(id.Index), Name: tpm2.TPM2BName{Buffer: id.Name}, Auth: session}
}

func (x *tx) increment(id CounterID) error {
	return x.withSession(sessionOptions{auth: id.Auth}, func(session tpm2.Session) error {
		_, err := execute(x, "TPM2_NV_Increment", tpm2.NVIncrement{
			AuthHandle: id.authorised(session),
			NVIndex:    id.named(),
		})
		return err
	})
}

func (x *tx) readCounter(id CounterID) (value uint64, err error) {
	err = x.withSession(sessionOptions{auth: id.Auth}, func(session tpm2.Session) error {
		rsp, err := execute(x, "TPM2_NV_Read", tpm2.NVRead{
			AuthHandle: id.authorised(session),
			NVIndex:    id.named(),
			Size:       8,
		})
		if err != nil {
			return err
		}
		if len(rsp.Data.Buffer) != 8 {
			return fmt.Errorf("%w: counter of %d bytes", ErrProtocol, len(rsp.Data.Buffer))
		}
		value = binary.BigEndian.Uint64(rsp.Data.Buffer)
		return nil
	})
	return value, err
}
