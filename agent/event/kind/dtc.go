// SPDX-License-Identifier: Apache-2.0

package kind

import "fmt"

// DTC is a diagnostic trouble code of three bytes (ISO 15031-6, SAE J2012-DA): two of the code, one of the failure type.
// 0 is none. The codes lie in U1000 to U1FFF, the network codes that manufacturers assign.
type DTC uint32

// The codes.
const (
	codeFault        = 0xDCB000 // U1CB0: the BMS Security Fault itself
	codeAuthenticity = 0xDCB100 // U1CB1: frames that are not the node's
	codeFreshness    = 0xDCB200 // U1CB2: counters and epochs
	codeMissing      = 0xDCB300 // U1CB3: samples that do not arrive
	codeTime         = 0xDCB400 // U1CB4: samples that arrive at the wrong time
	codeKeys         = 0xDCB500 // U1CB5: keys and key agreement
	codeNode         = 0xDCB600 // U1CB6: a node's state
	codeBus          = 0xDCB700 // U1CB7: controller, bus, hook
	codeGateway      = 0xDCB800 // U1CB8: the gateway
)

// Failure type bytes (SAE J2012-DA).
const (
	typeNone          = 0x00 // no further information
	typeMemory        = 0x44 // data memory failure
	typeInternal      = 0x49 // internal electronic failure
	typeConfiguration = 0x56 // invalid or incompatible configuration
	typeInvalidSerial = 0x81 // invalid serial data received
	typeCounter       = 0x82 // alive or sequence counter incorrect or not updated
	typeProtection    = 0x83 // value of signal protection calculation incorrect
	typeInvalid       = 0x86 // signal invalid
	typeMissing       = 0x87 // missing message
	typeBusOff        = 0x88 // bus off
)

// Code returns the two bytes of the code.
func (d DTC) Code() uint16 { return uint16(d >> 8) }

// FailureType returns the failure type byte.
func (d DTC) FailureType() uint8 { return uint8(d) }

// String returns the code as technicians write it, such as U1CB1-83, and "" for none.
func (d DTC) String() string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%c%04X-%02X", "PCBU"[d>>22&3], uint32(d)>>8&0x3FFF, uint8(d))
}

// ParseDTC reads what String wrote.
func ParseDTC(s string) (DTC, bool) {
	if s == "" {
		return 0, true
	}
	var letter rune
	var code, failure uint32
	if n, err := fmt.Sscanf(s, "%c%04X-%02X", &letter, &code, &failure); n != 3 || err != nil {
		return 0, false
	}
	for i, l := range "PCBU" {
		// Compared as written: Sscanf takes fewer digits, lower case and more.
		if d := DTC(uint32(i)<<22 | code<<8 | failure); l == letter && d.String() == s {
			return d, true
		}
	}
	return 0, false
}
