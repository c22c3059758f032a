// SPDX-License-Identifier: Apache-2.0

// Package ringmodel checks the order of stores and loads of the shared-memory ring by model: ring.pml, for Spin, with an
// explicit store buffer that is weaker than the memory of any processor. Neither the race detector nor an emulator can
// show what it shows. Its test runs the model with and without seeded bugs; Debian packages: spin and gcc.
//
// The package imports nothing of this module.
package ringmodel
