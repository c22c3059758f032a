// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/demo"
)

// TestCaptures seals real captures as fast as it goes, under attack, and wants every frame back and nothing else.
func TestCaptures(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		log    string
		frames uint64
	}{
		{"can/tesla-model-s.candump.log", 12974},
		{"can/tesla-model-s.gvret.csv", 12974},
		{"can/kona-bms-idle.asc", 5934},
	} {
		t.Run(c.log, func(t *testing.T) {
			out := cellward(t, t.Context(), "demo", "--log", shared(t, c.log), "--speed", "0", "--attack", "-o", "json")
			var r demo.Result
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s := r.Samples
			if r.Frames.Offered != c.frames || r.Frames.Sealed != c.frames || s.Identical != c.frames || s.Published != c.frames || s.Read != c.frames {
				t.Errorf("frames %+v, samples %+v, want %d", r.Frames, s, c.frames)
			}
			if s.Mismatched != 0 || s.Lost != 0 || r.Attacks.Accepted != 0 {
				t.Errorf("mismatched %d, lost %d, accepted %d", s.Mismatched, s.Lost, r.Attacks.Accepted)
			}
			if n := len(r.Attacks.Injected); n < 8 {
				t.Errorf("only %d kinds of attack", n)
			}
			if in, out := sum(r.Attacks.Injected), sum(r.Rejected); in != out || in == 0 {
				t.Errorf("injected %d, rejected %d: %v, %v", in, out, r.Attacks.Injected, r.Rejected)
			}
			if r.Stack.ProtectedSeen != 0 || r.Stack.ErrorFramesSeen != r.Stack.ErrorFramesSent || r.Stack.ErrorFramesSent == 0 {
				t.Errorf("CAN stack: %+v", r.Stack)
			}
		})
	}
}

// TestNoticed has an attacker add, delete and delay. The demonstration fails unless all of it was noticed, and no more.
func TestNoticed(t *testing.T) {
	needRoot(t)
	for _, c := range []struct{ duration, attacks string }{
		{"6s", "insertion,deletion,delay"},
		{"2s", "flood,deletion_tail"},
	} {
		out := cellward(t, t.Context(), "demo", "--duration", c.duration, "--attack", c.attacks, "-o", "json")
		var r demo.Result
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for a := range strings.SplitSeq(c.attacks, ",") {
			if e := r.Events[a]; e.Injected == 0 || e.Injected != e.Noticed || e.DetectMSP99 <= 0 {
				t.Errorf("%s: %+v", a, e)
			}
		}
	}
}

func TestSimulatedPack(t *testing.T) {
	needRoot(t)
	out := cellward(t, t.Context(), "demo", "--duration", "2s", "-o", "json")
	var r demo.Result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if wrong := r.Check(true); len(wrong) > 0 || r.Frames.Sealed != 680 {
		t.Fatalf("sealed %d; %v", r.Frames.Sealed, wrong)
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range slices.Collect(maps.Values(m)) {
		n += v
	}
	return n
}
