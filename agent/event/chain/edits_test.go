// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// edit is a way to tamper with a log. It returns nil where it finds nothing to do.
type edit struct {
	name string
	do   func(r *rand.Rand, s []Source) []Source
}

// lines cuts a file into lines with their ends.
func lines(b []byte) [][]byte { return slices.Collect(bytes.Lines(b)) }

func inFile(f func(r *rand.Rand, b []byte) []byte) func(*rand.Rand, []Source) []Source {
	return func(r *rand.Rand, s []Source) []Source {
		i := r.IntN(len(s))
		s[i].Data = f(r, bytes.Clone(s[i].Data))
		return s
	}
}

func inLines(f func(r *rand.Rand, l [][]byte) [][]byte) func(*rand.Rand, []Source) []Source {
	return inFile(func(r *rand.Rand, b []byte) []byte { return bytes.Join(f(r, lines(b)), nil) })
}

// rechain makes all hashes of a log anew, as whoever can write the file can.
func rechain(s []Source) []Source {
	prev := Hash{}
	seq := uint64(0)
	for i := range s {
		var out []byte
		for _, text := range lines(s[i].Data) {
			l, _ := parseLine(bytes.TrimSuffix(text, []byte("\n")))
			seq++
			out, prev = appendLine(out, seq, prev, l.kind, l.body)
		}
		s[i].Data = out
	}
	return s
}

func edits() []edit {
	return []edit{
		{"one bit", inFile(func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b })},
		{"one byte", inFile(func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] = byte(r.IntN(256)); return b })},
		{"some bytes gone", inFile(func(r *rand.Rand, b []byte) []byte {
			i := r.IntN(len(b))
			return slices.Delete(b, i, min(len(b), i+1+r.IntN(64)))
		})},
		{"some bytes more", inFile(func(r *rand.Rand, b []byte) []byte {
			more := make([]byte, 1+r.IntN(16))
			for i := range more {
				more[i] = "\n {}\"0aA"[r.IntN(8)]
			}
			return slices.Insert(b, r.IntN(len(b)+1), more...)
		})},
		{"bytes twice", inFile(func(r *rand.Rand, b []byte) []byte {
			i := r.IntN(len(b))
			j := min(len(b), i+1+r.IntN(2000))
			return slices.Insert(b, j, bytes.Clone(b[i:j])...)
		})},
		{"end cut off", inFile(func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] })},
		{"beginning cut off", inFile(func(r *rand.Rand, b []byte) []byte { return b[1+r.IntN(len(b)-1):] })},
		{"a line gone", inLines(func(r *rand.Rand, l [][]byte) [][]byte { i := r.IntN(len(l)); return slices.Delete(l, i, i+1) })},
		{"lines gone", inLines(func(r *rand.Rand, l [][]byte) [][]byte {
			i := r.IntN(len(l))
			return slices.Delete(l, i, min(len(l), i+1+r.IntN(5)))
		})},
		{"end cut off at a line", inLines(func(r *rand.Rand, l [][]byte) [][]byte { return l[:r.IntN(len(l))] })},
		{"a line twice", inLines(func(r *rand.Rand, l [][]byte) [][]byte {
			return slices.Insert(l, r.IntN(len(l)+1), l[r.IntN(len(l))])
		})},
		{"two lines swapped", inLines(func(r *rand.Rand, l [][]byte) [][]byte {
			i, j := r.IntN(len(l)), r.IntN(len(l))
			l[i], l[j] = l[j], l[i]
			return l
		})},
		{"a line moved", inLines(func(r *rand.Rand, l [][]byte) [][]byte {
			i := r.IntN(len(l))
			moved := l[i]
			l = slices.Delete(l, i, i+1)
			return slices.Insert(l, r.IntN(len(l)+1), moved)
		})},
		{"lines shuffled", inLines(func(r *rand.Rand, l [][]byte) [][]byte {
			r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
			return l
		})},
		{"a line in another file", func(r *rand.Rand, s []Source) []Source {
			i, j := r.IntN(len(s)), r.IntN(len(s))
			a := lines(s[i].Data)
			moved := r.IntN(len(a))
			text := a[moved]
			s[i].Data = bytes.Join(slices.Delete(a, moved, moved+1), nil)
			b := lines(s[j].Data)
			s[j].Data = bytes.Join(slices.Insert(b, r.IntN(len(b)+1), text), nil)
			return s
		}},
		{"a file gone", func(r *rand.Rand, s []Source) []Source { i := r.IntN(len(s)); return slices.Delete(s, i, i+1) }},
		{"a file twice", func(r *rand.Rand, s []Source) []Source { return append(s, s[r.IntN(len(s))]) }},
		{"a file emptied", inFile(func(*rand.Rand, []byte) []byte { return nil })},
		{"rewritten with new hashes", func(r *rand.Rand, s []Source) []Source {
			i := r.IntN(len(s))
			s[i].Data = bytes.Replace(bytes.Clone(s[i].Data), []byte(`"count":`), []byte(`"count":1`), 1+r.IntN(3))
			return rechain(s)
		}},
		{"a line left out with new hashes", func(r *rand.Rand, s []Source) []Source {
			i := r.IntN(len(s))
			l := lines(s[i].Data)
			j := 1 + r.IntN(len(l)-1)
			s[i].Data = bytes.Join(slices.Delete(l, j, j+1), nil)
			return rechain(s)
		}},
		{"no head left, with new hashes", func(r *rand.Rand, s []Source) []Source {
			for i := range s {
				s[i].Data = bytes.Join(slices.DeleteFunc(lines(s[i].Data), func(l []byte) bool { return bytes.Contains(l, []byte(`"type":"head"`)) }), nil)
			}
			return rechain(s)
		}},
	}
}

// TestEdits tampers with a log of several files and two runs in 10,000 random ways, each of which must be found.
func TestEdits(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	o := Options{Dir: dir, Signer: k, SignEvery: 7, SegmentBytes: 4 << 10, Clock: c}
	l := open(t, o)
	fill(t, l, c, 0, 9)
	closeLog(t, l)
	l = open(t, o)
	fill(t, l, c, 9, 18)
	head := closeLog(t, l)
	pristine := load1(t, dir)
	against := VerifyOptions{Verifier: k, Known: &head}
	wantGood(t, Verify(pristine, against))
	if len(pristine) < 3 {
		t.Fatalf("%d files", len(pristine))
	}
	r := rand.New(rand.NewPCG(1, 2))
	all := edits()
	done, problems := 0, make(map[Problem]int)
	for tries := 0; done < 10000; tries++ {
		e := all[tries%len(all)]
		got := e.do(r, slices.Clone(pristine))
		if slices.EqualFunc(got, pristine, func(a, b Source) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) }) {
			continue
		}
		done++
		report := Verify(got, against)
		if report.Good() {
			t.Errorf("%s is not found (edit %d)", e.name, done)
			continue
		}
		for _, f := range report.Findings {
			problems[f.Problem]++
			if f.File == "" && len(got) > 0 || f.Text == "" {
				t.Errorf("%s: finding without place: %+v", e.name, f)
			}
		}
	}
	t.Logf("%d edits found: %v", done, problems)
}

// TestFindings checks what is said of the plainest edits: which line, and what.
func TestFindings(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	l := open(t, Options{Dir: dir, Signer: k, Clock: c})
	fill(t, l, c, 0, 8)
	head := closeLog(t, l)
	pristine := load1(t, dir)
	name := pristine[0].Name
	for _, tc := range []struct {
		name string
		do   func(l [][]byte) [][]byte
		want Finding
		only bool
	}{
		{"altered", func(l [][]byte) [][]byte { l[4] = bytes.Replace(l[4], []byte("can0"), []byte("can1"), 1); return l },
			Finding{name, 5, 5, Altered, ""}, true},
		{"removed", func(l [][]byte) [][]byte { return slices.Delete(l, 3, 5) }, Finding{name, 4, 4, Removed, ""}, true},
		{"swapped", func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l }, Finding{name, 3, 4, Reordered, ""}, false},
		{"repeated", func(l [][]byte) [][]byte { return slices.Insert(l, 6, l[5]) }, Finding{name, 7, 6, Repeated, ""}, true},
		{"cut", func(l [][]byte) [][]byte { return l[:6] }, Finding{name, 6, 7, Truncated, ""}, true},
		{"cut within a line", func(l [][]byte) [][]byte { l[5] = l[5][:30]; return l[:6] }, Finding{name, 6, 0, Truncated, ""}, false},
	} {
		b := bytes.Join(tc.do(lines(bytes.Clone(pristine[0].Data))), nil)
		r := Verify([]Source{{name, b}}, VerifyOptions{Verifier: k, Known: &head})
		if len(r.Findings) == 0 || tc.only && len(r.Findings) != 1 {
			t.Errorf("%s: %v", tc.name, r.Findings)
			continue
		}
		got := r.Findings[0]
		got.Text = ""
		if got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, r.Findings, tc.want)
		}
	}
}

// FuzzVerify checks that no input makes a verifier or a reader fail in any other way than by saying so, and that nothing but what was
// written passes.
func FuzzVerify(f *testing.F) {
	k, c, dir := newKeys(f), newClock(), f.TempDir()
	l := open(f, Options{Dir: dir, Signer: k, SignEvery: 3, Clock: c})
	fill(f, l, c, 0, 5)
	head := closeLog(f, l)
	good := load1(f, dir)[0].Data
	f.Add(good)
	for i, text := range lines(good) {
		f.Add(text)
		f.Add(append(bytes.Clone(good), text...))
		f.Add(append(bytes.Clone(good), text[:len(text)/(i+1)]...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := Verify([]Source{{"a", b}}, VerifyOptions{Verifier: k, Known: &head})
		if r.Good() && !bytes.HasPrefix(b, good) {
			t.Errorf("passes: %q", b)
		}
		scan := scanSegment(b)
		if scan.good > len(b) {
			t.Error(scan.good)
		}
		for _, text := range lines(b) {
			if l, err := parseLine(bytes.TrimSuffix(text, []byte("\n"))); err == nil {
				again, _ := appendLine(nil, l.seq, l.prev, l.kind, l.body)
				if want := fmt.Sprintf("%s\n", bytes.TrimSuffix(text, []byte("\n"))); string(again) != want {
					t.Errorf("%q is read as %q", text, again)
				}
			}
		}
	})
}
