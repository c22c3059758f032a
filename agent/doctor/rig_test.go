// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/elliptic"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
	"github.com/cellward/cellward/loader"
)

const testPolicy = `
apiVersion: security.bms/v1alpha1
kind: SensorDataSecurityPolicy
metadata: {name: test}
spec:
  dataSources: [{identifier: cells, samplingRate: 10Hz, sensitivity: CRITICAL}]
  cryptographicProfile: {cipher: AES-256-GCM, keyDerivationFunction: HKDF-SHA-384, authenticationTagLength: 128 bits}
  keyManagement:
    provider: hardwareSecurityModule
    hsmConfig: {vendor: "iso/iec-11889:2015-tpm-2.0", keyStorage: non-exportable-wrapped}
    rotationPolicy: {interval: P30D, trigger: ALWAYS_REKEY}
  transport:
    integrityEnforcement: STRICT
    replayProtection: {enabled: true, windowSize: 1024}
`

// rig is a gateway on which all is well: a CAN-like interface in a network namespace of its own, a bpffs of its own with the
// filter attached, a swtpm, a state folder with an identity, documents. The machine's own shortcomings are covered.
type rig struct {
	t       *testing.T
	dir     string
	ns      *loader.Netns
	device  *loader.TUN
	tpm     *swtpm.Process
	set     *loader.Set
	m       Machine
	binding *policy.Binding
}

func (r *rig) policyPath() string  { return filepath.Join(r.dir, "policy.yaml") }
func (r *rig) bindingPath() string { return filepath.Join(r.dir, "binding.yaml") }
func (r *rig) state() string       { return filepath.Join(r.dir, "state") }
func (r *rig) run() string         { return filepath.Join(r.dir, "run") }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// readable is what the machine's files say where all is well.
func readable() map[string]string {
	return map[string]string{
		"/proc/swaps":                                "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n",
		"/proc/sys/kernel/core_pattern":              "core\n",
		"/proc/sys/kernel/unprivileged_bpf_disabled": "2\n",
		"/sys/kernel/security/lockdown":              "none [integrity] confidentiality\n",
	}
}

// agentUID is whom the agent of a rig becomes: a user that exists nowhere.
const agentUID = 65533

// openTPM lets the agent's user get at a TPM's socket.
func (r *rig) openTPM(socket string) {
	r.t.Helper()
	r.must(os.Chown(socket, agentUID, agentUID))
	r.openWay(filepath.Dir(socket))
}

// openWay lets everybody search a folder of the test's and those above it.
func (r *rig) openWay(dir string) {
	r.t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		r.must(os.Chmod(dir, 0o755))
	}
}

// files makes Machine.ReadFile of contents; one that is not there does not exist.
func files(contents map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		text, ok := contents[path]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace and attaches the filter in it")
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	needRoot(t)
	r := &rig{t: t, dir: t.TempDir()}
	var err error
	r.ns, err = loader.NewNetns()
	r.must(err)
	t.Cleanup(func() { r.ns.Close() })
	r.device, err = loader.NewTUN(r.ns, "can0")
	r.must(err)
	t.Cleanup(func() { r.device.Close() })
	r.openWay(r.dir)
	r.tpm = tpmtest.Start(t)
	r.openTPM(r.tpm.Socket)
	s, err := station.Init(t.Context(), station.Options{Dir: r.state(), TPM: tpmtest.Path(r.tpm), Gateway: true, Owner: agentUID})
	r.must(err)
	gateway, err := policy.NewIdentity(s.Public.ECDSA())
	r.must(err)
	r.must(s.Close())
	key, err := identity.GenerateKey(elliptic.P384())
	r.must(err)
	node, err := policy.NewIdentity(key.Public())
	r.must(err)
	fs, err := loader.NewBPFFS()
	r.must(err)
	t.Cleanup(func() { fs.Close() })
	r.must(os.Mkdir(r.run(), 0o755))
	r.must(os.Chown(r.run(), agentUID, agentUID))
	r.must(os.WriteFile(r.policyPath(), []byte(testPolicy), 0o644))
	r.binding = &policy.Binding{
		Name: "gateway", Policy: "test",
		Gateway: policy.Gateway{
			Name: "gateway", Identity: gateway, TPM: tpmtest.Path(r.tpm), StateDirectory: r.state(), User: strconv.Itoa(agentUID),
			BPFFS: fmt.Sprintf("/proc/self/fd/%d/cellward", fs.Fd()), CandidateRing: 1 << 16,
			Ring:    policy.Ring{Slots: 64, Socket: filepath.Join(r.run(), "ring.sock"), Group: "root"},
			Control: policy.Control{Socket: filepath.Join(r.run(), "control.sock")},
		},
		Interfaces: []policy.Interface{{Name: "can0", Index: 1, Carrier: policy.CANFD}},
		Sources:    []policy.Source{{Identifier: "cells", ID: 1}},
		Nodes: []policy.Node{{
			Name: "bmu", Identity: node,
			Heartbeats: []policy.Heartbeat{{StreamID: 1, Interface: "can0", CANID: 0x7E0}},
			Streams:    []policy.Stream{{StreamID: 2, Interface: "can0", CANID: 0x6F2, Source: "cells"}},
		}},
	}
	r.write()
	r.attach()

	r.m = Machine{
		ReadFile:     files(readable()),
		Exists:       func(string) bool { return true },
		TryCAN:       func() error { return nil },
		TryKind:      func(string) error { return nil },
		Capabilities: func() (uint64, error) { return 1<<41 - 1, nil },
		Limit: func(resource int) (unix.Rlimit, error) {
			if resource == unix.RLIMIT_CORE {
				return unix.Rlimit{}, nil
			}
			return unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil
		},
		Free:         func(string) (uint64, bool, error) { return 1 << 30, false, nil },
		Synchronised: func() (bool, error) { return true, nil },
		TPM: func(ctx context.Context, path string, pin tpm.Name) (*tpm.Health, error) {
			return tpm.Examine(ctx, path, tpm.Options{SRKName: pin, CommandTimeout: 300 * time.Millisecond})
		},
	}
	return r
}

// write writes the binding.
func (r *rig) write() {
	r.t.Helper()
	b, err := policy.Marshal(r.binding)
	r.must(err)
	r.must(os.WriteFile(r.bindingPath(), b, 0o644))
}

// attach opens the tables as the agent does and attaches the filter.
func (r *rig) attach() {
	r.t.Helper()
	set, err := policy.Load(r.policyPath(), r.bindingPath())
	r.must(err)
	r.set, err = loader.Open(loader.Options{Root: r.binding.Gateway.BPFFS})
	r.must(err)
	r.t.Cleanup(func() { r.set.Close() })
	tables, err := agent.TablesHash(set, nil)
	r.must(err)
	r.set.SetBinding(tables)
	r.set.MarkReady()
	_, err = r.set.Attach(loader.BusOptions{Interface: "can0", Netns: r.ns, Slot: 1, Candidates: 1 << 16})
	r.must(err)
}

// examine runs the doctor where the gateway's interfaces are.
func (r *rig) examine() (out *Report) {
	r.t.Helper()
	r.must(r.ns.Do(func() error {
		out = Run(r.t.Context(), Options{Policy: r.policyPath(), Binding: r.bindingPath(), Machine: &r.m})
		return nil
	}))
	return out
}

// link changes the interface.
func (r *rig) link(f func(l *loader.Links, index int) error) {
	r.t.Helper()
	r.must(r.ns.Do(func() error {
		links, err := loader.DialLinks()
		if err != nil {
			return err
		}
		defer links.Close()
		l, err := links.ByName("can0")
		if err != nil {
			return err
		}
		return f(links, l.Index)
	}))
}

// serveAgent answers on the control socket as an agent would.
func (r *rig) serveAgent(s agent.Status) {
	r.t.Helper()
	server, err := control.Serve(r.binding.Gateway.Control.Socket, "", map[string]func() any{control.StatusPath: func() any { return s }}, nil)
	r.must(err)
	r.t.Cleanup(func() { _ = server.Close() })
}

// faults lists what is not OK, as "fail id" or "warn id", each once.
func faults(r *Report) (all []string) {
	for _, f := range r.Findings {
		name := string(f.Severity) + " " + f.ID
		if f.Severity != OK && !strings.Contains(strings.Join(all, ",")+",", name+",") {
			all = append(all, name)
		}
	}
	return all
}
