// SPDX-License-Identifier: Apache-2.0

// Package metrics shows a running agent to Prometheus: the text exposition format (and OpenMetrics where it is asked for) of one
// agent.Status, with the counters of the kernel's maps that it holds, on the control socket and, if wanted, on a TCP address.
//
// Labels have values from the binding, from lists that are part of the program, and from the machine; none comes from a bus, so
// nobody who can send frames can make a new time series.
//
// It may import agent, agent/control, agent/event/kind, agent/ring, loader, and the Prometheus client.
package metrics
