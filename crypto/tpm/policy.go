// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Policy is what has to hold, beyond the kind of command, for an object to be
// usable: all steps, in this order. The empty Policy is the usual one. Whatever
// it says, the object's policy ends in PolicyCommandCode with the one command
// that its kind is for, so that no other command can use it.
type Policy []Step

// Step is one condition.
type Step interface {
	update(*tpm2.PolicyCalculator) error
	apply(x *tx, session tpm2.TPMHandle) error
}

// full appends the step that every policy ends in.
func (p Policy) full(use tpm2.TPMCC) []Step {
	return append(append([]Step(nil), p...), commandCode(use))
}

// digest computes authPolicy without the TPM (TPM 2.0 Part 1, 19.7).
func (p Policy) digest(use tpm2.TPMCC) ([]byte, error) {
	calc, err := tpm2.NewPolicyCalculator(sessionHash)
	if err != nil {
		return nil, err
	}
	for i, step := range p.full(use) {
		if err := step.update(calc); err != nil {
			return nil, fmt.Errorf("policy step %d: %w", i, err)
		}
	}
	return calc.Hash().Digest, nil
}

// commandCode is TPM2_PolicyCommandCode.
type commandCode tpm2.TPMCC

func (c commandCode) update(calc *tpm2.PolicyCalculator) error {
	return tpm2.PolicyCommandCode{Code: tpm2.TPMCC(c)}.Update(calc)
}

func (c commandCode) apply(x *tx, session tpm2.TPMHandle) error {
	_, err := execute(x, "TPM2_PolicyCommandCode", tpm2.PolicyCommandCode{PolicySession: session, Code: tpm2.TPMCC(c)})
	return err
}

// CounterEquals holds while the counter shows exactly value.
func CounterEquals(counter CounterID, value uint64) Step {
	return counterStep{counter, value, tpm2.TPMEOEq}
}

// CounterAtMost holds while the counter shows value or less.
func CounterAtMost(counter CounterID, value uint64) Step {
	return counterStep{counter, value, tpm2.TPMEOUnsignedLE}
}

// counterStep is TPM2_PolicyNV on a counter. The policy holds the index's Name,
// which fixes its attributes: nothing but a counter that only counts up can be
// put in its place. An index that was deleted and made again has the same Name,
// but it starts above every value that any counter of this TPM ever had (TPM 2.0
// Part 3, TPM2_NV_Increment), so an old value never comes back.
type counterStep struct {
	counter CounterID
	value   uint64
	op      tpm2.TPMEO
}

func (c counterStep) command(session tpm2.TPMHandle, auth tpm2.Session) tpm2.PolicyNV {
	return tpm2.PolicyNV{
		AuthHandle:    c.counter.authorised(auth),
		NVIndex:       c.counter.named(),
		PolicySession: session,
		OperandB:      tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, c.value)},
		Operation:     c.op,
	}
}

func (c counterStep) update(calc *tpm2.PolicyCalculator) error {
	return c.command(0, nil).Update(calc)
}

func (c counterStep) apply(x *tx, session tpm2.TPMHandle) error {
	return x.withSession(sessionOptions{auth: c.counter.Auth}, func(auth tpm2.Session) error {
		_, err := execute(x, "TPM2_PolicyNV", c.command(session, auth))
		return err
	})
}
