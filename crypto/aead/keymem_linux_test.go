// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/secretmem"
)

// mapping is an entry of /proc/self/smaps.
type mapping struct {
	from, to    uintptr
	permissions string
	locked      bool
	resident    bool
	flags       []string
}

func mappings(t *testing.T) []mapping {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []mapping
	for s := bufio.NewScanner(f); s.Scan(); {
		var m mapping
		line := s.Text()
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &m.from, &m.to, &m.permissions); n == 3 && !strings.Contains(strings.Fields(line)[0], ":") {
			all = append(all, m)
			continue
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			all[len(all)-1].flags = strings.Fields(flags)
		}
		if size, ok := strings.CutPrefix(line, "Locked:"); ok {
			all[len(all)-1].locked = strings.TrimSpace(size) != "0 kB"
		}
		if size, ok := strings.CutPrefix(line, "Rss:"); ok {
			all[len(all)-1].resident = strings.TrimSpace(size) != "0 kB"
		}
	}
	return all
}

// TestKeyMemoryFlags asks the kernel what it thinks of the memory.
func TestKeyMemoryFlags(t *testing.T) {
	m := new(KeyMemory)
	k, err := newSlotKey(m)
	if err != nil {
		t.Fatal(err)
	}
	at := uintptr(unsafe.Pointer(k.slot))
	all := mappings(t)
	i := slices.IndexFunc(all, func(m mapping) bool { return m.from <= at && at < m.to })
	if i < 1 || i+1 >= len(all) {
		t.Fatal("the slot is in no mapping")
	}
	// lo: locked, dd: not in core dumps, dc: not in children.
	for _, flag := range []string{"lo", "dd", "dc", "rd", "wr"} {
		if !slices.Contains(all[i].flags, flag) {
			t.Errorf("flag %s is missing: %v", flag, all[i].flags)
		}
	}
	if !all[i].locked || slices.Contains(all[i].flags, "ex") {
		t.Errorf("mapping %+v", all[i])
	}
	for _, guard := range []mapping{all[i-1], all[i+1]} {
		if guard.permissions != "---p" || guard.to != all[i].from && guard.from != all[i].to {
			t.Errorf("neighbour %x-%x %s of %x-%x is no guard", guard.from, guard.to, guard.permissions, all[i].from, all[i].to)
		}
	}
	runtime.KeepAlive(k)
}

// TestKeyMemoryIsReused: a wiped slot is zero and the next to be taken, and memory grows only when it is full.
func TestKeyMemoryIsReused(t *testing.T) {
	m := new(KeyMemory)
	e := &SideBySide{kernel: twin, mem: m}
	k := newKey(t, e, 1)
	slot := k.slot
	if *slot == (keySlot{}) {
		t.Fatal("slot is empty")
	}
	k.Wipe()
	if *slot != (keySlot{}) {
		t.Error("slot is not wiped")
	}
	if *k != (Key{}) {
		t.Error("key still refers to its slot")
	}
	k.Wipe() // twice does no harm
	if n, _ := m.Usage(); n != 0 {
		t.Errorf("%d keys left", n)
	}
	perRegion := keyRegion / int(unsafe.Sizeof(keySlot{}))
	var keys []*Key
	seen := map[*keySlot]bool{}
	for i := range perRegion + 1 {
		k, err := newSlotKey(m)
		if err != nil {
			t.Fatal(err)
		}
		if seen[k.slot] || uintptr(unsafe.Pointer(k.slot))%64 != 0 || *k.slot != (keySlot{}) {
			t.Fatalf("slot %d is taken, crooked or not empty", i)
		}
		seen[k.slot] = true
		keys = append(keys, k)
		want := keyRegion
		if i >= perRegion {
			want *= 2
		}
		if n, size := m.Usage(); n != i+1 || size != want {
			t.Fatalf("%d keys: usage %d, %d", i+1, n, size)
		}
	}
	if !seen[slot] {
		t.Error("the wiped slot was not used again")
	}
	for _, k := range keys {
		k.Wipe()
	}
}

// TestDroppedKeyIsWiped: a key that nobody wiped is wiped when nobody can use it any more.
func TestDroppedKeyIsWiped(t *testing.T) {
	m := new(KeyMemory)
	slot := func() *keySlot { return newKey(t, &SideBySide{kernel: twin, mem: m}, 1).slot }()
	for range 100 {
		runtime.GC()
		if n, _ := m.Usage(); n == 0 {
			if *slot != (keySlot{}) {
				t.Error("slot is not wiped")
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the key was never given back")
}

// TestKeyIsNowhereElse searches all memory of the process for the second half of a key, which is its second round key
// as it stands. The slot has it, and nothing else does.
//
// On a busy machine a signal may come while a register holds a part of the key, and store it: that is the runtime's and not the engine's
// copy, and the next key has none. What an engine leaves it leaves of every key.
func TestKeyIsNowhereElse(t *testing.T) {
	for _, e := range realEngines() {
		side, ok := e.(*SideBySide)
		if !ok {
			continue // std keeps round keys on the heap
		}
		t.Run("engine="+e.Name(), func(t *testing.T) {
			var elsewhere error
			for range 20 {
				if elsewhere = keyElsewhere(t, side); elsewhere == nil {
					return
				}
			}
			t.Error(elsewhere)
		})
	}
}

// keyElsewhere makes a key, uses it and wipes it, and says where it is in memory besides its slot.
func keyElsewhere(t *testing.T, e *SideBySide) error {
	// The caller's own copy lies in memory that this test can give back.
	secret := newGuarded(t, 1)
	key, iv := (*[KeySize]byte)(secret.first(KeySize)), (*[IVSize]byte)(secret.last(IVSize))
	// The system call writes where it is told to; rand.Read would make the bytes elsewhere.
	if n, err := unix.Getrandom(key[:], 0); n != KeySize || err != nil {
		t.Fatal(err)
	}
	// What is searched for must lie somewhere too: in a mapping that the search leaves out.
	needle := newGuarded(t, 1).first(16)
	copy(needle, key[16:])
	k, err := e.NewKey(key, iv)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	// What the kernel reads for nobody, this search does not read either.
	inSlot := 1
	if e.mem.Backing().Kind == secretmem.KindSecret {
		inSlot = 0
	}
	if !bytes.Equal(k.slot.round[0][:], needle) {
		t.Fatal("the slot does not have the key: the search for it is wrong")
	}
	if got := occurrences(t, needle); got != 1+inSlot {
		return fmt.Errorf("the key is in memory %d times, want %d, which are the caller's and the slot's", got, 1+inSlot)
	}
	clear(key[:])
	ops := make([]Op, 9)
	for i := range ops {
		record, _ := sealed(t, e, k, 40*i, 3)
		ops[i] = Op{Key: k, Record: record, Dst: make([]byte, 40*i)}
	}
	if e.Open(ops) != len(ops) {
		t.Fatal("refused")
	}
	if got := occurrences(t, needle); got != inSlot {
		return fmt.Errorf("the key is in memory %d times outside its slot", got-inSlot)
	}
	k.Wipe()
	if got := occurrences(t, needle); got != 0 {
		return fmt.Errorf("the key is in memory %d times after it was wiped", got)
	}
	return nil
}

// occurrences counts a pattern in all memory that can be written, apart from the mapping that the pattern lies in.
func occurrences(t *testing.T, needle []byte) (n int) {
	t.Helper()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	const step = 1 << 20
	buf := make([]byte, step+15)
	self, own := uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&needle[0]))
	for _, m := range mappings(t) {
		if !strings.HasPrefix(m.permissions, "rw") || !m.resident || m.from <= own && own < m.to {
			continue
		}
		for at := m.from; at < m.to; at += step {
			if at < self+uintptr(len(buf)) && self < min(at+step, m.to) {
				continue // this buffer, which is where the others are looked through
			}
			got, err := mem.ReadAt(buf[:min(uintptr(len(buf)), m.to-at)], int64(at))
			if err != nil && got == 0 {
				continue // a mapping that cannot be read, such as that of a device
			}
			for b := buf[:got]; ; n++ {
				i := bytes.Index(b, needle)
				if i < 0 {
					break
				}
				b = b[i+1:]
			}
			clear(buf)
		}
	}
	return n
}

const limitEnv = "AEAD_TEST_MEMLOCK_CHILD"

// TestKeyMemoryWithoutLock: where memory cannot be locked there is no key, and the engine is refused. The limit is the
// process's, hence the child.
func TestKeyMemoryWithoutLock(t *testing.T) {
	if os.Getenv(limitEnv) != "" {
		runtime.LockOSThread()
		var none [2]unix.CapUserData // root may lock whatever the limit says
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
			t.Fatal(err)
		}
		m := new(KeyMemory)
		e := &SideBySide{kernel: twin, mem: m}
		key, iv := secret(1)
		if _, err := e.NewKey(&key, &iv); !errors.Is(err, ErrKeyMemory) || !strings.Contains(err.Error(), "RLIMIT_MEMLOCK") {
			t.Errorf("error %v", err)
		}
		if n, size := m.Usage(); n != 0 || size != 0 {
			t.Errorf("usage %d, %d", n, size)
		}
		s, err := Select(Options{})
		if err != nil || s.Engine.Name() != NameStd || len(s.Refused) != len(Available())-1 {
			t.Fatalf("selected %v, %v", s, err)
		}
		for _, r := range s.Refused {
			if !errors.Is(r.Err, ErrKeyMemory) {
				t.Errorf("%s: %v", r.Name, r.Err)
			}
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKeyMemoryWithoutLock$", "-test.v")
	cmd.Env = append(os.Environ(), limitEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestKeyMemoryWithoutLock") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestKeyMemoryParallel: keys come and go in several goroutines.
func TestKeyMemoryParallel(t *testing.T) {
	m := new(KeyMemory)
	done := make(chan error)
	const workers = 4
	for range workers {
		go func() {
			for range 300 {
				k, err := newSlotKey(m)
				if err != nil {
					done <- err
					return
				}
				k.slot.first[0] = 1
				k.Wipe()
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, _ := m.Usage(); n != 0 {
		t.Errorf("%d keys left", n)
	}
}
