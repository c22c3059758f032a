// SPDX-License-Identifier: Apache-2.0

package house

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
	"testing"
)

// A package-level variable is no state if nobody can change it or what it refers to. That is so if nothing in its package
// assigns to it, to a part of it, or takes its address, no other package assigns to a variable of an import, and it is
//
//   - blank (an interface assertion);
//   - filled by go:embed;
//   - the result of one of the functions of makers, such as a sentinel error or an expression;
//   - a constant, a function by name, or an array or struct made of such things; or
//   - unexported, a literal of a slice or map of such things, and nothing but indexed, ranged over and measured.
//
// In tests a flag is no state either: only the command line sets it.

// makers are functions whose results are immutable, or can be changed by assignment only.
func makers() []string {
	return []string{
		"errors.New", "fmt.Errorf", "regexp.MustCompile", "crypto/sha256.Sum256",
		"sync.OnceFunc", "sync.OnceValue", "sync.OnceValues", // computed once, at first use
	}
}

// state finds what is changeable at package level in one package.
type state struct {
	fset   *token.FileSet
	info   *types.Info
	pkg    *types.Package
	parent map[ast.Node]ast.Node
	// literals are slices and maps, to be read in place only.
	literals map[types.Object]bool
	faults   []string
}

func (s *state) fault(at ast.Node, format string, args ...any) {
	p := s.fset.Position(at.Pos())
	s.faults = append(s.faults, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
}

// noImports lets a package be looked at alone: names of other packages stay unresolved, its own do not.
type noImports struct{}

func (noImports) Import(p string) (*types.Package, error) {
	pkg := types.NewPackage(p, path.Base(p))
	pkg.MarkComplete()
	return pkg, nil
}

// stateFaults says what is changeable at package level in the files of one package, and which functions init it has.
func stateFaults(fset *token.FileSet, dir string, files []*goFile) []string {
	s := &state{
		fset: fset, parent: make(map[ast.Node]ast.Node), literals: make(map[types.Object]bool),
		info: &types.Info{
			Types: make(map[ast.Expr]types.TypeAndValue), Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object),
			Selections: make(map[*ast.SelectorExpr]*types.Selection),
		},
	}
	var trees []*ast.File
	for _, f := range files {
		trees = append(trees, f.ast)
	}
	// Errors are expected: imports are empty, and files of different platforms define the same names. What this needs is
	// there all the same.
	conf := types.Config{Importer: noImports{}, Error: func(error) {}, DisableUnusedImportCheck: true}
	s.pkg, _ = conf.Check(path.Join(module, dir), fset, trees, s.info)
	for _, f := range files {
		s.link(f.ast)
	}
	for _, f := range files {
		for _, d := range f.ast.Decls {
			s.declaration(d, f.test)
		}
	}
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				s.use(id)
			}
			return true
		})
	}
	return s.faults
}

// link notes the parent of every node.
func (s *state) link(f *ast.File) {
	var stack []ast.Node
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		if len(stack) > 0 {
			s.parent[n] = stack[len(stack)-1]
		}
		stack = append(stack, n)
		return true
	})
}

func (s *state) declaration(d ast.Decl, test bool) {
	if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
		s.fault(f, "func init")
	}
	g, ok := d.(*ast.GenDecl)
	if !ok || g.Tok != token.VAR {
		return
	}
	for _, spec := range g.Specs {
		v := spec.(*ast.ValueSpec)
		if embedded(g.Doc) || embedded(v.Doc) {
			continue
		}
		for i, name := range v.Names {
			if name.Name == "_" {
				continue
			}
			if len(v.Values) != len(v.Names) {
				s.fault(name, "%s has no value of its own from the beginning", name.Name)
				continue
			}
			value := v.Values[i]
			switch {
			case s.immutable(value):
			case s.literal(value) && !name.IsExported():
				if obj := s.info.Defs[name]; obj != nil {
					s.literals[obj] = true
				}
			case test && strings.HasPrefix(s.called(value), "flag."):
			default:
				s.fault(name, "%s can be changed", name.Name)
			}
		}
	}
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// called returns the import path and name of the function of another package that an expression calls, or "".
func (s *state) called(e ast.Expr) string {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		return ""
	}
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if p := s.imported(sel); p != "" {
		return p + "." + sel.Sel.Name
	}
	return ""
}

// imported returns the import path of the package in front of the dot, or "".
func (s *state) imported(sel *ast.SelectorExpr) string {
	if id, ok := sel.X.(*ast.Ident); ok {
		if p, ok := s.info.Uses[id].(*types.PkgName); ok {
			return p.Imported().Path()
		}
	}
	return ""
}

func (s *state) immutable(e ast.Expr) bool {
	if tv, ok := s.info.Types[e]; ok && tv.Value != nil && tv.Value.Kind() != constant.Unknown {
		return true
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		switch s.info.Uses[e].(type) {
		case *types.Func, *types.Nil:
			return true
		}
	case *ast.CallExpr:
		return slices.Contains(makers(), s.called(e))
	case *ast.CompositeLit:
		return s.made(e, func(t types.Type) bool {
			switch t.Underlying().(type) {
			case *types.Array, *types.Struct:
				return true
			}
			return false
		})
	}
	return false
}

// literal reports whether e is a slice or a map of immutable things.
func (s *state) literal(e ast.Expr) bool {
	c, ok := ast.Unparen(e).(*ast.CompositeLit)
	return ok && s.made(c, func(t types.Type) bool {
		switch t.Underlying().(type) {
		case *types.Slice, *types.Map:
			return true
		}
		return false
	})
}

// made reports whether a composite literal is of one of the kinds and made of immutable things.
func (s *state) made(c *ast.CompositeLit, kind func(types.Type) bool) bool {
	tv, ok := s.info.Types[c]
	if !ok || tv.Type == nil || !kind(tv.Type) {
		return false
	}
	for _, e := range c.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			e = kv.Value
		}
		if !s.immutable(e) {
			return false
		}
	}
	return true
}

// use looks at one place in which a package-level variable is named.
func (s *state) use(id *ast.Ident) {
	obj, _ := s.info.Uses[id].(*types.Var)
	own := obj != nil && s.pkg != nil && obj.Parent() == s.pkg.Scope()
	var at ast.Node = id
	if !own {
		// A variable of an import: the name behind the dot.
		sel, ok := s.parent[id].(*ast.SelectorExpr)
		if !ok || sel.X != id || s.imported(sel) == "" {
			return
		}
		at = sel
	}
	if own && s.literals[obj] && !s.readInPlace(at) {
		s.fault(id, "%s is a slice or a map and goes where it may be changed", id.Name)
	}
	sliced := false
	for { // up to what is changed: a field, an element, what it points at
		up := s.parent[at]
		switch p := up.(type) {
		case *ast.SelectorExpr:
			if s.throughPointer(p) {
				s.fault(id, "%s is called with the address of %s", p.Sel.Name, id.Name)
				return
			}
		case *ast.StarExpr, *ast.ParenExpr:
		case *ast.IndexExpr:
			if p.X != at {
				return
			}
		case *ast.SliceExpr:
			if p.X != at {
				return
			}
			sliced = true
		case *ast.UnaryExpr:
			if p.Op == token.AND {
				s.fault(id, "address of %s is taken", id.Name)
			}
			return
		case *ast.IncDecStmt:
			s.fault(id, "%s is changed", id.Name)
			return
		case *ast.AssignStmt:
			if p.Tok != token.DEFINE && slices.Contains(p.Lhs, at.(ast.Expr)) {
				s.fault(id, "%s is changed", id.Name)
			}
			s.arrayKept(id, obj, sliced)
			return
		case *ast.RangeStmt:
			if p.Tok == token.ASSIGN && (p.Key == at || p.Value == at) {
				s.fault(id, "%s is changed", id.Name)
			}
			return
		default:
			s.arrayKept(id, obj, sliced)
			return
		}
		at = up
	}
}

// throughPointer reports whether a method is called on the address of what stands in front of the dot.
func (s *state) throughPointer(sel *ast.SelectorExpr) bool {
	m, ok := s.info.Selections[sel]
	if !ok || m.Kind() != types.MethodVal {
		return false
	}
	_, onPointer := m.Obj().(*types.Func).Signature().Recv().Type().(*types.Pointer)
	_, isPointer := m.Recv().Underlying().(*types.Pointer)
	return onPointer && !isPointer
}

// arrayKept finds a slice of an array: it is as good as its address.
func (s *state) arrayKept(id *ast.Ident, obj *types.Var, sliced bool) {
	if !sliced || obj == nil || obj.Type() == nil {
		return
	}
	if _, ok := obj.Type().Underlying().(*types.Array); ok {
		s.fault(id, "address of %s is taken", id.Name)
	}
}

// readInPlace reports whether a slice or map is indexed, ranged over or measured, and nothing else.
func (s *state) readInPlace(at ast.Node) bool {
	switch p := s.parent[at].(type) {
	case *ast.IndexExpr:
		return p.X == at
	case *ast.RangeStmt:
		return p.X == at
	case *ast.CallExpr:
		f, ok := p.Fun.(*ast.Ident)
		return ok && f.Name == "len"
	}
	return false
}

func TestNoState(t *testing.T) {
	fset, all := units(t)
	for _, u := range all {
		for _, fault := range stateFaults(fset, u.dir, u.files) {
			t.Error(fault)
		}
	}
}

func TestStateFaults(t *testing.T) {
	for _, c := range []struct {
		source string
		test   bool
		faults int
	}{
		{`import "errors"; var ErrA = errors.New("a"); var ErrB = errors.Join(ErrA)`, false, 1},
		{`import "fmt"; var ErrA = fmt.Errorf("a: %w", nil)`, false, 0},
		{`import "errors"; var errA = errors.New("a"); func f() { errA = nil }`, false, 1},
		{`import "errors"; var errA = errors.New("a"); func f() { errA := error(nil); errA = nil; _ = errA }`, false, 0},
		{`import "errors"; var errA = errors.New("a"); func f(errA error) { errA = nil }`, false, 0},
		{`import "errors"; var errA = errors.New("a"); func f() *error { return &errA }`, false, 1},
		{`type I interface{}; var _ I = (*int)(nil)`, false, 0},
		{`var a int`, false, 1},
		{`var a int = 1; func f() { a++ }`, false, 1},
		{`var a = 1; func f() { for a = range 3 {} }`, false, 1},
		{`var a, b = f(); func f() (int, int) { return 1, 2 }`, false, 2},
		{`var a = func() {}`, false, 1},
		{`type T struct{ f func() }; var a = T{f: g}; func g() {}`, false, 0},
		{`var a = new(int)`, false, 1},
		{`type T struct{ n int }; var a = &T{1}`, false, 1},
		{`type T struct{ n int }; var a = T{1}; func f() int { return a.n }`, false, 0},
		{`type T struct{ n int }; var a = T{1}; func f() { a.n = 2 }`, false, 1},
		{`type T struct{ p *int }; var n = 1; var a = T{&n}`, false, 2},
		{`type T struct{ n int }; func (t *T) inc() { t.n++ }; var a = T{1}; func f() { a.inc() }`, false, 1},
		{`type T struct{ n int }; func (t T) get() int { return t.n }; var a = T{1}; func f() int { return a.get() }`, false, 0},
		{`var a = [2]int{1, 2}; func f() int { return a[1] }`, false, 0},
		{`var a = [2]int{1, 2}; func f() { a[1] = 3 }`, false, 1},
		{`var a = [2]int{1, 2}; func f() []int { return a[:] }`, false, 1},
		{`var a = [2]int{1, 2}; func f() { b := a[:]; b[0] = 1 }`, false, 1},
		{`var a = []int{1, 2}; func f() int { for range a {}; return a[len(a)-1] }`, false, 0},
		{`var a = []int{1, 2}; func f() []int { return a }`, false, 1},
		{`var a = []int{1, 2}; func f() { a[0] = 2 }`, false, 1},
		{`var A = []int{1, 2}`, false, 1},
		{`var a = map[string]int{"x": 1}; func f() int { return a["x"] }`, false, 0},
		{`var a = map[string]int{"x": 1}; func f() { delete(a, "x") }`, false, 1},
		{`var a = map[string][]int{"x": {1}}`, false, 1},
		{`import "regexp"; var a = regexp.MustCompile("x"); var b = struct{ r *regexp.Regexp }{regexp.MustCompile("y")}`, false, 0},
		{`import "sync"; var mu sync.Mutex`, false, 1},
		{`import "sync"; var a = sync.OnceValue(func() int { return 1 })`, false, 0},
		{`import _ "embed"
//go:embed x
var a []byte
func f() int { return len(a) }`, false, 0},
		{`import "flag"; var a = flag.Bool("a", false, "")`, true, 0},
		{`import "flag"; var a = flag.Bool("a", false, "")`, false, 1},
		{`import "flag"; var a = flag.Bool("a", false, ""); func f() { *a = true }`, true, 1},
		{`import "os"; func f() { os.Args = nil; os.Stdout.Sync() }`, false, 1},
		{`import "os"; func f() { os.Args[0] = "x" }`, false, 1},
		{`import "os"; func f() **os.File { return &os.Stdout }`, false, 1},
		{`func init() {}`, false, 1},
		{`type T struct{}; func (T) init() {}`, false, 0},
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "a.go", "package a\n"+c.source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(errors.Join(errors.New(c.source), err))
		}
		got := stateFaults(fset, "a", []*goFile{{path: "a.go", test: c.test, ast: f}})
		if len(got) != c.faults {
			t.Errorf("%s\n\t%q, want %d", c.source, got, c.faults)
		}
	}
}
