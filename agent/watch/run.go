// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"
)

// ErrTerminal says that there is no terminal to draw on.
var ErrTerminal = errors.New("standard input and output are no terminal: use -o json, or cellward status")

// Options for Run. The zero value draws once a second.
type Options struct {
	// Interval between two looks; 1 s if 0.
	Interval time.Duration
	// ASCII keeps sparklines to ASCII; without it the locale decides.
	ASCII bool
}

const defaultInterval = time.Second

// Run shows what source reads on the terminal of in and out until the user quits or ctx ends, and leaves the terminal as it was.
func Run(ctx context.Context, source *Source, in, out *os.File, o Options) error {
	for _, f := range []*os.File{in, out} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
			return ErrTerminal
		}
	}
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	s := &screen{ctx: ctx, model: NewModel(o.ASCII || !utf8Locale(os.Environ())), source: source, interval: o.Interval}
	p := tea.NewProgram(s, tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler())
	defer context.AfterFunc(ctx, p.Quit)()
	if _, err := p.Run(); err != nil {
		return fmt.Errorf("run terminal view: %w", err)
	}
	return nil
}

// utf8Locale goes by the first of the variables that is set, as setlocale(3) does.
func utf8Locale(environ []string) bool {
	value := make(map[string]string)
	for _, e := range environ {
		name, v, _ := strings.Cut(e, "=")
		value[name] = v
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := value[name]; v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// WriteJSON writes one snapshot a line until count are written (0: no end) or ctx ends.
func WriteJSON(ctx context.Context, source *Source, out io.Writer, interval time.Duration, count int) error {
	if interval <= 0 {
		interval = defaultInterval
	}
	select {
	case <-source.asked: // so that the first object has the values too
	case <-ctx.Done():
	}
	e := json.NewEncoder(out)
	for n := 1; ctx.Err() == nil; n++ {
		s := source.Read(ctx)
		if ctx.Err() != nil {
			return nil // cut short
		}
		if err := e.Encode(s); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		if n == count {
			return nil
		}
		sleep(ctx, interval)
	}
	return nil
}

// screen is the model in the terms of Bubble Tea.
type screen struct {
	ctx      context.Context
	model    *Model
	source   *Source
	interval time.Duration
}

type (
	looked Snapshot
	due    struct{}
)

func (s *screen) look() tea.Msg { return looked(s.source.Read(s.ctx)) }

// Init asks for the first snapshot.
func (s *screen) Init() tea.Cmd { return s.look }

// Update gives the model what happened.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case looked:
		s.model.Take(Snapshot(msg))
		return s, tea.Tick(s.interval, func(time.Time) tea.Msg { return due{} })
	case due:
		return s, s.look
	case tea.WindowSizeMsg:
		s.model.Resize(msg.Width, msg.Height)
	case tea.KeyPressMsg:
		if s.model.Key(msg.String()) {
			return s, tea.Quit
		}
	}
	return s, nil
}

// View draws the model. Styles are bold and reverse, never a colour.
func (s *screen) View() tea.View {
	var b strings.Builder
	for i, l := range s.model.Lines() {
		if i > 0 {
			b.WriteByte('\n')
		}
		switch l.Style {
		case Plain:
			b.WriteString(l.Text)
		case Heading, Selected: // not reverse: that would turn a sparkline upside down
			b.WriteString("\x1b[1m" + l.Text + "\x1b[0m")
		case Alarm:
			b.WriteString("\x1b[1;7m" + l.Text + "\x1b[0m")
		}
	}
	v := tea.NewView(b.String())
	v.AltScreen = true
	return v
}
