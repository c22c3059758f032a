// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/agent/vault"
)

// AccessError says that the user whom the agent becomes could not go on working with something.
type AccessError struct {
	Err  error
	Help string // the one command that helps
}

// Error implements error.
func (e *AccessError) Error() string { return fmt.Sprintf("%v: run `%s`", e.Err, e.Help) }

// Unwrap returns what the kernel says.
func (e *AccessError) Unwrap() error { return e.Err }

// Privileges say what an agent gives up once its filter is attached. The zero value gives up all that it can.
type Privileges struct {
	// Documents are the files that the configuration was read from: nobody else may change them, and the user must be able to read
	// them again.
	Documents []string
	// Capabilities are kept; 0: privilege.AgentCapabilities.
	Capabilities privilege.Capabilities
	// Seccomp is how the filter on system calls is enforced.
	Seccomp privilege.Enforcement
	// Allow adds to the system calls that the agent may make, for what a deployment adds to it.
	Allow privilege.Profile

	user *privilege.User
}

// GatewayUser returns whom a gateway's agent becomes; it is also whose the state folder is.
func GatewayUser(b *policy.Binding) (*privilege.User, error) {
	name := b.Gateway.User
	if name == "" {
		name = policy.DefaultUser
	}
	return privilege.Lookup(name)
}

// checkDocuments refuses documents that somebody else than root and who runs this could have written.
func (p *Privileges) checkDocuments() error {
	if p == nil {
		return nil
	}
	for _, path := range p.Documents {
		if err := privilege.CheckTrust(path, uint32(os.Geteuid())); err != nil {
			return fmt.Errorf("document is not safe: %w", err)
		}
	}
	return nil
}

// prepare makes the folders of the sockets and calls Check.
func (p *Privileges) prepare(b *policy.Binding) error {
	if p == nil {
		return nil
	}
	if err := p.find(b); err != nil {
		return err
	}
	for _, socket := range []string{b.Gateway.Ring.Socket, b.Gateway.Control.Socket} {
		if err := p.makeFolder(filepath.Dir(socket)); err != nil {
			return err
		}
	}
	return p.Check(b)
}

// find finds out whom the agent becomes.
func (p *Privileges) find(b *policy.Binding) error {
	u, err := GatewayUser(b)
	if err != nil {
		return fmt.Errorf("find the agent's user (spec.gateway.user): %w", err)
	}
	if euid := os.Geteuid(); euid != 0 && int(u.UID) != euid {
		return fmt.Errorf("agent runs as user %d, spec.gateway.user is %s: %w", euid, u, privilege.ErrNotRoot)
	}
	p.user = u
	return nil
}

// Check refuses, with all rights still at hand, what somebody else could have written (privilege.ErrUntrusted) and what the user could not
// go on working with (AccessError): better before the filter is attached, with a command that helps, than when the rights are gone.
func (p *Privileges) Check(b *policy.Binding) error {
	if err := p.find(b); err != nil {
		return err
	}
	u := p.user
	gid, err := readersGroup(b.Gateway.Ring)
	if err != nil {
		return err
	}
	if gid != 0 {
		u.Join(gid) // to give it the sockets
	}
	for _, path := range p.Documents {
		if err := u.Access(path, privilege.Read); err != nil {
			return access(err, "setfacl -m u:"+u.String()+":r "+path)
		}
	}
	if err := p.checkState(b.Gateway.StateDirectory); err != nil {
		return err
	}
	for _, socket := range []string{b.Gateway.Ring.Socket, b.Gateway.Control.Socket} {
		if err := p.checkFolder(filepath.Dir(socket)); err != nil {
			return err
		}
	}
	if err := p.checkDestinations(b); err != nil {
		return err
	}
	path := strings.TrimPrefix(b.Gateway.TPM, "unix:")
	if err := u.Access(path, privilege.Read|privilege.Write); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return access(err, "usermod -aG tss "+u.String())
	}
	return nil
}

func access(err error, help string) error { return &AccessError{Err: err, Help: help} }

// checkState looks at the state folder and all that is in it.
func (p *Privileges) checkState(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // opening it says so
	}
	help := fmt.Sprintf("chown -R %s: %s", p.user, dir)
	if err := p.trust(dir, help); err != nil {
		return fmt.Errorf("state folder is not safe: %w", err)
	}
	if err := p.user.Access(dir, privilege.Read|privilege.Write|privilege.Search); err != nil {
		return access(err, help)
	}
	events := filepath.Join(dir, EventsFolder)
	if st, err := os.Lstat(events); err == nil && st.IsDir() {
		if err := p.checkLog(events, help); err != nil {
			return err
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list state folder: %w", err)
	}
	for _, n := range names {
		if n.Type()&fs.ModeSymlink != 0 {
			continue // is refused when it is opened
		}
		if vault.IsTemporary(n.Name()) {
			continue // of an agent that was killed, perhaps before it had given the file to the user
		}
		// An agent that runs replaces its files.
		if err := p.user.Access(filepath.Join(dir, n.Name()), privilege.Read|privilege.Write); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return access(err, help)
		}
	}
	return nil
}

// checkLog looks at the files of the event log.
func (p *Privileges) checkLog(dir, help string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list event log: %w", err)
	}
	for _, n := range names {
		if n.Type()&fs.ModeSymlink != 0 {
			continue // is refused when it is opened
		}
		if err := p.user.Access(filepath.Join(dir, n.Name()), privilege.Read|privilege.Write); err != nil {
			return access(err, help)
		}
	}
	return nil
}

// trust refuses a folder of the user's that somebody else could have written. give is the command that makes it his.
func (p *Privileges) trust(dir, give string) error {
	err := privilege.CheckTrust(dir, p.user.UID)
	var at *privilege.Untrusted
	if errors.As(err, &at) && at.Where == dir && at.Owner {
		at.Help = give
	}
	return err
}

// checkFolder looks at the folder of a socket.
func (p *Privileges) checkFolder(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	help := fmt.Sprintf("chown %s: %s", p.user, dir)
	if err := p.trust(dir, help); err != nil {
		return fmt.Errorf("folder of socket is not safe: %w", err)
	}
	if err := p.user.Access(dir, privilege.Read|privilege.Write|privilege.Search); err != nil {
		return access(err, help)
	}
	return nil
}

// makeFolder makes the folder of a socket, for the user alone to write, if it is missing.
func (p *Privileges) makeFolder(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // or checkFolder says what is wrong
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of socket: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if err := os.Lchown(dir, int(p.user.UID), int(p.user.GID)); err != nil {
		return fmt.Errorf("give folder of socket to user %s: %w", p.user, err)
	}
	return nil
}

// readersGroup returns the id of the group that may read the ring, 0 for none.
func readersGroup(r policy.Ring) (uint32, error) {
	name := r.Group
	if name == "" {
		return 0, nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("find group of ring readers: %w", err)
	}
	id, err := strconv.ParseUint(group.Gid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read id of group %s: %w", name, err)
	}
	return uint32(id), nil
}

// givePins makes the pins those of the user whom the agent becomes: to attach the filter to an interface that was made anew is to
// pin a link. Nobody else may use the tables meanwhile.
func (a *Agent) givePins() error {
	p := a.opts.Privileges
	if p == nil || os.Geteuid() != 0 || p.user.UID == 0 {
		return nil
	}
	return a.maps.Give(p.user.UID, p.user.GID)
}

// dropPrivileges makes the agent its own user, with the capabilities that it goes on using.
func (a *Agent) dropPrivileges(ctx context.Context) error {
	p := a.opts.Privileges
	if p == nil {
		return nil
	}
	keep := p.Capabilities
	if keep == 0 {
		keep = privilege.AgentCapabilities()
	}
	// With no limit on locked memory nothing more is needed to lock some.
	var locked unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &locked); err != nil {
		return fmt.Errorf("read limit of locked memory: %w", err)
	}
	if locked.Cur != unix.RLIM_INFINITY {
		keep |= privilege.CapabilitySet(unix.CAP_IPC_LOCK)
	}
	if err := privilege.Drop(p.user, keep); err != nil {
		return fmt.Errorf("give up rights after attaching: %w", err)
	}
	if err := privilege.KeepParentDeath(ctx); err != nil {
		return err
	}
	a.log.Info("rights are given up", "event", "privileges_dropped", "user", p.user.String(), "uid", p.user.UID, "capabilities", keep.String())
	return nil
}

// confine lets the kernel refuse the system calls that an agent in service does not make.
func (a *Agent) confine() error {
	p := a.opts.Privileges
	if p == nil {
		return nil
	}
	if err := privilege.Confine(privilege.AgentProfile().Allow(destinationCalls(a.opts.Set.Binding)).Allow(p.Allow), p.Seccomp); err != nil {
		return fmt.Errorf("confine the agent: %w", err)
	}
	a.log.Info("system calls are filtered", "event", "seccomp", "seccomp", p.Seccomp.String())
	return nil
}
