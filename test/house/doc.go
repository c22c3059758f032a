// SPDX-License-Identifier: Apache-2.0

// Package house holds the tree to its rules: which room may import which, package comments that say what a package is for and
// what it may import, licence lines, no func init, no package-level state, and texts that speak of the project alone. It has
// only tests, and reads sources without building them, so that the files of every platform and build tag count.
//
// It imports nothing of this module.
package house
