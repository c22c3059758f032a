// SPDX-License-Identifier: Apache-2.0

package trace

import "bytes"

// candumpParser reads log lines of candump:
//
//	(seconds.fraction) interface frame [R|T]
//
// with 6 or 9 decimals, where R and T give the direction (candump -x). The
// interface may be padded with blanks. The grammar of the frame is that of
// parse_canframe in can-utils lib.h and lib.c; what lib.c reads over
// (identifiers beyond 11 or 29 bits, bytes behind the last one that fits, a
// raw DLC out of range) is refused here.
type candumpParser struct{ buses busNames }

func (p *candumpParser) parse(line []byte, f *Frame) (lineKind, error) {
	w := words{rest: line}
	stamp := w.next()
	if len(stamp) == 0 {
		return lineNone, nil
	}
	if stamp[0] != '(' || stamp[len(stamp)-1] != ')' {
		return 0, syntaxf("no (seconds.fraction) at the start")
	}
	stamp = stamp[1 : len(stamp)-1]
	ns, ok := parseSeconds(stamp, 6, 9)
	if frac := len(stamp) - 1 - bytes.IndexByte(stamp, '.'); !ok || frac != 6 && frac != 9 {
		return 0, syntaxf("time stamp %q is not seconds with 6 or 9 decimals", clip(stamp))
	}
	f.Time = ns
	bus := w.next()
	if len(bus) == 0 {
		return 0, syntaxf("no interface")
	}
	var err error
	if f.Bus, err = p.buses.name(bus); err != nil {
		return 0, err
	}
	text := w.next()
	if len(text) == 0 {
		return 0, syntaxf("no frame")
	}
	if err := parseCandumpFrame(text, f); err != nil {
		return 0, err
	}
	switch dir := w.next(); {
	case len(dir) == 0:
		return lineFrame, nil
	case string(dir) == "R":
		f.Dir = DirRx
	case string(dir) == "T":
		f.Dir = DirTx
	default:
		return 0, syntaxf("direction %q is not R or T", clip(dir))
	}
	if extra := w.next(); len(extra) != 0 {
		return 0, syntaxf("unexpected %q at the end", clip(extra))
	}
	return lineFrame, nil
}

// parseCandumpFrame reads <id>#{R{len}|data}{_dlc} and <id>##<flags>{data}.
func parseCandumpFrame(text []byte, f *Frame) error {
	hash := bytes.IndexByte(text, '#')
	if hash < 0 {
		return syntaxf("no # behind the identifier")
	}
	id, ok := parseHex(text[:hash])
	switch {
	case hash == 5:
		return unsupported("can xl")
	case hash != 3 && hash != 8:
		return syntaxf("identifier has %d digits, not 3 or 8", hash)
	case !ok:
		return syntaxf("identifier %q is not hexadecimal", text[:hash])
	case hash == 3 && id > MaxStandardID:
		return syntaxf("identifier %s exceeds 11 bits", text[:hash])
	case id > MaxExtendedID|errFlag:
		return syntaxf("identifier %s exceeds 29 bits", text[:hash])
	case id&errFlag != 0:
		f.Error = true
		id &^= errFlag
	default:
		f.Extended = hash == 8
	}
	f.ID = id
	rest := text[hash+1:]
	switch {
	case len(rest) > 0 && rest[0] == '#':
		return parseCandumpFD(rest[1:], f)
	case len(rest) > 0 && (rest[0] == 'R' || rest[0] == 'r'):
		return parseCandumpRemote(rest[1:], f)
	}
	data, dlc, raw := rest, []byte(nil), false
	if i := bytes.IndexByte(rest, '_'); i >= 0 {
		data, dlc, raw = rest[:i], rest[i+1:], true
	}
	if err := parseCandumpData(data, MaxLen, f); err != nil {
		return err
	}
	if raw {
		return parseCandumpRawDLC(dlc, f)
	}
	return nil
}

func parseCandumpFD(rest []byte, f *Frame) error {
	if f.Error {
		return syntaxf("error frame cannot be a fd frame")
	}
	if len(rest) == 0 || nibble(rest[0]) == notHex {
		return syntaxf("no fd flags behind ##")
	}
	// CANFD_BRS 1, CANFD_ESI 2, CANFD_FDF 4 (linux/can.h). FDF says what ##
	// says already; the fourth bit has no meaning that could be kept.
	flags := nibble(rest[0])
	if flags&8 != 0 {
		return syntaxf("unknown fd flags %c", rest[0])
	}
	f.FD, f.BRS, f.ESI = true, flags&1 != 0, flags&2 != 0
	return parseCandumpData(rest[1:], MaxFDLen, f)
}

func parseCandumpRemote(rest []byte, f *Frame) error {
	if f.Error {
		return syntaxf("error frame cannot be a remote frame")
	}
	f.RTR = true
	if len(rest) == 0 {
		return nil
	}
	f.Len = nibble(rest[0])
	if f.Len > MaxLen {
		return syntaxf("remote frame length %q is not 0 to 8", rest[:1])
	}
	if rest = rest[1:]; len(rest) == 0 {
		return nil
	}
	if rest[0] != '_' {
		return syntaxf("unexpected %q behind the remote frame", clip(rest))
	}
	return parseCandumpRawDLC(rest[1:], f)
}

func parseCandumpRawDLC(dlc []byte, f *Frame) error {
	if f.Error || f.Len != MaxLen {
		return syntaxf("raw data length code without 8 bytes of data")
	}
	if len(dlc) != 1 || nibble(dlc[0]) <= MaxLen || nibble(dlc[0]) > maxRawDLC {
		return syntaxf("raw data length code %q is not 9 to F", clip(dlc))
	}
	f.RawDLC = nibble(dlc[0])
	return nil
}

// parseCandumpData reads hex bytes, each of which may have one '.' in front.
func parseCandumpData(b []byte, limit int, f *Frame) error {
	n := 0
	for i := 0; i < len(b); n++ {
		if b[i] == '.' {
			i++
		}
		if i+1 >= len(b) {
			return syntaxf("data ends within a byte")
		}
		hi, lo := nibble(b[i]), nibble(b[i+1])
		if hi == notHex || lo == notHex {
			return syntaxf("data %q is not hexadecimal", clip(b[i:i+2]))
		}
		if n == limit {
			return syntaxf("more than %d bytes of data", limit)
		}
		f.Data[n] = hi<<4 | lo
		i += 2
	}
	f.Len = uint8(n)
	return nil
}

// ParseCandumpFrame reads a frame in the compact form that AppendCandumpFrame writes.
func ParseCandumpFrame(text []byte) (Frame, error) {
	var f Frame
	if err := parseCandumpFrame(text, &f); err != nil {
		return Frame{}, err
	}
	return f, nil
}
