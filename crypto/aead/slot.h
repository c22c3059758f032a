// SPDX-License-Identifier: Apache-2.0

// Offsets in a keySlot; slot.go says what the fields are.
#define SLOT_FIRST 0
#define SLOT_ROUND(i) (16 * (i)) // i = 1 to 14
#define SLOT_POWER1 496          // H^1; H^i lies 16*(i-1) bytes in front of it
#define SLOT_LENGTH 512
