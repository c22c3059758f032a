// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// ErrNoModule says that a kernel has no module of a name, and nothing of it built in.
var ErrNoModule = errors.New("kernel has no such module")

// Modules lists what the tests use.
func Modules() []string {
	return []string{
		"virtio_pci", "virtio_console", "can", "can-raw", "can-bcm", "can-gw", "can-isotp", "can-j1939", "vcan", "vxcan", "veth",
		"sch_ingress", "cls_bpf", "tun", "kvaser_pci", "slcan",
	}
}

// module is a kernel module, decompressed.
type module struct {
	name    string
	content []byte
}

// moduleTree finds the modules of one kernel.
type moduleTree struct {
	paths   map[string]string // by name
	builtin map[string]bool
}

// moduleName makes one name of the two that modules go by: files are called can-raw, the kernel says can_raw.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func openModules(dir string) (*moduleTree, error) {
	t := &moduleTree{paths: make(map[string]string), builtin: make(map[string]bool)}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(e.Name(), ".ko") {
			t.paths[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	for _, line := range strings.Fields(string(list)) {
		t.builtin[moduleName(line)] = true
	}
	return t, nil
}

// load reads modules with all that they depend on, in the order in which the kernel takes them.
func (t *moduleTree) load(names ...string) ([]module, error) {
	var all []module
	for _, n := range names {
		if err := t.add(&all, moduleName(n)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (t *moduleTree) add(all *[]module, name string) error {
	if t.builtin[name] || slices.ContainsFunc(*all, func(m module) bool { return m.name == name }) {
		return nil
	}
	path, ok := t.paths[name]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoModule, name)
	}
	content, err := readModule(path)
	if err != nil {
		return err
	}
	depends, err := dependsOn(content)
	if err != nil {
		return fmt.Errorf("read module %s: %w", path, err)
	}
	for _, d := range depends {
		if err := t.add(all, d); err != nil {
			return fmt.Errorf("%s needs: %w", name, err)
		}
	}
	*all = append(*all, module{name, content})
	return nil
}

// readModule reads and decompresses a module.
func readModule(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	switch filepath.Ext(path) {
	case ".ko":
		return b, nil
	case ".xz":
		r, err := xz.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("decompress %s: %w", path, err)
		}
		if b, err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("decompress %s: %w", path, err)
		}
		return b, nil
	default:
		return nil, fmt.Errorf("read module %s: unknown compression", path)
	}
}

// dependsOn reads "depends" of a module's .modinfo section, which is what depmod makes modules.dep from (Debian's packages have
// no modules.dep: it is made when they are installed).
func dependsOn(content []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			names := strings.Split(list, ",")
			for i := range names {
				names[i] = moduleName(names[i])
			}
			return names, nil
		}
	}
	return nil, nil
}
