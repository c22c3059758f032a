// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Limits of a sampling period: 100 kHz to one sample a day.
const (
	MinPeriod = 10 * time.Microsecond
	MaxPeriod = 24 * time.Hour
)

// Rate is a sampling rate, written as a frequency (10Hz) or as an interval (10s); the unit decides. The zero value is
// no rate.
type Rate struct {
	Period time.Duration // rounded to the nanosecond
	Text   string        // as written in the document
}

// IsZero reports whether r is no rate.
func (r Rate) IsZero() bool { return r == Rate{} }

// String returns the rate as it was written.
func (r Rate) String() string { return r.Text }

// Hz returns the frequency in hertz, 0 for no rate.
func (r Rate) Hz() float64 {
	if r.Period <= 0 {
		return 0
	}
	return float64(time.Second) / float64(r.Period)
}

// ParseRate reads a rate such as 10Hz, 0.1Hz, 10s or 500ms. Units are Hz, kHz, us, ms, s, min and h, and there is no
// space before them.
func ParseRate(s string) (Rate, error) {
	if !ratePattern.match(s) {
		return Rate{}, fmt.Errorf("want %s, got %s", ratePattern.what, clip(s))
	}
	unit := strings.TrimLeft(s, "0123456789.")
	number, _ := new(big.Rat).SetString(strings.TrimSuffix(s, unit))
	if number.Sign() == 0 {
		return Rate{}, fmt.Errorf("want a rate above zero, got %s", clip(s))
	}
	ns := new(big.Rat)
	second := big.NewRat(int64(time.Second), 1)
	switch unit {
	case "Hz":
		ns.Quo(second, number)
	case "kHz":
		ns.Quo(big.NewRat(int64(time.Millisecond), 1), number)
	default:
		length := map[string]time.Duration{
			"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour,
		}
		ns.Mul(number, big.NewRat(int64(length[unit]), 1))
	}
	if ns.Cmp(big.NewRat(int64(MinPeriod), 1)) < 0 || ns.Cmp(big.NewRat(int64(MaxPeriod), 1)) > 0 {
		return Rate{}, fmt.Errorf("want a period from 10us to 24h, got %s", clip(s))
	}
	period, err := strconv.ParseInt(ns.FloatString(0), 10, 64)
	if err != nil {
		return Rate{}, fmt.Errorf("read rate %s: %w", clip(s), err)
	}
	return Rate{Period: time.Duration(period), Text: s}, nil
}

// RateOf returns the rate of a period, written as an interval.
func RateOf(period time.Duration) Rate {
	unit, name := time.Millisecond, "ms"
	switch {
	case period < time.Millisecond:
		unit, name = time.Microsecond, "us"
	case period%time.Second == 0:
		unit, name = time.Second, "s"
	}
	text := new(big.Rat).SetFrac64(int64(period), int64(unit)).FloatString(6)
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	return Rate{Period: period, Text: text + name}
}

// rate reads a rate.
func (v value) rate() (Rate, bool) {
	s, ok := v.text(ratePattern.what)
	if !ok {
		return Rate{}, false
	}
	r, err := ParseRate(s)
	if err != nil {
		v.errorf("%s", err)
		return Rate{}, false
	}
	return r, true
}
