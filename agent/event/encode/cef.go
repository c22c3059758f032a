// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
)

// CEF appends a record in ArcSight's Common Event Format, version 0. Fields for which the format has no key of its own are in
// the custom ones, with labels.
func CEF(dst []byte, r *event.Record) []byte {
	dst = fmt.Appendf(dst, "CEF:0|cellward|cellward|1|%s|%s|%d|", cefHeader(r.Kind.String()), cefHeader(r.Kind.Title()), cefSeverity(r.Severity))
	first := true
	put := func(key, value string) {
		if value == "" {
			return
		}
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = append(append(append(dst, key...), '='), cefValue(value)...)
	}
	number := func(key string, n uint64) {
		if n != 0 {
			put(key, strconv.FormatUint(n, 10))
		}
	}
	custom := func(key, label, value string) {
		if value != "" {
			put(key, value)
			put(key+"Label", label)
		}
	}
	put("rt", strconv.FormatInt(r.Last.Wall/1e6, 10))
	put("start", strconv.FormatInt(r.First.Wall/1e6, 10))
	put("end", strconv.FormatInt(r.Last.Wall/1e6, 10))
	number("cnt", r.Count)
	put("cat", r.Kind.Cause().String())
	put("act", r.Verdict)
	put("deviceInboundInterface", r.Interface)
	put("deviceExternalId", fmt.Sprintf("%x", r.BootID))
	custom("cs1", "source", r.Source)
	custom("cs2", "node", r.Node)
	custom("cs3", "canId", canID(r))
	custom("cs4", "frame", frame(r.Frame))
	custom("cs5", "dtc", r.Kind.DTC().String())
	custom("cs6", "autosar", r.Kind.Alias())
	for i, n := range [...]struct {
		label string
		value uint64
	}{{"stream", uint64(r.Stream)}, {"counter", r.Counter}, {"epoch", uint64(r.Epoch)}} {
		if n.value != 0 {
			custom(fmt.Sprintf("cn%d", i+1), n.label, strconv.FormatUint(n.value, 10))
		}
	}
	custom("flexString1", "policyHash", fmt.Sprintf("%x", r.PolicyHash))
	put("msg", message(r))
	return dst
}

// cefSeverity is on the scale from 0 to 10.
func cefSeverity(s kind.Severity) int {
	switch s {
	case kind.Critical:
		return 10
	case kind.High:
		return 8
	case kind.Medium:
		return 6
	case kind.Low:
		return 3
	}
	return 1
}

func cefHeader(s string) string {
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`).Replace(clean(s))
}

func cefValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `=`, `\=`).Replace(clean(s))
}
