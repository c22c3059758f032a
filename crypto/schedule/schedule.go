// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/secretmem"
)

// Labels of the key schedule, version 1.
const (
	labelTraffic = "cellward v1 traffic"
	labelStart   = "cellward v1 start"
	labelControl = "cellward v1 control"
)

// HeartbeatSource is the source id under which a node's heartbeat streams are
// keyed. No data source has it.
const HeartbeatSource = 0xFFFFFFFF

// Errors of the derivations.
var (
	// ErrZeroPRK reports a secret of zeros: one that was never set, or wiped.
	// Keys from it would be known to everyone.
	ErrZeroPRK = errors.New("epoch secret is all zeros")
	// ErrZeroStart reports a start of zeros: no randomness, no sending.
	ErrZeroStart = errors.New("start is all zeros")
	// ErrEpoch reports epoch 0, which does not exist.
	ErrEpoch = errors.New("epoch 0 does not exist")
	// ErrSource reports source id 0, which is reserved.
	ErrSource = errors.New("source id 0 is reserved")
)

// Traffic derives key and IV of one source (HeartbeatSource for heartbeat
// streams) in one start of an epoch into out. On an error out is untouched.
func Traffic(prk *PRK, source, epoch uint32, start *[StartSize]byte, out *TrafficKey) error {
	if source == 0 {
		return fmt.Errorf("derive traffic key: %w", ErrSource)
	}
	if allZero(start[:]) {
		return fmt.Errorf("derive traffic key: %w", ErrZeroStart)
	}
	info := make([]byte, 0, len(labelTraffic)+4+4+StartSize)
	info = append(info, labelTraffic...)
	info = binary.LittleEndian.AppendUint32(info, source)
	info = binary.LittleEndian.AppendUint32(info, epoch)
	info = append(info, start[:]...)
	err := derive(prk, epoch, info, KeySize+IVSize, func(okm []byte) {
		copy(out.Key[:], okm)
		copy(out.IV[:], okm[KeySize:])
	})
	if err != nil {
		return fmt.Errorf("derive traffic key: %w", err)
	}
	return nil
}

// Start derives the key of an epoch's start records into out.
func Start(prk *PRK, epoch uint32, out *StartKey) error {
	if err := derive(prk, epoch, epochInfo(labelStart, epoch), len(out), func(okm []byte) { copy(out[:], okm) }); err != nil {
		return fmt.Errorf("derive start key: %w", err)
	}
	return nil
}

// Control derives the key of an epoch's control datagrams into out.
func Control(prk *PRK, epoch uint32, out *ControlKey) error {
	if err := derive(prk, epoch, epochInfo(labelControl, epoch), len(out), func(okm []byte) { copy(out[:], okm) }); err != nil {
		return fmt.Errorf("derive control key: %w", err)
	}
	return nil
}

// StartMAC returns the first 16 bytes of HMAC-SHA-384 (RFC 2104) over message:
// the associated data of a start record and all bytes between its header and
// its MAC. Compare it in constant time.
func StartMAC(key *StartKey, message []byte) (mac [MACSize]byte) {
	// The sum goes on the heap, where it can be overwritten: its second half is on no wire.
	sum := new([sha512.Size384]byte)
	defer clear(sum[:])
	secretmem.HMAC(sum, key[:], message)
	copy(mac[:], sum[:])
	return mac
}

func epochInfo(label string, epoch uint32) []byte {
	info := make([]byte, 0, len(label)+4)
	info = append(info, label...)
	return binary.LittleEndian.AppendUint32(info, epoch)
}

// derive refuses what no epoch can have, and then expands the secret: the one place in which keys are made. take gets the
// result, which is wiped behind it, where secrets leave no copies.
func derive(prk *PRK, epoch uint32, info []byte, size int, take func(okm []byte)) (err error) {
	if epoch == 0 {
		return ErrEpoch
	}
	secretmem.Do(func() {
		if allZero(prk[:]) {
			err = ErrZeroPRK
			return
		}
		okm := make([]byte, size)
		defer clear(okm)
		if err = secretmem.Expand(okm, prk[:], info); err == nil {
			take(okm)
		}
	})
	return err
}

// allZero looks at every byte, so that its time tells nothing about a secret.
func allZero(b []byte) bool {
	var or byte
	for _, v := range b {
		or |= v
	}
	return subtle.ConstantTimeByteEq(or, 0) == 1
}
