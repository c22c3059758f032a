/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 of IEEE 802.3 with a table of 256: the tests sum every sample. */
#ifndef CRC32_H
#define CRC32_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t crc32_of(const uint8_t *data, size_t length)
{
	static uint32_t table[256];
	uint32_t sum = 0xffffffff;
	size_t i;

	if (!table[1])
		for (i = 0; i < 256; i++) {
			uint32_t entry = (uint32_t)i;
			int bit;

			for (bit = 0; bit < 8; bit++)
				entry = entry >> 1 ^ (entry & 1 ? 0xedb88320 : 0);
			table[i] = entry;
		}
	for (i = 0; i < length; i++)
		sum = sum >> 8 ^ table[(sum ^ data[i]) & 0xff];
	return ~sum;
}

#endif
