// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"

	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// Refusing says whether a verdict is a security event: a frame on a protected identifier that was not what it should be, or
// that could not be looked at. The others are traffic as it should be: frames that pass, candidates on their way, and the
// repeats of start records that every node sends.
func Refusing(v loader.Verdict) bool {
	switch v {
	case loader.Passed, loader.ErrorFrame, loader.OwnEcho, loader.Candidate, loader.Control, loader.Accepted,
		loader.StartKnown, loader.StartAccepted, loader.Reread:
		return false
	default:
		return true
	}
}

// reporter writes one structured line per event kind, interface and interval, with counts, never one per frame.
type reporter struct {
	log  *slog.Logger
	last map[string]loader.Counts
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, last: make(map[string]loader.Counts)}
}

// forget takes the next counts of an interface as the first.
func (r *reporter) forget(iface string) { delete(r.last, iface) }

// counts reports what was added to an interface's verdicts since the last call. The counters outlive the agent, so the first
// call only takes note.
func (r *reporter) counts(iface string, now loader.Counts) {
	last, known := r.last[iface]
	r.last[iface] = now
	if !known {
		return
	}
	for v := range now {
		verdict := loader.Verdict(v)
		added := now[v] - last[v]
		if added == 0 {
			continue
		}
		switch {
		case Refusing(verdict):
			r.log.Warn("frames refused", "event", verdict.String(), "interface", iface, "count", added, "total", now[v])
		case verdict == loader.StartAccepted:
			r.log.Info("node started", "event", verdict.String(), "interface", iface, "count", added, "total", now[v])
		case verdict == loader.Reread:
			r.log.Info("records read again after a restart", "event", verdict.String(), "interface", iface, "count", added, "total", now[v])
		}
	}
}

// deleted reports the deletions of an interval, one line per stream.
func (r *reporter) deleted(reports []gapReport) {
	type sum struct {
		stream *stream
		count  uint64
		first  replay.Report
		last   replay.Report
	}
	var order []*sum
	byStream := make(map[*stream]*sum)
	for _, g := range reports {
		s := byStream[g.stream]
		if s == nil {
			s = &sum{stream: g.stream, first: g.Report}
			byStream[g.stream] = s
			order = append(order, s)
		}
		s.count += g.Count()
		s.last = g.Report
	}
	for _, s := range order {
		r.log.Warn("samples deleted", "event", "deletion", "stream", s.stream.ID, "node", s.stream.node.name,
			"interface", s.stream.Interface.Name, "id", s.stream.CANID.String(), "count", s.count,
			"first", s.first.First, "last", s.last.Last)
	}
}

// losses reports samples that were committed and never published, which only the death of an agent between the two causes.
func (r *reporter) losses(s *stream) {
	lost := s.shared.Committed.Load() - s.shared.Published.Load()
	if lost != 0 {
		r.log.Warn("samples lost with an earlier agent", "event", "lost_in_crash", "stream", s.ID, "node", s.node.name, "total", lost)
	}
}
