// SPDX-License-Identifier: Apache-2.0

package demo

// PolicyPath returns the path of the policy, which AgreeKeys writes.
func (l *Lab) PolicyPath() string { return l.at.policy() }

// BindingPath returns the path of the binding, which AgreeKeys writes.
func (l *Lab) BindingPath() string { return l.at.binding() }

// ControlSocket returns the agent's control socket.
func (l *Lab) ControlSocket() string { return l.at.controlSocket() }

// Folder returns the folder that holds everything of the laboratory but what is pinned.
func (l *Lab) Folder() string { return l.at.dir }

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }
