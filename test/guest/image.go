// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/cellward/cellward/test/guest/wire"
)

// image is an initramfs in the making (Documentation/driver-api/early-userspace/buffer-format.rst).
type image struct {
	records map[string]cpio.Record // by path without the leading slash
}

func newImage() *image { return &image{records: make(map[string]cpio.Record)} }

// add puts a file at a path, with all folders above it.
func (i *image) add(name string, content []byte, mode uint64) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	i.folder(path.Dir(name))
	i.records[name] = cpio.StaticFile(name, string(content), mode)
}

func (i *image) folder(name string) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "." || name == "" {
		return
	}
	if _, ok := i.records[name]; !ok {
		i.folder(path.Dir(name))
		i.records[name] = cpio.Directory(name, 0o755)
	}
}

// addFile puts a file of this machine at a path.
func (i *image) addFile(name, from string, mode uint64) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("put %s into the initramfs: %w", name, err)
	}
	i.add(name, b, mode)
	return nil
}

// write writes the archive to a file: folders come before what they hold.
func (i *image) write(to string) error {
	f, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	w := cpio.Newc.Writer(f)
	for _, name := range slices.Sorted(maps.Keys(i.records)) {
		if err := w.WriteRecord(cpio.MakeReproducible(i.records[name])); err != nil {
			_ = f.Close()
			return fmt.Errorf("write initramfs: %s: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		_ = f.Close()
		return fmt.Errorf("write initramfs: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// imageFor puts together what a guest of s needs for a job.
func (s *System) imageFor(j *Job) (*image, error) {
	i := newImage()
	// The programs' own packages have them elsewhere; here one folder is enough.
	t := tree{root: s.root, triplet: s.arch.triplet}
	for _, p := range j.Programs {
		files, err := t.program(p)
		if err != nil {
			return nil, fmt.Errorf("packages of %s: %w", s.Kernel, err)
		}
		for name, from := range files {
			if err := i.addFile(name, from, 0o755); err != nil {
				return nil, err
			}
		}
	}
	for name, from := range j.Files {
		if err := i.addFile(name, from, 0o755); err != nil {
			return nil, err
		}
	}
	names := j.Modules
	if j.TPM && s.arch.virtualTPM {
		names = append(slices.Clone(names), "tpm_vtpm_proxy")
	}
	mods, err := openModules(s.mods)
	if err != nil {
		return nil, err
	}
	order, err := mods.load(names...)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", s.Kernel, err)
	}
	job := wire.Job{Command: j.Command, Env: j.Env, Dir: j.Dir, WantTPM: j.TPM, VirtualTPM: j.TPM && s.arch.virtualTPM}
	for _, m := range order {
		p := "/modules/" + m.name + ".ko"
		i.add(p, m.content, 0o644)
		job.Modules = append(job.Modules, p)
	}
	text, err := json.Marshal(job)
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	i.add(wire.JobPath, text, 0o644)
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "root"} {
		i.folder(d)
	}
	return i, i.addFile("/init", j.Init, 0o755)
}
