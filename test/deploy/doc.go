// SPDX-License-Identifier: Apache-2.0

// Package deploy tests the files under deploy: that systemd takes them, that they are as tight as the documentation says, and that they
// leave the agent and the edge what these need.
//
// The package may import everything of this module.
package deploy
