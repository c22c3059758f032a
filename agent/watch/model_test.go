// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/loader"
)

var update = flag.Bool("update", false, "write the golden files anew")

func began() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// at is a gateway n seconds after it began: two buses, two nodes, five streams; can1 and its node are in trouble.
func at(n int) Snapshot {
	u := uint64(n)
	verdicts := func(m map[loader.Verdict]uint64) map[string]uint64 {
		all := make(map[string]uint64)
		for v := range loader.NumVerdicts {
			all[loader.Verdict(v).String()] = m[loader.Verdict(v)]
		}
		return all
	}
	age := func(ms int64) *int64 { return &ms }
	value := func(v float64) *float64 { return &v }
	s := &agent.Status{
		PID: 4711, UptimeS: int64(n), Binding: "pack-a", Policy: "p", Engine: "vaes512", Readers: 3,
		Ring: agent.RingStatus{Fault: "ok"}, Keys: agent.KeyTimes{IntervalS: 86400, LimitS: 4 * 86400},
		Interfaces: []agent.InterfaceStatus{
			{Name: "can0", Slot: 1, RingUsed: 524288, RingSize: 1048576, Link: agent.LinkStatus{State: "up", Attached: true, Hook: "tcx_ingress", Controller: "error_active"},
				Verdicts: verdicts(map[loader.Verdict]uint64{loader.Passed: 100 + 10*u, loader.Candidate: 500 * u, loader.Accepted: 490 * u, loader.Replay: 7 * u, loader.BadTag: 10 * u})},
			{Name: "can1", Slot: 2, RingSize: 1048576, Link: agent.LinkStatus{State: "down", Attached: true, Hook: "clsact_ingress", Controller: "bus_off"},
				Verdicts: verdicts(map[loader.Verdict]uint64{loader.Candidate: 5, loader.Accepted: 5})},
		},
		Nodes: []agent.NodeStatus{
			{Name: "bmu", KID: "15fa", Verified: 66000 + 490*u, Epochs: []agent.EpochStatus{{Number: 3, AgeS: 100000, Method: "hpke", Base: 1}, {Number: 4, AgeS: 5000 + int64(n), Method: "edhoc", Base: 60000}}},
			{Name: "aux", KID: "77", Epochs: []agent.EpochStatus{}},
		},
		Streams: []agent.StreamStatus{
			{Stream: 1, Node: "bmu", Role: "heartbeat", Interface: "can0", CANID: "7FF", PeriodMS: 1000, Highest: 65538},
			{Stream: 2, Node: "bmu", Role: "sample", Interface: "can0", CANID: "102", Source: "pack_current", PeriodMS: 100, Highest: 65000 + 10*u, Published: 10 * u, SampleAgeMS: age(40)},
			{Stream: 3, Node: "bmu", Role: "sample", Interface: "can0", CANID: "18FF50E5", Source: "cell_voltage_array_of_a_long_name", PeriodMS: 2.5, Highest: 66000 + 400*u, Published: 400 * u, Missing: 2, SampleAgeMS: age(1)},
			{Stream: 4, Node: "bmu", Role: "sample", Interface: "can0", CANID: "302", Source: "estimated_soc", PeriodMS: 100, Highest: 65586, Published: 10 * u, Deleted: u / 2, SampleAgeMS: age(90)},
			{Stream: 5, Node: "aux", Role: "sample", Interface: "can1", CANID: "6F3", Source: "temperature_sensors", PeriodMS: 100, Highest: 9, Published: 5, SampleAgeMS: age(65_000)},
		},
	}
	wave := math.Sin(float64(n) / 4)
	return Snapshot{
		Time:     began().Add(time.Duration(n) * time.Second),
		Overview: &agent.Overview{Status: s, Running: true, Kernel: &agent.KernelStatus{Release: "6.18.0"}},
		Ring: Ring{Connected: true, Fault: "ok", Streams: []Stream{
			{ID: 1, AgeMS: -1, Signals: []Signal{}},
			{ID: 2, Samples: 10 * u, Counter: 65000 + 10*u, AgeMS: 40, Signals: []Signal{{Name: "current", Unit: "A", Value: value(-120 + 30*wave)}}},
			{ID: 3, Samples: 400 * u, Counter: 66000 + 400*u, AgeMS: 1, Signals: []Signal{
				{Name: "page", Page: true, Value: value(float64(n % 27))}, {Name: "cell_1", Unit: "V", Value: value(3.6512)},
				{Name: "cell_2", Unit: "V", Value: value(3.6 + float64(n)/100)}, {Name: "cell_3", Unit: "V"}}},
			{ID: 4, Samples: 10 * u, Counter: 65586, AgeMS: 90, Flags: []string{"gap_before"}, Signals: []Signal{{Name: "soc", Unit: "%", Value: value(80 - float64(n)/10)}}},
			{ID: 5, AgeMS: -1, Signals: []Signal{{Name: "sensor_1", Unit: "°C"}}},
		}},
	}
}

// kernelOnly is what is left when the agent is gone.
func kernelOnly(n int) Snapshot {
	used := uint64(416)
	return Snapshot{
		Time: began().Add(time.Duration(n) * time.Second),
		Overview: &agent.Overview{AgentError: "no agent is listening on /run/cellward/control.sock", Kernel: &agent.KernelStatus{
			Release: "6.18.0", Pins: agent.PinStatus{SameLayout: true},
			Interfaces: []agent.KernelInterface{
				{Slot: 1, Name: "can0", Attached: true, State: agent.StateAttached, Hook: "tcx_ingress", Rings: map[string]agent.Fill{"candidates": {Used: &used, Size: 1 << 20}},
					Verdicts: map[string]uint64{"accepted": 1702, "replay": 48, "plaintext_on_protected": 17}},
				{Slot: 2, State: agent.StateNoLink, Verdicts: map[string]uint64{}},
			},
			Nodes:   []agent.KernelNode{{Index: 0, Name: "bmu", Verified: 66736, Epochs: []agent.KernelEpoch{{Number: 4, Base: 60000}}}},
			Streams: []agent.KernelStream{{Slot: 0, Stream: 2, Interface: 1, CANID: "102", Role: "sample", Source: "pack_current", Highest: 65586, Committed: 50, Published: 50}},
		}},
		Ring: Ring{Error: "open ring at /run/cellward/ring.sock: connect: no such file or directory"},
	}
}

func after(m *Model, n int) *Model {
	for i := range n {
		m.Take(at(i))
	}
	return m
}

func keys(m *Model, names ...string) *Model {
	for _, k := range names {
		m.Key(k)
	}
	return m
}

// text writes a screen with marks for the styles, so that golden files show them.
func text(m *Model) string {
	var b strings.Builder
	for _, l := range m.Lines() {
		fmt.Fprintf(&b, "%s|%s\n", [...]string{" ", "H", "!", ">"}[l.Style], l.Text)
	}
	return b.String()
}

// screens are the situations of the golden files.
func screens() map[string]func() *Model {
	return map[string]func() *Model{
		"running": func() *Model { return after(NewModel(false), 30) },
		"bus":     func() *Model { return keys(after(NewModel(false), 30), "tab") },
		"node":    func() *Model { return keys(after(NewModel(true), 30), "shift+tab") },
		"signal": func() *Model {
			m := keys(after(NewModel(true), 10), "down", "right")
			for i := 10; i < 30; i++ {
				m.Take(at(i))
			}
			return m
		},
		"fault": func() *Model {
			m := after(NewModel(false), 5)
			s := at(5)
			s.Ring.Fault, s.Overview.SaveError = "latched", "write epochs: no space left on device"
			s.Overview.Interfaces[0].Link.Attached = false
			m.Take(s)
			return m
		},
		"agent-gone": func() *Model {
			m := after(NewModel(false), 5)
			m.Take(kernelOnly(5))
			return m
		},
		"nothing": func() *Model {
			m := NewModel(false)
			m.Take(Snapshot{Time: began(), Error: "no agent answers and nothing is pinned: no agent is listening on /run/cellward/control.sock; inspect /sys/fs/bpf/cellward: nothing is pinned there"})
			return m
		},
		"first": func() *Model { return NewModel(false) },
		"help":  func() *Model { return keys(after(NewModel(false), 3), "?") },
	}
}

func TestGolden(t *testing.T) {
	for name, screen := range screens() {
		for _, size := range [][2]int{{80, 24}, {120, 40}, {40, 10}} {
			m := screen()
			m.Resize(size[0], size[1])
			path := filepath.Join("testdata", fmt.Sprintf("%s-%dx%d.txt", name, size[0], size[1]))
			got := text(m)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
			}
		}
	}
}

// TestComesBack: a screen goes through all states by itself, and rates go on where they were.
func TestComesBack(t *testing.T) {
	m := after(NewModel(false), 3)
	whole := func() string { return text(m) }
	if s := whole(); strings.Contains(s, "NOT RUNNING") || !strings.Contains(s, "400.0") {
		t.Errorf("running:\n%s", s)
	}
	m.Take(kernelOnly(3))
	if s := whole(); !strings.Contains(s, "AGENT NOT RUNNING") || !strings.Contains(s, "1702") {
		t.Errorf("agent gone:\n%s", s)
	}
	m.Take(Snapshot{Time: began().Add(4 * time.Second), Error: "nothing"})
	if s := whole(); !strings.Contains(s, "NOTHING TO SHOW") {
		t.Errorf("all gone:\n%s", s)
	}
	m.Take(at(5))
	m.Take(at(6))
	if s := whole(); strings.Contains(s, "NOTHING") || strings.Contains(s, "NOT RUNNING") || !strings.Contains(s, "400.0") {
		t.Errorf("back:\n%s", s)
	}
}

// TestBanners: each of what must be known is said in words, and nothing of it without its reason.
func TestBanners(t *testing.T) {
	running := func(change func(*Snapshot)) func() Snapshot {
		return func() Snapshot { s := at(3); change(&s); return s }
	}
	gone := func(change func(*Snapshot)) func() Snapshot {
		return func() Snapshot {
			s := kernelOnly(3)
			s.Overview.Kernel.Interfaces = s.Overview.Kernel.Interfaces[:1]
			change(&s)
			return s
		}
	}
	for _, c := range []struct {
		want string
		of   func() Snapshot
	}{
		{"", running(func(*Snapshot) {})},
		{"", running(func(s *Snapshot) { s.Overview.Interfaces[0].Link = agent.LinkStatus{State: agent.LinkAbsent} })},
		{"BUS can0 IS OPEN", running(func(s *Snapshot) { s.Overview.Interfaces[0].Link = agent.LinkStatus{State: agent.LinkDown} })},
		{"BMS SECURITY FAULT: inspect communication integrity and controller hardware", running(func(s *Snapshot) { s.Ring.Fault = "fault" })},
		{"cells: bad_tag 12 deletion 3", running(func(s *Snapshot) {
			s.Ring.Fault, s.Overview.Status.Fault.Faults = "fault", []fault.View{{Name: "cells", Advice: fault.Advice, Evidence: []fault.EvidenceView{
				{Kind: kind.BadTag, Count: 12}, {Kind: kind.Deletion, Count: 3},
			}}}
		})},
		{"FAULT IS LATCHED: it stays until it is cleared with a reason", running(func(s *Snapshot) { s.Ring = Ring{}; s.Overview.Status.Ring.Fault = "latched" })},
		{"SUSPECT", running(func(s *Snapshot) { s.Ring.Fault = "suspect" })},
		{"STATE NOT WRITTEN: disk", running(func(s *Snapshot) { s.Overview.SaveError = "disk" })},
		{"NO VALUES: refused", running(func(s *Snapshot) { s.Ring = Ring{Error: "refused"} })},
		{"RING: silent", running(func(s *Snapshot) { s.Ring.Error = "silent" })},
		{"AGENT NOT RUNNING", gone(func(*Snapshot) {})},
		{"AGENT DOES NOT ANSWER: deadline", gone(func(s *Snapshot) { s.Overview.AgentError = "deadline" })},
		{"PINS ARE OF ANOTHER BUILD", gone(func(s *Snapshot) { s.Overview.Kernel.Pins.SameLayout = false })},
		{"HOOKS CANNOT BE READ: denied", gone(func(s *Snapshot) { s.Overview.Kernel.HookError = "denied" })},
		{"BUS can0 IS OPEN", gone(func(s *Snapshot) {
			s.Overview.Kernel.Interfaces[0].Attached, s.Overview.Kernel.Interfaces[0].State = false, agent.StateNoLink
		})},
		{"NOTHING TO SHOW", func() Snapshot { return Snapshot{Time: began(), Error: "no"} }},
	} {
		m := NewModel(false)
		m.Take(c.of())
		var alarms []string
		for _, l := range m.Lines() {
			if l.Style == Alarm {
				alarms = append(alarms, l.Text)
			}
		}
		all := strings.Join(alarms, "\n")
		if c.want == "" && all != "" || !strings.Contains(all, c.want) {
			t.Errorf("want %q, got %q", c.want, all)
		}
		if extra := 1 + strings.Count(all, "\n"); c.want != "" && extra > 2 {
			t.Errorf("%d banners: %q", extra, all)
		}
	}
}

// TestIncomplete: parts of an array that do not come any more are counted in the table and named below it.
func TestIncomplete(t *testing.T) {
	for parts, want := range map[int][2]string{1: {"INCOMPLETE 1", "not fresh: mux 7"}, 6: {"INCOMPLETE 6", "not fresh: mux 7, 8, 9, 10 and 2 more"}} {
		s := at(3)
		x := &s.Overview.Streams[1]
		x.Missing, x.LateParts = 0, nil
		for i := range parts {
			x.LateParts = append(x.LateParts, uint32(7+i))
		}
		m := NewModel(false)
		m.Resize(120, 40)
		m.Take(s)
		// The one below the heartbeats is selected at first.
		var all strings.Builder
		for _, l := range m.Lines() {
			all.WriteString(l.Text + "\n")
		}
		for _, w := range want {
			if !strings.Contains(all.String(), w) {
				t.Errorf("%d parts: no %q:\n%s", parts, w, all.String())
			}
		}
	}
}

// TestRecent: what happened goes from the screen again.
func TestRecent(t *testing.T) {
	m := after(NewModel(false), 4)
	if s := text(m); !strings.Contains(s, "30 bad_tag") {
		t.Errorf("no refusal:\n%s", s)
	}
	s := at(3)
	s.Time = s.Time.Add(recentFor + time.Second)
	m.Take(s)
	if s := text(m); strings.Contains(s, "0 bad_tag\n") || strings.Contains(s, "DELETED 1") {
		t.Errorf("still there:\n%s", s)
	}
}

func TestPause(t *testing.T) {
	m := keys(after(NewModel(false), 3), "space")
	held := text(m)
	m.Take(at(20))
	if text(m) != held || !strings.Contains(held, "PAUSED") {
		t.Errorf("a paused screen moves:\n%s", text(m))
	}
	keys(m, "space").Take(at(21))
	if s := text(m); strings.Contains(s, "PAUSED") || s == held {
		t.Error("it does not go on")
	}
}

func TestQuit(t *testing.T) {
	for _, k := range []string{"q", "esc", "ctrl+c"} {
		if !NewModel(false).Key(k) {
			t.Errorf("%s does not quit", k)
		}
	}
	m := NewModel(false)
	if m.Key("?") || m.Key("esc") || !m.Key("esc") {
		t.Error("esc on the help page goes back first")
	}
	if !keys(NewModel(false), "?").Key("ctrl+c") {
		t.Error("ctrl+c always quits")
	}
}

// TestSelection scrolls through more streams than there are lines; the selected one is always on the screen.
func TestSelection(t *testing.T) {
	s := at(3)
	for i := range 100 {
		s.Overview.Streams = append(s.Overview.Streams, agent.StreamStatus{Stream: uint32(100 + i), Interface: "can0", CANID: fmt.Sprintf("%03X", i), Source: fmt.Sprint("source-", i), PeriodMS: 100})
	}
	m := NewModel(false)
	m.Take(s)
	selected := func() string {
		for _, l := range m.Lines() {
			if l.Style == Selected {
				return l.Text
			}
		}
		return ""
	}
	for _, c := range []struct{ key, want string }{
		{"end", "source-99"}, {"up", "source-98"}, {"pgup", "source-90"}, {"down", "source-91"}, {"home", "7FF"}, {"up", "7FF"}, {"pgdown", "source-3"}, {"end", "source-99"}, {"down", "source-99"},
	} {
		if keys(m, c.key); !strings.Contains(selected(), c.want) {
			t.Errorf("after %s: %q, want %s", c.key, selected(), c.want)
		}
	}
	if !strings.Contains(text(m), "-105 of 105]") {
		t.Errorf("no mark of what is hidden:\n%s", text(m))
	}
	// Streams that go take the selection with them.
	m.Take(at(4))
	if !strings.Contains(selected(), "can1") {
		t.Errorf("selected %q", selected())
	}
}

// TestSizes: whatever is taken, typed and resized, the screen has its height, no line is wider, and no text of others reaches the
// terminal as a control sequence.
func TestSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewModel(rapid.Bool().Draw(t, "ascii"))
		m.Lines()
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				m.Resize(rapid.IntRange(0, 200).Draw(t, "width"), rapid.IntRange(0, 60).Draw(t, "height"))
			case 1:
				m.Key(rapid.SampledFrom([]string{"tab", "shift+tab", "up", "down", "pgup", "pgdown", "home", "end", "left", "right", "space", "?", "x"}).Draw(t, "key"))
			case 2:
				s := at(rapid.IntRange(0, 1000).Draw(t, "n"))
				s.Overview.SaveError = rapid.String().Draw(t, "error") + "\x1b[31m\r\n"
				s.Overview.Streams = s.Overview.Streams[:rapid.IntRange(0, 5).Draw(t, "streams")]
				s.Ring.Streams = s.Ring.Streams[:rapid.IntRange(0, 5).Draw(t, "ring streams")]
				if v := rapid.Float64().Draw(t, "value"); len(s.Ring.Streams) > 1 {
					s.Ring.Streams[1].Signals[0].Value = &v
				}
				m.Take(s)
			case 3:
				m.Take(kernelOnly(rapid.IntRange(0, 1000).Draw(t, "n")))
			case 4:
				m.Take(Snapshot{Time: began(), Error: rapid.String().Draw(t, "error")})
			}
			lines := m.Lines()
			if len(lines) != m.height {
				t.Fatalf("%d lines on a screen of %d", len(lines), m.height)
			}
			for _, l := range lines {
				if w := ansi.StringWidth(l.Text); w > m.width {
					t.Fatalf("%d wide on a screen of %d: %q", w, m.width, l.Text)
				}
				if clean(l.Text) != l.Text {
					t.Fatalf("control characters: %q", l.Text)
				}
			}
		}
	})
}

func TestSpark(t *testing.T) {
	for _, c := range []struct {
		values []float64
		width  int
		ascii  bool
		want   string
	}{
		{nil, 5, false, ""}, {[]float64{1}, 0, false, ""}, {[]float64{4}, 5, false, "▄"}, {[]float64{4, 4, 4}, 2, false, "▄▄"},
		{[]float64{0, 1, 2, 3, 4, 5, 6, 7}, 8, false, "▁▂▃▄▅▆▇█"}, {[]float64{9, 9, 7, 0}, 2, true, "#_"}, {[]float64{-math.MaxFloat64, math.MaxFloat64}, 2, false, "▁█"},
		{[]float64{0, math.SmallestNonzeroFloat64}, 2, true, "_#"},
	} {
		if got := spark(c.values, c.width, c.ascii); got != c.want {
			t.Errorf("%v in %d: %q, want %q", c.values, c.width, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for s, want := range map[int64]string{-1: "-", 0: "0s", 59: "59s", 60: "1m00s", 3599: "59m59s", 3600: "1h00m", 86399: "23h59m", 90000: "1d01h", 864000: "10d00h"} {
		if got := span(s); got != want {
			t.Errorf("%d: %s, want %s", s, got, want)
		}
	}
}

func TestLocale(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    bool
	}{
		{nil, false}, {[]string{"LANG=en_US.UTF-8"}, true}, {[]string{"LANG=C"}, false}, {[]string{"LANG=C.utf8"}, true},
		{[]string{"LANG=en_US.UTF-8", "LC_ALL=C"}, false}, {[]string{"LC_ALL=", "LC_CTYPE=C.UTF-8", "LANG=C"}, true},
	} {
		if got := utf8Locale(c.environ); got != c.want {
			t.Errorf("%v: %v", c.environ, got)
		}
	}
}
