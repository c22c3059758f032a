// SPDX-License-Identifier: Apache-2.0

// Package privilege takes rights from this process and finds out who else has some: it changes the user of all threads, keeps
// named capabilities and nothing else, installs a seccomp filter, and checks that nobody else can write what is relied on.
//
// What it takes cannot be had back: bounding set, securebits, no_new_privs and the filter hold until the process ends.
//
// It may import the standard library, golang.org/x/sys and the seccomp library, and nothing of this module.
package privilege
