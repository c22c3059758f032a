// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func decoder(t testing.TB, signals ...Signal) *Decoder {
	t.Helper()
	d, err := NewDecoder(&Stream{Name: "test", Signals: signals})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// text prints decoded values as "name=value ...".
func text(signals []Signal, values []Value) string {
	var words []string
	for _, v := range values {
		words = append(words, fmt.Sprintf("%s=%.6g", signals[v.Signal].Name, v.Physical))
	}
	return strings.Join(words, " ")
}

// TestDecodeKnown decodes by hand-made signals; the Kona lines are those of its public DBC and of a real capture.
func TestDecodeKnown(t *testing.T) {
	for _, c := range []struct {
		name    string
		signals []Signal
		body    string
		want    string
	}{
		{
			"Kona 0x595, little-endian, signed",
			[]Signal{
				{Name: "IBatt", Start: 32, Length: 16, ValueType: Signed, Factor: 0.1},
				{Name: "VBatt", Start: 48, Length: 16, Factor: 0.1},
			},
			"0B00B8B80000180E", "IBatt=0 VBatt=360.8",
		},
		{
			"Kona 0x594, big-endian byte",
			[]Signal{{Name: "SOC", Start: 47, Length: 8, ByteOrder: BigEndian, Factor: 0.5}},
			"34213421A0610420", "SOC=48.5",
		},
		{
			"foxBMS 0x250, four 13-bit big-endian cells behind a multiplexor",
			[]Signal{
				{Name: "mux", Start: 7, Length: 8, ByteOrder: BigEndian},
				{Name: "c0", Start: 11, Length: 13, ByteOrder: BigEndian, Multiplexor: "mux"},
				{Name: "c1", Start: 30, Length: 13, ByteOrder: BigEndian, Multiplexor: "mux"},
				{Name: "c2", Start: 33, Length: 13, ByteOrder: BigEndian, Multiplexor: "mux"},
				{Name: "c3", Start: 52, Length: 13, ByteOrder: BigEndian, Multiplexor: "mux"},
				{Name: "c4", Start: 11, Length: 13, ByteOrder: BigEndian, Multiplexor: "mux", MuxValue: 1},
			},
			// 3700, 3701, 3702, 3703 laid out most significant bit first from bit 12 of the body on.
			packBig(t, 0, []uint64{3700, 3701, 3702, 3703}), "mux=0 c0=3700 c1=3701 c2=3702 c3=3703",
		},
		{
			"signed extremes",
			[]Signal{
				{Name: "a", Start: 0, Length: 1, ValueType: Signed},
				{Name: "b", Start: 8, Length: 8, ValueType: Signed, Factor: 2, Offset: 1},
				{Name: "c", Start: 23, Length: 12, ByteOrder: BigEndian, ValueType: Signed},
			},
			"0180800F", "a=-1 b=-255 c=-2048",
		},
		{
			"floats",
			[]Signal{
				{Name: "f", Start: 0, Length: 32, ValueType: Float32, Factor: 2},
				{Name: "d", Start: 39, Length: 64, ByteOrder: BigEndian, ValueType: Float64},
			},
			"0000C03F" + "BFF8000000000000", "f=3 d=-1.5",
		},
		{
			"64 bits",
			[]Signal{{Name: "u", Length: 64}, {Name: "s", Length: 64, ValueType: Signed}},
			"FFFFFFFFFFFFFFFF", "u=1.84467e+19 s=-1",
		},
		{
			"multiplexor behind a multiplexor, and one defined later",
			[]Signal{
				{Name: "x", Start: 16, Length: 8, Multiplexor: "inner", MuxValue: 2},
				{Name: "y", Start: 16, Length: 8, Multiplexor: "inner", MuxValue: 3},
				{Name: "inner", Start: 8, Length: 8, Multiplexor: "outer", MuxValue: 1},
				{Name: "outer", Length: 8},
			},
			"010205", "x=5 inner=2 outer=1",
		},
		{
			"inner multiplexor absent",
			[]Signal{
				{Name: "x", Start: 16, Length: 8, Multiplexor: "inner", MuxValue: 2},
				{Name: "inner", Start: 8, Length: 8, Multiplexor: "outer", MuxValue: 1},
				{Name: "outer", Length: 8},
			},
			"000205", "outer=0",
		},
		{
			"short body",
			[]Signal{
				{Name: "a", Length: 8}, {Name: "b", Start: 4, Length: 8}, {Name: "c", Start: 7, Length: 9, ByteOrder: BigEndian},
				{Name: "d", Start: 0, Length: 1, ByteOrder: BigEndian, Multiplexor: "m"}, {Name: "m", Start: 8, Length: 8},
			},
			"07", "a=7",
		},
		{"empty body", []Signal{{Name: "a", Length: 1}}, "", ""},
	} {
		body, err := hex.DecodeString(c.body)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(c.signals, decoder(t, c.signals...).Append(nil, body)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// packBig lays 13-bit values one after another behind a multiplexor byte as foxBMS does, with a bit-by-bit writer.
func packBig(t *testing.T, mux byte, values []uint64) string {
	t.Helper()
	body := make([]byte, 8)
	body[0] = mux
	at := 12 // bits from the start of the body, most significant first: DBC start bit 11
	for _, v := range values {
		for i := 12; i >= 0; i-- {
			if v>>i&1 != 0 {
				body[at/8] |= 0x80 >> (at % 8)
			}
			at++
		}
	}
	return hex.EncodeToString(body)
}

// TestDecodeTesla decodes a real capture: 96 cell voltages and 32 temperatures behind one multiplexor.
func TestDecodeTesla(t *testing.T) {
	f, err := os.Open(filepath.Join(moduleRoot(t), "..", "shared", "data", "can", "tesla-model-s.candump.log"))
	if os.IsNotExist(err) {
		t.Skip("the capture ../shared/data/can/tesla-model-s.candump.log is not on this machine")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	signals := []Signal{{Name: "mux", Length: 8}}
	for i := range 128 {
		s := Signal{Name: fmt.Sprintf("cell%d", i), Unit: "V", Start: uint16(8 + 14*(i%4)), Length: 14,
			Factor: 0.000305, Multiplexor: "mux", MuxValue: uint32(i / 4)}
		if i >= 96 {
			s.Name, s.Unit, s.Factor, s.ValueType = fmt.Sprintf("temperature%d", i-96), "degC", 0.0122, Signed
		}
		signals = append(signals, s)
	}
	d := decoder(t, signals...)
	newest := map[int]float64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, frame, ok := strings.Cut(lines.Text(), " 6F2#")
		if !ok {
			continue
		}
		body, err := hex.DecodeString(frame)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range d.Append(nil, body) {
			newest[v.Signal] = v.Physical
		}
	}
	low, high, sum := math.Inf(1), math.Inf(-1), 0.0
	coldest, warmest := math.Inf(1), math.Inf(-1)
	for i := range 128 {
		v, ok := newest[i+1]
		if !ok {
			t.Fatalf("no %s in the capture", signals[i+1].Name)
		}
		if i < 96 {
			low, high, sum = min(low, v), max(high, v), sum+v
		} else {
			coldest, warmest = min(coldest, v), max(warmest, v)
		}
	}
	if math.Abs(low-4.0013) > 5e-5 || math.Abs(high-4.0059) > 5e-5 || math.Abs(sum-384.44) > 5e-3 {
		t.Errorf("cells from %.4f to %.4f V, sum %.2f V", low, high, sum)
	}
	if math.Abs(coldest-21.9) > 0.05 || math.Abs(warmest-23.0) > 0.05 {
		t.Errorf("temperatures from %.1f to %.1f degC", coldest, warmest)
	}
}

// bitOf returns bit n of a body in DBC numbering.
func bitOf(body []byte, n int) uint64 { return uint64(body[n/8] >> (n % 8) & 1) }

// TestExtract compares with a walk over single bits as DBC defines it.
func TestExtract(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(rt, "body")
		s := Signal{
			Name:      "s",
			Start:     uint16(rapid.IntRange(0, len(body)*8-1).Draw(rt, "start")),
			Length:    uint16(rapid.IntRange(1, 64).Draw(rt, "length")),
			ByteOrder: ByteOrder(rapid.IntRange(0, 1).Draw(rt, "order")),
		}
		at, fits, want := int(s.Start), true, uint64(0)
		for i := range int(s.Length) {
			if at >= len(body)*8 {
				fits = false
				break
			}
			if s.ByteOrder == LittleEndian {
				want |= bitOf(body, at) << i
				at++
			} else {
				want = want<<1 | bitOf(body, at)
				if at%8 == 0 {
					at += 15 // the most significant bit of the next byte
				} else {
					at--
				}
			}
		}
		if (s.end() <= len(body)) != fits {
			rt.Fatalf("end %d of %d bytes", s.end(), len(body))
		}
		values := decoder(t, s).Append(nil, body)
		if !fits {
			if len(values) != 0 {
				rt.Fatalf("decoded %v past the end", values)
			}
			return
		}
		if len(values) != 1 || values[0].Raw != want {
			rt.Fatalf("%v, want %#x", values, want)
		}
		// The same bits as a signed number.
		s.ValueType = Signed
		signed := decoder(t, s).Append(nil, body)[0]
		if wantSigned := int64(want<<(64-s.Length)) >> (64 - s.Length); int64(signed.Raw) != wantSigned || signed.Physical != float64(wantSigned) {
			rt.Fatalf("signed %v, want %d", signed, wantSigned)
		}
	})
}

func TestNewDecoderRefuses(t *testing.T) {
	if _, err := NewDecoder(&Stream{Name: "x", Signals: []Signal{{Name: "a", Length: 65}}}); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("%v", err)
	}
}

func BenchmarkDecode(b *testing.B) {
	var signals []Signal
	for i := range 4 {
		signals = append(signals, Signal{Name: fmt.Sprint(i), Start: uint16(16 * i), Length: 14, Factor: 0.1})
	}
	d := decoder(b, signals...)
	body := binary.LittleEndian.AppendUint64(nil, 0x0123456789abcdef)
	values := make([]Value, 0, 4)
	b.ReportAllocs()
	for b.Loop() {
		values = d.Append(values[:0], body)
	}
}
