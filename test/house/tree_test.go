// SPDX-License-Identifier: Apache-2.0

package house

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cellward/cellward"

// goFile is a parsed source file.
type goFile struct {
	path      string // from the root of the tree, with slashes
	test      bool   // a _test.go file
	generated bool
	ast       *ast.File
}

// unit is the files of one package clause in one folder: a package, or its external tests.
type unit struct {
	dir   string // from the root of the tree, with slashes
	name  string
	files []*goFile
}

// testOnly reports whether the package is for tests alone: it lies in room test, or its name says so.
func testOnly(dir string) bool {
	return room(dir) == "test" || strings.HasSuffix(dir, "test") || path.Base(dir) == "testrun"
}

// room returns the folder at the top of the tree in which dir lies.
func room(dir string) string {
	top, _, _ := strings.Cut(dir, "/")
	return top
}

// root returns the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod in this folder or above it")
		}
		dir = up
	}
}

// sources returns the paths of all files of the tree, from its root. What .gitignore names is not part of it.
func sources(t *testing.T) (paths []string) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // another process's temporary file
			}
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == ".git" || rel == "bin" || path.Base(rel) == "__pycache__" || strings.HasSuffix(rel, "testdata/rapid") {
				return fs.SkipDir
			}
			return nil
		}
		switch path.Ext(rel) {
		case ".test", ".prof", ".pyc":
			return nil
		}
		if d.Type().IsRegular() && rel != "coverage.out" && rel != ".git" {
			paths = append(paths, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 100 {
		t.Fatalf("only %d files in %s: that is not the tree", len(paths), top)
	}
	return paths
}

// read returns the content of a file of the tree.
func read(t *testing.T, rel string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(rel)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// units parses all Go files of the tree that belong to packages.
func units(t *testing.T) (*token.FileSet, []*unit) {
	t.Helper()
	fset := token.NewFileSet()
	type key struct {
		dir      string
		external bool
	}
	byKey := make(map[key]*unit)
	for _, p := range sources(t) {
		dir := path.Dir(p)
		if path.Ext(p) != ".go" || hidden(dir) {
			continue
		}
		f, err := parser.ParseFile(fset, p, read(t, p), parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		k := key{dir, strings.HasSuffix(f.Name.Name, "_test")}
		u := byKey[k]
		if u == nil {
			u = &unit{dir: dir, name: f.Name.Name}
			byKey[k] = u
		}
		u.files = append(u.files, &goFile{
			path: p, test: strings.HasSuffix(p, "_test.go"), generated: ast.IsGenerated(f), ast: f,
		})
	}
	all := slices.Collect(maps.Values(byKey))
	slices.SortFunc(all, func(a, b *unit) int { return strings.Compare(a.dir+a.name, b.dir+b.name) })
	return fset, all
}

// hidden reports whether the go tool leaves a folder out.
func hidden(dir string) bool {
	for _, e := range strings.Split(dir, "/") {
		if e == "testdata" || e != "." && (strings.HasPrefix(e, ".") || strings.HasPrefix(e, "_")) {
			return true
		}
	}
	return false
}
