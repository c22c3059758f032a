// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cellward/cellward/agent/event"
)

// Facility is the syslog facility of all messages: security (RFC 5424, 6.2.1).
const Facility = 10

// DefaultEnterprise is the private enterprise number in the name of the structured data: the one that RFC 5612 reserves for
// documentation. An installation with a number of its own sets it.
const DefaultEnterprise = 32473

// Syslog writes records as RFC 5424 messages.
type Syslog struct {
	Host       string // "" is written as the nil value "-"
	PID        int    // 0 likewise
	Enterprise uint32 // 0: DefaultEnterprise
}

// Append appends a message, without any framing. It has the kind as MSGID and all fields as structured data.
func (s Syslog) Append(dst []byte, r *event.Record) []byte {
	enterprise, pid := s.Enterprise, "-"
	if enterprise == 0 {
		enterprise = DefaultEnterprise
	}
	if s.PID > 0 {
		pid = strconv.Itoa(s.PID)
	}
	dst = fmt.Appendf(dst, "<%d>1 %s %s cellward %s %s [cellward@%d", Facility*8+syslogSeverity(r.Severity),
		r.Last.Time().Format("2006-01-02T15:04:05.000000Z"), printable(s.Host, 255), pid, r.Kind, enterprise)
	for _, p := range pairs(r) {
		dst = append(dst, ' ')
		dst = append(dst, p.name...)
		dst = append(dst, '=', '"')
		for i := range len(p.value) {
			if c := p.value[i]; c == '"' || c == '\\' || c == ']' { // RFC 5424, 6.3.3
				dst = append(dst, '\\')
			}
			dst = append(dst, p.value[i])
		}
		dst = append(dst, '"')
	}
	dst = append(dst, "] "...)
	return append(dst, message(r)...)
}

// printable makes a field of the header: printable ASCII without space, "-" for nothing (RFC 5424, 6).
func printable(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}
