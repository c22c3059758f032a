// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
)

func ringSocket(x *exam) {
	if x.binding == nil {
		return
	}
	x.socket(x.gateway().Ring.Socket, "readers get no samples")
}

func controlSocket(x *exam) {
	if x.binding == nil {
		return
	}
	x.socket(x.gateway().Control.Socket, "cellward status shows nothing")
}

// socket looks at the place of a socket: its folder, and what lies there now.
func (x *exam) socket(path, without string) {
	dir := filepath.Dir(path)
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.fail(path, "its folder is missing", "the agent does not start: "+without, "install -d -m 0755 "+dir)
		return
	case err != nil:
		x.unknown(path, err, x.asRoot())
		return
	case !st.IsDir():
		x.fail(path, dir+" is no folder", "the agent does not start: "+without, "ls -ld "+dir)
		return
	}
	switch at, err := untrusted(dir, x.owner()); {
	case err != nil:
		x.unknown(path, err, x.asRoot())
		return
	case at != nil:
		x.fail(path, at.What(), "the agent refuses it: who can write there puts a socket of his own in its place, and readers take his samples for verified ones",
			at.Help)
		return
	}
	st, err = os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.ok(path, "free")
	case err != nil:
		x.unknown(path, err, x.asRoot())
	case st.Mode().Type() != fs.ModeSocket:
		x.fail(path, "there is something that is no socket", "the agent does not start: "+without, "ls -l "+path)
	case x.agent != nil:
		x.ok(path, "in use by the agent, process %d", x.agent.PID)
	default:
		x.ok(path, "left by an agent that was killed; the next one replaces it")
	}
}

func ringGroup(x *exam) {
	if x.binding == nil {
		return
	}
	name := x.gateway().Ring.Group
	if name == "" {
		x.ok("", "none: root and the agent's user may read")
		return
	}
	var missing user.UnknownGroupError
	switch _, err := user.LookupGroup(name); {
	case err == nil:
		x.ok(name, "exists")
	case errors.As(err, &missing):
		x.fail(name, "there is no such group", "the agent does not start", "groupadd --system "+name)
	default:
		x.unknown(name, err, "getent group "+name)
	}
}
