/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz IMAGE ITERATIONS SEED: changes the memory of a ring at random, in places that matter, and lets the C reader
 * loose on it. The reader refuses it, or reads within its bounds; the sanitizers that this is compiled with see to
 * that. The memory comes from malloc with exactly the size of the ring, so that each step outside is seen.
 *
 * Prints how many rings were refused, accepted, read to the end and found damaged while reading.
 */
#define CELLWARD_RING_IMPLEMENTATION
#include "cellward_ring.h"

static uint64_t state;

/* splitmix64 */
static uint64_t next_random(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t below(uint64_t limit)
{
	return next_random() % limit;
}

/* Numbers at which bounds tend to be wrong. */
static uint64_t interesting(uint64_t old)
{
	static const uint64_t values[] = {0,
					  1,
					  2,
					  63,
					  64,
					  128,
					  255,
					  256,
					  0x7fff,
					  0xffff,
					  0x10000,
					  0x7fffffff,
					  0x80000000,
					  0xffffffc0,
					  0xffffffff,
					  0x3fffffffffffffff,
					  0x7fffffffffffffff,
					  0x8000000000000000,
					  0xffffffffffffffc0,
					  0xffffffffffffffff};

	switch (below(6)) {
	case 0:
		return values[below(sizeof values / sizeof values[0])];
	case 1:
		return old + 1 - 2 * below(2);
	case 2:
		return old + 64 - 128 * below(2);
	case 3:
		return old ^ UINT64_C(1) << below(64);
	case 4:
		return old * 2;
	default:
		return next_random() >> below(64);
	}
}

/* Changes one aligned number of 1, 2, 4 or 8 bytes somewhere in [offset, offset + length). */
static void change(unsigned char *memory, size_t offset, size_t length)
{
	size_t size = (size_t)1 << below(4), at;
	uint64_t value = 0;

	if (length < size)
		return;
	at = offset + below(length / size) * size;
	memcpy(&value, memory + at, size); /* the low half on machines like this one; random anyway on others */
	value = interesting(value);
	memcpy(memory + at, &value, size);
}

/* Whether [offset, offset + length) lies in memory of the given size. */
static int inside(uint64_t offset, uint64_t length, size_t size)
{
	return offset <= size && length <= size - offset;
}

/* Makes schema hashes and checksum right again, where the tables lie within the memory, so that later checks are met.
 */
static void repair(unsigned char *memory, size_t size)
{
	struct cellward_ring__header h;
	struct cellward_ring__tables t;
	uint32_t i, j, sum;

	memcpy(&h, memory, sizeof h);
	if (!inside(h.streams_offset, (uint64_t)h.stream_count * sizeof *t.streams, size) ||
	    !inside(h.signals_offset, (uint64_t)h.signal_count * sizeof *t.signals, size) ||
	    !inside(h.strings_offset, h.strings_length, size))
		return;
	for (i = 0; i < h.stream_count; i++) {
		unsigned char *at = memory + h.streams_offset + i * sizeof(struct cellward_ring__stream);
		struct cellward_ring__stream s;
		struct cellward_ring__sha256 hash;

		memcpy(&s, at, sizeof s);
		if (!inside(s.first_signal, s.signal_count, h.signal_count))
			continue;
		cellward_ring__sha256_init(&hash);
		for (j = 0; j < s.signal_count; j++) {
			struct cellward_ring__signal g;

			memcpy(&g, memory + h.signals_offset + (s.first_signal + j) * sizeof g, sizeof g);
			if (!inside(g.name_offset, g.name_length, h.strings_length) ||
			    !inside(g.unit_offset, g.unit_length, h.strings_length))
				break;
			cellward_ring__sha256_number(&hash, g.name_length, 2);
			cellward_ring__sha256_add(&hash, memory + h.strings_offset + g.name_offset, g.name_length);
			cellward_ring__sha256_number(&hash, g.unit_length, 2);
			cellward_ring__sha256_add(&hash, memory + h.strings_offset + g.unit_offset, g.unit_length);
			cellward_ring__sha256_number(&hash, g.start, 2);
			cellward_ring__sha256_number(&hash, g.length, 2);
			cellward_ring__sha256_number(&hash, g.byte_order, 1);
			cellward_ring__sha256_number(&hash, g.value_type, 1);
			cellward_ring__sha256_number(&hash, g.multiplexor, 4);
			cellward_ring__sha256_number(&hash, g.mux_value, 4);
			cellward_ring__sha256_number(&hash, cellward_ring__double_bits(g.factor), 8);
			cellward_ring__sha256_number(&hash, cellward_ring__double_bits(g.offset), 8);
		}
		cellward_ring__sha256_end(&hash, s.schema_hash);
		memcpy(at, &s, sizeof s);
	}
	sum = cellward_ring__crc32(0, memory, CELLWARD_RING__CHECKSUM_START);
	sum = cellward_ring__crc32(sum, memory + h.streams_offset, h.stream_count * sizeof *t.streams);
	sum = cellward_ring__crc32(sum, memory + h.signals_offset, h.signal_count * sizeof *t.signals);
	sum = cellward_ring__crc32(sum, memory + h.strings_offset, h.strings_length);
	memcpy(memory + CELLWARD_RING__CHECKSUM_START, &sum, sizeof sum);
}

static void decode(const cellward_ring_stream *stream, const cellward_ring_sample *sample)
{
	cellward_ring_value *values =
		(cellward_ring_value *)malloc(stream->signal_count ? stream->signal_count * sizeof *values : 1);
	uint8_t *body = (uint8_t *)malloc(sample->length ? sample->length : 1);

	if (sample->length)
		memcpy(body, sample->body, sample->length);
	cellward_ring_decode(stream, body, sample->length, values, stream->signal_count);
	free(body);
	free(values);
}

/* Reads what there is; whether it was whole. */
static int read_all(const struct cellward_ring__view *view)
{
	enum { ROOM = 4 };
	cellward_ring_sample batch[ROOM];
	cellward_ring_error error;
	uint64_t *buffer = (uint64_t *)malloc(ROOM * view->words * sizeof *buffer);
	uint64_t position = cellward_ring__oldest(view), missed = 0;
	int n, i, turns, whole = 1;
	uint32_t stream;

	for (turns = 0; turns < 64; turns++) {
		uint64_t before = position;

		n = cellward_ring__read(view, &position, &missed, batch, buffer, ROOM, &error);
		if (n < 0)
			whole = 0;
		if (n <= 0 && position == before)
			break;
		for (i = 0; i < n; i++)
			decode(&view->streams[batch[i].stream], &batch[i]);
	}
	for (stream = 0; stream < view->header.stream_count; stream++)
		if (cellward_ring__read_latest(view, stream, buffer, &batch[0], &error) == 1)
			decode(&view->streams[stream], &batch[0]);
	free(buffer);
	return whole;
}

int main(int argc, char **argv)
{
	unsigned long iterations, i, refused = 0, accepted = 0, whole = 0;
	struct cellward_ring__header good;
	unsigned char *image, *memory;
	struct stat file;
	FILE *in;
	size_t size;

	if (argc != 4 || stat(argv[1], &file) != 0 || !(in = fopen(argv[1], "rb")))
		return 2;
	size = (size_t)file.st_size;
	image = (unsigned char *)malloc(size);
	if (fread(image, 1, size, in) != size)
		return 2;
	fclose(in);
	iterations = strtoul(argv[2], NULL, 10);
	state = strtoull(argv[3], NULL, 10);
	memcpy(&good, image, sizeof good);

	for (i = 0; i < iterations; i++) {
		struct cellward_ring__view view;
		cellward_ring_error error;
		uint64_t changes = below(4), kept = size;

		if (below(50) == 0) /* cut off anywhere */
			kept = below(size + 1);
		memory = (unsigned char *)malloc(kept ? kept : 1);
		memcpy(memory, image, kept);
		while (kept == size && changes-- > 0)
			switch (below(6)) {
			case 0:
				change(memory, 0, CELLWARD_RING__CHECKSUM_START);
				break;
			case 1:
				change(memory, good.streams_offset, good.stream_count * (size_t)good.stream_size);
				break;
			case 2:
				change(memory, good.signals_offset, good.signal_count * (size_t)good.signal_size);
				break;
			case 3:
				change(memory, good.strings_offset, good.strings_length);
				break;
			case 4:
				change(memory, offsetof(struct cellward_ring__header, state),
				       sizeof good - offsetof(struct cellward_ring__header, state));
				break;
			default:
				change(memory, good.latest_offset, size - good.latest_offset);
				break;
			}
		if (kept == size && below(8) > 0)
			repair(memory, size);
		if (cellward_ring__view_init(&view, memory, kept, &error) == CELLWARD_RING_OK) {
			accepted++;
			whole += (unsigned long)read_all(&view);
			cellward_ring__view_free(&view);
		} else {
			refused++;
			if (error.code == CELLWARD_RING_LAYOUT ? !error.field[0]
							       : error.code != CELLWARD_RING_VERSION) {
				fprintf(stderr, "iteration %lu: refused with %d, field %s\n", i, error.code,
					error.field);
				return 1;
			}
		}
		free(memory);
	}
	free(image);
	printf("%lu %lu %lu %lu\n", refused, accepted, whole, accepted - whole);
	return 0;
}
