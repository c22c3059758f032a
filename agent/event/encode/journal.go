// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/cellward/cellward/agent/event"
)

// Journal appends a record in the native protocol of systemd's journal: MESSAGE, MESSAGE_ID (one for each kind), PRIORITY,
// SYSLOG_IDENTIFIER, and every field as CELLWARD_NAME.
func Journal(dst []byte, r *event.Record) []byte {
	dst = journalField(dst, "MESSAGE", message(r))
	dst = journalField(dst, "MESSAGE_ID", r.Kind.MessageID())
	dst = journalField(dst, "PRIORITY", strconv.Itoa(syslogSeverity(r.Severity)))
	dst = journalField(dst, "SYSLOG_IDENTIFIER", "cellward")
	dst = journalField(dst, "SYSLOG_FACILITY", strconv.Itoa(Facility))
	for _, p := range pairs(r) {
		dst = journalField(dst, "CELLWARD_"+strings.ToUpper(p.name), p.value)
	}
	return dst
}

// journalField appends one field: NAME=value and a line feed, or, for a value of several lines, the name on a line of its own and
// the value behind its length, u64 little-endian.
func journalField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	if strings.Contains(value, "\n") {
		dst = append(dst, '\n')
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(value)))
	} else {
		dst = append(dst, '=')
	}
	dst = append(dst, value...)
	return append(dst, '\n')
}
