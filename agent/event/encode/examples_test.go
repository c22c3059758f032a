// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// forged is an event about frames, and raised one about the fault: the examples of docs/events.md.
func forged() *event.Record {
	f := &loader.CANFrame{ID: 0x6F2, Len: 32, Flags: loader.CANFDFDF | loader.CANFDBRS}
	for i := range f.Len {
		f.Data[i] = i * 7
	}
	return &event.Record{
		Kind: kind.BadTag, Severity: kind.High, Subject: event.Stream(1), Sensitivity: policy.Critical, Interface: "can0", Bus: 1,
		Carrier: "can-fd", CANID: 0x6F2, HasCANID: true, Stream: 2, Source: "cell_voltage_array", Node: "bmu", Epoch: 3, Counter: 4711,
		LastCounter: 4911, Window: event.Window{Highest: 4710, Size: 1024}, Verdict: "bad_tag", Count: 201,
		First:  event.Instant{Boot: 8_120_000_000_001, Wall: 1_795_000_000_000_000_001},
		Last:   event.Instant{Boot: 8_121_500_000_000, Wall: 1_795_000_001_500_000_000},
		BootID: [16]byte{0x0F, 0xC5, 0x1A}, PolicyHash: [32]byte{0xAB, 0xCD}, Frame: f,
	}
}

func raised() *event.Record {
	r := forged()
	return &event.Record{
		Kind: kind.FaultRaised, Severity: kind.Critical, Subject: event.Source(0), Sensitivity: policy.Critical, Source: "cell_voltage_array",
		Count: 1, First: r.Last, Last: r.Last, BootID: r.BootID, PolicyHash: r.PolicyHash,
		Fault: &event.Fault{
			From: "suspect", To: "fault", Cause: kind.CauseForgeable, Sources: []string{"cell_voltage_array"},
			Advice:   "inspect communication integrity and controller hardware",
			Evidence: []event.Evidence{{Kind: kind.BadTag, Count: 201, Interfaces: []string{"can0"}, CANIDs: []policy.CANID{0x6F2}}},
		},
	}
}

// hostile has in every text what means something in one of the encodings.
func hostile() *event.Record {
	r := raised()
	nasty := "a]\"\\|=\n\r\x00\t\u2028\u202eb\xff c{}<&>'"
	r.Detail, r.Node, r.Interface, r.Fault.Reason, r.Fault.Sources[0] = nasty, nasty, nasty, nasty, nasty
	return r
}

func examples() []*event.Record {
	minimal := &event.Record{Kind: kind.AgentStarted, Severity: kind.Informational, Count: 1}
	remote := &event.Record{Kind: kind.PlaintextOnProtected, Severity: kind.Low, Count: 1, HasCANID: true,
		CANID: 0x18FF50E5 | policy.CANEFF, Frame: &loader.CANFrame{ID: 0x18FF50E5 | loader.CANEFFFlag | loader.CANRTRFlag, Len: 4}}
	all := []*event.Record{forged(), raised(), minimal, remote}
	for _, k := range kind.All() {
		r := forged()
		r.Kind, r.Severity = k, k.Severity()
		all = append(all, r)
	}
	return all
}
