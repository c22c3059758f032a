/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C reader as the tests drive it.
 *
 *	reader shell                                  commands on standard input, see shell()
 *	reader follow SOCKET oldest|now BATCH PAUSE   verifies stamped samples until the producer is gone
 *	reader interrupts SOCKET ROUNDS               ends waits from another thread and from a signal handler
 */
#define CELLWARD_RING_IMPLEMENTATION
#include "cellward_ring.h"

#include <inttypes.h>

#include "stamp.h"

static const char *class_of(int code)
{
	switch (code) {
	case CELLWARD_RING_GONE:
		return "gone";
	case CELLWARD_RING_NOT_AUTHORIZED:
		return "not_authorized";
	case CELLWARD_RING_TOO_MANY:
		return "too_many";
	case CELLWARD_RING_VERSION:
		return "version";
	case CELLWARD_RING_LAYOUT:
		return "layout";
	case CELLWARD_RING_NOT_SEALED:
		return "not_sealed";
	case CELLWARD_RING_BUSY:
		return "busy";
	case CELLWARD_RING_INTERRUPTED:
		return "interrupted";
	case CELLWARD_RING_SYSTEM:
		return "system";
	}
	return "other";
}

static void print_refused(const cellward_ring_error *error)
{
	printf("refused %s %s\n", class_of(error->code), error->field);
	fprintf(stderr, "%s\n", error->text);
}

static void print_hex(const uint8_t *bytes, size_t count)
{
	size_t i;

	if (count == 0)
		putchar('-');
	for (i = 0; i < count; i++)
		printf("%02x", bytes[i]);
}

static void print_sample(const cellward_ring_sample *s)
{
	printf("sample %" PRIu64 " %u %u %" PRIu64 " %u %u %" PRId64 " %" PRId64 " ", s->position, s->stream, s->epoch,
	       s->counter, s->source_time, s->flags, s->receive_time, s->publish_time);
	print_hex(s->body, s->length);
	putchar('\n');
}

static void print_streams(const cellward_ring *ring)
{
	uint32_t count, i, j;
	const cellward_ring_stream *s = cellward_ring_streams(ring, &count);

	for (i = 0; i < count; i++, s++) {
		printf("stream\t%u\t%u\t%u\t%s\t%s\t%s\t%" PRIu64 "\t%u\t", s->stream_id, s->source_id, s->can_id,
		       s->name, s->source, s->bus, s->period_ns, s->sensitivity);
		print_hex(s->schema_hash, sizeof s->schema_hash);
		putchar('\n');
		for (j = 0; j < s->signal_count; j++) {
			const cellward_ring_signal *g = &s->signals[j];

			printf("signal\t%s\t%s\t%u\t%u\t%u\t%u\t%" PRId64 "\t%u\t%.17g\t%.17g\n", g->name, g->unit,
			       g->start, g->length, g->byte_order, g->value_type,
			       g->multiplexor == CELLWARD_RING_ALWAYS ? -1 : (int64_t)g->multiplexor, g->mux_value,
			       g->factor, g->offset);
		}
	}
}

static void print_status(cellward_ring *ring)
{
	static const char *const faults[] = {"ok", "suspect", "fault", "latched"};
	cellward_ring_status s;

	cellward_ring_get_status(ring, &s);
	printf("status generation=%" PRIx64 " version=%u.%u pid=%u created=%" PRId64 " slots=%" PRIu64
	       " body_max=%u published=%" PRIu64 " period=%" PRIu64 " fault=%s changes=%u closed=%d gone=%d\n",
	       s.generation, s.major, s.minor, s.producer_pid, s.created_ns, s.slot_count, s.body_max, s.published,
	       s.heartbeat_period_ns, s.fault < 4 ? faults[s.fault] : "unknown", s.fault_changes, s.closed, s.gone);
}

static void print_fault(cellward_ring *ring)
{
	cellward_ring_fault_evidence f;
	uint32_t i;

	if (cellward_ring_fault_record(ring, &f) != CELLWARD_RING_OK) {
		printf("busy\n");
		return;
	}
	printf("fault causes=%u sources=%u", f.causes, f.sources);
	for (i = 0; i < f.sources && i < CELLWARD_RING_FAULT_SOURCES; i++)
		printf(" source=%u", f.source_ids[i]);
	printf(" kinds=%u", f.kinds);
	for (i = 0; i < f.kinds && i < CELLWARD_RING_FAULT_KINDS; i++)
		printf(" %u=%" PRIu64, f.kind[i], f.count[i]);
	printf(" time=%" PRId64 "\n", f.time_ns);
}

static void print_next(cellward_ring *ring, size_t limit, int64_t timeout_ms)
{
	cellward_ring_sample *batch = (cellward_ring_sample *)malloc(limit * sizeof *batch);
	int n = cellward_ring_next(ring, batch, limit, timeout_ms < 0 ? -1 : timeout_ms * 1000000), i;
	const cellward_ring_error *error = cellward_ring_last_error(ring);

	if (n > 0)
		printf("samples\n");
	for (i = 0; i < n; i++)
		print_sample(&batch[i]);
	if (n == 0)
		printf("timeout\n");
	else if (n == CELLWARD_RING_STALE)
		printf("stale\n");
	else if (n == CELLWARD_RING_RESTARTED)
		printf("restarted\n");
	else if (n == CELLWARD_RING_GONE)
		printf("gone %s\n", strstr(error->text, "orderly") ? "orderly" : "unclean");
	else if (n < 0)
		print_refused(error);
	free(batch);
}

static void print_latest(cellward_ring *ring, uint32_t stream)
{
	size_t room = cellward_ring_body_max(ring);
	uint8_t *body = (uint8_t *)malloc(room ? room : 1);
	cellward_ring_sample sample;
	int n = cellward_ring_latest(ring, stream, &sample, body, room);

	if (n == 1)
		print_sample(&sample);
	else if (n == 0)
		printf("none\n");
	else
		print_refused(cellward_ring_last_error(ring));
	free(body);
}

/* Decodes into memory of exactly the size that the body and the values have, where a sanitizer sees each step aside. */
static size_t decode_exactly(const cellward_ring_stream *stream, const uint8_t *body, size_t length, int print)
{
	cellward_ring_value *values =
		(cellward_ring_value *)malloc(stream->signal_count ? stream->signal_count * sizeof *values : 1);
	uint8_t *copy = (uint8_t *)malloc(length ? length : 1);
	size_t n, i;

	if (length)
		memcpy(copy, body, length);
	n = cellward_ring_decode(stream, copy, length, values, stream->signal_count);
	for (i = 0; print && i < n; i++)
		printf("value\t%s\t%" PRIu64 "\t%.17g\n", stream->signals[values[i].signal].name, values[i].raw,
		       values[i].physical);
	free(copy);
	free(values);
	return n;
}

/* Reads all there is, and says how it ended. */
static void drain(cellward_ring *ring)
{
	cellward_ring_sample batch[16];
	uint8_t *body = (uint8_t *)malloc(cellward_ring_body_max(ring) + 1u);
	uint64_t read = 0;
	uint32_t streams, i;
	const cellward_ring_stream *table = cellward_ring_streams(ring, &streams);
	cellward_ring_error ended;
	int n, j;

	while ((n = cellward_ring_next(ring, batch, 16, -1)) > 0)
		for (j = 0; j < n; j++, read++)
			decode_exactly(&table[batch[j].stream], batch[j].body, batch[j].length, 0);
	ended = *cellward_ring_last_error(ring); /* what follows may fail as well */
	for (i = 0; i < streams; i++)
		cellward_ring_latest(ring, i, &batch[0], body, cellward_ring_body_max(ring));
	printf("drained %" PRIu64 " %" PRIu64 " %s", read, cellward_ring_missed(ring), class_of(n));
	if (n == CELLWARD_RING_LAYOUT)
		printf(" %s", ended.field);
	putchar('\n');
	free(body);
}

static size_t parse_hex(const char *text, uint8_t *bytes, size_t room)
{
	size_t n = 0;
	unsigned byte;

	while (n < room && sscanf(text, "%2x", &byte) == 1) {
		bytes[n++] = (uint8_t)byte;
		text += 2;
	}
	return n;
}

/*
 *	open SOCKET oldest|now RECONNECT STALE_MS [CONNECT_MS]    STALE_MS 0 is the default, less is never
 *	close | streams | status | count | drain
 *	next LIMIT TIMEOUT_MS                        less than 0 is no limit
 *	latest STREAM
 *	decode STREAM HEX                            "-" is an empty body
 *
 * Each answer ends with a line that is a dot.
 */
static int shell(void)
{
	cellward_ring *ring = NULL;
	static char line[200000], argument[200000];

	while (fgets(line, sizeof line, stdin)) {
		char word[16] = "", from[16];
		long a = 0, b = 0, connect = 60000;

		argument[0] = 0;
		sscanf(line, "%15s %199999s", word, argument);
		if (!strcmp(word, "open")) {
			cellward_ring_options options;
			cellward_ring_error error;

			memset(&options, 0, sizeof options);
			sscanf(line, "%*s %*s %15s %ld %ld %ld", from, &a, &b, &connect);
			options.socket = argument;
			options.from_now = !strcmp(from, "now");
			options.reconnect = (int)a;
			options.stale_after_ns = b * 1000000;
			options.connect_timeout_ns = connect * 1000000;
			cellward_ring_close(ring);
			if (cellward_ring_open(&ring, &options, &error) == CELLWARD_RING_OK)
				printf("ok\n");
			else
				print_refused(&error);
		} else if (!strcmp(word, "close")) {
			cellward_ring_close(ring);
			ring = NULL;
			printf("ok\n");
		} else if (!ring) {
			printf("no ring\n");
		} else if (!strcmp(word, "next")) {
			sscanf(line, "%*s %ld %ld", &a, &b);
			print_next(ring, (size_t)a, b);
		} else if (!strcmp(word, "latest")) {
			print_latest(ring, (uint32_t)strtoul(argument, NULL, 10));
		} else if (!strcmp(word, "streams")) {
			print_streams(ring);
		} else if (!strcmp(word, "status")) {
			print_status(ring);
		} else if (!strcmp(word, "fault")) {
			print_fault(ring);
		} else if (!strcmp(word, "count")) {
			printf("count %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIx64 "\n", cellward_ring_position(ring),
			       cellward_ring_missed(ring), cellward_ring_reconnects(ring),
			       cellward_ring_generation(ring));
		} else if (!strcmp(word, "drain")) {
			drain(ring);
		} else if (!strcmp(word, "decode")) {
			static uint8_t body[65536];
			uint32_t count;
			const cellward_ring_stream *table = cellward_ring_streams(ring, &count);

			sscanf(line, "%*s %ld %199999s", &a, argument);
			decode_exactly(&table[a], body, parse_hex(argument, body, sizeof body), 1);
		} else {
			printf("unknown command\n");
		}
		printf(".\n");
		fflush(stdout);
	}
	cellward_ring_close(ring);
	return 0;
}

static int fail(const char *what, const cellward_ring_error *error)
{
	fprintf(stderr, "%s: %s\n", what, error->text);
	return 1;
}

static int follow(const char *socket, const char *from, size_t room, uint64_t pause)
{
	cellward_ring *ring;
	cellward_ring_options options;
	cellward_ring_error error;
	cellward_ring_sample *batch = (cellward_ring_sample *)malloc(room * sizeof *batch);
	uint64_t start, next, read = 0, jumped = 0;
	const char *bad = "";
	uint32_t streams, body_max;
	int n, i;

	memset(&options, 0, sizeof options);
	options.socket = socket;
	options.from_now = !strcmp(from, "now");
	options.stale_after_ns = -1;
	if (cellward_ring_open(&ring, &options, &error) != CELLWARD_RING_OK)
		return fail("open", &error);
	cellward_ring_streams(ring, &streams);
	body_max = cellward_ring_body_max(ring);
	start = next = cellward_ring_position(ring);
	printf("ready\n");
	fflush(stdout);
	while ((n = cellward_ring_next(ring, batch, room, -1)) > 0 || n == CELLWARD_RING_INTERRUPTED) {
		for (i = 0; i < n; i++, read++) {
			const char *fault = stamp_fault(&batch[i], streams, body_max);

			if (fault)
				bad = fault;
			if (batch[i].position < next)
				bad = "position went back";
			jumped += batch[i].position - next;
			next = batch[i].position + 1;
		}
		if (pause && read >= pause) {
			pause = 0;
			printf("paused\n");
			fflush(stdout);
			getchar();
		}
	}
	if (n != CELLWARD_RING_GONE)
		bad = cellward_ring_last_error(ring)->text;
	jumped += cellward_ring_position(ring) - next;
	printf("{\"start\":%" PRIu64 ",\"read\":%" PRIu64 ",\"missed\":%" PRIu64 ",\"jumped\":%" PRIu64
	       ",\"next\":%" PRIu64 ",\"bad\":\"%s\"}\n",
	       start, read, cellward_ring_missed(ring), jumped, cellward_ring_position(ring), bad);
	cellward_ring_close(ring);
	free(batch);
	return 0;
}

/* Signal handlers have no argument. */
static cellward_ring *interrupted_ring;

static void on_signal(int number)
{
	(void)number;
	cellward_ring_interrupt(interrupted_ring);
}

struct interrupter {
	cellward_ring *ring;
	pthread_t waiter;
	int by_signal;
};

static void *interrupt_once(void *argument)
{
	const struct interrupter *who = (const struct interrupter *)argument;

	if (who->by_signal)
		pthread_kill(who->waiter, SIGUSR1);
	else
		cellward_ring_interrupt(who->ring);
	return NULL;
}

/* Every interrupt comes at another phase of the wait; one that is lost hangs the program. */
static int interrupts(const char *socket, long rounds)
{
	cellward_ring_options options;
	cellward_ring_error error;
	cellward_ring_sample sample;
	struct interrupter who;
	struct sigaction action;
	long i;

	memset(&options, 0, sizeof options);
	memset(&action, 0, sizeof action);
	options.socket = socket;
	options.from_now = 1;
	options.stale_after_ns = -1;
	if (cellward_ring_open(&who.ring, &options, &error) != CELLWARD_RING_OK)
		return fail("open", &error);
	interrupted_ring = who.ring;
	action.sa_handler = on_signal;
	action.sa_flags = SA_RESTART; /* so that only the interrupt can be what ends the wait */
	sigaction(SIGUSR1, &action, NULL);
	who.waiter = pthread_self();
	for (i = 0; i < rounds; i++) {
		pthread_t thread;
		int n;

		who.by_signal = i % 2 != 0;
		if (pthread_create(&thread, NULL, interrupt_once, &who) != 0)
			return 1;
		n = cellward_ring_next(who.ring, &sample, 1, -1);
		pthread_join(thread, NULL);
		if (n != CELLWARD_RING_INTERRUPTED) {
			printf("round %ld: %d\n", i, n);
			return 1;
		}
	}
	cellward_ring_close(who.ring);
	printf("ok\n");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "shell"))
		return shell();
	if (argc == 6 && !strcmp(argv[1], "follow"))
		return follow(argv[2], argv[3], strtoul(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
	if (argc == 4 && !strcmp(argv[1], "interrupts"))
		return interrupts(argv[2], strtol(argv[3], NULL, 10));
	fprintf(stderr, "usage: see reader.c\n");
	return 2;
}
