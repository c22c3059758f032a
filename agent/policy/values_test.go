// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseRate(t *testing.T) {
	for _, c := range []struct {
		text   string
		period time.Duration // 0: refused
	}{
		{"10Hz", 100 * time.Millisecond},
		{"0.1Hz", 10 * time.Second},
		{"10s", 10 * time.Second},
		{"500ms", 500 * time.Millisecond},
		{"1.5min", 90 * time.Second},
		{"24h", MaxPeriod},
		{"10us", MinPeriod},
		{"100kHz", MinPeriod},
		{"3Hz", 333333333},
		{"6Hz", 166666667}, // rounded, not cut
		{"0.000011575Hz", 86393088552916},
		{"1.000000001s", time.Second + 1},
		{"100.001kHz", 0},
		{"9.999999us", 0},
		{"24.000000001h", 0},
		{"0Hz", 0}, {"0.0s", 0}, {"10", 0}, {"Hz", 0}, {"10 Hz", 0}, {"10hz", 0}, {"10HZ", 0}, {"10S", 0}, {"10Ms", 0}, {"+1Hz", 0}, {"-1Hz", 0},
		{".5Hz", 0}, {"5.Hz", 0}, {"010Hz", 0}, {"1e3Hz", 0}, {"1_000Hz", 0}, {"1/3Hz", 0}, {"10Hz ", 0}, {"10Hz\n", 0}, {"", 0}, {"infs", 0},
		{"1000000000Hz", 0}, {"0.0000000001Hz", 0},
	} {
		r, err := ParseRate(c.text)
		if (err == nil) != (c.period > 0) || r.Period != c.period {
			t.Errorf("%q: got %v, %v; want %v", c.text, r.Period, err, c.period)
		}
		if err == nil && r.String() != c.text {
			t.Errorf("%q: is written %q", c.text, r)
		}
		if (err != nil) != r.IsZero() {
			t.Errorf("%q: half a rate: %v, %v", c.text, r, err)
		}
	}
	if hz := (Rate{}).Hz(); hz != 0 {
		t.Errorf("no rate: %v Hz", hz)
	}
	if r, _ := ParseRate("4Hz"); r.Hz() != 4 {
		t.Errorf("4Hz: %v Hz", r.Hz())
	}
}

// TestRateOf checks that every period in the limits is written so that it reads back exactly.
func TestRateOf(t *testing.T) {
	for period, want := range map[time.Duration]string{
		MinPeriod: "10us", 15500: "15.5us", 999999: "999.999us", time.Millisecond: "1ms", 98765432: "98.765432ms", time.Second: "1s",
		time.Second + 1: "1000.000001ms", MaxPeriod: "86400s",
	} {
		if got := RateOf(period).String(); got != want {
			t.Errorf("%v: written %q, want %q", period, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := RateOf(time.Duration(rapid.Int64Range(int64(MinPeriod), int64(MaxPeriod)).Draw(t, "period")))
		if again, err := ParseRate(r.String()); err != nil || again != r {
			t.Fatalf("%v: read back as %v, %v", r, again, err)
		}
	})
}

func TestParseDuration(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		good bool
	}{
		{"P30D", 30 * day, true},
		{"P2W", 14 * day, true},
		{"P1W1D", 8 * day, true},
		{"P1DT12H", 36 * time.Hour, true},
		{"PT90M", 90 * time.Minute, true},
		{"PT0.000000001S", 1, true},
		{"PT59.999999999S", time.Minute - 1, true},
		{"P0D", 0, true},
		{"P9999999W", 0, false}, // would overflow
		{"P1Y", 0, false}, {"P1M", 0, false}, {"P1Y2D", 0, false}, {"-P1D", 0, false}, {"P-1D", 0, false}, {"P", 0, false}, {"PT", 0, false}, {"P1DT", 0, false},
		{"1D", 0, false}, {"P1", 0, false}, {"P1S", 0, false}, {"PT1D", 0, false}, {"P1D1W", 0, false}, {"P1D1D", 0, false}, {"PP1D", 0, false},
		{"P1DT1HT1M", 0, false}, {"P0.5D", 0, false}, {"PT0,5S", 0, false}, {"p1d", 0, false}, {"P1D ", 0, false}, {"", 0, false},
		{"P\u0661D", 0, false}, {"P1e1D", 0, false}, {"PT1.H", 0, false}, {"PT.5S", 0, false},
	} {
		d, err := ParseDuration(c.text)
		if (err == nil) != c.good || d != c.want {
			t.Errorf("%q: got %v, %v; want %v", c.text, d, err, c.want)
		}
		if err != nil && !errors.Is(err, ErrDuration) {
			t.Errorf("%q: %v is not ErrDuration", c.text, err)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "PT0S", 3 * day: "P3D", 45 * day: "P45D", 36 * time.Hour: "P1DT12H", time.Minute - 1: "PT59.999999999S",
		day + time.Hour + 2*time.Minute + 3500*time.Millisecond: "P1DT1H2M3.5S",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(MaxRotationInterval)).Draw(t, "duration"))
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Fatalf("%d ns: %q read back as %d ns, %v", d, FormatDuration(d), again, err)
		}
	})
}

func TestCANID(t *testing.T) {
	for _, c := range []struct {
		id       CANID
		text     string
		number   uint32
		extended bool
	}{
		{0, "000", 0, false},
		{0x7FF, "7FF", 0x7FF, false},
		{CANEFF, "00000000", 0, true},
		{CANEFF | 0x7FF, "000007FF", 0x7FF, true},
		{CANEFF | MaxCANEFF, "1FFFFFFF", MaxCANEFF, true},
	} {
		if c.id.String() != c.text || c.id.Number() != c.number || c.id.Extended() != c.extended {
			t.Errorf("%#x: %s, %#x, %v", uint32(c.id), c.id, c.id.Number(), c.id.Extended())
		}
	}
}

func TestSensitivity(t *testing.T) {
	if Critical <= High || High <= Medium || Medium <= Low || Low <= 0 {
		t.Error("sensitivities do not ascend")
	}
	if s := Sensitivity(9).String(); s != "sensitivity(9)" {
		t.Error(s)
	}
	if s := Sensitivity(0).String(); s != "" {
		t.Error(s)
	}
}

// TestNumber checks that numbers are read exactly and written so that they read back.
func TestNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(t, "number")
		r := &report{src: newSource("number", nil)}
		if got, ok := (value{r: r, node: number(f)}).number(); !ok || got != f {
			t.Fatalf("%v written %q: got %v, %v", f, number(f).Value, got, r.err())
		}
	})
}
