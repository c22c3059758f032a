// SPDX-License-Identifier: Apache-2.0

package trace

import "math"

// Bits of the flags column of CANFD lines (CAN_LOG_TRIGGER_ASC_Format of
// Vector; asc2log.c of can-utils).
const (
	ascFlagRTR = 0x10
	ascFlagFDF = 0x1000
)

// maxChannel is the highest channel number of Vector's tools.
const maxChannel = 255

// ascParser reads Vector ASC: the header lines date, base and "internal events
// logged", comments, trigger blocks, and timed lines of these shapes:
//
//	time channel id[x] Rx|Tx d dlc byte...
//	time channel id[x] Rx|Tx r [dlc]
//	time channel ErrorFrame ...
//	time CANFD channel Rx|Tx id[x] [name] brs esi dlc length byte... duration bits flags ...
//	time CANFD channel Rx|Tx ErrorFrame ...
//
// Every other timed line is an event and counted as one: chip status,
// statistics, other buses, and TxRq, the request for a transmission whose
// frame follows as Tx.
//
// Channel n becomes bus "can<n-1>" and channel 0 "canX", as in asc2log; an
// error frame becomes CAN_ERR_BUSERROR without details, also as there.
// Identifiers and bytes of classic lines are in the base of the header, those
// of CANFD lines always hexadecimal.
type ascParser struct {
	buses    busNames
	base     int // 16 or 10, 0 before the base line
	relative bool
	now      int64
}

// isASCHeader says whether a line can be the first one of an ASC log.
func isASCHeader(line []byte) bool {
	w := words{rest: line}
	first := w.next()
	switch {
	case hasPrefixFold(line, "//"):
		return true
	case equalFold(first, "date"):
		return len(w.next()) != 0
	case equalFold(first, "base"):
		base := w.next()
		return equalFold(base, "hex") || equalFold(base, "dec") || equalFold(base, "dez")
	}
	return false
}

func (p *ascParser) parse(line []byte, f *Frame) (lineKind, error) {
	w := words{rest: line}
	first := w.next()
	switch {
	case len(first) == 0, hasPrefixFold(first, "//"):
		return lineNone, nil
	case first[0] >= '0' && first[0] <= '9':
		return p.timed(first, w, f)
	}
	return lineNone, p.header(first, w)
}

func (p *ascParser) header(first []byte, w words) error {
	second := w.next()
	switch {
	case equalFold(first, "date"):
		return nil
	case equalFold(first, "base"):
		return p.baseLine(second, w)
	case equalFold(first, "no") && equalFold(second, "internal"):
		second = w.next()
		fallthrough
	case equalFold(first, "internal"):
		if equalFold(second, "events") && equalFold(w.next(), "logged") {
			return nil
		}
	case (equalFold(first, "begin") || equalFold(first, "end")) && equalFold(second, "triggerblock"):
		return nil
	}
	return syntaxf("neither a header nor a timed line of Vector ASC")
}

func (p *ascParser) baseLine(base []byte, w words) error {
	switch {
	case equalFold(base, "hex"):
		p.base = 16
	case equalFold(base, "dec"), equalFold(base, "dez"):
		p.base = 10
	default:
		return syntaxf("base %q is not hex or dec", clip(base))
	}
	key, value := w.next(), w.next()
	switch {
	case len(key) == 0 || equalFold(key, "timestamps") && equalFold(value, "absolute"):
		p.relative = false
	case equalFold(key, "timestamps") && equalFold(value, "relative"):
		p.relative = true
	default:
		return syntaxf("base line does not go on with timestamps absolute or relative")
	}
	return nil
}

func (p *ascParser) timed(stamp []byte, w words, f *Frame) (lineKind, error) {
	if p.base == 0 {
		return 0, syntaxf("no base line before the first timed line")
	}
	ns, ok := parseSeconds(stamp, 1, 9)
	if !ok {
		return 0, syntaxf("time stamp %q is not seconds with 1 to 9 decimals", clip(stamp))
	}
	// A relative stamp counts from the event before, whatever that was, so
	// time moves on here and not only at frames.
	if p.relative {
		if ns > math.MaxInt64-p.now {
			return 0, syntaxf("time stamp %q overflows", clip(stamp))
		}
		ns += p.now
		p.now = ns
	}
	f.Time = ns
	kind := w.next()
	switch {
	case len(kind) == 0:
		return 0, syntaxf("nothing behind the time stamp")
	case equalFold(kind, "canfd"):
		return p.fd(w, f)
	case equalFold(kind, "canxl"):
		return 0, unsupported("can xl")
	case isLetter(kind[0]):
		return lineEvent, nil
	}
	if err := p.channel(kind, f); err != nil {
		return 0, err
	}
	return p.classic(w, f)
}

func (p *ascParser) channel(word []byte, f *Frame) error {
	n, ok := parseDec(word, maxChannel)
	if !ok {
		return syntaxf("channel %q is not 0 to %d", clip(word), maxChannel)
	}
	f.Bus = p.buses.number(n - 1)
	return nil
}

// classic reads what follows the channel of a line that is not CANFD.
func (p *ascParser) classic(w words, f *Frame) (lineKind, error) {
	id := w.next()
	if len(id) == 0 {
		return 0, syntaxf("nothing behind the channel")
	}
	if equalFold(id, "errorframe") {
		setErrorFrame(f)
		return lineFrame, nil
	}
	afterID := w
	dir := w.next()
	request := equalFold(dir, "txrq")
	isDir := request || parseASCDir(dir, f)
	if _, _, isID := scanASCID(id, p.base); !isDir && !isID && isLetter(id[0]) {
		return lineEvent, nil // Statistic: and other lines of one channel
	}
	if err := parseASCID(id, p.base, f); err != nil {
		return 0, err
	}
	if !isDir {
		return 0, syntaxf("direction %q is not Rx or Tx", clip(trim(afterID.rest)))
	}
	switch kind := w.next(); {
	case equalFold(kind, "d"):
		if err := p.classicData(w, f); err != nil {
			return 0, err
		}
	case equalFold(kind, "r"):
		if err := p.classicRemote(w, f); err != nil {
			return 0, err
		}
	default:
		return 0, syntaxf("%q is not d or r", clip(kind))
	}
	if request {
		return lineEvent, nil
	}
	return lineFrame, nil
}

func (p *ascParser) classicData(w words, f *Frame) error {
	if err := p.classicDLC(w.next(), f); err != nil {
		return err
	}
	for i := range int(f.Len) {
		word := w.next()
		b, ok := parseASCByte(word, p.base)
		if len(word) == 0 {
			return syntaxf("%d of %d bytes of data", i, f.Len)
		}
		if !ok {
			return syntaxf("data byte %q", clip(word))
		}
		f.Data[i] = b
	}
	return p.classicEnd(w)
}

// classicEnd takes "Length = n BitCount = n ID = n" or nothing; one more byte
// would mean that the data length code is wrong.
func (p *ascParser) classicEnd(w words) error {
	if word := w.next(); len(word) != 0 {
		if _, ok := parseASCByte(word, p.base); ok || !isLetter(word[0]) {
			return syntaxf("unexpected %q behind the frame", clip(word))
		}
	}
	return nil
}

func (p *ascParser) classicRemote(w words, f *Frame) error {
	f.RTR = true
	word := w.next()
	if len(word) == 0 || isLetter(word[0]) && len(word) > 1 {
		return nil // without length, maybe with "Length = ..." behind
	}
	if err := p.classicDLC(word, f); err != nil {
		return err
	}
	return p.classicEnd(w)
}

// classicDLC reads a data length code: one hex digit in either base, as
// asc2log does, or two decimal ones where the base is decimal.
func (p *ascParser) classicDLC(word []byte, f *Frame) error {
	dlc := int64(maxRawDLC + 1)
	switch {
	case len(word) == 1:
		dlc = int64(nibble(word[0]))
	case len(word) == 2 && p.base == 10:
		if n, ok := parseDec(word, maxRawDLC); ok {
			dlc = n
		}
	}
	if dlc > maxRawDLC {
		return syntaxf("data length code %q is not 0 to 15", clip(word))
	}
	setClassicLen(uint8(dlc), f)
	return nil
}

// fd reads what follows CANFD.
func (p *ascParser) fd(w words, f *Frame) (lineKind, error) {
	if err := p.channel(w.next(), f); err != nil {
		return 0, err
	}
	dir := w.next()
	request := equalFold(dir, "txrq")
	if !request && !parseASCDir(dir, f) {
		return 0, syntaxf("direction %q is not Rx or Tx", clip(dir))
	}
	id := w.next()
	if equalFold(id, "errorframe") {
		setErrorFrame(f)
		return lineFrame, nil
	}
	if err := parseASCID(id, 16, f); err != nil {
		return 0, err
	}
	word := w.next()
	if len(word) > 0 && (isLetter(word[0]) || word[0] == '_') {
		word = w.next() // symbolic name
	}
	brs, okBRS := parseBit(word)
	esi, okESI := parseBit(w.next())
	dlc, okDLC := parseHex(w.next())
	length, okLen := parseDec(w.next(), MaxFDLen)
	if !okBRS || !okESI || !okDLC || dlc > maxRawDLC || !okLen {
		return 0, syntaxf("brs, esi, dlc and length of a CANFD line")
	}
	for i := range int(length) {
		word := w.next()
		b, ok := parseASCByte(word, 16)
		if len(word) == 0 {
			return 0, syntaxf("%d of %d bytes of data", i, length)
		}
		if !ok {
			return 0, syntaxf("data byte %q", clip(word))
		}
		f.Data[i] = b
	}
	w.next() // duration of the message
	w.next() // number of bits
	flags, ok := parseHex(w.next())
	if !ok {
		return 0, syntaxf("no flags behind %d bytes of data", length)
	}
	if err := setFD(f, brs, esi, uint8(dlc), uint8(length), flags); err != nil {
		return 0, err
	}
	if request {
		return lineEvent, nil
	}
	return lineFrame, nil
}

// setFD sets kind and length of a CANFD line. Such lines hold classic frames
// too, told apart by the flags column; but some tools leave that column empty,
// and only a CAN FD frame can have more than 8 bytes, BRS or ESI.
func setFD(f *Frame, brs, esi bool, dlc, length uint8, flags uint32) error {
	want := min(dlc, MaxLen)
	isFD := flags&ascFlagFDF != 0 || brs || esi || length > MaxLen
	switch {
	case isFD && flags&ascFlagRTR != 0:
		return syntaxf("remote frame with marks of a fd frame")
	case isFD:
		f.FD, f.BRS, f.ESI, f.Len = true, brs, esi, length
		want = fdLen(dlc)
	case flags&ascFlagRTR != 0:
		f.RTR = true
		setClassicLen(dlc, f)
		want = 0
	default:
		setClassicLen(dlc, f)
	}
	if length != want {
		return syntaxf("%d bytes of data under data length code %d", length, dlc)
	}
	return nil
}

func setClassicLen(dlc uint8, f *Frame) {
	f.Len = min(dlc, MaxLen)
	if dlc > MaxLen {
		f.RawDLC = dlc
	}
}

func setErrorFrame(f *Frame) {
	f.Error, f.ID, f.Len = true, errBusError, errorFrameLen
}

func parseASCDir(word []byte, f *Frame) bool {
	switch {
	case equalFold(word, "rx"):
		f.Dir = DirRx
	case equalFold(word, "tx"):
		f.Dir = DirTx
	default:
		return false
	}
	return true
}

// scanASCID reads the digits of an identifier without judging its range.
func scanASCID(word []byte, base int) (id uint32, extended, ok bool) {
	if n := len(word); n > 0 && word[n-1]|0x20 == 'x' {
		word, extended = word[:n-1], true
	}
	if base == 10 {
		v, ok := parseDec(word, math.MaxUint32)
		return uint32(v), extended, ok
	}
	id, ok = parseHex(word)
	return id, extended, ok
}

func parseASCID(word []byte, base int, f *Frame) error {
	id, extended, ok := scanASCID(word, base)
	switch {
	case !ok:
		return syntaxf("identifier %q", clip(word))
	case !extended && id > MaxStandardID:
		return syntaxf("identifier %s exceeds 11 bits", word)
	case id > MaxExtendedID:
		return syntaxf("identifier %s exceeds 29 bits", word)
	}
	f.ID, f.Extended = id, extended
	return nil
}

func parseASCByte(word []byte, base int) (byte, bool) {
	if base == 10 {
		v, ok := parseDec(word, math.MaxUint8)
		return byte(v), ok && len(word) <= 3
	}
	v, ok := parseHex(word)
	return byte(v), ok && len(word) <= 2
}

func parseBit(word []byte) (bit, ok bool) {
	if len(word) != 1 || word[0] != '0' && word[0] != '1' {
		return false, false
	}
	return word[0] == '1', true
}
