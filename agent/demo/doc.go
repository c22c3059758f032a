// SPDX-License-Identifier: Apache-2.0

// Package demo runs the whole line on one machine: two software TPMs, a CAN bus, keys agreed between gateway and edge, and
// agent, edge and reader as processes of their own, all in private network namespaces that end with it. The wire between edge and
// gateway is its own, so that it can put an attacker there and knows exactly what went over it.
//
// It may import the other packages under agent, crypto/... and loader. It uses the product through its command line and its
// sockets alone.
package demo
