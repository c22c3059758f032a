// SPDX-License-Identifier: Apache-2.0

// Package keyscan looks for keys in the memory of the product's processes: the agent and the edge while they work, the agent
// after an epoch was retired, and whoever has agreed an epoch. It is given nothing by them: it derives every value by itself,
// as a party to the agreement. It reads all memory, as a core taken by root has it. It needs root.
//
// The package may import everything of this module.
package keyscan
