// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
)

// Problem is what is wrong at a place of a log.
type Problem string

// The problems.
const (
	Altered   Problem = "altered"   // the line is not what its hash says, or not what was signed
	Removed   Problem = "removed"   // lines are missing in front of this one
	Reordered Problem = "reordered" // the line is not where it belongs
	Repeated  Problem = "repeated"  // a line with this number was there before
	Truncated Problem = "truncated" // lines are missing at the end
	Unsigned  Problem = "unsigned"  // more lines than the log allows are not signed
	Foreign   Problem = "foreign"   // the file is of another log
)

// Finding is one problem.
type Finding struct {
	File    string  `json:"file"`
	Line    int     `json:"line"` // from 1; 0 for the whole file
	Seq     uint64  `json:"seq"`  // of the line, or of the first that is missing; 0 if that is not known
	Problem Problem `json:"problem"`
	Text    string  `json:"text"`
}

// String returns the finding on one line.
func (f Finding) String() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return fmt.Sprintf("%s: %s: %s (seq %d)", at, f.Problem, f.Text, f.Seq)
}

// Report is what Verify has found.
type Report struct {
	Files    int       `json:"files"`
	Lines    int       `json:"lines"`
	Events   int       `json:"events"`
	First    uint64    `json:"first_seq"`
	Last     uint64    `json:"last_seq"`
	Heads    int       `json:"signed_heads"`
	SignedTo uint64    `json:"signed_to_seq"` // everything up to here is under a signature that verified
	Checked  bool      `json:"signatures_checked"`
	Closed   bool      `json:"closed"` // the log ends in order
	Notes    []string  `json:"notes"`  // what the log itself says about crashes and removed files
	Findings []Finding `json:"findings"`
}

// Good reports that nothing is wrong.
func (r *Report) Good() bool { return len(r.Findings) == 0 }

// VerifyOptions say against what a log is checked.
type VerifyOptions struct {
	// Verifier checks signed heads. Without it only the chain is checked, which anyone who can write can make anew.
	Verifier Verifier
	// Known is the last head that was stored elsewhere; nil if there is none. Without it a log that was cut behind a signed head
	// looks like one that was ended there.
	Known *Head
	// Generation is what the hardware counter shows now; 0 to leave it out. The last head must be of this generation.
	Generation uint64
}

// Source is a file of a log.
type Source struct {
	Name string
	Data []byte
}

// ErrNoLog says that there is nothing to verify.
var ErrNoLog = errors.New("no file of an event log")

// Load reads the files of a log. A folder stands for all segments in it.
func Load(paths []string) ([]Source, error) {
	var all []Source
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("look at event log: %w", err)
		}
		names := []string{p}
		if st.IsDir() {
			if names, err = filepath.Glob(filepath.Join(strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p), filePrefix+"*"+fileSuffix)); err != nil {
				return nil, fmt.Errorf("list event log: %w", err)
			}
		}
		for _, name := range names {
			data, err := load(name)
			if err != nil {
				return nil, err
			}
			all = append(all, Source{name, data})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrNoLog, strings.Join(paths, ", "))
	}
	return all, nil
}

func load(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	data, err := readAll(f)
	return data, errors.Join(err, f.Close())
}

// entry is a line with its place.
type entry struct {
	line
	file string
	no   int
	text []byte // with its line end, if it has one
	err  error  // why it is not good
	form bool   // it has the form of a line, whatever its hash
}

// file is one file, cut into lines.
type file struct {
	name    string
	number  uint64 // of the header; greatest if there is none
	header  bodySegment
	log     [16]byte
	err     error // of the header
	entries []entry
}

// cut cuts a file into lines.
func cutFile(s Source) file {
	f := file{name: s.Name, number: ^uint64(0)}
	for text := range bytes.Lines(s.Data) {
		e := entry{file: s.Name, no: len(f.entries) + 1, text: text}
		body, whole := bytes.CutSuffix(text, []byte("\n"))
		if e.line, e.err = parseLine(body); !whole && e.err == nil {
			e.err = errNoEnd
		}
		e.form = e.kind != ""
		f.entries = append(f.entries, e)
	}
	if len(f.entries) == 0 {
		f.err = fmt.Errorf("%w: the file is empty", ErrLine)
		return f
	}
	h := f.entries[0]
	if !h.form {
		f.err = h.err
	} else if f.header, f.log, f.err = parseHeader(h.line); f.err == nil {
		f.number = f.header.Segment
	}
	return f
}

var errNoEnd = fmt.Errorf("%w: it has no end", ErrLine)

// Verify checks a log. The files may be given in any order. It reports every problem that it can tell apart from those before it;
// behind an altered line it goes on with what that line says of itself.
func Verify(sources []Source, o VerifyOptions) *Report {
	files := make([]file, 0, len(sources))
	for _, s := range sources {
		files = append(files, cutFile(s))
	}
	slices.SortStableFunc(files, func(a, b file) int {
		switch {
		case a.number < b.number:
			return -1
		case a.number > b.number:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	v := &verification{o: o, r: &Report{Files: len(files), Checked: o.Verifier != nil, Notes: []string{}, Findings: []Finding{}}}
	v.index(files)
	for i := range files {
		v.file(&files[i])
	}
	v.end()
	return v.r
}

// verification walks through a log.
type verification struct {
	o VerifyOptions
	r *Report

	// What the files hold, looked at before the walk.
	places  map[uint64]string // of each number, the first line that has it
	removed map[uint64]bodyRemoved
	damaged map[uint64]bodyDamaged

	begun   bool
	log     [16]byte
	every   int
	last    entry           // the last line that was taken
	seen    map[uint64]Hash // of the lines that were taken, by number
	bad     []entry         // lines since then that were not
	since   int             // lines behind the last good head
	head    Head            // the last good one
	headEnd bool            // it is the last line
	known   bool            // the known head was met
	over    bool            // unsigned lines were reported
}

// index notes what explains what is missing: a line that was moved is somewhere else, a file that was removed or damaged is named.
func (v *verification) index(files []file) {
	v.places, v.seen = make(map[uint64]string), make(map[uint64]Hash)
	v.removed, v.damaged = make(map[uint64]bodyRemoved), make(map[uint64]bodyDamaged)
	for _, f := range files {
		for _, e := range f.entries {
			if !e.form {
				continue
			}
			if _, twice := v.places[e.seq]; !twice {
				v.places[e.seq] = fmt.Sprintf("%s:%d", e.file, e.no)
			}
			if e.err != nil {
				continue
			}
			var removed bodyRemoved
			var damaged bodyDamaged
			switch {
			case e.kind == typeRemoved && unmarshal(e.body, &removed) == nil:
				v.removed[removed.Last] = removed
			case e.kind == typeDamaged && unmarshal(e.body, &damaged) == nil:
				v.damaged[damaged.Segment] = damaged
			}
		}
	}
}

func (v *verification) find(e entry, p Problem, format string, args ...any) {
	seq := e.seq
	if !e.form {
		seq = 0
	}
	v.r.Findings = append(v.r.Findings, Finding{e.file, e.no, seq, p, fmt.Sprintf(format, args...)})
}

func (v *verification) note(e entry, format string, args ...any) {
	v.r.Notes = append(v.r.Notes, fmt.Sprintf("%s:%d: ", e.file, e.no)+fmt.Sprintf(format, args...))
}

func (v *verification) file(f *file) {
	if f.err != nil && len(f.entries) == 0 {
		v.r.Findings = append(v.r.Findings, Finding{f.name, 0, 0, Truncated, "the file is empty"})
		return
	}
	if f.err == nil && f.entries[0].err == nil && v.begun && f.log != v.log {
		v.r.Findings = append(v.r.Findings, Finding{f.name, 1, f.entries[0].seq, Foreign, "the file is of another log than those before it"})
	}
	for i, e := range f.entries {
		v.r.Lines++
		if (e.kind == typeSegment && e.form) != (i == 0) {
			v.flush()
			if i == 0 {
				v.find(e, Altered, "the file has no header: %v", f.err)
			} else {
				v.find(e, Reordered, "the header of a file is not its first line")
			}
			if e.err != nil {
				continue
			}
		}
		v.entry(e)
	}
	v.flush()
}

// entry takes one line.
func (v *verification) entry(e entry) {
	if e.err != nil {
		v.bad = append(v.bad, e)
		return
	}
	if e.kind == typeTorn && len(v.bad) > 0 && v.torn(e) {
		v.bad = nil
	}
	v.flush()
	v.place(e)
	v.take(e)
}

// torn says whether a line accounts for the bad ones in front of it. Only the one line that a crash has cut off is nothing more than
// that: whoever damages a log and lets it be continued has it account for the damage in the same way.
func (v *verification) torn(e entry) bool {
	var b bodyTorn
	if unmarshal(e.body, &b) != nil || e.prev != v.last.hash || e.seq != v.last.seq+1 {
		return false
	}
	if len(v.bad) != 1 || v.bad[0].form || b.Bytes != len(v.bad[0].text)-1 || !b.covers(v.bad[0].text) {
		return false
	}
	v.note(e, "a crash has left %d bytes of a line in front of this one", b.Bytes)
	return true
}

// flush reports the bad lines before a good one.
func (v *verification) flush() {
	for _, e := range v.bad {
		switch {
		case errors.Is(e.err, errNoEnd):
			v.find(e, Truncated, "the line has no end")
		case errors.Is(e.err, errHash):
			v.find(e, Altered, "the line is not what its hash says")
		case !bytes.HasSuffix(e.text, []byte("\n")):
			v.find(e, Truncated, "the line is cut off")
		default:
			v.find(e, Altered, "%v", e.err)
		}
		if e.form && e.seq == v.last.seq+1 && v.begun {
			// What follows names the hash that this line names.
			v.seen[e.seq], v.last = e.hash, e
		}
	}
	v.bad = nil
}

// place checks that a line is where it belongs.
func (v *verification) place(e entry) {
	switch want := v.last.seq + 1; {
	case !v.begun:
		v.begin(e)
	case e.kind == typeTorn && e.seq <= v.last.seq && e.seq > 1 && v.taken(e.seq-1) && v.seen[e.seq-1] == e.prev:
		v.resumed(e)
	case v.taken(e.seq):
		v.find(e, Repeated, "a line with this number was there before")
	case e.kind == typeCut:
		v.cut(e)
	case e.seq < want:
		v.find(e, Reordered, "the line belongs in front of line %d", v.last.seq)
	case e.seq > want:
		v.missing(e, want)
	case e.prev != v.last.hash:
		v.find(e, Altered, "the line does not name the hash of the one before it")
	}
}

func (v *verification) taken(seq uint64) bool {
	_, ok := v.seen[seq]
	return ok
}

// resumed takes the line with which a damaged log was continued: it leaves out what stands between the line that it names and
// itself.
func (v *verification) resumed(e entry) {
	v.find(e, Altered, "the log was continued here from line %d; the lines between were damaged at that time", e.seq-1)
	for n := range v.seen {
		if n >= e.seq {
			delete(v.seen, n)
		}
	}
	v.last.seq, v.last.hash = e.seq-1, e.prev
	v.head.Seq = min(v.head.Seq, e.seq-1)
	v.r.Last = e.seq - 1
	v.r.SignedTo = min(v.r.SignedTo, e.seq-1)
}

// begin takes the first line of all. If it is not the first that was written, a later one must say what became of those before.
func (v *verification) begin(e entry) {
	if e.seq == 1 && e.prev == (Hash{}) {
		return
	}
	gone, ok := v.removed[e.seq-1]
	if ok && gone.Hash == e.prev.String() {
		v.note(e, "lines before %d were removed to keep the size of the log", e.seq)
		return
	}
	v.missing(e, 1)
}

// missing reports that the lines from want to the one before e are not here.
func (v *verification) missing(e entry, want uint64) {
	elsewhere := 0
	const few = 4096 // a gap as long as a number can say must not take as long
	for n := want; n < e.seq && n-want < few; n++ {
		if _, ok := v.places[n]; ok && !v.taken(n) {
			elsewhere++
		}
	}
	f := Finding{e.file, e.no, want, Removed, fmt.Sprintf("lines %d to %d are missing", want, e.seq-1)}
	if elsewhere > 0 {
		f.Seq, f.Problem, f.Text = e.seq, Reordered, fmt.Sprintf("the line comes before lines %d to %d, of which %d are elsewhere", want, e.seq-1, elsewhere)
	}
	v.r.Findings = append(v.r.Findings, f)
}

// cut takes the line with which a log goes on that does not have a head that was known.
func (v *verification) cut(e entry) {
	var b bodyCut
	if err := unmarshal(e.body, &b); err != nil {
		v.find(e, Altered, "%v", err)
		return
	}
	v.r.Findings = append(v.r.Findings, Finding{e.file, e.no, v.last.seq + 1, Truncated,
		fmt.Sprintf("the log was continued here although lines up to %d had been signed", b.Known)})
	if e.prev != v.last.hash {
		v.find(e, Altered, "the line does not name the hash of the one before it")
	}
}

// take goes on from a line.
func (v *verification) take(e entry) {
	before := v.last
	if !v.begun {
		v.begun, v.r.First = true, e.seq
	}
	v.seen[e.seq], v.last = e.hash, e
	v.r.Last = max(v.r.Last, e.seq)
	v.headEnd = false
	v.since++
	// The line that carries the signature belongs to what is known.
	if k := v.o.Known; k != nil && e.kind == typeHead && e.seq == k.Seq+1 && e.prev == k.Hash && v.log == k.Log {
		v.known = true
	}
	switch e.kind {
	case typeSegment:
		h, log, err := parseHeader(e.line)
		if err != nil {
			v.find(e, Altered, "%v", err)
			return
		}
		v.log, v.every = log, h.Every
	case typeEvent:
		v.r.Events++ // not read: the hash has proved that it is as written, and another version may know more kinds
	case typeHead:
		v.signed(e, before)
	case typeTorn:
		var b bodyTorn
		if err := unmarshal(e.body, &b); err != nil {
			v.find(e, Altered, "%v", err)
		}
	case typeRemoved:
		var b bodyRemoved
		if err := unmarshal(e.body, &b); err != nil {
			v.find(e, Altered, "%v", err)
		}
	case typeDamaged:
		var b bodyDamaged
		if err := unmarshal(e.body, &b); err != nil {
			v.find(e, Altered, "%v", err)
			return
		}
		v.find(e, Altered, "file %s was found damaged and was not continued", fileName(b.Segment))
	}
	if v.every > 0 && v.since > v.every+1 && v.o.Verifier != nil && !v.over {
		v.over = true
		v.find(e, Unsigned, "more than %d lines in a row are not signed, from line %d on", v.every, v.head.Seq+1)
	}
}

// signed checks a signed head.
func (v *verification) signed(e, before entry) {
	if v.o.Verifier == nil {
		v.since = 0
		return
	}
	h, err := parseHead(e.body, v.o.Verifier)
	switch {
	case err != nil:
		v.find(e, Altered, "%v", err)
	case h.Log != v.log || h.Seq != before.seq || h.Hash != before.hash || h.Seq+1 != e.seq:
		v.find(e, Altered, "%v: it is for line %d", ErrHead, h.Seq)
	case h.Seq < v.head.Seq || h.Generation < v.head.Generation:
		v.find(e, Reordered, "the head is older than the one before it")
	default:
		v.head, v.headEnd, v.since, v.over = h, true, 0, false
		v.r.Heads++
		v.r.SignedTo = h.Seq
	}
}

// end checks what the end of the log must have.
func (v *verification) end() {
	v.r.Closed = v.headEnd && v.head.Closed
	end := v.last
	if k := v.o.Known; k != nil && !v.known {
		f := Finding{end.file, end.no, v.r.Last + 1, Truncated, fmt.Sprintf("the log ends at line %d; line %d is known to have been signed by the one behind it", v.r.Last, k.Seq)}
		switch {
		case !v.begun:
			f.Text = fmt.Sprintf("there is no log; line %d is known to have been signed", k.Seq)
		case v.log != k.Log:
			f.Problem, f.Text = Foreign, "the known head is of another log"
		case k.Seq < v.r.First:
			v.note(end, "the known head, line %d, is older than the log", k.Seq)
			return
		case k.Seq < v.r.Last:
			f.Seq, f.Problem, f.Text = k.Seq, Altered, fmt.Sprintf("line %d is not the one that is known to have been signed", k.Seq)
		}
		v.r.Findings = append(v.r.Findings, f)
	}
	if g := v.o.Generation; g != 0 && v.o.Verifier != nil && v.head.Generation != g {
		v.r.Findings = append(v.r.Findings, Finding{end.file, end.no, v.r.Last + 1, Truncated,
			fmt.Sprintf("the last head was signed in generation %d; the hardware shows %d", v.head.Generation, g)})
	}
}

// Records returns the events of a log in the order of the files' lines, and calls skip for lines that are not readable.
func Records(sources []Source, each func(*event.Record) error, skip func(Finding)) error {
	for _, s := range sources {
		f := cutFile(s)
		for _, e := range f.entries {
			if e.form && e.kind != typeEvent {
				continue
			}
			var r *event.Record
			err := e.err
			if e.form {
				// Also of an altered line: whoever looks wants to see what it says, and is told.
				r, err = encode.ParseJSON(e.body)
				err = errors.Join(e.err, err)
			}
			if err != nil {
				skip(Finding{e.file, e.no, e.seq, Altered, err.Error()})
			}
			if r == nil {
				continue
			}
			if err := each(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteText writes a report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files, %d lines, %d events, lines %d to %d\n", r.Files, r.Lines, r.Events, r.First, r.Last)
	if r.Checked {
		behind := r.Last
		if r.Heads > 0 {
			behind -= min(behind, r.SignedTo+1) // the line that carries the signature
		}
		fmt.Fprintf(&b, "%d signed heads verified, the last over everything up to line %d; %d lines behind it are not signed\n", r.Heads, r.SignedTo, behind)
	} else {
		fmt.Fprintln(&b, "signatures were not checked")
	}
	if r.Closed {
		fmt.Fprintln(&b, "the log was closed in order")
	}
	for _, n := range r.Notes {
		fmt.Fprintln(&b, "note:", n)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	if r.Good() {
		fmt.Fprintln(&b, "nothing was altered, removed or put elsewhere")
	} else {
		fmt.Fprintf(&b, "%d problems\n", len(r.Findings))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
