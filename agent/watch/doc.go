// SPDX-License-Identifier: Apache-2.0

// Package watch is the live view of a gateway on a terminal. Source reads what is there (agent, kernel, ring), Model turns a
// sequence of what was read into lines of text for a given size and is pure, Run puts both on a terminal. Nothing is told by colour.
//
// It may import agent, agent/control, agent/ring, loader, Bubble Tea and golang.org/x/sys.
package watch
