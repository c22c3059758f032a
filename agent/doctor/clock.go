// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// clockSlack is how far a file's time may lie ahead: file systems of other machines have other clocks.
const clockSlack = time.Minute

func clockTime(x *exam) {
	now := x.m.Now()
	latest, what := time.Time{}, ""
	see := func(t time.Time, name string) {
		if t.After(latest) {
			latest, what = t, name
		}
	}
	if t, err := time.Parse(time.RFC3339, x.m.Build().Time); err == nil {
		see(t, "this program's source")
	}
	paths := []string{x.opts.Policy, x.opts.Binding}
	if dir, there := x.stateThere(); there {
		names, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is a good one, so there is no error
		paths = append(paths, names...)
	}
	for _, path := range paths {
		if st, err := os.Stat(path); err == nil {
			see(st.ModTime(), path)
		}
	}
	if now.Add(clockSlack).Before(latest) {
		x.fail("", fmt.Sprintf("it is %s, which is before %s was written (%s)", now.UTC().Format(time.RFC3339), what, latest.UTC().Format(time.RFC3339)),
			"a key's age is counted from when it was agreed: after a reboot keys live longer than the policy's interval", "timedatectl set-ntp true")
		return
	}
	x.ok("", "%s", now.UTC().Format(time.RFC3339))
}

func clockSynchronised(x *exam) {
	switch good, err := x.m.Synchronised(); {
	case err != nil:
		x.unknown("", err, "timedatectl")
	case good:
		x.ok("", "kept right")
	default:
		x.warn("", "nobody keeps the wall clock right", "a clock that runs ahead rotates keys early, and one far ahead stops them", "timedatectl set-ntp true")
	}
}
