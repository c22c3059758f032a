// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"os"
	"os/user"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/privilege"
)

// owner is the number of the user whom the agent becomes, 0 where there is none.
func (x *exam) owner() uint32 {
	if u, err := agent.GatewayUser(x.binding); x.binding != nil && err == nil {
		return u.UID
	}
	return 0
}

// untrusted looks whether somebody else than root, this user and the others named could change a path, or put something else in its
// place.
func untrusted(path string, others ...uint32) (*privilege.Untrusted, error) {
	err := privilege.CheckTrust(path, append(others, uint32(os.Geteuid()))...)
	var at *privilege.Untrusted
	if errors.As(err, &at) {
		return at, nil
	}
	return nil, err
}

func agentUser(x *exam) {
	if x.binding == nil {
		return
	}
	name := x.gateway().User
	u, err := agent.GatewayUser(x.binding)
	switch {
	case errors.Is(err, privilege.ErrNoUser):
		x.fail(name, "there is no such user", "the agent does not start: it becomes this user once its filter is attached",
			"useradd --system --no-create-home --shell /usr/sbin/nologin "+name)
		return
	case err != nil:
		x.unknown(name, err, "getent passwd "+name)
		return
	case u.UID == 0:
		x.warn(name, "the agent stays root", "root may write files of root, so more is lost when the agent is taken over", "cellward policy show "+x.opts.Binding)
		return
	}
	ready := agent.Privileges{Documents: []string{x.opts.Policy, x.opts.Binding}}
	var refused *agent.AccessError
	var noGroup user.UnknownGroupError
	switch err := ready.Check(x.binding); {
	case err == nil:
		x.ok(name, "user %d, can use documents, state, sockets and TPM", u.UID)
	case errors.As(err, &refused):
		x.fail(name, refused.Err.Error(), "the agent does not start", refused.Help)
	case errors.Is(err, privilege.ErrUntrusted), errors.Is(err, os.ErrNotExist), errors.As(err, &noGroup):
		x.ok(name, "user %d", u.UID) // other checks say what is wrong
	default:
		x.unknown(name, err, x.asRoot())
	}
}
