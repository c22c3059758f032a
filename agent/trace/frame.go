// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"fmt"
)

// Limits of CAN identifiers and payloads (ISO 11898-1; linux/can.h).
const (
	MaxStandardID = 0x7FF      // CAN_SFF_MASK
	MaxExtendedID = 0x1FFFFFFF // CAN_EFF_MASK, and CAN_ERR_MASK for error frames
	MaxLen        = 8          // CAN_MAX_DLEN
	MaxFDLen      = 64         // CANFD_MAX_DLEN
)

const (
	errFlag       = 0x20000000 // CAN_ERR_FLAG, the only flag bit in a candump identifier
	maxRawDLC     = 15         // CAN_MAX_RAW_DLC
	maxBusName    = 15         // IFNAMSIZ without the terminating zero
	errorFrameLen = 8          // CAN_ERR_DLC
	errBusError   = 0x80       // CAN_ERR_BUSERROR
)

// ErrInvalidFrame is wrapped by every error of [Frame.Validate].
var ErrInvalidFrame = errors.New("invalid frame")

// Dir is the direction of a frame as seen by whoever logged it.
type Dir uint8

// Directions. The zero value says that the log does not tell.
const (
	DirUnknown Dir = iota
	DirRx
	DirTx
)

// String returns "rx", "tx" or "unknown".
func (d Dir) String() string {
	switch d {
	case DirRx:
		return "rx"
	case DirTx:
		return "tx"
	default:
		return "unknown"
	}
}

// Frame is one classic CAN or CAN FD frame with its time stamp. It holds no
// pointers but the bus name, which readers share between frames, so a Frame
// can be copied, compared with == and reused without allocation.
type Frame struct {
	// Time is in nanoseconds since the zero of the log, which is the Unix
	// epoch in most candump logs and the start of the measurement elsewhere.
	// It is never negative, but it may be below that of the frame before.
	Time int64
	// Bus is the name of the interface: 1 to 15 printable ASCII characters
	// other than '/' and ':', as Linux allows for a network interface.
	Bus string
	// ID is the identifier of 11 or 29 bits without flag bits. In an error
	// frame it is the error class (linux/can/error.h) instead.
	ID uint32
	// Extended says that ID has 29 bits (IDE). Never set in an error frame.
	Extended bool
	// RTR marks a classic remote frame: it has a length but no payload.
	RTR bool
	// FD marks a CAN FD frame; BRS and ESI occur in CAN FD frames only.
	FD, BRS, ESI bool
	// Error marks an error frame of the controller, not of a node.
	Error bool
	// Dir is the direction, where the log gives one.
	Dir Dir
	// Len is the length in bytes: 0 to 8, in CAN FD frames 0 to 64.
	Len uint8
	// RawDLC is 9 to 15 in a classic frame of 8 bytes that was sent with
	// that data length code (len8_dlc of linux/can.h), else 0.
	RawDLC uint8
	// Data holds the payload in its first Len bytes and zeros behind them.
	Data [MaxFDLen]byte
}

// Body returns the payload, which a remote frame has none of. It aliases f.
func (f *Frame) Body() []byte {
	if f.RTR {
		return nil
	}
	return f.Data[:min(int(f.Len), len(f.Data))]
}

// Source yields frames one after the other. Next fills f and returns nil, or
// leaves f zero and returns an error, which is io.EOF after the last frame.
// A Source is not safe for concurrent use.
type Source interface {
	Next(f *Frame) error
}

// Validate checks all that the field comments of Frame promise. Every frame
// that a Source of this package yields is valid.
func (f *Frame) Validate() error {
	if reason := f.invalid(); reason != "" {
		return fmt.Errorf("%w: %s", ErrInvalidFrame, reason)
	}
	return nil
}

func (f *Frame) invalid() string {
	limit := uint8(MaxLen)
	if f.FD {
		limit = MaxFDLen
	}
	switch {
	case f.Time < 0:
		return "time stamp is negative"
	case !validBus(f.Bus):
		return "bus is not an interface name"
	case f.Error && (f.Extended || f.RTR || f.FD):
		return "error frame cannot be extended, remote or fd"
	case (f.Extended || f.Error) && f.ID > MaxExtendedID:
		return "identifier exceeds 29 bits"
	case !f.Extended && !f.Error && f.ID > MaxStandardID:
		return "identifier exceeds 11 bits"
	case f.FD && f.RTR:
		return "fd frame cannot be remote"
	case !f.FD && (f.BRS || f.ESI):
		return "classic frame has fd flags"
	case f.Len > limit:
		return "payload is too long"
	case f.RawDLC != 0 && (f.FD || f.Error || f.Len != MaxLen || f.RawDLC <= MaxLen || f.RawDLC > maxRawDLC):
		return "raw data length code is not 9 to 15 in a classic frame of 8 bytes"
	case f.Dir > DirTx:
		return "unknown direction"
	}
	rest := f.Data[f.Len:]
	if f.RTR {
		rest = f.Data[:]
	}
	for _, b := range rest {
		if b != 0 {
			return "bytes behind the payload are not zero"
		}
	}
	return ""
}

// validBus follows dev_valid_name of the kernel (net/core/dev.c), and refuses
// what would not survive a log line: control characters and non-ASCII bytes.
func validBus[T string | []byte](name T) bool {
	if len(name) == 0 || len(name) > maxBusName {
		return false
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c > '~' || c == '/' || c == ':' {
			return false
		}
	}
	dots := name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.')
	return !dots
}

// fdLen returns the payload length of a CAN FD data length code (ISO 11898-1).
func fdLen(dlc uint8) uint8 {
	switch {
	case dlc <= 8:
		return dlc
	case dlc <= 12:
		return 12 + (dlc-9)*4
	default:
		return 32 + (dlc-13)*16
	}
}

// isFDLen says whether a CAN FD frame can have n bytes.
func isFDLen(n uint8) bool {
	for dlc := range uint8(maxRawDLC + 1) {
		if fdLen(dlc) == n {
			return true
		}
	}
	return false
}
