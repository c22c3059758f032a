// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
	"github.com/cellward/cellward/loader"
)

// TestWell wants nothing found on a gateway on which all is well, and every check made.
func TestWell(t *testing.T) {
	r := newRig(t)
	out := r.examine()
	if f := faults(out); len(f) > 0 || out.Err() != nil || out.Severity != OK {
		t.Errorf("found %v: %+v", f, out.Findings)
	}
	for _, c := range Checks() {
		if len(out.Find(c.ID)) == 0 {
			t.Errorf("check %s says nothing", c.ID)
		}
	}
	r.serveAgent(agent.Status{PID: 77, Version: agent.Build().Version})
	out = r.examine()
	if f := out.Find("agent.running"); len(faults(out)) > 0 || !strings.Contains(f[0].What, "process 77") {
		t.Errorf("with an agent: %+v", out.Findings)
	}
}

// TestPinsOfAnotherLayout wants nothing found where an agent of this build could go on with them.
func TestPinsOfAnotherLayout(t *testing.T) {
	r := newRig(t)
	m, err := ebpf.LoadPinnedMap(filepath.Join(r.binding.Gateway.BPFFS, "maps", "meta"), nil)
	r.must(err)
	defer m.Close()
	b, err := m.LookupBytes(uint32(0))
	r.must(err)
	b[32] ^= 1 // cw_meta.layout_hash
	r.must(m.Put(uint32(0), b))
	out := r.examine()
	if f := out.Find("pins.usable"); len(faults(out)) > 0 || len(f) != 1 || !strings.Contains(f[0].What, "an agent of this build migrates them") {
		t.Errorf("found %v: %+v", faults(out), f)
	}
}

// seed is one fault and what must be found: exactly that and nothing else.
type seed struct {
	name string
	do   func(r *rig)
	want []string
	help string // part of the first finding's command
}

// real seeds are put into the machine: into interfaces, files, TPM, pins.
func realSeeds() []seed {
	return []seed{
		{"interface missing", func(r *rig) { r.must(r.device.Close()) },
			[]string{"fail interface.exists", "fail interface.filter"}, "ip -details link show"},
		{"interface of another type", func(r *rig) {
			r.must(r.device.Close())
			r.must(r.ns.Do(func() error {
				links, err := loader.DialLinks()
				if err != nil {
					return err
				}
				defer links.Close()
				return links.Add("veth", "can0")
			}))
		}, []string{"fail interface.type", "fail interface.up", "fail interface.filter"}, "type can"},
		{"wrong MTU", func(r *rig) {
			r.link(func(l *loader.Links, i int) error {
				return errors.Join(l.SetDown(i), l.SetMTU(i, 68), l.SetUp(i))
			})
		}, []string{"fail interface.mtu"}, "mtu 72"},
		{"interface down", func(r *rig) { r.link(func(l *loader.Links, i int) error { return l.SetDown(i) }) },
			[]string{"fail interface.up"}, "ip link set can0 up"},
		{"another program first", func(r *rig) {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "intruder", Type: ebpf.SchedCLS, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
			r.must(err)
			r.t.Cleanup(func() { p.Close() })
			r.link(func(_ *loader.Links, i int) error {
				l, err := link.AttachTCX(link.TCXOptions{Interface: i, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
				if err == nil {
					r.t.Cleanup(func() { l.Close() })
				}
				return err
			})
		}, []string{"warn interface.filter"}, "cellward status"},
		{"filter detached", func(r *rig) { r.must(loader.Detach(r.binding.Gateway.BPFFS)) },
			[]string{"warn interface.filter"}, "cellward run"},
		{"filter detached under an agent", func(r *rig) {
			r.serveAgent(agent.Status{PID: 77, Version: agent.Build().Version})
			r.must(loader.Detach(r.binding.Gateway.BPFFS))
		}, []string{"fail interface.filter"}, "kill 77"},
		{"foreign pin", func(r *rig) {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
			r.must(err)
			r.t.Cleanup(func() { m.Close() })
			r.must(m.Pin(filepath.Join(r.binding.Gateway.BPFFS, "intruder")))
		}, []string{"warn bpffs.foreign"}, "ls -lR"},
		{"pins open to others", func(r *rig) { r.must(os.Chmod(r.binding.Gateway.BPFFS, 0o777)) },
			[]string{"fail bpffs.safe"}, "chmod go-w"},
		{"pins of another binding", func(r *rig) {
			r.binding.Nodes[0].Streams[0].CANID = 0x6F3
			r.write()
		}, []string{"warn pins.usable"}, "cellward apply"},
		{"pins of another layout", func(r *rig) {
			r.must(os.Remove(filepath.Join(r.binding.Gateway.BPFFS, "maps", "windows")))
		}, []string{"fail pins.usable"}, "cellward detach"},
		{"a migration was killed", func(r *rig) {
			former := filepath.Join(r.binding.Gateway.BPFFS, "former_1", "bus_1")
			r.must(os.MkdirAll(former, 0o700))
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
			r.must(err)
			r.t.Cleanup(func() { m.Close() })
			r.must(m.Pin(filepath.Join(former, "candidates")))
		}, []string{"warn pins.usable"}, "cellward status"},
		{"policy invalid", func(r *rig) {
			r.must(os.WriteFile(r.policyPath(), []byte(strings.Replace(testPolicy, "STRICT", "LAX", 1)), 0o644))
		}, []string{"fail documents.valid"}, "cellward policy validate"},
		{"binding for another policy", func(r *rig) {
			r.must(os.WriteFile(r.policyPath(), []byte(strings.Replace(testPolicy, "name: test", "name: other", 1)), 0o644))
		}, []string{"fail documents.valid"}, "cellward policy validate"},
		{"documents open to others", func(r *rig) { r.must(os.Chmod(r.policyPath(), 0o666)) },
			[]string{"fail documents.safe"}, "chmod go-w"},
		{"folder of everything open to others", func(r *rig) { r.must(os.Chmod(r.dir, 0o777)) },
			[]string{"fail documents.safe", "fail state.safe", "fail ring.socket", "fail control.socket"}, "chmod go-w"},
		{"state folder missing", func(r *rig) { r.must(os.RemoveAll(r.state())) },
			[]string{"fail state.folder"}, "cellward keys init"},
		{"no identity", func(r *rig) { r.must(os.Remove(filepath.Join(r.state(), "identity.pem"))) },
			[]string{"fail state.folder"}, "cellward keys init"},
		{"counters missing", func(r *rig) { r.must(os.Remove(filepath.Join(r.state(), "counters.json"))) },
			[]string{"fail state.folder"}, "keys init --gateway"},
		{"state folder open to others", func(r *rig) { r.must(os.Chmod(r.state(), 0o770)) },
			[]string{"fail state.safe"}, "chmod -R go-rwx"},
		{"state file open to others", func(r *rig) { r.must(os.Chmod(filepath.Join(r.state(), "srk-name"), 0o644)) },
			[]string{"fail state.safe"}, "chmod -R go-rwx"},
		{"link in the state folder", func(r *rig) { r.must(os.Symlink("/etc/passwd", filepath.Join(r.state(), "epochs"))) },
			[]string{"fail state.safe"}, "find"},
		{"state folder is a link", func(r *rig) {
			r.must(os.Rename(r.state(), r.state()+".real"))
			r.must(os.Symlink(r.state()+".real", r.state()))
		}, []string{"warn state.folder"}, "ls -ld"},
		{"state folder of another user", func(r *rig) { r.must(os.Chown(r.state(), 1, 1)) },
			[]string{"fail state.safe"}, "chown -R 65533:"},
		{"no such user", func(r *rig) {
			r.binding.Gateway.User = "nosuchuser"
			r.must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Lchown(path, 0, 0)
			}))
			r.write()
		}, []string{"fail agent.user"}, "useradd --system"},
		{"agent stays root", func(r *rig) {
			r.binding.Gateway.User = "root"
			r.must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Lchown(path, 0, 0)
			}))
			r.write()
		}, []string{"warn agent.user"}, "cellward policy show"},
		{"state of root", func(r *rig) { r.must(os.Chown(filepath.Join(r.state(), "identity.pem"), 0, 0)) },
			[]string{"fail agent.user"}, "chown -R 65533:"},
		{"ring folder of root", func(r *rig) { r.must(os.Chown(r.run(), 0, 0)) }, []string{"fail agent.user"}, "chown 65533:"},
		{"documents closed to the agent", func(r *rig) { r.must(os.Chmod(r.bindingPath(), 0o600)) },
			[]string{"fail agent.user"}, "setfacl"},
		{"TPM closed to the agent", func(r *rig) { r.must(os.Chown(r.tpm.Socket, 0, 0)) }, []string{"fail agent.user"}, "usermod -aG tss"},
		{"another process's lock", func(r *rig) {
			d, err := vault.OpenDirOf(r.state(), agentUID)
			r.must(err)
			r.t.Cleanup(func() { d.Close() })
		}, []string{"fail state.lock"}, "fuser -v"},
		{"ring folder missing", func(r *rig) { r.must(os.RemoveAll(r.run())) },
			[]string{"fail ring.socket", "fail control.socket"}, "install -d"},
		{"ring folder open to others", func(r *rig) { r.must(os.Chmod(r.run(), 0o777)) },
			[]string{"fail ring.socket", "fail control.socket"}, "chmod go-w"},
		{"file in the place of a socket", func(r *rig) { r.must(os.WriteFile(r.binding.Gateway.Ring.Socket, nil, 0o600)) },
			[]string{"fail ring.socket"}, "ls -l"},
		{"group missing", func(r *rig) {
			r.binding.Gateway.Ring.Group = "nosuchgroup"
			r.write()
		}, []string{"fail ring.group"}, "groupadd"},
		{"TPM gone", func(r *rig) { r.tpm.Kill() }, []string{"fail tpm.present"}, "ls -l"},
		{"TPM socket dead", func(r *rig) {
			r.tpm.Kill()
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.tpm.Socket})
			r.must(err)
			r.openTPM(r.tpm.Socket)
			l.SetUnlinkOnClose(false)
			r.must(l.Close())
		}, []string{"fail tpm.present"}, "ls -l"},
		{"TPM busy", func(r *rig) {
			c, err := net.Dial("unix", r.tpm.Socket) // it serves one client at a time
			r.must(err)
			r.t.Cleanup(func() { c.Close() })
		}, []string{"fail tpm.present"}, "fuser -v"},
		{"TPM 1.2", func(r *rig) { r.answerTPM([]byte{0x00, 0xC4, 0, 0, 0, 10, 0, 0, 0, 0}) },
			[]string{"fail tpm.present"}, "tpm2_getcap"},
		{"TPM in failure mode", func(r *rig) { r.answerTPM([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01}) },
			[]string{"fail tpm.present"}, "poweroff"},
		{"another TPM", func(r *rig) {
			other := tpmtest.Start(r.t)
			r.openTPM(other.Socket)
			tpmtest.OpenAt(r.t, other, tpm.Options{})
			r.binding.Gateway.TPM = tpmtest.Path(other)
			r.write()
		}, []string{"fail tpm.pinned"}, "srk-name"},
		{"a new TPM", func(r *rig) {
			other := tpmtest.Start(r.t)
			r.openTPM(other.Socket)
			r.binding.Gateway.TPM = tpmtest.Path(other)
			r.write()
		}, []string{"fail tpm.pinned"}, "tpm2_getcap"},
		{"TPM in lockout", func(r *rig) { tpmtest.LockOut(r.t, r.tpm) }, []string{"warn tpm.lockout"}, "tpm2_dictionarylockout"},
		{"clock behind", func(r *rig) {
			ahead := time.Now().Add(time.Hour)
			r.must(os.Chtimes(filepath.Join(r.state(), "identity.pem"), ahead, ahead))
		}, []string{"fail clock.time"}, "timedatectl"},
		{"agent of another build", func(r *rig) { r.serveAgent(agent.Status{PID: 77, Version: "another"}) },
			[]string{"warn agent.running"}, "/proc/77/exe"},
		{"agent that cannot write", func(r *rig) {
			r.serveAgent(agent.Status{PID: 77, Version: agent.Build().Version, SaveError: "no space left"})
		}, []string{"fail agent.running"}, "df -h"},
	}
}

// answerTPM puts something in the TPM's place that gives one answer to everything.
func (r *rig) answerTPM(answer []byte) {
	r.t.Helper()
	r.tpm.Kill()
	l, err := net.Listen("unix", r.tpm.Socket)
	r.must(err)
	r.openTPM(r.tpm.Socket)
	r.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				head := make([]byte, 10)
				for {
					if _, err := io.ReadFull(c, head); err != nil {
						return
					}
					if _, err := io.CopyN(io.Discard, c, int64(head[5])-10); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// told seeds are said by the machine: kernels and limits that this one does not have.
func toldSeeds() []seed {
	file := func(path, text string) func(*rig) {
		return func(r *rig) {
			all := readable()
			all[path] = text
			r.m.ReadFile = files(all)
		}
	}
	limits := func(core, memlock uint64, caps uint64) func(*rig) {
		return func(r *rig) {
			r.m.Limit = func(resource int) (unix.Rlimit, error) {
				if resource == unix.RLIMIT_CORE {
					return unix.Rlimit{Cur: core, Max: unix.RLIM_INFINITY}, nil
				}
				return unix.Rlimit{Cur: memlock, Max: memlock}, nil
			}
			r.m.Capabilities = func() (uint64, error) { return caps, nil }
		}
	}
	const all = 1<<41 - 1
	without := func(caps ...int) uint64 {
		mask := uint64(all)
		for _, c := range caps {
			mask &^= 1 << c
		}
		return mask
	}
	unlimited := uint64(unix.RLIM_INFINITY)
	return []seed{
		{"filter refused", func(r *rig) {
			r.m.LoadFilter = func() (loader.Program, error) { return loader.Program{}, errors.New("unknown func 125\nand a log") }
		}, []string{"fail kernel.filter"}, "zgrep"},
		{"interpreter", func(r *rig) { r.m.LoadFilter = func() (loader.Program, error) { return loader.Program{}, nil } },
			[]string{"warn kernel.jit"}, "bpf_jit_enable=1"},
		{"neither tcx nor clsact", func(r *rig) {
			r.m.TryTCX = func() error { return ebpf.ErrNotSupported }
			r.m.TryClsact = r.m.TryTCX
		}, []string{"fail kernel.tcx"}, "cls_bpf"},
		{"no BTF", func(r *rig) { r.m.Exists = func(string) bool { return false } }, []string{"warn kernel.btf"}, "CONFIG_DEBUG_INFO_BTF"},
		{"unprivileged BPF", file("/proc/sys/kernel/unprivileged_bpf_disabled", "0\n"), []string{"warn kernel.unprivileged_bpf"}, "sysctl -w"},
		{"no CAN", func(r *rig) { r.m.TryCAN = func() error { return unix.EAFNOSUPPORT } }, []string{"warn can.family"}, "modprobe can_raw"},
		{"swap on", file("/proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"), []string{"warn memory.swap"}, "swapoff -a"},
		{"core files", limits(unlimited, unlimited, all), []string{"warn memory.core"}, "ulimit -c 0"},
		{"little locked memory", limits(0, 64<<10, without(unix.CAP_IPC_LOCK, unix.CAP_SYS_RESOURCE)), []string{"warn memory.locked"}, "LimitMEMLOCK"},
		{"no rights", limits(0, unlimited, 0),
			[]string{"fail process.capabilities", "warn kernel.filter", "warn kernel.tcx", "warn can.vcan", "warn can.vxcan"}, "sudo"},
		{"no CAP_SYS_ADMIN", limits(0, unlimited, without(unix.CAP_SYS_ADMIN)), []string{"warn process.capabilities", "warn can.vcan", "warn can.vxcan"}, "setcap"},
		{"disk full", func(r *rig) { r.m.Free = func(string) (uint64, bool, error) { return 100, false, nil } }, []string{"fail state.space"}, "df -h"},
		{"disk read-only", func(r *rig) { r.m.Free = func(string) (uint64, bool, error) { return 1 << 30, true, nil } }, []string{"fail state.space"}, "remount,rw"},
		{"small TPM", func(r *rig) { r.health(func(h *tpm.Health) { h.P384 = false }) }, []string{"warn tpm.curve"}, "ecc-curves"},
		{"slots taken", func(r *rig) { r.health(func(h *tpm.Health) { h.Objects = 3 }) }, []string{"warn tpm.slots"}, "tpm2_flushcontext"},
		{"clock not kept", func(r *rig) { r.m.Synchronised = func() (bool, error) { return false, nil } }, []string{"warn clock.synchronised"}, "timedatectl"},
		{"build of tomorrow", func(r *rig) {
			r.m.Build = func() agent.BuildInfo {
				return agent.BuildInfo{Time: time.Now().Add(24 * time.Hour).Format(time.RFC3339)}
			}
		}, []string{"fail clock.time"}, "timedatectl"},
		{"nothing can be read", func(r *rig) {
			r.m.ReadFile = func(string) ([]byte, error) { return nil, os.ErrPermission }
		}, []string{"warn kernel.lockdown", "warn kernel.unprivileged_bpf", "warn memory.swap", "warn memory.core"}, "cat"},
	}
}

// health changes what the TPM says.
func (r *rig) health(change func(*tpm.Health)) {
	ask := r.m.TPM
	r.m.TPM = func(ctx context.Context, path string, pin tpm.Name) (*tpm.Health, error) {
		h, err := ask(ctx, path, pin)
		if err == nil {
			change(h)
		}
		return h, err
	}
}

// TestSeededFaults puts one fault after the other into a gateway on which all is well, and wants just that one found.
func TestSeededFaults(t *testing.T) {
	needRoot(t)
	found := 0
	for _, s := range append(realSeeds(), toldSeeds()...) {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t)
			s.do(r)
			out := r.examine()
			if got := faults(out); !slices.Equal(got, s.want) {
				var b bytes.Buffer
				_ = out.WriteText(&b)
				t.Fatalf("found %v, want %v\n%s", got, s.want, &b)
			}
			fails := slices.ContainsFunc(s.want, func(w string) bool { return strings.HasPrefix(w, "fail") })
			if (out.Err() != nil) != fails || fails != errors.Is(out.Err(), ErrFaults) {
				t.Errorf("error %v", out.Err())
			}
			for _, f := range out.Findings {
				if f.Severity != OK && (f.Why == "" || f.Help == "") {
					t.Errorf("%s says neither why it matters nor what helps: %+v", f.ID, f)
				}
				if f.Severity == OK && (f.Why != "" || f.Help != "") {
					t.Errorf("%s is well and says what helps: %+v", f.ID, f)
				}
			}
			id := strings.Fields(s.want[0])[1]
			if !slices.ContainsFunc(out.Find(id), func(f Finding) bool { return strings.Contains(f.Help, s.help) }) {
				t.Errorf("no finding of %s names %q: %+v", id, s.help, out.Find(id))
			}
			found++
		})
	}
	t.Logf("%d of %d seeded faults were found, each alone", found, len(realSeeds())+len(toldSeeds()))
}

// TestNothingIsChanged compares files, pins and TPM before and after.
func TestNothingIsChanged(t *testing.T) {
	r := newRig(t)
	tree := func() (all []string) {
		r.must(filepath.WalkDir(r.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			all = append(all, path+" "+info.Mode().String()+" "+info.ModTime().String())
			return nil
		}))
		i, err := loader.Inspect(r.binding.Gateway.BPFFS)
		r.must(err)
		pins, err := json.Marshal(i)
		r.must(err)
		return append(all, string(pins))
	}
	before := tree()
	r.examine()
	if after := tree(); !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

func TestWriteText(t *testing.T) {
	r := &Report{OK: 1, Warn: 1, Fail: 1, Severity: Fail, Findings: []Finding{
		{ID: "a.b", Severity: OK, What: "well"},
		{ID: "a.longer", Subject: "can0", Severity: Warn, What: "so so", Why: "because", Help: "do this"},
		{ID: "c", Severity: Fail, What: "two\nlines", Why: "because", Help: "do that"},
	}}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `ok    a.b       well
WARN  a.longer  can0: so so
                why: because
                run: do this
FAIL  c         two
                lines
                why: because
                run: do that
1 ok, 1 to look at, 1 failed
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

// Each check has an id of its own that stays what it is; documents name them.
func TestCheckIDs(t *testing.T) {
	var ids []string
	for _, c := range Checks() {
		if c.About == "" || !strings.Contains(c.ID, ".") || strings.ToLower(c.ID) != c.ID {
			t.Errorf("check %+v", c)
		}
		ids = append(ids, c.ID)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != len(Checks()) {
		t.Errorf("ids are not unique: %v", ids)
	}
	doc, err := os.ReadFile("../../docs/inspect.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Checks() {
		if !bytes.Contains(doc, []byte("| `"+c.ID+"` | "+c.About+" |")) {
			t.Errorf("docs/inspect.md has no row of %s: %s", c.ID, c.About)
		}
	}
}

// A kernel without tcx is no fault: the filter is attached through clsact.
func TestNoTCX(t *testing.T) {
	r := newRig(t)
	r.m.TryTCX = func() error { return ebpf.ErrNotSupported }
	for _, f := range r.examine().Findings {
		if f.ID == "kernel.tcx" && (f.Severity != OK || !strings.Contains(f.What, "clsact")) {
			t.Errorf("%+v", f)
		}
	}
}
