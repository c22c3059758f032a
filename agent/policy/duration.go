// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sosodev/duration"
)

const day = 24 * time.Hour

// ErrDuration is returned by [ParseDuration].
var ErrDuration = errors.New("not an ISO 8601 duration of weeks, days, hours, minutes and seconds")

// ParseDuration reads an ISO 8601 duration without years and months, whose lengths vary. A week has seven days, a day
// 24 hours.
func ParseDuration(s string) (time.Duration, error) {
	// The library takes units in any order, repeated, and fractions of any of them; the pattern does not.
	if !durationPattern.match(s) {
		return 0, fmt.Errorf("%w: %s", ErrDuration, clip(s))
	}
	d, err := duration.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrDuration, clip(s), err)
	}
	// Seven digits of weeks are 6e21 ns: ask for the size before converting to 64 bits.
	if hours := d.Weeks*7*24 + d.Days*24 + d.Hours + d.Minutes/60 + d.Seconds/3600; hours > 1e6 {
		return 0, fmt.Errorf("%w: %s is too long", ErrDuration, clip(s))
	}
	return d.ToTimeDuration(), nil
}

// FormatDuration writes a duration of at least zero as days, hours, minutes and seconds (P30D, P1DT12H).
func FormatDuration(d time.Duration) string {
	days, rest := d/day, d%day
	text, clock := "P", ""
	if days > 0 {
		text += fmt.Sprintf("%dD", days)
	}
	if h := rest / time.Hour; h > 0 {
		clock += fmt.Sprintf("%dH", h)
	}
	if m := rest % time.Hour / time.Minute; m > 0 {
		clock += fmt.Sprintf("%dM", m)
	}
	// Not through the library: it counts in binary fractions of a second, which do not all come back.
	if s := rest % time.Minute; s > 0 || d == 0 {
		clock += strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%d.%09d", s/time.Second, s%time.Second), "0"), ".") + "S"
	}
	if clock != "" {
		text += "T" + clock
	}
	return text
}

// duration reads a duration above zero and at most limit.
func (v value) duration(limit time.Duration) (time.Duration, bool) {
	s, ok := v.text(durationPattern.what)
	if !ok {
		return 0, false
	}
	if !durationPattern.match(s) {
		v.want(durationPattern.what + " (no years, no months)")
		return 0, false
	}
	d, err := ParseDuration(s)
	if err != nil || d <= 0 || d > limit {
		v.want(fmt.Sprintf("a duration above zero and at most %s", FormatDuration(limit)))
		return 0, false
	}
	return d, true
}
