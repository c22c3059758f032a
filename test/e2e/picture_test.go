// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// span is text of one style on a screen.
type span struct {
	text          string
	bold, reverse bool
}

// spans takes apart a line of `tmux capture-pane -e`, which has SGR sequences (ECMA-48, 8.3.117) and no others. The style goes on
// to the next line.
func (s *span) spans(line string) (all []span) {
	for {
		before, rest, found := strings.Cut(line, "\x1b[")
		if before != "" {
			all = append(all, span{before, s.bold, s.reverse})
		}
		if !found {
			return all
		}
		var sgr string
		sgr, line, _ = strings.Cut(rest, "m")
		for _, p := range strings.Split(sgr, ";") {
			switch p {
			case "0", "":
				s.bold, s.reverse = false, false
			case "1":
				s.bold = true
			case "7":
				s.reverse = true
			case "27":
				s.reverse = false
			}
		}
	}
}

// plainScreen is a screen without its styles, and without blanks at the ends of lines.
func plainScreen(styled string) string {
	var style span
	var b strings.Builder
	for line := range strings.Lines(styled) {
		var l strings.Builder
		for _, s := range style.spans(strings.TrimSuffix(line, "\n")) {
			l.WriteString(s.text)
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	return b.String()
}

// drawScreen draws a screen as SVG: a text element for each piece of a style, at its place.
func drawScreen(styled string) []byte {
	const width, height, margin, baseline = 8.4, 18, 12, 13
	lines := strings.Split(strings.TrimSuffix(styled, "\n"), "\n")
	var b strings.Builder
	columns := 80
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">`+"\n",
		width*float64(columns)+2*margin, height*len(lines)+2*margin)
	b.WriteString(`<rect width="100%" height="100%" rx="6" fill="#1c1c1c"/>` + "\n")
	var style span
	for row, line := range lines {
		column := 0
		for _, s := range style.spans(line) {
			n := utf8.RuneCountInString(s.text)
			x, y := margin+width*float64(column), margin+height*row
			fill, weight := "#e4e4e4", ""
			if s.reverse {
				fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#e4e4e4"/>`+"\n", x, y, width*float64(n), height)
				fill = "#1c1c1c"
			}
			if s.bold {
				weight = ` font-weight="bold"`
			}
			if strings.TrimSpace(s.text) != "" {
				fmt.Fprintf(&b, `<text x="%.1f" y="%d" textLength="%.1f" fill="%s"%s data-at="%d,%d">`, x, y+baseline, width*float64(n), fill, weight, row, column)
				_ = xml.EscapeText(&b, []byte(s.text)) // a strings.Builder takes everything
				b.WriteString("</text>\n")
			}
			column += n
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// textOfPicture returns the text that a picture of drawScreen shows, line by line.
func textOfPicture(t *testing.T, picture []byte) string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(picture)))
	var lines [][]rune
	row, column, inside := 0, 0, false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			inside = x.Name.Local == "text"
			for _, a := range x.Attr {
				if a.Name.Local == "data-at" {
					if _, err := fmt.Sscanf(a.Value, "%d,%d", &row, &column); err != nil {
						t.Fatal(err)
					}
				}
			}
		case xml.EndElement:
			inside = false
		case xml.CharData:
			if !inside {
				continue
			}
			for len(lines) <= row {
				lines = append(lines, nil)
			}
			for len(lines[row]) < column {
				lines[row] = append(lines[row], ' ')
			}
			lines[row] = append(lines[row], []rune(string(x))...)
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimRight(string(l), " ") + "\n")
	}
	return b.String()
}

func TestDrawScreen(t *testing.T) {
	const styled = "\x1b[1mhead <1>\x1b[0m  \n\n\x1b[7m> row\x1b[0m & ▁█\n\x1b[1;7malarm\n\x1b[0mend\n"
	const want = "head <1>\n\n> row & ▁█\nalarm\nend\n"
	if got := plainScreen(styled); got != want {
		t.Errorf("text %q", got)
	}
	picture := drawScreen(styled)
	if got := textOfPicture(t, picture); got != want {
		t.Errorf("picture shows %q", got)
	}
	if s := string(picture); strings.Count(s, "<rect") != 3 || strings.Count(s, `font-weight="bold"`) != 2 {
		t.Errorf("%s", s)
	}
}
