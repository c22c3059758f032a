// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// column is a column of a table.
type column struct {
	title string
	right bool
	least int // width below which it is of no use
	most  int // 0: as wide as its widest cell
	// give says when it is made narrower, down to least, where there is too little room: 1 is the first; 0: never.
	give int
	// rank says when it is left out where that is not enough: the highest is the first; 0: never.
	rank int
	// fill, if not nil, makes the cell of a row for whatever width is left; such a column comes last.
	fill  func(row, width int) string
	cells []string
}

// layout returns the widths of the columns in a given width, 0 for those that are left out. One blank is between two.
func layout(columns []column, width int) []int {
	w := make([]int, len(columns))
	need := func() (n int) {
		for _, x := range w {
			if x > 0 {
				n += x + 1
			}
		}
		return n - 1
	}
	for i, c := range columns {
		w[i] = max(1, ansi.StringWidth(c.title), c.least)
		for _, s := range c.cells {
			w[i] = max(w[i], ansi.StringWidth(s))
		}
		if c.most > 0 {
			w[i] = min(w[i], max(c.most, c.least))
		}
	}
	wanted := slices.Clone(w)
	for give := 1; give <= len(columns); give++ {
		for i, c := range columns {
			if c.give == give {
				w[i] = max(min(c.least, w[i]), w[i]-max(0, need()-width))
			}
		}
	}
	for rank := len(columns); rank > 0 && need() > width; rank-- {
		for i, c := range columns {
			if c.rank == rank {
				w[i] = 0
			}
		}
	}
	// Room that a column has left behind goes to those that gave, the last first.
	for give := len(columns); give > 0; give-- {
		for i, c := range columns {
			if c.give == give && w[i] > 0 {
				w[i] = min(wanted[i], w[i]+max(0, width-need()))
			}
		}
	}
	last := len(columns) - 1
	if columns[last].fill != nil && w[last] > 0 {
		w[last] += max(0, width-need())
	}
	return w
}

// table writes a heading and the rows from first on, no more than rows of them.
func table(columns []column, width, first, rows int) (heading string, lines []string) {
	w := layout(columns, width)
	var titles []string
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	heading = row(columns, w, titles)
	for r := first; r < first+rows; r++ {
		var cells []string
		for i, c := range columns {
			switch {
			case c.fill != nil && w[i] > 0:
				cells = append(cells, c.fill(r, w[i]))
			case c.fill != nil:
				cells = append(cells, "")
			default:
				cells = append(cells, c.cells[r])
			}
		}
		lines = append(lines, row(columns, w, cells))
	}
	return heading, lines
}

func row(columns []column, w []int, cells []string) string {
	var b strings.Builder
	for i, s := range cells {
		if w[i] == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(cell(s, w[i], columns[i].right))
	}
	return strings.TrimRight(b.String(), " ")
}

// cell brings s to a width.
func cell(s string, width int, right bool) string {
	if width <= 0 {
		return ""
	}
	s = cut(s, width)
	pad := strings.Repeat(" ", width-ansi.StringWidth(s))
	if right {
		return pad + s
	}
	return s + pad
}

// cut shortens s to a width, and says so with a mark.
func cut(s string, width int) string {
	if ansi.StringWidth(s) <= width {
		return s
	}
	return ansi.Truncate(s, width, "~")
}

// clean makes text of others harmless to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
