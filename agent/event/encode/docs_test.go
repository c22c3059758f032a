// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
)

var update = flag.Bool("update", false, "write tables and examples into the documentation")

const eventsDoc = "../../../docs/events.md"

func code(lang string, text []byte) string { return "```" + lang + "\n" + string(text) + "\n```\n" }

func each(encode Encoding) string {
	return code("", append(append(encode(nil, forged()), '\n'), encode(nil, raised())...))
}

func kindTable() string {
	var b strings.Builder
	b.WriteString("| | name | means | severity | cause | DTC | AUTOSAR |\n|---|---|---|---|---|---|---|\n")
	for _, k := range kind.All() {
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s | %s | %s | %s |\n", k, k, k.Title(), k.Severity(), k.Cause(), k.DTC(), k.Alias())
	}
	return b.String()
}

func thresholdTable() string {
	var b strings.Builder
	b.WriteString("| sensitivity | cause | raised by | cleared by | latched |\n|---|---|---|---|---|\n")
	for s := policy.Critical; s >= policy.Low; s-- {
		for c := kind.CauseForgeable; c < kind.NumCauses; c++ {
			t := policy.DefaultThreshold(s, c)
			latched := "never"
			if t.LatchAfter > 0 {
				latched = fmt.Sprintf("raised %d times", t.LatchAfter)
			}
			fmt.Fprintf(&b, "| %s | %s | %d bad of %d | %d bad | %s |\n", s, c, t.Raise, t.Of, t.Clear, latched)
		}
	}
	return b.String()
}

func ruleTable() string {
	byRule := make(map[policy.KindRule][]string)
	var order []policy.KindRule
	for _, k := range kind.All() {
		r := policy.DefaultKindRule(k)
		if r.Count == 0 {
			continue
		}
		r.Kind = kind.None
		if byRule[r] == nil {
			order = append(order, r)
		}
		byRule[r] = append(byRule[r], "`"+k.String()+"`")
	}
	var b strings.Builder
	b.WriteString("| events in an interval | | kinds |\n|---|---|---|\n")
	for _, r := range order {
		what := ""
		switch {
		case r.Latch:
			what = "latches at once"
		case r.Immediate:
			what = "raises at once"
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", r.Count, what, strings.Join(byRule[r], ", "))
	}
	return b.String()
}

// TestDocumentation checks that tables and examples in the documentation are what the code says and writes.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile(eventsDoc)
	if err != nil {
		t.Fatal(err)
	}
	var ocsf bytes.Buffer
	if err := json.Indent(&ocsf, OCSF(nil, forged()), "", "  "); err != nil {
		t.Fatal(err)
	}
	example := IdsM{CANID: 0x6A0, Instance: 1, Sensor: 2}.Frame(forged())
	got := string(text)
	for name, want := range map[string]string{
		"kinds": kindTable(), "json": each(JSON), "syslog": each(Syslog{Host: "gateway", PID: 4711}.Append), "ocsf": code("json", ocsf.Bytes()),
		"cef": each(CEF), "journal": code("", bytes.TrimSuffix(Journal(nil, forged()), []byte("\n"))), "idsm": code("", []byte(frame(&example))),
		"thresholds": thresholdTable(), "rules": ruleTable(),
	} {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n"
		before, rest, ok := strings.Cut(got, begin)
		section, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s: no section %s", eventsDoc, name)
		}
		if *update {
			got = before + begin + want + end + after
		} else if section != want {
			t.Errorf("section %s is not current (go test ./agent/event/encode -run TestDocumentation -update):\n%s\nwant\n%s", name, section, want)
		}
	}
	if *update {
		if err := os.WriteFile(eventsDoc, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
