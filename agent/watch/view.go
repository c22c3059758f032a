// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

// Style is what sets a line apart. The text says the same without it.
type Style int

// The styles.
const (
	Plain Style = iota
	Heading
	Alarm
	Selected
)

// Line is one line of the screen, no wider than that.
type Line struct {
	Text  string
	Style Style
}

// Lines returns the screen: exactly as many lines as it is high.
func (m *Model) Lines() []Line {
	lines := []Line{{m.title(), Heading}}
	foot := Line{m.footer(), Plain}
	if m.help {
		for _, s := range helpLines() {
			lines = append(lines, Line{s, Plain})
		}
		return m.finish(lines, foot)
	}
	for _, s := range m.banners() {
		lines = append(lines, Line{s, Alarm})
	}
	if m.now.Overview == nil {
		if m.taken > 0 {
			lines = append(lines, wrap(m.now.Error, m.width)...)
		}
		return m.finish(lines, foot)
	}
	return m.finish(append(lines, m.body(m.height-len(lines)-1)...), foot)
}

// finish brings the lines to the size of the screen, with the last one at the bottom.
func (m *Model) finish(lines []Line, foot Line) []Line {
	lines = lines[:min(len(lines), m.height-1)]
	for len(lines) < m.height-1 {
		lines = append(lines, Line{})
	}
	lines = append(lines, foot)[max(0, len(lines)+1-m.height):]
	for i := range lines {
		lines[i].Text = cut(clean(lines[i].Text), m.width)
	}
	return lines
}

// joined puts parts behind each other as long as they fit.
func joined(width int, parts ...string) string {
	s := parts[0]
	for _, p := range parts[1:] {
		if ansi.StringWidth(s)+2+ansi.StringWidth(p) <= width {
			s += "  " + p
		}
	}
	return s
}

func (m *Model) title() string {
	if m.taken == 0 {
		return "cellward watch"
	}
	parts := []string{"cellward " + m.now.Time.Format(time.TimeOnly)}
	if m.paused {
		parts = append(parts, "PAUSED")
	}
	switch s := m.status(); {
	case s != nil:
		parts = append(parts, fmt.Sprintf("agent %d up %s", s.PID, span(s.UptimeS)), "fault "+m.fault(), fmt.Sprintf("readers %d", s.Readers), s.Engine, s.Binding)
	case m.kernel() != nil:
		parts = append(parts, "no agent", "Linux "+m.kernel().Release)
	default:
		parts = append(parts, "no agent, no filter")
	}
	return joined(m.width, parts...)
}

// fault is the word for the fault: the ring's where it can be read, else what the agent says.
func (m *Model) fault() string {
	if f := m.now.Ring.Fault; f != "" {
		return f
	}
	if s := m.status(); s != nil && s.Ring.Fault != "" {
		return s.Ring.Fault
	}
	return "unknown"
}

// maxEvidence is how many sources are named under the fault; there is a screen to share.
const maxEvidence = 2

// evidence names the sources that cannot be trusted, or are suspected, with what speaks against them.
func (m *Model) evidence(raised bool) (all []string) {
	s := m.status()
	if s == nil {
		return nil
	}
	more := 0
	for i := range s.Fault.Faults {
		f := &s.Fault.Faults[i]
		if (f.Advice != "") != raised {
			continue
		}
		if len(all) == maxEvidence {
			more++
			continue
		}
		line := "  " + f.Name + ":"
		for _, e := range f.Evidence {
			line += fmt.Sprintf(" %s %d", e.Kind, e.Count)
		}
		all = append(all, line)
	}
	if more > 0 {
		all = append(all, fmt.Sprintf("  and %d more (cellward fault)", more))
	}
	return all
}

// banners say what somebody must know, the most important first.
func (m *Model) banners() (all []string) {
	if m.taken == 0 {
		return []string{"reading..."}
	}
	if o := m.now.Overview; o == nil {
		return []string{"NOTHING TO SHOW: neither an agent nor a filter is there; looking again"}
	} else if !o.Running {
		if strings.HasPrefix(o.AgentError, control.ErrNotRunning.Error()) {
			all = append(all, "AGENT NOT RUNNING: nothing is verified; what the kernel counts follows")
		} else {
			all = append(all, "AGENT DOES NOT ANSWER: "+o.AgentError)
		}
		if k := m.kernel(); k != nil && !k.Pins.SameLayout {
			all = append(all, "PINS ARE OF ANOTHER BUILD: their counters cannot be read")
		}
		if k := m.kernel(); k != nil && k.HookError != "" {
			all = append(all, "HOOKS CANNOT BE READ: "+k.HookError)
		}
	}
	switch m.fault() {
	case ring.FaultRaised.String(), ring.FaultLatched.String():
		all = append(all, "BMS SECURITY FAULT: inspect communication integrity and controller hardware") // fits on 80 columns
		all = append(all, m.evidence(true)...)
	case ring.FaultSuspect.String():
		all = append(all, "SUSPECT: evidence of manipulation, below the threshold of a fault")
		all = append(all, m.evidence(false)...)
	}
	for _, b := range m.pic.buses {
		if b.open {
			all = append(all, fmt.Sprintf("BUS %s IS OPEN: the filter is not attached", b.name))
		}
	}
	if s := m.status(); s != nil {
		if s.SaveError != "" {
			all = append(all, "STATE NOT WRITTEN: "+s.SaveError)
		}
		if !m.now.Ring.Connected && m.now.Ring.Error != "" {
			all = append(all, "NO VALUES: "+m.now.Ring.Error)
		} else if m.now.Ring.Error != "" {
			all = append(all, "RING: "+m.now.Ring.Error)
		}
	}
	if m.fault() == ring.FaultLatched.String() {
		all = append(all, "FAULT IS LATCHED: it stays until it is cleared with a reason (cellward fault)")
	}
	// Even on a small screen the tables stay.
	if most := max(1, m.height/4); len(all) > most {
		left := len(all) - most + 1
		all = append(all[:most-1:most-1], fmt.Sprintf("%s (AND %d MORE)", all[most-1], left-1))
	}
	return all
}

func (m *Model) footer() string {
	return joined(m.width, "q quit", "? help", "tab section", "arrows select", "left/right signal", "space pause")
}

func helpLines() []string {
	return []string{
		"q, esc, ctrl+c    quit",
		"tab, shift+tab    next, last section: buses, nodes, streams",
		"up, down, pgup, pgdown, home, end    select a row",
		"left, right       the stream's signal that has value and sparkline",
		"space             hold the screen, go on",
		"?                 this page, and back",
		"",
		"REFUSED counts forged, repeated, old and shed frames; LAST REFUSED is the",
		"verdict of most of them, with their number since 10 s of quiet. MISSING",
		"samples may still come, DELETED ones were sealed and never came. KEY is",
		"DUE from the policy's interval on and EXPIRED at the limit.",
	}
}

func wrap(s string, width int) (lines []Line) {
	for l := range strings.SplitSeq(ansi.Wrap(clean(s), width, ""), "\n") {
		lines = append(lines, Line{l, Plain})
	}
	return lines
}

// body fills height lines with the three tables and, if there is room, what is known of the selected row.
func (m *Model) body(height int) (lines []Line) {
	rows := m.share(height)
	for s := range sections {
		lines = append(lines, m.section(s, rows[s])...)
	}
	if left := height - len(lines); left > 1 {
		lines = append(lines, m.detail(left)...)
	}
	return lines
}

// share gives each section its rows. Each has a heading; streams get what the others leave.
func (m *Model) share(height int) (rows [sections]int) {
	room := max(0, height-int(sections))
	for s := range sections {
		rows[s] = min(m.rows(s), 1, room)
		room -= rows[s]
	}
	for _, s := range []section{m.focus, streamSection, busSection, nodeSection} {
		// No section takes all that is left from those behind it.
		more := min(m.rows(s)-rows[s], room)
		if s != streamSection {
			more = min(more, max(0, height/4-rows[s]))
		}
		if more > 0 {
			rows[s] += more
			room -= more
		}
	}
	return rows
}

func (m *Model) section(s section, rows int) (lines []Line) {
	m.top[s] = min(max(m.top[s], m.selected[s]-rows+1), m.selected[s])
	m.top[s] = max(0, min(m.top[s], m.rows(s)-rows))
	columns := [sections]func() []column{m.busColumns, m.nodeColumns, m.streamColumns}[s]()
	heading, text := table(columns, m.width-2, m.top[s], rows)
	if hidden := m.rows(s) - rows; hidden > 0 {
		mark := fmt.Sprintf(" [%d-%d of %d]", m.top[s]+1, m.top[s]+rows, m.rows(s))
		heading = cell(heading, m.width-2-len(mark), false) + mark
	}
	lines = append(lines, Line{"  " + heading, Heading})
	for i, l := range text {
		at := Line{"  " + l, Plain}
		if m.top[s]+i == m.selected[s] && s == m.focus {
			at = Line{"> " + l, Selected}
		}
		lines = append(lines, at)
	}
	return lines
}

func number(f float64, ok bool) string {
	switch {
	case !ok:
		return "-"
	case f >= 1000:
		return fmt.Sprintf("%.0f", f)
	default:
		return fmt.Sprintf("%.1f", f)
	}
}

func (m *Model) busColumns() []column {
	c := []column{
		{title: "BUS", least: 4, most: 15, give: 3}, {title: "STATE", least: 7, most: 13, give: 2, rank: 1}, {title: "FILTER", most: 14, rank: 6},
		{title: "RING", right: true, rank: 4}, {title: "FRAMES/s", right: true, rank: 5}, {title: "ACCEPTED", right: true, rank: 2},
		{title: "REFUSED", right: true, rank: 1}, {title: "LAST REFUSED", least: 12, give: 1, rank: 3},
	}
	for _, b := range m.pic.buses {
		old, known := find(m.last.buses, func(o busState) bool { return o.name == b.name })
		frames, accepted, refused := b.sums()
		before, _, _ := old.sums()
		perSecond, ok := m.rate(frames, before)
		fill := "-"
		if b.size > 0 {
			fill = fmt.Sprintf("%.0f%%", 100*float64(b.used)/float64(b.size))
		}
		lastRefused := "-"
		if r, ok := m.recent[b.name]; ok {
			lastRefused = fmt.Sprintf("%d %s", r.n, r.what)
		}
		for i, s := range []string{b.name, b.state, b.filter, fill, number(perSecond, ok && known), fmt.Sprint(accepted), fmt.Sprint(refused), lastRefused} {
			c[i].cells = append(c[i].cells, s)
		}
	}
	return c
}

func (m *Model) nodeColumns() []column {
	c := []column{
		{title: "NODE", least: 6, most: 24, give: 2}, {title: "EPOCH", right: true, rank: 2}, {title: "KEY AGE", right: true, rank: 1}, {title: "KEY", least: 7, give: 1, rank: 1},
		{title: "HIGHEST COUNTER", right: true, rank: 3},
	}
	for _, n := range m.pic.nodes {
		epoch, key := fmt.Sprint(n.epoch), "ok"
		switch {
		case n.epoch == 0:
			epoch, key = "-", "NO KEY"
		case n.age < 0:
			key = "-"
		case n.limit > 0 && n.age >= n.limit:
			key = "EXPIRED"
		case n.interval > 0 && n.age >= n.interval:
			key = "DUE, expires in " + span(n.limit-n.age)
		case n.interval > 0:
			key = "ok, due in " + span(n.interval-n.age)
		}
		for i, s := range []string{n.name, epoch, span(n.age), key, fmt.Sprint(n.verified)} {
			c[i].cells = append(c[i].cells, s)
		}
	}
	return c
}

func (m *Model) streamColumns() []column {
	c := []column{
		{title: "BUS", least: 4, most: 8, give: 4, rank: 6}, {title: "ID", rank: 5}, {title: "STREAM", least: 8, most: 24, give: 1},
		{title: "RATE/s", right: true, rank: 4}, {title: "COUNTER", right: true, rank: 3}, {title: "LAST", least: 9, most: 14, give: 3, rank: 1},
		{title: "VALUE", right: true, least: 9, most: 14, give: 2, rank: 1}, {title: "", least: 6, rank: 2},
	}
	c[7].fill = func(row, width int) string {
		id := m.pic.streams[row].id
		if g := m.signals[id]; g != nil && m.inRing(id) != nil {
			return spark(g.history, width, m.ascii)
		}
		return ""
	}
	for i := range m.pic.streams {
		t := &m.pic.streams[i]
		old, known := find(m.last.streams, func(o streamState) bool { return o.id == t.id })
		perSecond, ok := m.rate(t.published, old.published)
		for i, s := range []string{t.bus, t.canID, t.source, number(perSecond, ok && known && !t.heartbeat), fmt.Sprint(t.highest), m.verdict(t), m.value(t)} {
			c[i].cells = append(c[i].cells, s)
		}
	}
	return c
}

// verdict says in a word or two how a stream does.
func (m *Model) verdict(t *streamState) string {
	if !m.running() {
		return "-"
	}
	if r, ok := m.recent[streamKey(t.id)]; ok {
		return fmt.Sprintf("%s %d", r.what, r.n)
	}
	if t.missing > 0 {
		return fmt.Sprintf("MISSING %d", t.missing)
	}
	if t.heartbeat {
		return "ok"
	}
	if t.ageMS < 0 {
		return "none yet"
	}
	if float64(t.ageMS) > 10*t.periodMS+5000 {
		return "SILENT " + span(t.ageMS/1000)
	}
	if len(t.late) > 0 {
		return fmt.Sprintf("INCOMPLETE %d", len(t.late))
	}
	if r := m.inRing(t.id); r != nil && len(r.Flags) > 0 {
		return strings.Join(r.Flags, ",")
	}
	return "ok"
}

func (m *Model) value(t *streamState) string {
	r, g := m.inRing(t.id), m.signals[t.id]
	if r == nil || g == nil || g.chosen < 0 || g.chosen >= len(r.Signals) {
		return "-"
	}
	return quantity(&r.Signals[g.chosen])
}

func quantity(s *Signal) string {
	if s.Value == nil {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%.5g %s", *s.Value, s.Unit))
}

// detail tells what is known of the selected row.
func (m *Model) detail(height int) []Line {
	var heading string
	var items []string
	at := m.selected[m.focus]
	switch {
	case m.rows(m.focus) == 0:
		return nil
	case m.focus == busSection:
		b := &m.pic.buses[at]
		heading = fmt.Sprintf("%s: frames by verdict", b.name)
		for v := range loader.NumVerdicts {
			if n := b.verdicts[loader.Verdict(v).String()]; n > 0 {
				items = append(items, fmt.Sprintf("%s %d", loader.Verdict(v), n))
			}
		}
	case m.focus == nodeSection:
		n := &m.pic.nodes[at]
		heading, items = fmt.Sprintf("%s: epochs", n.name), n.epochs
	default:
		t := &m.pic.streams[at]
		heading = fmt.Sprintf("stream %d: published %d, missing %d, deleted %d, shed %d", t.id, t.published, t.missing, t.deleted, t.shed)
		if len(t.late) > 0 {
			heading += fmt.Sprintf(", not fresh: mux %s", numbers(t.late))
		}
		if r := m.inRing(t.id); r != nil {
			g := m.signals[t.id]
			for i := range r.Signals {
				mark := ""
				if g != nil && g.chosen == i {
					mark = "*"
				}
				items = append(items, fmt.Sprintf("%s%s %s", mark, r.Signals[i].Name, quantity(&r.Signals[i])))
			}
		}
	}
	lines := []Line{{"  " + heading, Heading}}
	return append(lines, grid(items, m.width-2, height-1)...)
}

// grid sets items in columns, downwards first; what finds no room is counted.
func grid(items []string, width, height int) (lines []Line) {
	if len(items) == 0 || height < 1 {
		return nil
	}
	widest := 0
	for _, s := range items {
		widest = max(widest, min(ansi.StringWidth(s), width))
	}
	columns := max(1, (width+2)/(widest+2))
	if most := columns * height; len(items) > most {
		items = append(items[:most-1:most-1], fmt.Sprintf("and %d more", len(items)-most+1))
	}
	rows := (len(items) + columns - 1) / columns
	for r := range rows {
		var cells []string
		for i := r; i < len(items); i += rows {
			cells = append(cells, cell(items[i], widest, false))
		}
		lines = append(lines, Line{"  " + strings.TrimRight(strings.Join(cells, "  "), " "), Plain})
	}
	return lines
}

// numbers lists what fits on a line beside other things.
func numbers(all []uint32) string {
	const most = 4
	var b strings.Builder
	for i, n := range all {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(all)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}
