// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const barWidth = 40

// progress says what is going on; on a terminal it also draws a bar.
type progress struct {
	out      *os.File
	terminal bool
	drawn    bool
}

func newProgress(out *os.File) *progress {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &progress{out: out, terminal: err == nil}
}

func (p *progress) line(format string, args ...any) {
	fmt.Fprintf(p.out, "demo: "+format+"\n", args...)
}

func (p *progress) bar(done, total uint64) {
	if !p.terminal || total == 0 {
		return
	}
	full := int(min(done, total) * barWidth / total)
	fmt.Fprintf(p.out, "\rdemo: [%s%s] %d of %d samples read", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, total)
	p.drawn = true
}

func (p *progress) endBar() {
	if p.drawn {
		fmt.Fprintln(p.out)
	}
}
