// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ErrNoFile says that the packages of a system hold no file of a name.
var ErrNoFile = errors.New("no such file in the packages")

// tree is an unpacked file system, whose symbolic links are relative to it.
type tree struct{ root, triplet string }

// resolve returns where the file of a path lies on this machine. It follows links as a process with that root would, and looks
// below /usr for what a package of a merged /usr puts there.
func (t tree) resolve(name string) (string, error) {
	return t.follow(name, 40)
}

func (t tree) follow(name string, links int) (string, error) {
	name = path.Clean("/" + name)
	at := t.root
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	for i, p := range parts {
		at = filepath.Join(at, p)
		info, err := os.Lstat(at)
		if errors.Is(err, os.ErrNotExist) && !strings.HasPrefix(name, "/usr/") {
			return t.follow("/usr"+name, links)
		}
		if err != nil {
			return "", fmt.Errorf("%w: %s", ErrNoFile, name)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			continue
		}
		to, err := os.Readlink(at)
		if err != nil || links == 0 {
			return "", fmt.Errorf("%w: %s: too many links", ErrNoFile, name)
		}
		if !path.IsAbs(to) {
			to = path.Join("/", strings.Join(parts[:i], "/"), to)
		}
		return t.follow(path.Join(append([]string{to}, parts[i+1:]...)...), links-1)
	}
	return at, nil
}

// program returns the files that a program needs to run: itself, its interpreter, and the shared libraries of all of them,
// by the path at which they are looked for.
func (t tree) program(name string) (map[string]string, error) {
	files := make(map[string]string)
	return files, t.addProgram(files, name)
}

func (t tree) addProgram(files map[string]string, name string) error {
	if files[name] != "" {
		return nil
	}
	at, err := t.resolve(name)
	if err != nil {
		return err
	}
	files[name] = at
	f, err := elf.Open(at)
	if err != nil {
		return fmt.Errorf("read program %s: %w", name, err)
	}
	defer f.Close()
	if interp, err := interpreter(f); err != nil {
		return fmt.Errorf("read program %s: %w", name, err)
	} else if interp != "" {
		if err := t.addProgram(files, interp); err != nil {
			return err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read program %s: %w", name, err)
	}
	folders, err := t.folders(f, name)
	if err != nil {
		return fmt.Errorf("read program %s: %w", name, err)
	}
	for _, lib := range needed {
		if err := t.addLibrary(files, lib, folders); err != nil {
			return fmt.Errorf("%s needs: %w", name, err)
		}
	}
	return nil
}

func (t tree) addLibrary(files map[string]string, lib string, folders []string) error {
	for _, dir := range folders {
		p := path.Join(dir, lib)
		if _, err := t.resolve(p); err == nil {
			return t.addProgram(files, p)
		}
	}
	return fmt.Errorf("%w: %s", ErrNoFile, lib)
}

// folders lists where ld.so(8) looks for the libraries of f, which lies at name.
func (t tree) folders(f *elf.File, name string) ([]string, error) {
	var all []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return nil, err
		}
		for _, list := range paths {
			for _, p := range strings.Split(list, ":") {
				all = append(all, strings.ReplaceAll(p, "$ORIGIN", path.Dir(name)))
			}
		}
	}
	return append(all, "/lib/"+t.triplet, "/usr/lib/"+t.triplet, "/lib", "/usr/lib"), nil
}

func interpreter(f *elf.File) (string, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return "", err
		}
		return strings.TrimRight(string(b), "\x00"), nil
	}
	return "", nil
}
