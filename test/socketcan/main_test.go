// SPDX-License-Identifier: Apache-2.0

// Package socketcan tests the product on the kernel's own CAN stack.
//
// It may import everything of this module.
package socketcan

import "testing"

func TestUp(t *testing.T) {}
