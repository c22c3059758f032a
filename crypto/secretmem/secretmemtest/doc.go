// SPDX-License-Identifier: Apache-2.0

// Package secretmemtest looks for secrets in the memory of a process, for tests. It may import the standard
// library and golang.org/x/sys.
package secretmemtest
