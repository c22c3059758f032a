// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	OK   Severity = "ok"
	Warn Severity = "warn" // works, but less safely or not for long; or could not be looked at
	Fail Severity = "fail" // the agent does not start, or no data flows, or what is protected is not safe
)

// Finding is the outcome of one check for one subject.
type Finding struct {
	// ID names the check and never changes its meaning; see Checks.
	ID string `json:"id"`
	// Subject is what was looked at, where a check looks at several.
	Subject  string   `json:"subject,omitempty"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	// Why says why it matters and Help is the one command that helps; both are empty with OK.
	Why  string `json:"why,omitempty"`
	Help string `json:"help,omitempty"`
}

// Options say what to look at.
type Options struct {
	// Policy and Binding are the documents, which name everything else.
	Policy, Binding string
	// Machine is where the probes look; nil: this machine.
	Machine *Machine
}

// Report is all findings, in the order of the checks.
type Report struct {
	Severity Severity  `json:"severity"` // the worst of all
	OK       int       `json:"ok"`
	Warn     int       `json:"warn"`
	Fail     int       `json:"fail"`
	Findings []Finding `json:"findings"`
}

// ErrFaults says that a report has findings that fail.
var ErrFaults = errors.New("faults were found")

// Err returns ErrFaults with the count, or nil.
func (r *Report) Err() error {
	if r.Fail == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d", ErrFaults, r.Fail)
}

// Find returns the findings of a check.
func (r *Report) Find(id string) (all []Finding) {
	for _, f := range r.Findings {
		if f.ID == id {
			all = append(all, f)
		}
	}
	return all
}

// Check is what one check is about.
type Check struct{ ID, About string }

// Checks lists all checks in their order.
func Checks() (all []Check) {
	for _, c := range checks() {
		all = append(all, c.Check)
	}
	return all
}

// check is a Check with what it does.
type check struct {
	Check
	run func(*exam)
}

func checks() []check {
	return []check{
		{Check{"documents.valid", "policy and binding are valid and fit each other"}, documentsValid},
		{Check{"documents.safe", "nobody else can change them"}, documentsSafe},
		{Check{"agent.running", "an agent answers, of this build, and writes its state"}, agentRunning},
		{Check{"agent.user", "the user whom the agent becomes exists and can go on working"}, agentUser},
		{Check{"process.capabilities", "this process may do what the agent has to do"}, processCapabilities},
		{Check{"kernel.release", "which kernel this is"}, kernelRelease},
		{Check{"kernel.filter", "the kernel takes the filter: maps, helpers, verifier"}, kernelFilter},
		{Check{"kernel.jit", "the filter is compiled, not interpreted"}, kernelJIT},
		{Check{"kernel.tcx", "the kernel has the hook"}, kernelTCX},
		{Check{"kernel.btf", "the kernel tells its types"}, kernelBTF},
		{Check{"kernel.lockdown", "what root may not do"}, kernelLockdown},
		{Check{"kernel.unprivileged_bpf", "users without rights cannot load programs"}, kernelUnprivilegedBPF},
		{Check{"can.family", "the kernel has SocketCAN"}, canFamily},
		{Check{"can.vcan", "the kernel has virtual CAN interfaces"}, canVCAN},
		{Check{"can.vxcan", "the kernel has CAN interface pairs"}, canVXCAN},
		{Check{"interface.exists", "each interface of the binding exists"}, interfaceExists},
		{Check{"interface.type", "it is a CAN interface"}, interfaceType},
		{Check{"interface.mtu", "CAN FD frames fit"}, interfaceMTU},
		{Check{"interface.up", "it is set up"}, interfaceUp},
		{Check{"interface.filter", "the filter is attached and judges first"}, interfaceFilter},
		{Check{"bpffs.mounted", "there is a bpffs for the pins"}, bpffsMounted},
		{Check{"bpffs.safe", "nobody else can change the pins"}, bpffsSafe},
		{Check{"bpffs.foreign", "nothing else is pinned among them"}, bpffsForeign},
		{Check{"pins.usable", "the agent can take over what is pinned, or migrate it from another layout"}, pinsUsable},
		{Check{"state.folder", "the state folder is there and has an identity"}, stateFolder},
		{Check{"state.safe", "nobody else can change the state"}, stateSafe},
		{Check{"state.lock", "no other process works with it"}, stateLock},
		{Check{"state.space", "state can be written"}, stateSpace},
		{Check{"ring.socket", "the ring's socket can be made"}, ringSocket},
		{Check{"ring.group", "the group of readers exists"}, ringGroup},
		{Check{"control.socket", "the control socket can be made"}, controlSocket},
		{Check{"tpm.present", "a TPM 2.0 answers"}, tpmPresent},
		{Check{"tpm.pinned", "it is the TPM that the state folder was made with"}, tpmPinned},
		{Check{"tpm.lockout", "it accepts authorisations"}, tpmLockout},
		{Check{"tpm.slots", "it is shared well and has free slots"}, tpmSlots},
		{Check{"tpm.curve", "it has P-384"}, tpmCurve},
		{Check{"memory.locked", "keys can be kept in RAM"}, memoryLocked},
		{Check{"memory.swap", "keys cannot reach a swap device"}, memorySwap},
		{Check{"memory.core", "samples cannot reach a core file"}, memoryCore},
		{Check{"clock.time", "the wall clock is not behind"}, clockTime},
		{Check{"clock.synchronised", "the wall clock is kept right"}, clockSynchronised},
	}
}

// exam is one run.
type exam struct {
	ctx  context.Context
	opts Options
	m    Machine
	id   string // of the check that runs
	out  *Report

	// What earlier checks have learnt; nil where they could not.
	set        *policy.Set
	binding    *policy.Binding // also where the policy is at fault
	agent      *agent.Status
	caps       uint64
	capsKnown  bool
	filter     *loader.Program
	links      map[string]loader.Link
	inspection *loader.Inspection
	kernel     *agent.KernelStatus
	tpm        *tpmState
}

// Run makes all checks. A check whose ground another one has found missing is left out: without a binding nothing is said
// about its interfaces.
func Run(ctx context.Context, opts Options) *Report {
	x := &exam{ctx: ctx, opts: opts, out: &Report{Severity: OK, Findings: []Finding{}}, links: make(map[string]loader.Link)}
	if opts.Machine != nil {
		x.m = *opts.Machine
	}
	x.m.setDefaults()
	for _, c := range checks() {
		x.id = c.ID
		c.run(x)
	}
	return x.out
}

func (x *exam) add(f Finding) {
	f.ID = x.id
	x.out.Findings = append(x.out.Findings, f)
	switch f.Severity {
	case OK:
		x.out.OK++
	case Warn:
		x.out.Warn++
		if x.out.Severity == OK {
			x.out.Severity = Warn
		}
	case Fail:
		x.out.Fail++
		x.out.Severity = Fail
	}
}

func (x *exam) ok(subject, format string, args ...any) {
	x.add(Finding{Subject: subject, Severity: OK, What: fmt.Sprintf(format, args...)})
}

func (x *exam) warn(subject, what, why, help string) {
	x.add(Finding{Subject: subject, Severity: Warn, What: what, Why: why, Help: help})
}

func (x *exam) fail(subject, what, why, help string) {
	x.add(Finding{Subject: subject, Severity: Fail, What: what, Why: why, Help: help})
}

// unknown says that something could not be looked at.
func (x *exam) unknown(subject string, err error, help string) {
	x.warn(subject, fmt.Sprintf("not checked: %v", err), "what was not looked at may be wrong", help)
}

// gateway is the binding's part, or what an installation without one has.
func (x *exam) gateway() policy.Gateway {
	if x.binding != nil {
		return x.binding.Gateway
	}
	return policy.Gateway{TPM: defaultTPM, BPFFS: loader.DefaultRoot, Control: policy.Control{Socket: agent.DefaultControlSocket}}
}

// defaultTPM is the kernel's resource manager.
const defaultTPM = "/dev/tpmrm0"

// asRoot is the command that looks again with every right.
func (x *exam) asRoot() string {
	return fmt.Sprintf("sudo cellward doctor --policy %s --binding %s", x.opts.Policy, x.opts.Binding)
}
