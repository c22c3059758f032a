// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Result is what a demonstration found. Its JSON form is part of the command line's contract.
type Result struct {
	// Bus is "vxcan" or "tun-can", Carrier "can-fd", TPM what held the keys, Kernel the release.
	Bus     string  `json:"bus"`
	Carrier string  `json:"carrier"`
	TPM     string  `json:"tpm"`
	Kernel  string  `json:"kernel"`
	Frames  Frames  `json:"frames"`
	Samples Samples `json:"samples"`
	// Rejected counts refused frames on the wire by verdict, each exactly once, wherever it was refused.
	Rejected map[string]uint64 `json:"rejected"`
	Attacks  Attacks           `json:"attacks"`
	// Events is what the agent's events tell of each attack. All of it must have been noticed, and no more.
	Events   map[string]EventResult `json:"events,omitempty"`
	Latency  Latency                `json:"latency_ns"`
	ElapsedS float64                `json:"elapsed_s"`
	// Stack says what reached the CAN stack behind the filter.
	Stack Stack `json:"stack"`
	// deleted is how many samples were taken off the bus.
	deleted uint64
}

// Frames counts frames: offered to the edge, sealed by it (samples only), and let through by the filter to be verified
// (forged ones and heartbeats among them).
type Frames struct {
	Offered    uint64 `json:"offered"`
	Sealed     uint64 `json:"sealed"`
	Candidates uint64 `json:"candidates"`
}

// Samples counts samples: published by the agent, and as the reading process saw them against what the log says.
type Samples struct {
	Published  uint64 `json:"published"`
	Read       uint64 `json:"read"`
	Identical  uint64 `json:"identical"`
	Mismatched uint64 `json:"mismatched"`
	Lost       int64  `json:"lost"`
}

// Attacks counts injected frames by kind. Accepted are samples that came out and that no offered frame accounts for.
type Attacks struct {
	Injected map[string]uint64 `json:"injected"`
	Accepted uint64            `json:"accepted"`
}

// Latency is from the filter's time stamp to the return of the reader's call, in ns.
type Latency struct {
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

// Stack counts frames behind the filter, where the CAN stack stands. All error frames that were sent must be there, and no
// protected identifier.
type Stack struct {
	ErrorFramesSent uint64 `json:"error_frames_sent"`
	ErrorFramesSeen uint64 `json:"error_frames_seen"`
	ProtectedSeen   uint64 `json:"protected_seen"`
}

func total(m map[string]uint64) (sum uint64) {
	for _, n := range m {
		sum += n
	}
	return sum
}

// Check names everything in r that is not as it must be.
func (r *Result) Check(allClaimed bool) (wrong []string) {
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	s := r.Samples
	expect(r.Frames.Sealed > 0, "nothing was sealed")
	expect(!allClaimed || r.Frames.Offered == r.Frames.Sealed, "%d frames were offered and %d sealed", r.Frames.Offered, r.Frames.Sealed)
	deleted := r.deleted
	expect(s.Identical == r.Frames.Sealed-deleted, "%d samples were sealed, %d of them deleted, and %d came out identical", r.Frames.Sealed, deleted, s.Identical)
	expect(s.Mismatched == 0, "%d samples came out changed", s.Mismatched)
	expect(s.Lost == int64(deleted), "%d samples were lost, %d deleted", s.Lost, deleted)
	for _, a := range slices.Sorted(maps.Keys(r.Events)) {
		e := r.Events[a]
		expect(e.Noticed == e.Injected && e.Injected > 0, "%s: done %d times, noticed %d times", a, e.Injected, e.Noticed)
	}
	expect(s.Published == s.Read, "%d samples were published and %d read", s.Published, s.Read)
	expect(r.Attacks.Accepted == 0, "%d injected frames were accepted", r.Attacks.Accepted)
	injected, rejected := total(r.Attacks.Injected), total(r.Rejected)
	expect(injected == rejected, "%d frames were injected and %d rejected", injected, rejected)
	expect(r.Stack.ErrorFramesSeen == r.Stack.ErrorFramesSent, "%d of %d error frames reached the CAN stack", r.Stack.ErrorFramesSeen, r.Stack.ErrorFramesSent)
	expect(r.Stack.ProtectedSeen == 0, "%d protected frames reached the CAN stack", r.Stack.ProtectedSeen)
	return wrong
}

// WriteJSON writes r as one object.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// WriteText writes r as a table.
func (r *Result) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("bus", "%s, %s, kernel %s", r.Bus, r.Carrier, r.Kernel)
	row("keys", "agreed through %s on both sides", r.TPM)
	row("frames offered / sealed", "%d / %d", r.Frames.Offered, r.Frames.Sealed)
	row("candidates past the filter", "%d", r.Frames.Candidates)
	row("samples published / read", "%d / %d", r.Samples.Published, r.Samples.Read)
	row("identical / mismatched / lost", "%d / %d / %d", r.Samples.Identical, r.Samples.Mismatched, r.Samples.Lost)
	if len(r.Attacks.Injected) > 0 {
		row("frames injected / rejected", "%d / %d", total(r.Attacks.Injected), total(r.Rejected))
		row("injected frames accepted", "%d", r.Attacks.Accepted)
		for _, k := range slices.Sorted(maps.Keys(r.Attacks.Injected)) {
			row("  injected "+k, "%d", r.Attacks.Injected[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.Rejected)) {
		row("  rejected as "+k, "%d", r.Rejected[k])
	}
	for _, a := range slices.Sorted(maps.Keys(r.Events)) {
		e := r.Events[a]
		row("events: "+a, "done %d times, noticed %d times, 99 %% within %.0f ms", e.Injected, e.Noticed, e.DetectMSP99)
	}
	row("error frames sent / seen by the CAN stack", "%d / %d", r.Stack.ErrorFramesSent, r.Stack.ErrorFramesSeen)
	row("protected frames seen by the CAN stack", "%d", r.Stack.ProtectedSeen)
	row("latency, filter to reader", "p50 %.1f us, p99 %.1f us, max %.1f us", float64(r.Latency.P50)/1e3, float64(r.Latency.P99)/1e3, float64(r.Latency.Max)/1e3)
	row("elapsed", "%.1f s", r.ElapsedS)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
