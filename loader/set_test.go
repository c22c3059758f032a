// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

func openSet(t testing.TB, opts Options) *Set {
	t.Helper()
	s := must[*Set](t)(Open(opts))
	t.Cleanup(func() { ok(t, s.Close()) })
	return s
}

func TestSetCreateAndReopen(t *testing.T) {
	needRoot(t)
	root, _ := newRoot(t)
	binding := [32]byte{1, 2, 3}
	first := must[*Set](t)(Open(Options{Root: root}))
	first.SetBinding(binding)
	if !first.Created() {
		t.Error("Open found maps where none can be")
	}
	if got, want := pinNames(t, root), []string{
		"maps/agent_counters", "maps/epochs", "maps/frames_wanted", "maps/meta", "maps/starts", "maps/stream_refused", "maps/stream_shed",
		"maps/streams", "maps/windows",
	}; !slices.Equal(got, want) {
		t.Errorf("pins %v, want %v", got, want)
	}
	meta := first.meta.entries[0]
	if meta.BootID == [16]byte{} || meta.LayoutHash == [32]byte{} || meta.CreatedNS == 0 || meta.BindingHash != binding {
		t.Errorf("meta %+v", meta)
	}

	// The types go into the kernel with the maps, so that `bpftool map dump` shows names.
	handle := must[*btf.Handle](t)(first.maps[can.FilterMapAgentCounters].Handle())
	if names := cStruct(t, must[*btf.Spec](t)(handle.Spec(nil)), "cw_counters"); names.Members[BadTag].Name != "bad_tag" {
		t.Errorf("member %d of the counters is %s", BadTag, names.Members[BadTag].Name)
	}
	ok(t, handle.Close())

	key := StreamKey{Iface: 1, CANID: 0x123}
	stream := Stream{Slot: 4000, StreamID: 9, Node: 8, Carrier: CarrierCANFD, WindowSize: 1024}
	ok(t, first.Streams().Set(key, stream))
	first.Windows()[4000].Words[63] = 0xABC
	first.Windows()[4000].Committed.Store(12)
	ok(t, first.Epochs()[8].Publish(2, 7, 70))
	first.Starts()[MaxNodes-1].Epoch(3).Reset(7)
	first.Starts()[MaxNodes-1].HighestVerified.Store(99)
	first.AgentCounters()[63].Add(Accepted, 5)
	ok(t, first.Close())
	ok(t, first.Close())

	second := openSet(t, Options{Root: root})
	if second.Created() {
		t.Error("Open made new maps beside the pinned ones")
	}
	if !second.Fresh() {
		t.Error("maps that nobody has marked as ready are relied on")
	}
	second.MarkReady()
	if openSet(t, Options{Root: root}).Fresh() {
		t.Error("the mark was lost")
	}
	if got := must[Stream](t)(second.Streams().Get(key)); got != stream {
		t.Errorf("stream %+v, want %+v", got, stream)
	}
	if all := must[map[StreamKey]Stream](t)(second.Streams().All()); len(all) != 1 || all[key] != stream {
		t.Errorf("all streams %+v", all)
	}
	epoch, base, live := second.Epochs()[8].Load(2)
	if second.Windows()[4000].Words[63] != 0xABC || second.Windows()[4000].Committed.Load() != 12 ||
		epoch != 7 || base != 70 || !live || second.Starts()[MaxNodes-1].Epoch(3).Owner() != 7 ||
		second.Starts()[MaxNodes-1].HighestVerified.Load() != 99 || second.AgentCounters()[63].Load(Accepted) != 5 {
		t.Error("a table has lost what was in it")
	}
	if len(second.StreamShed()) != MaxStreams {
		t.Errorf("%d shed counters", len(second.StreamShed()))
	}
	if len(second.StreamRefused()) != MaxStreams {
		t.Errorf("%d counters of refused frames", len(second.StreamRefused()))
	}
	ok(t, second.Streams().Delete(key))
	if _, err := second.Streams().Get(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("deleted stream: %v", err)
	}
	if err := second.Streams().Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("delete twice: %v", err)
	}
	if err := second.Streams().Set(StreamKey{}, stream); !errors.Is(err, ErrInvalidStream) {
		t.Errorf("invalid key: %v", err)
	}
}

func TestSetRefusesForeignPins(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name  string
		spoil func(t *testing.T, root string, s *Set)
		want  error
	}{
		{"layout hash", func(_ *testing.T, _ string, s *Set) { s.meta.entries[0].LayoutHash[5] ^= 1 }, ErrLayout},
		{"layout version", func(_ *testing.T, _ string, s *Set) { s.meta.entries[0].LayoutVersion++ }, ErrLayout},
		{"magic", func(_ *testing.T, _ string, s *Set) { s.meta.entries[0].Magic[0] = 0 }, ErrLayout},
		{"boot", func(_ *testing.T, _ string, s *Set) { s.meta.entries[0].BootID[15] ^= 1 }, ErrBootID},
		{"missing map", func(t *testing.T, root string, _ *Set) { ok(t, os.Remove(filepath.Join(root, "maps/epochs"))) }, ErrLayout},
		{"another map", func(t *testing.T, root string, s *Set) {
			ok(t, os.Remove(filepath.Join(root, "maps/epochs")))
			m := must[*ebpf.Map](t)(s.maps[can.FilterMapWindows].Clone())
			ok(t, m.Pin(filepath.Join(root, "maps/epochs")))
			ok(t, m.Close())
		}, ErrLayout},
		{"a program", func(t *testing.T, root string, _ *Set) {
			ok(t, os.Remove(filepath.Join(root, "maps/meta")))
			f := newTestFilter(t, 4096, 4096)
			p := must[*ebpf.Program](t)(f.prog.Clone())
			ok(t, p.Pin(filepath.Join(root, "maps/meta")))
			ok(t, p.Close())
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, _ := newRoot(t)
			s := must[*Set](t)(Open(Options{Root: root}))
			tt.spoil(t, root, s)
			ok(t, s.Close())
			before := pinNames(t, root)
			again, err := Open(Options{Root: root})
			if err == nil {
				again.Close()
				t.Fatal("Open took the pins over")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Open: %v, want %v", err, tt.want)
			}
			if after := pinNames(t, root); !slices.Equal(before, after) {
				t.Errorf("pins changed from %v to %v", before, after)
			}
		})
	}
}

// What a process left that was killed while it created the set is no set, and is cleared away.
func TestSetStalePins(t *testing.T) {
	needRoot(t)
	root, _ := newRoot(t)
	s := must[*Set](t)(Open(Options{Root: root}))
	ok(t, s.Close())
	ok(t, os.Rename(filepath.Join(root, mapsFolder), filepath.Join(root, tmpPrefix+"123")))
	ok(t, os.Remove(filepath.Join(root, tmpPrefix+"123", "windows")))
	s = openSet(t, Options{Root: root})
	if !s.Created() {
		t.Error("an incomplete set was taken over")
	}
	for _, name := range pinNames(t, root) {
		if strings.HasPrefix(name, tmpPrefix) {
			t.Errorf("stale pin %s is still there", name)
		}
	}
}

// Many processes may open at once: one creates, the others find.
func TestSetConcurrentOpen(t *testing.T) {
	needRoot(t)
	root, _ := newRoot(t)
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		created int
	)
	for range 8 {
		wg.Go(func() {
			s, err := Open(Options{Root: root})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if s.Created() {
				created++
			}
			mu.Unlock()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if created != 1 {
		t.Errorf("%d of 8 created the set, want 1", created)
	}
}

// privateMounts runs f with a mount namespace of its own, in which nothing that f mounts is seen outside and which ends with f.
func privateMounts(t *testing.T, f func() error) error {
	t.Helper()
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("%w: %w", errSharedMounts, err)
		}
		return f()
	})
	if errors.Is(err, errSharedMounts) && errors.Is(err, unix.EINVAL) {
		t.Skip("the root is no mount point, as in a chroot, so what the test mounts could be seen outside")
	}
	return err
}

var errSharedMounts = errors.New("make mounts private")

// bpffs is mounted where it is missing: at /sys/fs/bpf or at the root itself.
func TestSetMountsBPFFS(t *testing.T) {
	needRoot(t)
	for _, root := range []string{"/sys/fs/bpf/cellward_test", filepath.Join(t.TempDir(), "pins", "here")} {
		err := privateMounts(t, func() error {
			// Take away whatever bpffs the machine has; this thread alone sees it gone.
			if err := unix.Unmount(bpffsStandard, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				return err
			}
			on, err := onBPFFS(root)
			if err != nil {
				return err
			}
			if on {
				t.Errorf("%s is on a bpffs before anybody mounted one", root)
			}
			for _, created := range []bool{true, false} {
				s, err := Open(Options{Root: root})
				if err != nil {
					return err
				}
				if s.Created() != created {
					t.Errorf("%s: created %v, want %v", root, s.Created(), created)
				}
				if err := s.Close(); err != nil {
					return err
				}
			}
			var st unix.Stat_t
			if err := unix.Stat(root, &st); err != nil {
				return err
			}
			if st.Mode&0o777 != 0o700 {
				t.Errorf("%s has mode %o, want 700", root, st.Mode&0o777)
			}
			return Detach(root)
		})
		ok(t, err)
		if _, err := os.Stat(root); err == nil && strings.HasPrefix(root, bpffsStandard) {
			t.Errorf("%s: the mount is seen outside", root)
		}
	}
}

func TestRootName(t *testing.T) {
	if _, err := Open(Options{Root: t.TempDir() + "/a.b"}); err == nil || !strings.Contains(err.Error(), "dot") {
		t.Errorf("root with a dot: %v", err)
	}
}

func TestDetachWithoutPins(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(dir, "maps"), 0o700))
	ok(t, Detach(dir))
	if _, err := os.Stat(filepath.Join(dir, "maps")); err != nil {
		t.Errorf("Detach has removed a folder outside of bpffs: %v", err)
	}
	root, _ := newRoot(t)
	ok(t, Detach(root))
	ok(t, Detach(root, 1, 2))
}
