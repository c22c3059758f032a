// SPDX-License-Identifier: Apache-2.0

package house

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
)

// mention finds the sentence in which a package comment says what the package imports or may import.
var mention = regexp.MustCompile(`\bimports?\b`)

// commentFault says what is wrong with the package comments of one package, or nothing.
func commentFault(dir, name string, comments []string) string {
	if len(comments) != 1 {
		return fmt.Sprintf("has %d package comments, want one", len(comments))
	}
	begin := "Package " + name + " "
	if name == "main" {
		begin = "Command " + path.Base(dir) + " "
	}
	switch c := comments[0]; {
	case !strings.HasPrefix(c, begin):
		return fmt.Sprintf("its comment does not begin with %q", begin)
	case !mention.MatchString(c):
		return "its comment does not say what it may import"
	}
	return ""
}

func TestPackageComments(t *testing.T) {
	_, all := units(t)
	byDir := make(map[string]*unit)
	for _, u := range all { // external tests come last; they need no comment beside a package
		if strings.HasSuffix(u.name, "_test") && byDir[u.dir] != nil {
			continue
		}
		byDir[u.dir] = u
	}
	for _, u := range byDir {
		var comments []string
		for _, f := range u.files {
			if f.ast.Doc != nil && f.ast.Doc.Text() != "" {
				comments = append(comments, f.ast.Doc.Text())
			}
		}
		if fault := commentFault(u.dir, u.name, comments); fault != "" {
			t.Errorf("package %s: %s", u.dir, fault)
		}
	}
}

func TestCommentFault(t *testing.T) {
	good := "Package ring hands samples on.\n\nIt imports nothing of this module.\n"
	for _, c := range []struct {
		dir, name string
		comments  []string
		good      bool
	}{
		{"agent/ring", "ring", []string{good}, true},
		{"agent/ring", "ring", nil, false},
		{"agent/ring", "ring", []string{good, good}, false},
		{"agent/ring", "ring", []string{"Package ring is important."}, false},
		{"agent/ring", "ring", []string{"Package rings may import nothing."}, false},
		{"cmd/cellward", "main", []string{"Command cellward does it. It may import agent."}, true},
		{"cmd/cellward", "main", []string{"Package main does it. It may import agent."}, false},
	} {
		if fault := commentFault(c.dir, c.name, c.comments); (fault == "") != c.good {
			t.Errorf("%s, %q: %q", c.dir, c.comments, fault)
		}
	}
}
