// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"
)

func TestIsImage(t *testing.T) {
	amd64, arm64 := Kernel{Version: "6.1", Arch: "amd64"}, Kernel{Version: "6.12", Arch: "arm64"}
	for _, c := range []struct {
		k    Kernel
		name string
		want bool
	}{
		{amd64, "linux-image-6.1.0-50-amd64", true},
		{amd64, "linux-image-6.1.0-50-cloud-amd64", false},
		{amd64, "linux-image-6.1.0-50-rt-amd64", false},
		{amd64, "linux-image-6.1.0-50-amd64-dbg", false},
		{amd64, "linux-image-6.12.107+deb13-amd64", false},
		{amd64, "linux-image-6.1.0-50-arm64", false},
		{amd64, "linux-image-amd64", false},
		{arm64, "linux-image-6.12.107+deb13-arm64", true},
		{arm64, "linux-image-6.12.107+deb13-arm64-16k", false},
		{arm64, "linux-image-6.12.107+deb13-rt-arm64", false},
		{arm64, "linux-image-6.1.0-50-arm64", false},
	} {
		if got := c.k.isImage(c.name); got != c.want {
			t.Errorf("%s, %s: %v", c.k, c.name, got)
		}
	}
}

func TestPickMirror(t *testing.T) {
	for _, c := range []struct {
		targets, want string
	}{
		{"http://a.example/debian/ bookworm main\nhttp://b.example/debian/ trixie main\n", "http://a.example/debian/"},
		{"http://a.example/debian-security/ bookworm-security main\nhttp://b.example/debian/ bookworm main\n", "http://b.example/debian/"},
		{"https://n.example/node nodistro main\nhttp://b.example/debian/ sid contrib\nhttp://c.example/debian/ sid main\n", "http://c.example/debian/"},
		{"http://a.example/ubuntu/ noble main\n", ""},
		{"", ""},
	} {
		got, err := pickMirror(c.targets)
		if got != c.want || (c.want == "") != errors.Is(err, ErrNoMirror) {
			t.Errorf("%q: %q, %v; want %q", c.targets, got, err, c.want)
		}
	}
}

// write puts files into a folder; a name that ends in "@" is a link to its content.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		link := strings.HasSuffix(name, "@")
		p := filepath.Join(dir, strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link {
			err = os.Symlink(content, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestResolve(t *testing.T) {
	dir := write(t, map[string]string{
		"usr/lib/t/libc.so.6":     "c",
		"usr/lib/t/libx.so@":      "libx.so.1",
		"usr/lib/t/libx.so.1":     "x",
		"usr/lib/abs@":            "/usr/lib/t",
		"usr/lib64/ld.so@":        "../lib/t/libc.so.6",
		"usr/lib/t/out@":          "../../../../../../etc/passwd",
		"usr/lib/t/loop@":         "loop",
		"usr/lib/t/nowhere.so.1@": "missing",
	})
	tr := tree{root: dir, triplet: "t"}
	for _, c := range []struct{ name, want string }{
		{"/usr/lib/t/libc.so.6", "usr/lib/t/libc.so.6"},
		{"/lib/t/libc.so.6", "usr/lib/t/libc.so.6"},
		{"/usr/lib/t/libx.so", "usr/lib/t/libx.so.1"},
		{"/usr/lib/abs/libx.so", "usr/lib/t/libx.so.1"},
		{"/lib64/ld.so", "usr/lib/t/libc.so.6"},
		{"/usr/lib/t/out", ""},
		{"/usr/lib/t/loop", ""},
		{"/usr/lib/t/nowhere.so.1", ""},
		{"/nothing", ""},
	} {
		got, err := tr.resolve(c.name)
		if c.want == "" {
			if !errors.Is(err, ErrNoFile) {
				t.Errorf("%s: %s, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || got != filepath.Join(dir, c.want) {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

// TestProgram takes a program of this machine: what ld.so lists for it must be found.
func TestProgram(t *testing.T) {
	const sh = "/usr/bin/apt-get"
	a, err := archOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/usr/lib/" + a.triplet); err != nil {
		if a, err = archOf("arm64"); err != nil {
			t.Fatal(err)
		}
	}
	files, err := tree{root: "/", triplet: a.triplet}.program(sh)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{sh, "libc.so.6", "ld-linux", "libapt-pkg", "libz.so"} { // libz comes by way of libapt-pkg
		found := false
		for name := range files {
			found = found || strings.Contains(name, want)
		}
		if !found {
			t.Errorf("no %s among %v", want, files)
		}
	}
	if _, err := (tree{root: t.TempDir()}).program(sh); !errors.Is(err, ErrNoFile) {
		t.Errorf("of an empty tree: %v", err)
	}
}

func TestModuleFiles(t *testing.T) {
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "content"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{
		"kernel/a.ko": "content", "kernel/net/b-c.ko.xz": packed.String(), "kernel/d.ko.zst": "", "kernel/e.ko.xz": packed.String()[:packed.Len()-14],
		"modules.builtin": "kernel/lib/built-in.ko\n",
	})
	for name, good := range map[string]bool{"a.ko": true, "net/b-c.ko.xz": true, "d.ko.zst": false, "e.ko.xz": false, "f.ko": false} {
		b, err := readModule(filepath.Join(dir, "kernel", name))
		if (err == nil) != good || good && string(b) != "content" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	tr, err := openModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tr.paths["b_c"] == "" || len(tr.paths) != 4 {
		t.Errorf("modules %v", tr.paths)
	}
	if all, err := tr.load("built-in"); err != nil || len(all) != 0 {
		t.Errorf("built in: %v, %v", all, err)
	}
	if _, err := tr.load("none"); !errors.Is(err, ErrNoModule) {
		t.Errorf("missing: %v", err)
	}
	if _, err := tr.load("a"); err == nil {
		t.Error("a text file passes for a module")
	}
}

func TestImage(t *testing.T) {
	i := newImage()
	i.add("/usr/bin/x", []byte("program"), 0o755)
	i.add("a", nil, 0o644)
	i.folder("/proc")
	to := filepath.Join(t.TempDir(), "initrd")
	if err := i.write(to); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(f))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	if want := []string{"a", "proc", "usr", "usr/bin", "usr/bin/x"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	if r := records[len(records)-1]; r.Mode&0o7777 != 0o755 || r.FileSize != 7 {
		t.Errorf("%+v", r.Info)
	}
}

// A kernel's update is a package of another name: only one may be left, or nobody knows which is to be booted.
func TestKeepKernel(t *testing.T) {
	a := archive{dir: t.TempDir()}
	if err := os.Mkdir(a.debs(), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"linux-image-6.12.107+deb13-amd64_6.12.107-1_amd64.deb", "linux-image-6.12.11+deb13-amd64_6.12.11-1_amd64.deb",
		"linux-image-6.12.117+deb13-amd64_6.12.117-1_amd64.deb", "swtpm_0.7.1-1.5_amd64.deb",
	} {
		if err := os.WriteFile(filepath.Join(a.debs(), name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.keepKernel("linux-image-6.12.117+deb13-amd64"); err != nil {
		t.Fatal(err)
	}
	left, err := a.list()
	want := []string{
		filepath.Join(a.debs(), "linux-image-6.12.117+deb13-amd64_6.12.117-1_amd64.deb"), filepath.Join(a.debs(), "swtpm_0.7.1-1.5_amd64.deb"),
	}
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v, %v, want %v", left, err, want)
	}
}
