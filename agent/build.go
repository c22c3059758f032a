// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/fips140"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// BuildInfo says what a binary was built from and what it can do on this machine: what a report of a fault needs.
type BuildInfo struct {
	Version string `json:"version"`
	// Commit, Time and Modified are those of the source, where the build knew them.
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	// Level is the architecture's feature level (GOAMD64, GOARM64).
	Level       string `json:"level,omitempty"`
	CGO         bool   `json:"cgo"`
	Experiments string `json:"experiments,omitempty"` // GOEXPERIMENT
	FIPS        bool   `json:"fips140"`

	Filter   FilterBuild `json:"filter"`
	Protocol int         `json:"protocol"`
	Ring     string      `json:"ring_layout"`
	// Engines are what can open batches on this CPU, the fastest first.
	Engines []string          `json:"engines"`
	Modules map[string]string `json:"modules"`
	Kernel  string            `json:"kernel"`
}

// FilterBuild says which filter the binary carries.
type FilterBuild struct {
	Object        string `json:"object_sha256"`
	LayoutVersion uint32 `json:"layout_version"`
	Layout        string `json:"layout"` // of the pinned maps; see PinStatus
	Error         string `json:"error,omitempty"`
}

// reportedModules are the modules whose version matters in a report.
func reportedModules() []string {
	return []string{"github.com/cilium/ebpf", "github.com/google/go-tpm", "github.com/mdlayher/netlink", "golang.org/x/sys"}
}

// Build reads what the linker left in the running binary.
func Build() BuildInfo {
	b := BuildInfo{
		Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, FIPS: fips140.Enabled(),
		Filter: filterBuild(), Protocol: spdu.Version, Ring: fmt.Sprintf("%d.%d", ring.MajorVersion, ring.MinorVersion),
		Engines: aead.Available(), Modules: make(map[string]string), Kernel: kernelRelease(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "CGO_ENABLED":
			b.CGO = s.Value == "1"
		case "GOEXPERIMENT":
			b.Experiments = s.Value
		case "GOAMD64", "GOARM64":
			b.Level = s.Value
		}
	}
	for _, m := range info.Deps {
		for _, name := range reportedModules() {
			if m.Path == name {
				b.Modules[name] = m.Version
			}
		}
	}
	return b
}

func filterBuild() FilterBuild {
	facts, err := loader.Facts()
	if err != nil {
		return FilterBuild{Error: err.Error()}
	}
	return FilterBuild{
		Object: hex.EncodeToString(facts.Object[:]), LayoutVersion: facts.LayoutVersion, Layout: hex.EncodeToString(facts.Layout[:]),
	}
}

// WriteText writes b as lines; the first is what other programs print, too.
func (b *BuildInfo) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "cellward %s (%s, %s/%s, cgo %t)\n", b.Version, b.Go, b.OS, b.Arch, b.CGO)
	commit := dash(b.Commit)
	if b.Modified {
		commit += " with changes"
	}
	fmt.Fprintf(t, "source\t%s\n", strings.TrimSpace(commit+" "+b.Time))
	if b.Filter.Error != "" {
		fmt.Fprintf(t, "filter\t%s\n", b.Filter.Error)
	} else {
		fmt.Fprintf(t, "filter\tsha256 %s\n", b.Filter.Object)
		fmt.Fprintf(t, "pinned maps\tlayout %d (%s)\n", b.Filter.LayoutVersion, b.Filter.Layout)
	}
	fmt.Fprintf(t, "protocol\tversion %d\n", b.Protocol)
	fmt.Fprintf(t, "ring\tlayout %s\n", b.Ring)
	fips := ""
	if b.FIPS {
		fips = " (FIPS 140-3 mode: std is used)"
	}
	fmt.Fprintf(t, "engines\t%s%s\n", strings.Join(b.Engines, ", "), fips)
	var modules []string
	for _, name := range reportedModules() {
		if v := b.Modules[name]; v != "" {
			modules = append(modules, name[strings.LastIndexByte(name, '/')+1:]+" "+v)
		}
	}
	fmt.Fprintf(t, "modules\t%s\n", dash(strings.Join(modules, ", ")))
	target := b.Level
	if b.Experiments != "" {
		target += " GOEXPERIMENT=" + b.Experiments
	}
	fmt.Fprintf(t, "target\t%s\n", dash(target))
	fmt.Fprintf(t, "kernel\t%s\n", b.Kernel)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write build facts: %w", err)
	}
	return nil
}
