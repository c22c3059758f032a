// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	eventsink "github.com/cellward/cellward/agent/event/sink"
	machine "github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/tooltest"
	"github.com/cellward/cellward/loader"
)

// state is a gateway with one bus, one node with a key, one without, and three streams.
func state() agent.Status {
	age := int64(2500)
	verdicts := make(map[string]uint64)
	for v := range loader.NumVerdicts {
		verdicts[loader.Verdict(v).String()] = uint64(100 + v)
	}
	return agent.Status{
		PID: 1, Version: "v1", UptimeS: 90, Policy: "p", Binding: "b", Engine: "std", Readers: 2, SaveError: "disk is full",
		Saves: agent.SaveStatus{Done: 5, Failed: 3, TPMErrors: 1},
		Ring:  agent.RingStatus{Slots: 64, Published: 40, Fault: "latched", FaultChanges: 2, Served: 9, Unauthorized: 4, TooMany: 6},
		Keys:  agent.KeyTimes{IntervalS: 86400, LimitS: 345600},
		Fault: agent.Fault{State: "latched", Faults: []machine.View{
			{Name: "pack_current", State: "latched", Advice: machine.Advice}, {Name: "soc", State: "suspect"},
		}},
		Events: agent.Events{
			Counts:       map[string]uint64{"bad_tag": 12},
			Destinations: []eventsink.Stats{{Name: "log", Offered: 12, Delivered: 11, Waiting: 1, Failures: 2}},
		},
		Interfaces: []agent.InterfaceStatus{{
			Name: "can0", Slot: 1, RingUsed: 208, RingSize: 4096, Control: agent.ControlFill{Used: 8, Size: 1024}, Verdicts: verdicts,
			Link: agent.LinkStatus{State: agent.LinkDown, Attached: true, Controller: "bus_off", Reattached: 7},
		}},
		Nodes: []agent.NodeStatus{
			{Name: "bmu", KID: "15fa", Verified: 66, Epochs: []agent.EpochStatus{{Number: 3, AgeS: 5000}, {Number: 4, AgeS: 50}}},
			{Name: "quoted \"\n\\ name", KID: "77", Epochs: nil},
		},
		Streams: []agent.StreamStatus{
			{Stream: 1, Node: "bmu", Role: "heartbeat", Interface: "can0", CANID: "7FF", PeriodMS: 1000, Highest: 5, Ceiling: 15},
			{Stream: 2, Node: "bmu", Role: "sample", Interface: "can0", CANID: "102", Source: "pack_current", Sensitivity: "CRITICAL", SamplingRate: "2.5ms",
				PeriodMS: 2.5, Highest: 50, Committed: 41, Published: 40, Lost: 1, Missing: 2, Deleted: 3, Corrected: 1, Shed: 8, Refused: map[string]uint64{"replay": 12}, Ceiling: 60, SampleAgeMS: &age},
			{Stream: 3, Node: "bmu", Role: "sample", Interface: "can0", CANID: "18FF50E5", Source: "soc", PeriodMS: 100},
		},
	}
}

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return "\n" + w.Body.String()
}

func TestExposition(t *testing.T) {
	text := scrape(t, NewHandler(NewCollector(state, agent.BuildInfo{Version: "v1", Go: "go1", Arch: "arm64", Filter: agent.FilterBuild{LayoutVersion: 1}})))
	stream := `{interface="can0",node="bmu",source="pack_current",stream="2"}`
	for _, want := range []string{
		`cellward_build_info{arch="arm64",commit="",go="go1",layout="1",version="v1"} 1`,
		`cellward_engine_info{engine="std"} 1`,
		`cellward_filter_frames_total{interface="can0",verdict="passed"} 100`,
		fmt.Sprintf(`cellward_agent_frames_total{interface="can0",verdict="accepted"} %d`, 100+loader.Accepted),
		fmt.Sprintf(`cellward_agent_frames_total{interface="can0",verdict="bad_tag"} %d`, 100+loader.BadTag),
		`cellward_candidate_ring_used_bytes{interface="can0"} 208`,
		`cellward_control_ring_size_bytes{interface="can0"} 1024`,
		`cellward_interface_up{interface="can0"} 0`,
		`cellward_interface_state{interface="can0",state="down"} 1`,
		`cellward_interface_state{interface="can0",state="up"} 0`,
		`cellward_interface_attached{interface="can0"} 1`,
		`cellward_interface_reattached_total{interface="can0"} 7`,
		`cellward_can_controller_state{interface="can0",state="bus_off"} 1`,
		`cellward_node_epoch{node="bmu"} 4`,
		`cellward_node_key_age_seconds{node="bmu"} 50`,
		`cellward_node_epochs{node="quoted \"\n\\ name"} 0`,
		`cellward_key_limit_seconds 345600`,
		`cellward_stream_committed_samples_total` + stream + ` 41`,
		`cellward_stream_published_samples_total` + stream + ` 40`,
		`cellward_stream_lost_samples_total` + stream + ` 1`,
		`cellward_stream_missing_samples` + stream + ` 2`,
		`cellward_stream_deleted_samples_total` + stream + ` 3`,
		`cellward_stream_ceiling` + stream + ` 60`,
		`cellward_stream_shed_frames_total` + stream + ` 8`,
		`cellward_stream_refused_frames_total` + strings.TrimSuffix(stream, "}") + `,verdict="replay"} 12`,
		`cellward_stream_refused_frames_total` + strings.TrimSuffix(stream, "}") + `,verdict="too_old"} 0`,
		`cellward_stream_sample_age_seconds` + stream + ` 2.5`,
		`cellward_stream_sample_age_seconds{interface="can0",node="bmu",source="soc",stream="3"} 90`,
		`cellward_stream_highest_verified{interface="can0",node="bmu",source="",stream="1"} 5`,
		`cellward_state_write_failures_total 3`,
		`cellward_state_written 0`,
		`cellward_tpm_errors_total 1`,
		`cellward_ring_readers 2`,
		`cellward_ring_readers_refused_total{reason="unauthorized"} 4`,
		`cellward_ring_readers_refused_total{reason="too_many"} 6`,
		`cellward_fault 1`,
		`cellward_fault_state{state="latched"} 1`,
		`cellward_fault_state{state="ok"} 0`,
		`cellward_source_fault{source="pack_current"} 1`,
		`cellward_source_fault{source="soc"} 0`,
		`cellward_events_total{kind="bad_tag"} 12`,
		`cellward_events_total{kind="deletion"} 0`,
		`cellward_events_delivered_total{destination="log"} 11`,
		`cellward_events_waiting{destination="log"} 1`,
		`cellward_event_delivery_failures_total{destination="log"} 2`,
		`cellward_uptime_seconds 90`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("not in the exposition: %s", want)
		}
	}
	for _, unwanted := range []string{`cellward_node_key_age_seconds{node="quoted`, `cellward_stream_published_samples_total{interface="can0",node="bmu",source="",`} {
		if strings.Contains(text, unwanted) {
			t.Errorf("in the exposition: %s", unwanted)
		}
	}
	for v := range loader.NumVerdicts {
		if n := strings.Count(text, fmt.Sprintf(`{interface="can0",verdict="%s"}`, loader.Verdict(v))); n != 1 {
			t.Errorf("verdict %s is in %d series", loader.Verdict(v), n)
		}
	}
	// A series for each of them and each stream, whether or not there was such a frame.
	for _, v := range loader.StreamVerdicts() {
		if n := strings.Count(text, fmt.Sprintf(`",verdict="%s"} `, v)) - 1; n != 3 {
			t.Errorf("verdict %s is in series of %d streams", v, n)
		}
	}
	for _, word := range []string{"process_resident_memory_bytes ", "go_goroutines "} {
		if !strings.Contains(text, "\n"+word) {
			t.Errorf("no %s", word)
		}
	}
	if !regexp.MustCompile(`(?m)^cellward_`).MatchString(text) {
		t.Error("nothing of cellward's")
	}
}

// TestEveryFamilyIsShown finds families that nobody sends.
func TestEveryFamilyIsShown(t *testing.T) {
	text := scrape(t, NewHandler(NewCollector(state, agent.BuildInfo{})))
	for _, f := range families() {
		if f.name == "" || !strings.Contains(text, "\n# HELP "+namespace+f.name+" "+f.help+"\n") {
			t.Errorf("metric %q is not shown", f.name)
		}
	}
}

// TestDocs wants every metric in the documentation as it is, and none that is not there.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Count(string(page), "\n| `"+namespace)
	if rows != len(families()) {
		t.Errorf("%d metrics are described, there are %d", rows, len(families()))
	}
	for _, f := range families() {
		kind, labels := "counter", "-"
		if f.kind == gauge {
			kind = "gauge"
		}
		if l := strings.Fields(f.labels); len(l) > 0 {
			labels = "`" + strings.Join(l, "`, `") + "`"
		}
		row := fmt.Sprintf("\n| `%s%s` | %s | %s | %s |\n", namespace, f.name, kind, labels, f.help)
		if !strings.Contains(string(page), row) {
			t.Errorf("no row %s", row)
		}
	}
}

// TestAlertsInDocs: the page names every alert, and none that is not there.
func TestAlertsInDocs(t *testing.T) {
	rules, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	for _, a := range alerts {
		if !strings.Contains(string(page), "`"+a[1]+"`") {
			t.Errorf("alert %s is not described", a[1])
		}
	}
	if named := regexp.MustCompile("`Cellward\\w+`").FindAllString(string(page), -1); len(alerts) < 10 || len(named) != len(alerts) {
		t.Errorf("%d alerts, %d are named", len(alerts), len(named))
	}
}

// largest has as many streams as a binding can.
func largest() agent.Status {
	s := state()
	for len(s.Streams) < policy.MaxStreams {
		x := s.Streams[1]
		x.Stream = uint32(len(s.Streams) + 1)
		s.Streams = append(s.Streams, x)
	}
	return s
}

// TestLargest shows the largest gateway that a binding can describe.
func TestLargest(t *testing.T) {
	s := largest()
	text := scrape(t, NewHandler(NewCollector(func() agent.Status { return s }, agent.BuildInfo{})))
	if n := strings.Count(text, "\ncellward_stream_info{"); n != policy.MaxStreams {
		t.Errorf("%d streams", n)
	}
}

func BenchmarkLargest(b *testing.B) {
	s := largest()
	h := NewHandler(NewCollector(func() agent.Status { return s }, agent.BuildInfo{}))
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil))
		b.SetBytes(int64(w.Body.Len()))
	}
}

// TestPromtool lets Prometheus's own checker read the exposition, names and helps included.
func TestPromtool(t *testing.T) {
	promtool := tooltest.Path(t, "make setup-test gets it", "promtool")
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(strings.TrimPrefix(scrape(t, NewHandler(NewCollector(state, agent.BuildInfo{}))), "\n"))
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"9477", "127.0.0.1:9477"},
		{":9477", "127.0.0.1:9477"},
		{"127.0.0.1:0", "127.0.0.1:0"},
		{"[::1]:9477", "[::1]:9477"},
		{"0.0.0.0:9477", "0.0.0.0:9477"},
		{"10.0.0.5:65535", "10.0.0.5:65535"},
		{"", ""}, {":", ""}, {"65536", ""}, {"-1", ""}, {"localhost:1", ""}, {"1.2.3.4", ""}, {"1.2.3.4:", ""}, {"::1:9477", ""}, {"http://127.0.0.1:1", ""}, {"9477 ", ""},
	} {
		got, err := parseAddress(c.in)
		if c.want == "" {
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%q: %v, %v", c.in, got, err)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%q: %v, %v, want %s", c.in, got, err, c.want)
		}
	}
}

// TestListen: nothing but GET /metrics is answered, a connection that says nothing holds neither others nor the end up, and
// connections are bounded.
func TestListen(t *testing.T) {
	s, err := Listen("127.0.0.1:0", NewHandler(NewCollector(state, agent.BuildInfo{})))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Listen("tcp", s.Address()); err == nil {
		t.Error("another program listens on the same address")
	}
	// An agent that takes over does, and is there when the first has gone.
	next, err := Listen(s.Address(), http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	mute, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/metrics", 200},
		{http.MethodHead, "/metrics", 200},
		{http.MethodPost, "/metrics", 405},
		{http.MethodGet, "/", 404},
		{http.MethodGet, "/v1/status", 404},
		{http.MethodGet, "/debug/pprof/", 404},
		{http.MethodGet, "/metrics?" + strings.Repeat("x", 20_000), 431},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+s.Address()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %.20s: %s, want %d", c.method, c.path, resp.Status, c.status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.Address()); err == nil {
		t.Error("listens after its end")
	}
}

func TestServe(t *testing.T) {
	var lines bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&lines, nil))
	page, end, err := Serve(Options{Log: log})(&agent.Agent{})
	if err != nil || page == nil {
		t.Fatal(page, err)
	}
	if err := end.Close(); err != nil || lines.Len() > 0 {
		t.Errorf("without an address: %v, %s", err, &lines)
	}
	for address, good := range map[string]bool{"": true, "1": true, "nowhere": false} {
		if err := CheckAddress(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, _, err := Serve(Options{Log: log, Listen: "nowhere"})(&agent.Agent{}); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	page, end, err = Serve(Options{Log: log, Listen: taken.Addr().String()})(&agent.Agent{})
	if err != nil || page == nil || end.Close() != nil || !strings.Contains(lines.String(), "metrics_not_served") {
		t.Errorf("an address that is taken: %v, %s", err, &lines)
	}
	_, end, err = Serve(Options{Log: log, Listen: "0"})(&agent.Agent{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(lines.String(), `"event":"metrics_served","address":"127.0.0.1:`) || strings.Contains(lines.String(), "metrics_exposed") {
		t.Error(lines.String())
	}
	if err := end.Close(); err != nil {
		t.Error(err)
	}
	_, end, err = Serve(Options{Log: log, Listen: "0.0.0.0:0"})(&agent.Agent{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(lines.String(), "metrics_exposed") {
		t.Error("no warning of an open address")
	}
	if err := end.Close(); err != nil {
		t.Error(err)
	}
}

func TestAtMost(t *testing.T) {
	asked := 0
	get := func() agent.Status { asked++; return agent.Status{PID: asked} }
	kept := atMost(time.Hour, get)
	if a, b := kept(), kept(); a.PID != 1 || b.PID != 1 {
		t.Error(a.PID, b.PID)
	}
	fresh := atMost(0, get)
	if a, b := fresh(), fresh(); a.PID != 2 || b.PID != 3 {
		t.Error(a.PID, b.PID)
	}
}

// FuzzParseAddress: whatever is accepted names one address, and a port alone is loopback's.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"9477", ":1", "[::1]:2", "0.0.0.0:3", "[fe80::1%eth0]:4", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseAddress(s)
		if err != nil {
			return
		}
		if !at.IsValid() || !strings.Contains(strings.TrimPrefix(s, ":"), ":") && !at.Addr().IsLoopback() && !strings.Contains(s, ".") {
			t.Errorf("%q: %v", s, at)
		}
	})
}
