// SPDX-License-Identifier: Apache-2.0

// Package readers tests the readers of the ring in C, C++ and Python (agent/ring/c, agent/ring/python) against the real
// producer and the Go reader. It has only tests; they compile small programs (folder programs), drive them over standard
// input and compare what they say with what was published.
//
// Debian packages: gcc and libc6-dev are needed; g++, python3, python3-numpy and valgrind are used where they are
// installed, and a skipped test says which one is missing.
//
// The package may import everything of this module.
package readers
