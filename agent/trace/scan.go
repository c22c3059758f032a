// SPDX-License-Identifier: Apache-2.0

package trace

import "math"

// words walks over the blank-separated words of a line without allocation.
type words struct{ rest []byte }

// next returns the next word, or an empty one at the end of the line.
func (w *words) next() []byte {
	i := 0
	for i < len(w.rest) && isBlank(w.rest[i]) {
		i++
	}
	j := i
	for j < len(w.rest) && !isBlank(w.rest[j]) {
		j++
	}
	word := w.rest[i:j]
	w.rest = w.rest[j:]
	return word
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func trim(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares with lower-case ASCII text, ignoring the case of b.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func hasPrefixFold(b []byte, lower string) bool {
	return len(b) >= len(lower) && equalFold(b[:len(lower)], lower)
}

// notHex is the value of a byte that is no hex digit.
const notHex = 0xFF

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return notHex
	}
}

// parseHex reads 1 to 8 hex digits.
func parseHex(b []byte) (v uint32, ok bool) {
	if len(b) == 0 || len(b) > 8 {
		return 0, false
	}
	for _, c := range b {
		n := nibble(c)
		if n == notHex {
			return 0, false
		}
		v = v<<4 | uint32(n)
	}
	return v, true
}

// parseDec reads decimal digits of a value up to limit.
func parseDec(b []byte, limit int64) (v int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if v > (limit-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}

// parseSeconds reads "seconds.fraction" with minFrac to maxFrac (at most 9)
// decimals as nanoseconds. It works on digits: a float would lose the
// nanoseconds of an epoch time.
func parseSeconds(b []byte, minFrac, maxFrac int) (ns int64, ok bool) {
	dot := 0
	for dot < len(b) && b[dot] != '.' {
		dot++
	}
	if dot == len(b) {
		return 0, false
	}
	frac := b[dot+1:]
	if len(frac) < minFrac || len(frac) > maxFrac {
		return 0, false
	}
	sec, ok := parseDec(b[:dot], math.MaxInt64/1_000_000_000-1)
	if !ok {
		return 0, false
	}
	for i := range 9 {
		ns *= 10
		if i < len(frac) {
			if frac[i] < '0' || frac[i] > '9' {
				return 0, false
			}
			ns += int64(frac[i] - '0')
		}
	}
	return sec*1e9 + ns, true
}
