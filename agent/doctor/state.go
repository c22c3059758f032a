// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cellward/cellward/agent/vault"
)

// Names in a state folder, as agent/station gives them.
const (
	identityFile = "identity.pem"
	srkFile      = "srk-name"
	countersFile = "counters.json"
)

// leastFree is what the state of the largest gateway takes, in bytes, with its successor beside it.
const leastFree = 4 << 20

func stateFolder(x *exam) {
	if x.binding == nil {
		return
	}
	dir := x.gateway().StateDirectory
	makeIt := fmt.Sprintf("cellward keys init --gateway --state %s --tpm %s", dir, x.gateway().TPM)
	st, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.fail(dir, "the state folder is missing", "there is no identity, and no epoch can be agreed", makeIt)
		return
	case err != nil:
		x.unknown(dir, err, x.asRoot())
		return
	case st.Mode()&fs.ModeSymlink != 0:
		x.warn(dir, "the state folder is a symbolic link", "who changes the link puts another state in its place", "ls -ld "+dir)
	case !st.IsDir():
		x.fail(dir, "the state folder is no folder", "the agent does not start", "ls -ld "+dir)
		return
	}
	for _, name := range []string{identityFile, srkFile, countersFile} {
		switch _, err := os.Stat(filepath.Join(dir, name)); {
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			x.unknown(dir, err, x.asRoot())
		case name == identityFile:
			x.fail(dir, "the state folder has no identity", "the agent does not start", makeIt)
		default:
			x.fail(dir, name+" is missing", "the agent does not start, and an identity is never replaced: keys must be agreed anew from a new folder", makeIt+".new")
		}
		return
	}
	x.ok(dir, "has an identity")
}

// stateThere reports whether there is a state folder to look at.
func (x *exam) stateThere() (dir string, there bool) {
	if x.binding == nil {
		return "", false
	}
	dir = x.gateway().StateDirectory
	st, err := os.Stat(dir)
	return dir, err == nil && st.IsDir()
}

func stateSafe(x *exam) {
	dir, there := x.stateThere()
	if !there {
		return
	}
	const why = "the agent refuses it: who changes the state puts old keys and counters back"
	faults, err := vault.Check(dir, x.owner())
	if err != nil {
		x.unknown(dir, err, x.asRoot())
		return
	}
	for _, f := range faults {
		x.fail(dir, f.Error(), why, fmt.Sprintf("chown -R %s: %s && chmod -R go-rwx %s && find %s -type l", x.gateway().User, dir, dir, dir))
	}
	if len(faults) > 0 {
		return
	}
	switch at, err := untrusted(dir, x.owner()); {
	case err != nil:
		x.unknown(dir, err, x.asRoot())
	case at != nil:
		x.fail(dir, at.What(), "the agent refuses it: who can rename the folder puts another in its place", at.Help)
	default:
		x.ok(dir, "open to root, the agent's user and this user only, no links in it")
	}
}

func stateLock(x *exam) {
	dir, there := x.stateThere()
	if !there {
		return
	}
	switch used, err := vault.InUse(dir); {
	case err != nil:
		x.unknown(dir, err, x.asRoot())
	case used && x.agent != nil:
		x.ok(dir, "in use by the agent, process %d", x.agent.PID)
	case used:
		x.fail(dir, "another process works with the state folder, and no agent answers on the control socket", "the agent does not start",
			"fuser -v "+filepath.Join(dir, "lock"))
	default:
		x.ok(dir, "free")
	}
}

func stateSpace(x *exam) {
	dir, there := x.stateThere()
	if !there {
		return
	}
	switch n, readOnly, err := x.m.Free(dir); {
	case err != nil:
		x.unknown(dir, err, "df -h "+dir)
	case readOnly:
		x.fail(dir, "its file system is read-only", "no epoch can be agreed or retired, and offline nodes are stopped", fmt.Sprintf("mount -o remount,rw $(findmnt -nT %s -o TARGET)", dir))
	case n < leastFree:
		x.fail(dir, fmt.Sprintf("%d bytes are free, want %d", n, leastFree), "no epoch can be agreed or retired, and offline nodes are stopped", "df -h "+dir)
	default:
		x.ok(dir, "%d MiB are free", n>>20)
	}
}
