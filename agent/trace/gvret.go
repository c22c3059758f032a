// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"math"
)

// Columns of a GVRET row; data columns D1..D64 are gvData, gvData+1, ...
const (
	gvIgnored = iota
	gvTime
	gvID
	gvExtended
	gvDir
	gvBus
	gvLen
	gvData
)

const (
	maxColumns = 128
	maxGVBus   = 255
)

// gvretParser reads GVRET CSV as SavvyCAN writes it. The columns are found by
// the names of the header line:
//
//	Time Stamp,ID,Extended[,Dir],Bus,LEN,D1,D2,...
//
// Time Stamp is in microseconds, ID hexadecimal, Extended true or false, Dir
// Rx or Tx, Bus a number (n becomes bus "can<n>"), LEN the number of bytes; D1
// to D8, or D64, are hexadecimal. Columns of other names are not looked at,
// and neither is the value of a data column behind LEN. A row of more than 8
// bytes is a CAN FD frame; the format has no remote and no error frames.
type gvretParser struct {
	buses   busNames
	columns []uint8
}

// isGVRETHeader says whether a line is a GVRET header.
func isGVRETHeader(line []byte) bool {
	var p gvretParser
	return p.header(line) == nil
}

func gvretColumn(name []byte) (uint8, error) {
	switch {
	case equalFold(name, "time stamp"):
		return gvTime, nil
	case equalFold(name, "id"):
		return gvID, nil
	case equalFold(name, "extended"):
		return gvExtended, nil
	case equalFold(name, "dir"):
		return gvDir, nil
	case equalFold(name, "bus"):
		return gvBus, nil
	case equalFold(name, "len"):
		return gvLen, nil
	}
	if len(name) < 2 || name[0]|0x20 != 'd' || name[1] < '1' || name[1] > '9' {
		return gvIgnored, nil
	}
	n, ok := parseDec(name[1:], MaxFDLen)
	if !ok {
		return 0, syntaxf("column %q is beyond D%d", clip(name), MaxFDLen)
	}
	return gvData + uint8(n) - 1, nil
}

func (p *gvretParser) header(line []byte) error {
	var seen [gvData + MaxFDLen]bool
	var columns []uint8
	for rest, more := line, true; more; {
		var name []byte
		name, rest, more = bytes.Cut(rest, []byte{','})
		column, err := gvretColumn(trim(name))
		if err != nil {
			return err
		}
		if column != gvIgnored && seen[column] {
			return syntaxf("column %q twice", clip(trim(name)))
		}
		if len(columns) == maxColumns {
			return syntaxf("more than %d columns", maxColumns)
		}
		seen[column] = true
		columns = append(columns, column)
	}
	if !seen[gvTime] || !seen[gvID] || !seen[gvExtended] || !seen[gvBus] || !seen[gvLen] {
		return syntaxf("header lacks one of Time Stamp, ID, Extended, Bus, LEN")
	}
	p.columns = columns
	return nil
}

func (p *gvretParser) parse(line []byte, f *Frame) (lineKind, error) {
	if len(trim(line)) == 0 {
		return lineNone, nil
	}
	if p.columns == nil {
		return lineNone, p.header(line)
	}
	var (
		have   uint64 // bit i: data byte i is there
		seen   uint32 // bit c: column c is there
		length int64
	)
	i := 0
	for rest, more := line, true; more; i++ {
		var field []byte
		if comma := bytes.IndexByte(rest, ','); comma >= 0 {
			field, rest = rest[:comma], rest[comma+1:]
		} else {
			field, more = rest, false
		}
		field = trim(field)
		if i >= len(p.columns) {
			// SavvyCAN ends each row with a comma.
			if len(field) != 0 || more {
				return 0, syntaxf("more fields than the header has columns")
			}
			continue
		}
		column := p.columns[i]
		if column >= gvData {
			if len(field) == 0 {
				continue
			}
			v, ok := parseHex(field)
			if !ok || len(field) > 2 {
				return 0, syntaxf("data byte %q of D%d", clip(field), column-gvData+1)
			}
			f.Data[column-gvData] = byte(v)
			have |= 1 << (column - gvData)
			continue
		}
		seen |= 1 << column
		if err := p.field(column, field, f, &length); err != nil {
			return 0, err
		}
	}
	const required = 1<<gvTime | 1<<gvID | 1<<gvExtended | 1<<gvBus | 1<<gvLen
	if seen&required != required {
		return 0, syntaxf("row ends after %d of %d columns", i, len(p.columns))
	}
	if f.ID > MaxStandardID && !f.Extended {
		return 0, syntaxf("identifier %X exceeds 11 bits", f.ID)
	}
	want := ^uint64(0) >> (64 - uint(length))
	if have&want != want {
		return 0, syntaxf("fewer data bytes than LEN %d", length)
	}
	f.Len, f.FD = uint8(length), length > MaxLen
	clear(f.Data[length:])
	return lineFrame, nil
}

// field sets what a column other than a data column says.
func (p *gvretParser) field(column uint8, field []byte, f *Frame, length *int64) error {
	switch column {
	case gvTime:
		us, ok := parseDec(field, math.MaxInt64/1000)
		if !ok {
			return syntaxf("time stamp %q is not in microseconds", clip(field))
		}
		f.Time = us * 1000
	case gvID:
		digits := field
		if hasPrefixFold(digits, "0x") {
			digits = digits[2:]
		}
		id, ok := parseHex(digits)
		if !ok || id > MaxExtendedID {
			return syntaxf("identifier %q is not hexadecimal of at most 29 bits", clip(field))
		}
		f.ID = id
	case gvExtended:
		f.Extended = equalFold(field, "true")
		if !f.Extended && !equalFold(field, "false") {
			return syntaxf("extended %q is not true or false", clip(field))
		}
	case gvDir:
		if !parseASCDir(field, f) && len(field) != 0 {
			return syntaxf("direction %q is not Rx or Tx", clip(field))
		}
	case gvBus:
		n, ok := parseDec(field, maxGVBus)
		if !ok {
			return syntaxf("bus %q is not 0 to %d", clip(field), maxGVBus)
		}
		f.Bus = p.buses.number(n)
	case gvLen:
		n, ok := parseDec(field, MaxFDLen)
		if !ok || !isFDLen(uint8(n)) {
			return syntaxf("length %q is not one of CAN or CAN FD", clip(field))
		}
		*length = n
	}
	return nil
}
