/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples that tell by themselves whether they are whole: every field follows from the position, and the body holds the
 * position and ends with a checksum over itself. The same as stamp in stamp_test.go.
 */
#ifndef STAMP_H
#define STAMP_H

#include "cellward_ring.h"

#include <stdint.h>
#include <string.h>

#include "crc32.h"

static inline uint64_t stamp_little_endian(const uint8_t *bytes, unsigned count)
{
	uint64_t value = 0;

	while (count-- > 0)
		value = value << 8 | bytes[count];
	return value;
}

/* NULL for a sample that is what its position says, else what is wrong with it. */
static inline const char *stamp_fault(const cellward_ring_sample *s, uint32_t streams, uint32_t body_max)
{
	uint64_t p = s->position;

	if (s->length != 12 + p * 7 % (body_max - 11))
		return "length of another sample";
	if (stamp_little_endian(s->body + s->length - 4, 4) != crc32_of(s->body, s->length - 4u))
		return "torn body";
	if (stamp_little_endian(s->body, 8) != p)
		return "body of another sample";
	if (s->stream != p % streams || s->epoch != (uint32_t)(p >> 7) || s->counter != (p * 3 & 0xffffffffffff) ||
	    s->source_time != (uint32_t)(p * 5) || s->flags != (p & 15) || s->receive_time != (int64_t)(p * 11))
		return "fields of another sample";
	return NULL;
}

#endif
