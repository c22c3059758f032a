// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/loader"
)

const (
	// historyLength is how many values of a signal are kept for its sparkline.
	historyLength = 240
	// recentFor is how long something that happened stays on the screen.
	recentFor = 10 * time.Second
)

// section is a part of the screen whose rows can be selected.
type section int

const (
	busSection section = iota
	nodeSection
	streamSection
	sections
)

// Model is the state of the screen. What it shows follows from the snapshots it took, the keys it was given and the size, and from
// nothing else. It is for one goroutine.
type Model struct {
	ascii         bool
	width, height int

	now, before   Snapshot
	pic, last     picture
	taken         int
	focus         section
	selected, top [sections]int
	paused, help  bool

	signals map[uint32]*signalState // by stream id
	recent  map[string]recent       // of a bus by name, of a stream by "stream " and id
}

// signalState is the signal of a stream that has the sparkline.
type signalState struct {
	chosen  int // -1: not chosen yet
	seen    uint64
	history []float64
}

// recent is what happened last and is worth knowing, with its number since it was quiet before.
type recent struct {
	what string
	n    uint64
	at   time.Time
}

// NewModel returns a model of a screen with nothing on it yet. ascii keeps sparklines to ASCII.
func NewModel(ascii bool) *Model {
	return &Model{
		ascii: ascii, width: 80, height: 24, focus: streamSection, signals: make(map[uint32]*signalState), recent: make(map[string]recent),
	}
}

// Resize tells the size of the screen.
func (m *Model) Resize(width, height int) { m.width, m.height = max(1, width), max(1, height) }

// Take shows a snapshot, unless the screen is paused.
func (m *Model) Take(s Snapshot) {
	if m.paused {
		return
	}
	m.before, m.now = m.now, s
	m.last, m.pic = m.pic, newPicture(s.Overview)
	m.taken++
	if len(m.last.streams) == 0 && m.selected[streamSection] == 0 {
		// Whoever looks wants to see samples; a heartbeat stream has none.
		m.selected[streamSection] = max(0, slices.IndexFunc(m.pic.streams, func(t streamState) bool { return !t.heartbeat }))
	}
	m.notice()
	m.remember()
	m.clamp()
}

// notice finds what happened between the last two snapshots.
func (m *Model) notice() {
	if len(m.last.buses) == 0 {
		return
	}
	for _, b := range m.pic.buses {
		old, ok := find(m.last.buses, func(o busState) bool { return o.name == b.name })
		if !ok {
			continue
		}
		var most recent
		for v := range loader.NumVerdicts {
			name := loader.Verdict(v).String()
			if n := b.verdicts[name]; refusal(loader.Verdict(v)) && n > old.verdicts[name] && n-old.verdicts[name] > most.n {
				most = recent{name, n - old.verdicts[name], m.now.Time}
			}
		}
		if most.n > 0 {
			m.happened(b.name, most.what, most.n)
		}
	}
	for _, t := range m.pic.streams {
		old, ok := find(m.last.streams, func(o streamState) bool { return o.id == t.id })
		if !ok {
			continue
		}
		key := streamKey(t.id)
		switch {
		case t.deleted > old.deleted:
			m.happened(key, "DELETED", t.deleted-old.deleted)
		case t.shed > old.shed:
			m.happened(key, "SHED", t.shed-old.shed)
		}
	}
	maps.DeleteFunc(m.recent, func(_ string, r recent) bool { return m.now.Time.Sub(r.at) > recentFor })
}

// happened counts what goes on since it was quiet for recentFor.
func (m *Model) happened(key, what string, n uint64) {
	if r := m.recent[key]; r.what == what && m.now.Time.Sub(r.at) <= recentFor {
		n += r.n
	}
	m.recent[key] = recent{what, n, m.now.Time}
}

func streamKey(id uint32) string { return fmt.Sprint("stream ", id) }

// remember adds the newest values to the histories.
func (m *Model) remember() {
	for i := range m.now.Ring.Streams {
		t := &m.now.Ring.Streams[i]
		g := m.signals[t.ID]
		if g == nil {
			g = &signalState{chosen: -1}
			m.signals[t.ID] = g
		}
		if g.chosen < 0 || g.chosen >= len(t.Signals) {
			g.chosen, g.history = first(t.Signals), nil
		}
		if g.chosen < 0 || t.Samples == g.seen && len(g.history) > 0 {
			continue
		}
		g.seen = t.Samples
		if v := t.Signals[g.chosen].Value; v != nil {
			g.history = append(g.history, *v)
			g.history = g.history[max(0, len(g.history)-historyLength):]
		}
	}
}

// first returns the first signal that is a value and no page number; -1: there is no signal.
func first(signals []Signal) int {
	if i := slices.IndexFunc(signals, func(s Signal) bool { return !s.Page }); i >= 0 {
		return i
	}
	return min(0, len(signals)-1)
}

// Key takes a key by its name, as Bubble Tea has it, and returns whether it ends the program.
func (m *Model) Key(name string) (quit bool) {
	switch name {
	case "q", "esc", "ctrl+c":
		if m.help && name != "ctrl+c" {
			m.help = false
			return false
		}
		return true
	case "?", "h":
		m.help = !m.help
	case "space", "p":
		m.paused = !m.paused
	case "tab":
		m.focus = (m.focus + 1) % sections
	case "shift+tab":
		m.focus = (m.focus + sections - 1) % sections
	case "up", "k":
		m.selected[m.focus]--
	case "down", "j":
		m.selected[m.focus]++
	case "pgup":
		m.selected[m.focus] -= max(1, m.height/3)
	case "pgdown":
		m.selected[m.focus] += max(1, m.height/3)
	case "home", "g":
		m.selected[m.focus] = 0
	case "end", "G":
		m.selected[m.focus] = m.rows(m.focus) - 1
	case "left", "[":
		m.choose(-1)
	case "right", "]":
		m.choose(1)
	}
	m.clamp()
	return false
}

// choose gives the sparkline of the selected stream to the next or last signal.
func (m *Model) choose(step int) {
	t := m.ringStream()
	if t == nil || len(t.Signals) == 0 {
		return
	}
	g := m.signals[t.ID]
	g.chosen = (g.chosen + step + len(t.Signals)) % len(t.Signals)
	g.history = nil
	if v := t.Signals[g.chosen].Value; v != nil {
		g.history = []float64{*v}
	}
}

// ringStream returns the selected stream as the ring has it, or nil.
func (m *Model) ringStream() *Stream {
	if m.selected[streamSection] >= len(m.pic.streams) {
		return nil
	}
	return m.inRing(m.pic.streams[m.selected[streamSection]].id)
}

func (m *Model) inRing(id uint32) *Stream {
	for i := range m.now.Ring.Streams {
		if m.now.Ring.Streams[i].ID == id {
			return &m.now.Ring.Streams[i]
		}
	}
	return nil
}

func (m *Model) rows(s section) int {
	return [sections]int{len(m.pic.buses), len(m.pic.nodes), len(m.pic.streams)}[s]
}

func (m *Model) clamp() {
	for s := range sections {
		m.selected[s] = min(max(m.selected[s], 0), max(0, m.rows(s)-1))
	}
}

// rate returns how much a counter grows in a second; ok is false while only one snapshot has it, and when it went back.
func (m *Model) rate(now, before uint64) (perSecond float64, ok bool) {
	d := m.now.Time.Sub(m.before.Time).Seconds()
	if d <= 0 || now < before {
		return 0, false
	}
	return float64(now-before) / d, true
}

// running reports whether an agent answers.
func (m *Model) running() bool { return m.now.Overview != nil && m.now.Overview.Running }

func (m *Model) status() *agent.Status {
	if !m.running() {
		return nil
	}
	return m.now.Overview.Status
}

// kernel returns the kernel's part where it is all there is, or nil.
func (m *Model) kernel() *agent.KernelStatus {
	if m.now.Overview == nil || m.now.Overview.Running {
		return nil
	}
	return m.now.Overview.Kernel
}

func find[T any](all []T, is func(T) bool) (x T, ok bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	return x, false
}
