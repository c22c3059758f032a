// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// benchFrames are the frames of a simulated pack, as a log would hold them.
func benchFrames(b *testing.B) []Frame {
	b.Helper()
	p := mustPack(b, PackOptions{})
	frames := make([]Frame, 34*300)
	for i := range frames {
		if err := p.Next(&frames[i]); err != nil {
			b.Fatal(err)
		}
	}
	return frames
}

func benchReader(b *testing.B, format Format, text []byte, frames int) {
	in := bytes.NewReader(text)
	b.SetBytes(int64(len(text) / frames))
	b.ReportAllocs()
	var f Frame
	r, err := NewReader("bench", in, format)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		err := r.Next(&f)
		if err == io.EOF {
			in.Reset(text)
			if r, err = NewReader("bench", in, format); err == nil {
				err = r.Next(&f)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/frame")
}

func BenchmarkCandumpReader(b *testing.B) {
	frames := benchFrames(b)
	benchReader(b, FormatCandump, formatAll(b, frames), len(frames))
}

func BenchmarkASCReader(b *testing.B) {
	frames := benchFrames(b)
	var text bytes.Buffer
	text.WriteString("base hex timestamps absolute\r\n")
	for _, f := range frames {
		fmt.Fprintf(&text, "%4d.%06d 1  %X             Rx   d %d % X \r\n", f.Time/1e9, f.Time%1e9/1000, f.ID, f.Len, f.Body())
	}
	benchReader(b, FormatASC, text.Bytes(), len(frames))
}

func BenchmarkGVRETReader(b *testing.B) {
	frames := benchFrames(b)
	var text bytes.Buffer
	text.WriteString("Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n")
	for _, f := range frames {
		fmt.Fprintf(&text, "%d,%08X,false,Rx,0,%d,", f.Time/1000, f.ID, f.Len)
		for _, v := range f.Data[:8] {
			fmt.Fprintf(&text, "%02X,", v)
		}
		text.WriteByte('\n')
	}
	benchReader(b, FormatGVRET, text.Bytes(), len(frames))
}

func BenchmarkAppendCandump(b *testing.B) {
	frames := benchFrames(b)
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		buf = AppendCandump(buf[:0], &frames[i])
		if i++; i == len(frames) {
			i = 0
		}
	}
}

func BenchmarkPack(b *testing.B) {
	p := mustPack(b, PackOptions{})
	var f Frame
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Next(&f); err != nil {
			b.Fatal(err)
		}
	}
}
