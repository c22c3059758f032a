// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// keyring holds the keys that Debian signs its releases with; package debian-archive-keyring.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Errors of fetching packages.
var (
	ErrNoMirror = errors.New("apt on this machine has no Debian mirror: name one with -mirror")
	ErrKeyring  = errors.New(keyring + " is missing: install debian-archive-keyring")
)

// packages lists what a guest's programs come from, besides the kernel.
func packages() []string { return []string{"can-utils", "swtpm"} }

// archive is apt with sources, lists and packages of its own in a folder: nothing that the machine has installed or configured
// counts but how its apt reaches the network, and it may be of another release and architecture.
type archive struct{ dir string }

func (a archive) debs() string { return filepath.Join(a.dir, "archives") }

func openArchive(dir string, k Kernel, mirror string) (archive, error) {
	a := archive{dir: dir}
	if _, err := os.Stat(keyring); err != nil {
		return a, fmt.Errorf("%w (%w)", ErrKeyring, err)
	}
	for _, d := range []string{"lists/partial", "archives/partial", "none"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return a, fmt.Errorf("make folder for packages: %w", err)
		}
	}
	files := map[string]string{
		"status":       "", // nothing is installed, so that dependencies are fetched whole
		"sources.list": fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, k.Release),
		"apt.conf":     aptConfig(dir, k.Arch),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return a, fmt.Errorf("configure apt: %w", err)
		}
	}
	return a, nil
}

// aptConfig is read after the machine's own configuration (apt.conf(5)).
func aptConfig(dir, arch string) string {
	lines := []string{`#clear APT::Architectures;`}
	for _, o := range [][2]string{
		{"APT::Architecture", arch},
		{"APT::Architectures::", arch},
		{"APT::Install-Recommends", "false"},
		{"APT::Sandbox::User", "root"}, // only root can change to the user of apt's, who may not enter a user's cache
		{"Acquire::Languages", "none"},
		{"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false"},
		{"Acquire::IndexTargets::deb::CNF::DefaultEnabled", "false"},
		{"Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", "false"},
		{"Acquire::Retries", "3"},
		{"Debug::NoLocking", "true"}, // whoever uses the folder holds a lock of ours
		{"Dir::Etc::sourcelist", filepath.Join(dir, "sources.list")},
		{"Dir::Etc::sourceparts", filepath.Join(dir, "none")},
		{"Dir::Etc::preferences", filepath.Join(dir, "none", "preferences")},
		{"Dir::Etc::preferencesparts", filepath.Join(dir, "none")},
		{"Dir::State", dir},
		{"Dir::State::lists", filepath.Join(dir, "lists")},
		{"Dir::State::status", filepath.Join(dir, "status")},
		{"Dir::Cache", dir},
		{"Dir::Cache::archives", filepath.Join(dir, "archives")},
		{"Dir::Cache::pkgcache", ""},
		{"Dir::Cache::srcpkgcache", ""},
		{"Dir::Log", dir},
	} {
		lines = append(lines, fmt.Sprintf("%s %q;", o[0], o[1]))
	}
	return strings.Join(lines, "\n") + "\n"
}

// run runs one of apt's programs and returns its standard output.
func (a archive) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"-c", filepath.Join(a.dir, "apt.conf"), "-q"}, args...)...)
	cmd.Dir = a.debs()
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	return output(cmd)
}

// output runs a command; what it wrote to its standard error becomes part of the error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[:min(len(cmd.Args), 6)], " "), err, lastLines(errs.String(), 8))
	}
	return out, nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// update fetches the lists. Without this option apt only warns of a mirror that it cannot reach.
func (a archive) update(ctx context.Context) error {
	_, err := a.run(ctx, "apt-get", "-oAPT::Update::Error-Mode=any", "update")
	return err
}

// image returns the package of the kernel.
func (a archive) image(ctx context.Context, k Kernel) (string, error) {
	out, err := a.run(ctx, "apt-cache", "depends", "--important", k.metaPackage())
	if err != nil {
		return "", err
	}
	for _, m := range regexp.MustCompile(`(?m)^ *Depends: (\S+)$`).FindAllStringSubmatch(string(out), -1) {
		if k.isImage(m[1]) {
			return m[1], nil
		}
	}
	return "", fmt.Errorf("%s of %s depends on no kernel %s: %q", k.metaPackage(), k.Release, k, out)
}

// fetch fetches the kernel and the programs with all that they depend on, removes what is of former versions, and returns the
// paths of all packages.
func (a archive) fetch(ctx context.Context, k Kernel) ([]string, error) {
	image, err := a.image(ctx, k)
	if err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "apt-get", "autoclean"); err != nil {
		return nil, err
	}
	if err := a.keepKernel(image); err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "apt-get", append([]string{"install", "--yes", "--download-only"}, packages()...)...); err != nil {
		return nil, err
	}
	// By itself: it depends on tools that make an initramfs, and its own is not made by them.
	if _, err := a.run(ctx, "apt-get", "download", image); err != nil {
		return nil, err
	}
	return a.list()
}

// keepKernel removes kernels other than the one in package image: each update of a kernel is a package of another name, and the one
// before stays in the archive, so autoclean leaves it.
func (a archive) keepKernel(image string) error {
	debs, err := a.list()
	if err != nil {
		return err
	}
	for _, d := range debs {
		if name := filepath.Base(d); strings.HasPrefix(name, "linux-image-") && !strings.HasPrefix(name, image+"_") {
			if err := os.Remove(d); err != nil {
				return fmt.Errorf("remove former kernel: %w", err)
			}
		}
	}
	return nil
}

// list returns the packages that are there, sorted.
func (a archive) list() ([]string, error) {
	debs, err := filepath.Glob(filepath.Join(a.debs(), "*.deb"))
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	slices.Sort(debs)
	return debs, nil
}

// machineMirror returns the mirror of Debian's main archive that apt on this machine uses. Any release of it will do: mirrors
// carry all of them.
func machineMirror(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := output(cmd)
	if err != nil {
		return "", err
	}
	return pickMirror(string(out))
}

// pickMirror looks through lines of a repository's address, a release and a component for one of Debian's own releases.
func pickMirror(targets string) (string, error) {
	releases := []string{
		"bookworm", "trixie", "forky", "duke", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable",
	}
	for _, line := range strings.Split(targets, "\n") {
		f := strings.Fields(line)
		if len(f) == 3 && slices.Contains(releases, f[1]) && f[2] == "main" {
			return f[0], nil
		}
	}
	return "", ErrNoMirror
}
