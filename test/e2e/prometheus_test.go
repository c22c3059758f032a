// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/tooltest"
	"github.com/cellward/cellward/loader"
)

// needPrometheus returns the paths of Prometheus's programs.
func needPrometheus(t *testing.T) (promtool, prometheus string) {
	t.Helper()
	const from = "make setup-test gets it"
	return tooltest.Path(t, from, "promtool"), tooltest.Path(t, from, "prometheus")
}

func deployed(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPromtoolOnRules lets promtool check rules and configuration, and run the rules' own tests.
func TestPromtoolOnRules(t *testing.T) {
	promtool, _ := needPrometheus(t)
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"check", "config", "prometheus.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = deployed(t, "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// upLoopback sets lo of this network namespace up.
func upLoopback(t *testing.T) {
	t.Helper()
	links, err := loader.DialLinks()
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	lo, err := links.ByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := links.SetUp(lo.Index); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a loopback address that nobody listens on in this private namespace.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// httpGet returns the body of a page.
func httpGet(t *testing.T, address string) ([]byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}

// controlMetrics returns the exposition as the control socket has it.
func controlMetrics(t *testing.T, l *demo.Lab) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", l.ControlSocket())
	}}}
	resp, err := client.Get("http://agent/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(b)
}

// promServer is a Prometheus of this test's own.
type promServer struct{ address string }

func startPrometheus(t *testing.T, program, target string) promServer {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: cellward, static_configs: [{targets: [%q]}]}]\n", deployed(t, "prometheus/rules.yaml"), target)
	path := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := promServer{freePort(t)}
	var said strings.Builder
	cmd := exec.Command(program, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus: %s", said.String())
		}
	})
	eventually(t, "Prometheus is ready", func() error {
		_, err := httpGet(t, "http://"+p.address+"/-/ready")
		return err
	})
	return p
}

// eventually waits until try returns no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so: %v", what, err)
		}
	}
}

// get decodes the data of an answer of Prometheus's API.
func (p promServer) get(t *testing.T, path string, values url.Values, data any) error {
	b, err := httpGet(t, "http://"+p.address+path+"?"+values.Encode())
	if err != nil {
		return err
	}
	var answer struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, b)
	}
	return json.Unmarshal(answer.Data, data)
}

type promSeries struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

func (p promServer) query(t *testing.T, expr string) ([]promSeries, error) {
	var data struct {
		Result []promSeries `json:"result"`
	}
	err := p.get(t, "/api/v1/query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// dashboardQueries returns all PromQL of the dashboard: by panel, and of its variables.
func dashboardQueries(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(deployed(t, "grafana/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Type       string `json:"type"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for _, p := range d.Panels {
		for _, x := range p.Targets {
			all[p.Title] = append(all[p.Title], x.Expr)
		}
	}
	labelValues := regexp.MustCompile(`^label_values\((.*), \w+\)$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Fatalf("variable %s: %q", v.Name, v.Definition)
		}
		all["variable "+v.Name] = []string{m[1]}
	}
	return all
}

// TestPrometheus lets a real Prometheus scrape a running agent and load the rules: what it stores is what the kernel's maps say,
// every query of the dashboard returns data, and every metric named there or in the rules is one that the agent has.
func TestPrometheus(t *testing.T) {
	needRoot(t)
	promtool, program := needPrometheus(t)
	upLoopback(t)
	const simulated = 2 * time.Second
	at := freePort(t)
	l := newLab(t, demo.LabOptions{Frames: 20_000, SoftwareEdge: true, AgentArgs: []string{"--metrics-listen", at}}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := startPrometheus(t, program, at)
	sealPack(t, l, simulated)

	want := readKernel(t, l)
	eventually(t, "Prometheus has the last numbers", func() error {
		r, err := p.query(t, `cellward_agent_frames_total{verdict="accepted"}`)
		if err == nil && (len(r) != 1 || r[0].Value[1] != strconv.FormatUint(want.verdicts["accepted"], 10)) {
			err = fmt.Errorf("%v, want %d", r, want.verdicts["accepted"])
		}
		return err
	})
	stored, err := p.query(t, `{__name__=~"cellward_(filter|agent)_frames_total"}`)
	if err != nil || len(stored) != loader.NumVerdicts {
		t.Fatalf("%d series of verdicts, %v", len(stored), err)
	}
	for _, s := range stored {
		if name := s.Metric["verdict"]; s.Value[1] != strconv.FormatUint(want.verdicts[name], 10) {
			t.Errorf("%s is %v, the kernel says %d", name, s.Value[1], want.verdicts[name])
		}
	}

	var rules struct {
		Groups []struct {
			Rules []struct {
				Name, Query, Health, LastError string
			}
		}
	}
	eventually(t, "all rules were evaluated", func() error {
		if err := p.get(t, "/api/v1/rules", nil, &rules); err != nil {
			return err
		}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		return nil
	})
	exposed := controlMetrics(t, l)
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = strings.NewReader(exposed)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	known := func(where, expr string) {
		for _, name := range regexp.MustCompile(`\b(cellward|process|go)_\w+\b`).FindAllString(expr, -1) {
			if !strings.Contains(exposed, "\n# TYPE "+name+" ") && !strings.HasPrefix(exposed, "# TYPE "+name+" ") {
				t.Errorf("%s: the agent has no metric %s", where, name)
			}
		}
	}
	loaded := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			known(r.Name, r.Query)
			loaded++
		}
	}
	if loaded < 10 {
		t.Errorf("only %d rules are loaded", loaded)
	}

	variables := strings.NewReplacer("$instance", ".*", "$interface", ".*", "$__rate_interval", "1m")
	queries := dashboardQueries(t)
	if len(queries) < 10 {
		t.Errorf("only %d panels", len(queries))
	}
	for panel, exprs := range queries {
		for _, expr := range exprs {
			known(panel, expr)
			// A rate has a value from the second scrape on.
			eventually(t, fmt.Sprintf("panel %q has data: %s", panel, expr), func() error {
				r, err := p.query(t, variables.Replace(expr))
				if err == nil && len(r) == 0 {
					err = errors.New("no series")
				}
				return err
			})
		}
	}

	gateway.Kill()
	eventually(t, "Prometheus sees that the agent is gone", func() error {
		r, err := p.query(t, `ALERTS{alertname="CellwardAgentDown"}`)
		if err == nil && len(r) != 1 {
			err = fmt.Errorf("%d alerts", len(r))
		}
		return err
	})
}
