// SPDX-License-Identifier: Apache-2.0

package trace

import "strconv"

// maxBuses bounds the bus names of one log, so that a forged log cannot grow
// memory without end.
const maxBuses = 256

// busNames hands out one string per distinct bus of a log.
type busNames struct {
	last   string
	byName map[string]string
	byNum  map[int64]string
}

// name returns the shared string for a bus name from a line.
func (b *busNames) name(raw []byte) (string, error) {
	if string(raw) == b.last && b.last != "" {
		return b.last, nil
	}
	if s, ok := b.byName[string(raw)]; ok {
		b.last = s
		return s, nil
	}
	if !validBus(raw) {
		return "", syntaxf("bus %q is not an interface name of at most %d characters", clip(raw), maxBusName)
	}
	if len(b.byName) == maxBuses {
		return "", syntaxf("more than %d buses", maxBuses)
	}
	if b.byName == nil {
		b.byName = make(map[string]string)
	}
	s := string(raw)
	b.byName[s] = s
	b.last = s
	return s, nil
}

// number returns "can" and the number, or "canX" for a negative one, which is
// what asc2log of can-utils calls a channel it cannot place.
func (b *busNames) number(n int64) string {
	if s, ok := b.byNum[n]; ok {
		return s
	}
	if b.byNum == nil {
		b.byNum = make(map[int64]string)
	}
	s := "canX"
	if n >= 0 {
		s = "can" + strconv.FormatInt(n, 10)
	}
	b.byNum[n] = s
	return s
}
