// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/loader"
)

func bpffsMounted(x *exam) {
	root := x.gateway().BPFFS
	if strings.ContainsRune(filepath.Base(root), '.') {
		x.fail(root, "the last name contains a dot, which a bpffs does not allow", "the agent does not start", "cellward policy show "+x.opts.Binding)
		return
	}
	on, err := loader.OnBPFFS(root)
	switch {
	case err != nil:
		x.unknown(root, err, x.asRoot())
	case on:
		x.ok(root, "lies in a bpffs")
	case x.has(unix.CAP_SYS_ADMIN):
		x.ok(root, "lies in no bpffs; the agent mounts one")
	default:
		x.fail(root, "lies in no bpffs, and this process may not mount one", "what is pinned keeps protecting when the agent is dead; without, it does not start",
			"mount -t bpf bpf "+loader.StandardBPFFS)
	}
}

func bpffsSafe(x *exam) {
	root := x.gateway().BPFFS
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return // the agent makes it, for itself alone
	}
	switch at, err := untrusted(root, x.owner()); {
	case err != nil:
		x.unknown(root, err, x.asRoot())
	case at != nil:
		x.fail(root, at.What(), "who removes the pinned link opens the bus", at.Help)
	default:
		x.ok(root, "may be changed by root, the agent's user and this user only")
	}
}

func bpffsForeign(x *exam) {
	if x.inspection == nil {
		return
	}
	if len(x.inspection.Foreign) == 0 {
		x.ok("", "every name is the agent's")
		return
	}
	x.warn("", "not the agent's: "+strings.Join(x.inspection.Foreign, ", "), "somebody works in the agent's folder, and detach leaves the folder behind",
		"ls -lR "+x.inspection.Root)
}

func pinsUsable(x *exam) {
	if x.inspection == nil || x.set == nil || len(x.inspection.MapIDs)+len(x.inspection.Buses) == 0 {
		return
	}
	m := x.inspection.Meta
	detach := "cellward detach --binding " + x.opts.Binding
	const refused = "the agent does not start; what is attached goes on filtering, by the tables of then, until it is detached"
	if x.inspection.Migration != "" || len(x.inspection.Former) > 0 {
		x.warn("", "they are on their way to another layout: "+onTheWay(x.inspection), "protected identifiers are closed; an agent finishes it at its start, so if none runs, start one",
			"cellward status --binding "+x.opts.Binding)
	}
	table := make(map[loader.StreamKey]loader.Stream)
	for _, s := range x.inspection.Streams {
		table[s.Key] = s.Stream
	}
	tables, err := agent.TablesHash(x.set, table)
	switch {
	case err != nil:
		x.unknown("", err, "cellward policy show "+x.opts.Binding)
	case !m.SameLayout:
		pinsMigratable(x, fmt.Sprintf("they have the layout of another build (version %d, %x)", m.LayoutVersion, m.Layout[:4]), refused, detach)
	case !m.SameBoot:
		x.fail("", "they are of another boot", refused, detach)
	case !m.Ready:
		x.ok("", "an agent was ended before it had filled them; the next one fills them")
	case m.Binding != tables:
		x.warn("", fmt.Sprintf("they are those of other documents (%x, for these they would be %x)", m.Binding[:4], tables[:4]),
			"a running agent does not go by these documents; the next start does, and takes up to ten seconds of each stream for seen",
			"cellward apply --policy "+x.opts.Policy+" --binding "+x.opts.Binding)
	default:
		x.ok("", "layout %d, this boot, this binding", m.LayoutVersion)
	}
}

// onTheWay says how far a migration has come.
func onTheWay(i *loader.Inspection) string {
	switch i.Migration {
	case loader.MigrationPrepared:
		return "new maps are being made beside those in effect, or were"
	case loader.MigrationCommitted:
		return "the new maps are in effect and not in their places"
	default:
		return fmt.Sprintf("%d interfaces have rings of a former layout that are not read", len(i.Former))
	}
}

// pinsMigratable asks whether the next start could go on with pins of another layout.
func pinsMigratable(x *exam, what, refused, detach string) {
	switch err := loader.CheckMigration(x.inspection.Root); {
	case err == nil:
		x.ok("", "%s; an agent of this build migrates them", what)
	case errors.Is(err, fs.ErrPermission):
		x.unknown("", err, x.asRoot())
	default:
		x.fail("", what+": "+err.Error(), refused, detach)
	}
}
