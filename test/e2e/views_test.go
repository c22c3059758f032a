// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/watch"
	"github.com/cellward/cellward/loader"
)

// TestViewsAtRest compares every view with what bpftool prints of the kernel's maps, after a pack was sealed and frames were forged.
func TestViewsAtRest(t *testing.T) {
	needRoot(t)
	const simulated = 2 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 20_000, SoftwareEdge: true}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealPack(t, l, simulated)
	forge(t, l, 23)
	settled(t, l)
	until(t, "the events", func() bool { return overview(t, l).Events.Counts["plaintext_on_protected"] >= 23 })

	want := readKernel(t, l)
	o := overview(t, l)
	status := o.Interfaces[0].Verdicts
	exposed := controlMetrics(t, l)
	var snap watch.Snapshot
	out := cellward(t, t.Context(), "watch", "--binding", l.BindingPath(), "-o", "json", "--count", "1")
	if err := json.Unmarshal(out, &snap); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	screen := func(keys ...string) string {
		m := watch.NewModel(true)
		m.Resize(200, 200)
		m.Take(snap)
		for _, k := range keys {
			m.Key(k)
		}
		var b strings.Builder
		for _, l := range m.Lines() {
			b.WriteString(l.Text + "\n")
		}
		return b.String()
	}

	if again := readKernel(t, l); fmt.Sprint(again) != fmt.Sprint(want) {
		t.Fatalf("not at rest: %v, then %v", want, again)
	}
	buses := screen("tab")
	total := uint64(0)
	for v := range loader.NumVerdicts {
		name := loader.Verdict(v).String()
		n, ok := want.verdicts[name]
		if !ok {
			t.Errorf("bpftool has no %s", name)
		}
		total += n
		if status[name] != n {
			t.Errorf("status: %s is %d, the kernel says %d", name, status[name], n)
		}
		family := "filter"
		if loader.Verdict(v) >= loader.Accepted {
			family = "agent"
		}
		if got := metric(t, exposed, fmt.Sprintf(`cellward_%s_frames_total{interface="can0",verdict="%s"}`, family, name)); got != float64(n) {
			t.Errorf("metrics: %s is %v, the kernel says %d", name, got, n)
		}
		if n > 0 && !regexp.MustCompile(fmt.Sprintf(`(^|\s)%s %d(\s|$)`, name, n)).MatchString(buses) {
			t.Errorf("watch has no %s %d:\n%s", name, n, buses)
		}
	}
	if want.verdicts["plaintext_on_protected"] < 23 || want.verdicts["accepted"] == 0 || total == 0 {
		t.Errorf("the kernel has %v", want.verdicts)
	}
	if len(o.Streams) != len(want.windows) {
		t.Errorf("%d streams, the kernel has %d", len(o.Streams), len(want.windows))
	}
	for n, s := range o.Streams {
		w := want.windows[s.Stream]
		if s.Highest != w.highest || s.Committed != w.committed || s.Published != w.published {
			t.Errorf("status of stream %d: %+v, the kernel says %+v", s.Stream, s, w)
		}
		if got := s.SampleAgeMS != nil; got != (w.published > 0) {
			t.Errorf("status of stream %d has the age of a sample: %v, the kernel says %d were published", n, got, w.published)
		}
		labels := fmt.Sprintf(`{interface="can0",node="%s",source="%s",stream="%d"}`, s.Node, s.Source, s.Stream)
		values := map[string]uint64{"stream_highest_verified": w.highest}
		if s.Source != "" {
			values["stream_committed_samples_total"], values["stream_published_samples_total"] = w.committed, w.published
		}
		for name, v := range values {
			if got := metric(t, exposed, "cellward_"+name+labels); got != float64(v) {
				t.Errorf("metrics: %s%s is %v, the kernel says %d", name, labels, got, v)
			}
		}
		text := screen(append([]string{"home"}, downs(n)...)...)
		row := fmt.Sprintf(`(?m)^> can0 %s +\S+ .* %d `, s.CANID, w.highest)
		if !regexp.MustCompile(row).MatchString(text) || !strings.Contains(text, fmt.Sprintf("stream %d: published %d, ", s.Stream, w.published)) {
			t.Errorf("watch has no %s:\n%s", row, text)
		}
	}
	for i, n := range o.Nodes {
		live := want.epochs[uint32(i)]
		if len(n.Epochs) != len(live) || !live[n.Epochs[0].Number] {
			t.Errorf("status of node %s: %+v, the kernel says %v", n.Name, n.Epochs, live)
		}
		if got := metric(t, exposed, fmt.Sprintf(`cellward_node_epochs{node="%s"}`, n.Name)); got != float64(len(live)) {
			t.Errorf("metrics: %v epochs, the kernel says %v", got, live)
		}
	}
	if o.Kernel.Interfaces[0].State != agent.StateAttached {
		t.Errorf("%+v", o.Kernel.Interfaces[0])
	}

	// Events: as status and metrics count them, and as the log has them at the end.
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	logs := logged(t, filepath.Join(l.GatewayState(), agent.EventsFolder))
	for v := range loader.NumVerdicts {
		if !agent.Refusing(loader.Verdict(v)) {
			continue
		}
		k := event.OfVerdict(loader.Verdict(v))
		n := want.verdicts[loader.Verdict(v).String()]
		if got := o.Events.Counts[k.String()]; got != n {
			t.Errorf("status: %d events %s, the kernel says %d", got, k, n)
		}
		if logs[k] != n {
			t.Errorf("events: %d of %s in the log, the kernel says %d", logs[k], k, n)
		}
		if n > 0 {
			if got := metric(t, exposed, fmt.Sprintf(`cellward_events_total{kind="%s"}`, k)); got != float64(n) {
				t.Errorf("metrics: %v events %s, the kernel says %d", got, k, n)
			}
		}
	}
}

// forge sends n plain frames on a protected identifier.
func forge(t *testing.T, l *demo.Lab, n int) {
	t.Helper()
	f := loader.CANFrame{ID: l.Binding().Nodes[0].Streams[0].CANID.Number(), Len: 8}
	for range n {
		if err := l.Buses[0].WriteGateway(&f, loader.CANMTU); err != nil {
			t.Fatal(err)
		}
	}
}

func downs(n int) (keys []string) {
	for range n {
		keys = append(keys, "down")
	}
	return keys
}

// metric returns the value of a series in an exposition.
func metric(t *testing.T, text, series string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Errorf("no series %s", series)
	return -1
}
