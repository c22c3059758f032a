// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
)

func TestLog(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	o := Options{Dir: dir, Signer: k, SignEvery: 10, SegmentBytes: 8 << 10, Clock: c, Generation: 7}
	l := open(t, o)
	fill(t, l, c, 0, 45)
	if _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Fatalf("opened twice: %v", err)
	}
	first := closeLog(t, l)
	l = open(t, o)
	fill(t, l, c, 45, 60)
	head := closeLog(t, l)
	if err := l.Append(record(0, c)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	sources := load1(t, dir)
	if len(sources) < 3 {
		t.Fatalf("only %d files", len(sources))
	}
	r := Verify(sources, VerifyOptions{Verifier: k, Known: &head, Generation: 7})
	wantGood(t, r)
	if r.Events != 60 || !r.Closed || !r.Checked || r.SignedTo != r.Last-1 || r.Heads < 6 || r.First != 1 {
		t.Errorf("%+v", r)
	}
	wantGood(t, Verify(sources, VerifyOptions{Verifier: k, Known: &first}))
	wantGood(t, Verify([]Source{sources[1], sources[2], sources[0]}, VerifyOptions{Verifier: k}))

	var back []*event.Record
	if err := Records(sources, func(r *event.Record) error { back = append(back, r); return nil }, func(f Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	for i, r := range back {
		if r.Detail != record(i, c).Detail || r.Count != uint64(i)+1 {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	// Against something else than it was signed under.
	if r := Verify(sources, VerifyOptions{Verifier: newKeys(t)}); !has(r, Altered) || r.Heads != 0 {
		t.Error("verified with another key")
	}
	if r := Verify(sources, VerifyOptions{Verifier: k, Generation: 8}); !has(r, Truncated) {
		t.Error("a log of an earlier generation passes")
	}
	other := head
	other.Log[0] ^= 1
	if r := Verify(sources, VerifyOptions{Verifier: k, Known: &other}); !has(r, Foreign) {
		t.Error("a head of another log passes")
	}
	if r := Verify(nil, VerifyOptions{Known: &head}); !has(r, Truncated) {
		t.Error("no log at all passes")
	}
	wantGood(t, Verify(sources, VerifyOptions{}))
}

func TestSignInterval(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	l := open(t, Options{Dir: dir, Signer: k, SignInterval: time.Minute, Clock: c})
	fill(t, l, c, 0, 3)
	for range 3 {
		if err := l.Settle(false); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := l.Head(); ok {
		t.Error("signed too early")
	}
	c.pass(time.Minute)
	if err := l.Settle(false); err != nil {
		t.Fatal(err)
	}
	h, ok := l.Head()
	if !ok || h.Seq != 4 {
		t.Errorf("head %+v", h)
	}
	c.pass(time.Hour)
	if err := l.Settle(false); err != nil {
		t.Fatal(err)
	}
	if again, _ := l.Head(); again != h {
		t.Error("nothing new was signed again")
	}
	closeLog(t, l)
}

// badSigner fails while it is told to.
type badSigner struct {
	Signer
	err error
}

func (b *badSigner) SignHead(p []byte) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.Signer.SignHead(p)
}

func TestSignerFails(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	s := &badSigner{k, errors.New("no answer")}
	l := open(t, Options{Dir: dir, Signer: s, SignEvery: 5, SignInterval: time.Minute, Clock: c})
	fill(t, l, c, 0, 20)
	if n := l.Notices(); len(n) != 1 || n[0].Kind != kind.LogUnsigned || !strings.Contains(n[0].Detail, "no answer") {
		t.Errorf("notices %+v", n)
	}
	if r := Verify(load1(t, dir), VerifyOptions{Verifier: k}); !has(r, Unsigned) || len(r.Findings) != 1 {
		t.Errorf("%v", r.Findings)
	}
	s.err = nil
	c.pass(time.Minute)
	fill(t, l, c, 20, 21)
	head := closeLog(t, l)
	r := Verify(load1(t, dir), VerifyOptions{Verifier: k, Known: &head})
	if !r.Closed || r.SignedTo != head.Seq {
		t.Errorf("%+v", r)
	}
}

func TestPrune(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	o := Options{Dir: dir, Signer: k, SignEvery: 50, SegmentBytes: 4 << 10, MaxBytes: 20 << 10, Clock: c}
	l := open(t, o)
	early := Head{}
	for i := range 10 {
		fill(t, l, c, 20*i, 20*i+20)
		if h, ok := l.Head(); ok && early.Seq == 0 {
			early = h
		}
	}
	if n := l.Notices(); !hasNotice(n, kind.LogRemoved) {
		t.Errorf("notices %+v", n)
	}
	head := closeLog(t, l)
	sources := load1(t, dir)
	total := 0
	for _, s := range sources {
		total += len(s.Data)
	}
	if total > 30<<10 {
		t.Errorf("%d bytes in %d files", total, len(sources))
	}
	r := Verify(sources, VerifyOptions{Verifier: k, Known: &head})
	wantGood(t, r)
	if r.First == 1 || len(r.Notes) == 0 {
		t.Errorf("%+v", r)
	}
	// A head from before what was removed proves nothing, and a run that knows only that one takes no offence.
	wantGood(t, Verify(sources, VerifyOptions{Verifier: k, Known: &early}))
	o.Known = &early
	l = open(t, o)
	if n := l.Notices(); len(n) != 0 {
		t.Errorf("notices %+v", n)
	}
	closeLog(t, l)
	// One more file gone than the log says.
	if r := Verify(load1(t, dir)[1:], VerifyOptions{Verifier: k}); !has(r, Removed) {
		t.Errorf("%v", r.Findings)
	}
	// A crash between the line that says so and the removal.
	writeFile(t, filepath.Join(dir, fileName(1)), nil)
	if r := Verify(load1(t, dir), VerifyOptions{Verifier: k}); r.Good() {
		t.Error("an empty file passes")
	}
}

// TestCrash cuts the file at every byte of its last two lines, as a crash does, and opens it again.
func TestCrash(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	o := Options{Dir: dir, Signer: k, SignEvery: 100, Clock: c}
	l := open(t, o)
	fill(t, l, c, 0, 6)
	if err := l.release(); err != nil { // without Close, as a crash leaves it
		t.Fatal(err)
	}
	name := newest(t, dir)
	whole := readFile(t, name)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	kept := len(whole) - len(lines[len(lines)-2]) - len(lines[len(lines)-3])
	for cut := kept; cut <= len(whole); cut += 41 {
		writeFile(t, name, whole[:cut])
		clean := cut == len(whole) || whole[cut-1] == '\n'
		if r := Verify(load1(t, dir), VerifyOptions{Verifier: k}); r.Good() != clean {
			t.Fatalf("cut at %d: %v", cut, r.Findings)
		}
		for run := range 3 { // the second and third find nothing any more
			l := open(t, o)
			n := l.Notices()
			if torn := hasNotice(n, kind.LogTorn); torn != (!clean && run == 0) || len(n) > 1 {
				t.Fatalf("cut at %d, run %d: %+v", cut, run, n)
			}
			fill(t, l, c, 0, 2)
			head := closeLog(t, l)
			r := Verify(load1(t, dir), VerifyOptions{Verifier: k, Known: &head})
			wantGood(t, r)
			if noted := len(r.Notes) > 0; noted == clean {
				t.Fatalf("cut at %d: notes %q", cut, r.Notes)
			}
		}
		// And a crash while the repair was written.
		writeFile(t, name, whole[:cut])
		repaired := open(t, o)
		if err := repaired.release(); err != nil {
			t.Fatal(err)
		}
		b := readFile(t, name)
		if b = b[:len(b)-3]; !bytes.HasPrefix(b, whole[:cut]) {
			if !clean {
				t.Fatalf("cut at %d: what was there was changed", cut)
			}
		}
		writeFile(t, name, b)
		l := open(t, o)
		closeLog(t, l)
		if r := Verify(load1(t, dir), VerifyOptions{Verifier: k}); r.Good() && !clean {
			// Two torn lines cannot be told from damage, so they are reported.
			t.Fatalf("cut at %d: a torn repair passes unnoticed", cut)
		}
	}
}

// TestDamageIsNotRepaired damages a closed log in its middle and lets it be continued.
func TestDamageIsNotRepaired(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	o := Options{Dir: dir, Signer: k, Clock: c}
	l := open(t, o)
	fill(t, l, c, 0, 10)
	closeLog(t, l)
	name := newest(t, dir)
	b := readFile(t, name)
	at := bytes.Index(b, []byte(`"detail":"event 5"`))
	b[at+11]++
	writeFile(t, name, b)
	l = open(t, o)
	if n := l.Notices(); !hasNotice(n, kind.LogDamaged) {
		t.Errorf("notices %+v", n)
	}
	fill(t, l, c, 10, 12)
	head := closeLog(t, l)
	r := Verify(load1(t, dir), VerifyOptions{Verifier: k, Known: &head})
	if !has(r, Altered) || r.Findings[0].Line != 7 || r.Findings[0].Seq != 7 {
		t.Errorf("%v", r.Findings)
	}
	// A file without a readable beginning is left alone, named, and reported.
	writeFile(t, name, []byte("not a log\n"))
	l = open(t, o)
	if n := l.Notices(); !hasNotice(n, kind.LogDamaged) {
		t.Errorf("notices %+v", n)
	}
	closeLog(t, l)
	if r := Verify(load1(t, dir), VerifyOptions{Verifier: k}); r.Good() {
		t.Error("a damaged file passes")
	}
	if string(readFile(t, name)) != "not a log\n" {
		t.Error("a damaged file was changed")
	}
}

// TestCutIsNoticed cuts a log behind an earlier head, where nothing inside the log tells.
func TestCutIsNoticed(t *testing.T) {
	k, c, dir := newKeys(t), newClock(), t.TempDir()
	o := Options{Dir: dir, Signer: k, Clock: c, Generation: 1}
	l := open(t, o)
	fill(t, l, c, 0, 5)
	closeLog(t, l)
	earlier := readFile(t, newest(t, dir))
	o.Generation = 2
	l = open(t, o)
	fill(t, l, c, 5, 9)
	known := closeLog(t, l)
	writeFile(t, newest(t, dir), earlier)

	wantGood(t, Verify(load1(t, dir), VerifyOptions{Verifier: k})) // documented: it cannot know
	if r := Verify(load1(t, dir), VerifyOptions{Verifier: k, Known: &known}); !has(r, Truncated) || r.Findings[0].Seq != r.Last+1 {
		t.Errorf("%v", r.Findings)
	}
	if r := Verify(load1(t, dir), VerifyOptions{Verifier: k, Generation: 2}); !has(r, Truncated) {
		t.Errorf("%v", r.Findings)
	}
	o.Known, o.Generation = &known, 3
	l = open(t, o)
	if n := l.Notices(); !hasNotice(n, kind.LogCut) {
		t.Errorf("notices %+v", n)
	}
	fill(t, l, c, 9, 11)
	head := closeLog(t, l)
	r := Verify(load1(t, dir), VerifyOptions{Verifier: k, Known: &head, Generation: 3})
	if len(r.Findings) != 1 || r.Findings[0].Problem != Truncated {
		t.Errorf("%v", r.Findings)
	}
	if r.Last <= known.Seq {
		t.Errorf("line numbers up to %d were used again: the log ends at %d", known.Seq, r.Last)
	}
	// The same when nothing is left.
	if err := os.Remove(newest(t, dir)); err != nil {
		t.Fatal(err)
	}
	l = open(t, o)
	if n := l.Notices(); !hasNotice(n, kind.LogCut) {
		t.Errorf("notices %+v", n)
	}
	closeLog(t, l)
}

func TestFull(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := open(t, Options{Dir: dir, Clock: c})
	fill(t, l, c, 0, 2)
	// A descriptor that cannot be written stands for a disk that is full.
	f, err := os.Open(newest(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	good := l.f
	l.f = f
	if err := l.Append(record(2, c)); err == nil {
		t.Error("written to a file that is open for reading")
	}
	l.f = good
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// Half a line that could not be taken back at the time.
	if _, err := good.WriteString(`{"seq":4,"pre`); err != nil {
		t.Fatal(err)
	}
	l.torn = true
	fill(t, l, c, 2, 5)
	closeLog(t, l)
	r := Verify(load1(t, dir), VerifyOptions{})
	wantGood(t, r)
	if r.Events != 5 {
		t.Errorf("%d events", r.Events)
	}
}

func TestFolderRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("%v", err)
	}
	if _, err := Load([]string{t.TempDir()}); !errors.Is(err, ErrNoLog) {
		t.Errorf("%v", err)
	}
	if _, err := Load([]string{filepath.Join(dir, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
