/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cellward_ring.h - reader of the ring in which the cellward agent publishes verified samples. One file; C99 or
 * C++17; Linux on 64-bit machines; GCC or Clang. The memory that it reads is defined in docs/ring.md.
 *
 * In exactly one source file, before any other include:
 *
 *	#define CELLWARD_RING_IMPLEMENTATION
 *	#include "cellward_ring.h"
 *
 * and plainly in all others. Link with -pthread.
 *
 *	cellward_ring *ring;
 *	cellward_ring_error error;
 *	cellward_ring_sample batch[64];
 *	if (cellward_ring_open(&ring, NULL, &error) != CELLWARD_RING_OK)
 *		die(error.text);
 *	for (;;) {
 *		int n = cellward_ring_next(ring, batch, 64, -1);
 *		for (int i = 0; i < n; i++)
 *			use(&batch[i]);
 *		if (n == CELLWARD_RING_GONE)
 *			break;
 *	}
 *	cellward_ring_close(ring);
 *
 * Concurrency: a reader belongs to one thread at a time; only cellward_ring_interrupt may be called from any thread and
 * from signal handlers. Readers are independent of each other, and nothing that a reader does disturbs the producer.
 * There is no global state.
 *
 * Units: times are nanoseconds of CLOCK_BOOTTIME, lengths bytes, start bits and signal lengths bits.
 */
#ifndef CELLWARD_RING_H
#define CELLWARD_RING_H

#if defined(CELLWARD_RING_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* F_GET_SEALS, MSG_CMSG_CLOEXEC, MAP_POPULATE, syscall() */
#endif

#include <stddef.h>
#include <stdint.h>

#ifndef CELLWARD_RING_DEF
#define CELLWARD_RING_DEF extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Where the agent serves its ring. */
#define CELLWARD_RING_DEFAULT_SOCKET "/run/cellward/ring.sock"

/* Layout version that this reader knows: another major version is refused, and so is a lower minor one. */
#define CELLWARD_RING_MAJOR 1
#define CELLWARD_RING_MINOR 0

/* What the functions return. Counts are positive, all else is negative. */
enum {
	CELLWARD_RING_OK = 0,
	CELLWARD_RING_GONE = -1,	   /* the producer has ended and everything has been read */
	CELLWARD_RING_STALE = -2,	   /* it lives but has neither published nor beaten for too long */
	CELLWARD_RING_RESTARTED = -3,	   /* this is another producer's ring from now on */
	CELLWARD_RING_INTERRUPTED = -4,	   /* cellward_ring_interrupt, or a signal */
	CELLWARD_RING_BUSY = -5,	   /* the value is being written, or its producer died writing it */
	CELLWARD_RING_NOT_AUTHORIZED = -6, /* the server refuses this user and its groups */
	CELLWARD_RING_TOO_MANY = -7,	   /* the server's readers have reached their bound */
	CELLWARD_RING_VERSION = -8,	   /* unknown layout version */
	CELLWARD_RING_LAYOUT = -9,	   /* damaged ring; the error names the field */
	CELLWARD_RING_NOT_SEALED = -10,	   /* memory that somebody could still shrink or write */
	CELLWARD_RING_ARGUMENT = -11,	   /* wrong argument */
	CELLWARD_RING_SYSTEM = -12	   /* a system call failed; the error has its errno */
};

/* Bits of cellward_ring_sample.flags. */
enum {
	CELLWARD_RING_GAP_BEFORE = 1,	  /* at least one counter of the stream before this one was not published */
	CELLWARD_RING_FIRST_OF_EPOCH = 2, /* first sample of the stream under its epoch */
	CELLWARD_RING_DELAYED = 4,	  /* "stale": the sample was delayed on its way */
	CELLWARD_RING_FAULT_STOOD = 8	  /* "fault": a security fault of its source stood when it was published */
};

/* States of the fault word: the security fault of the whole channel. */
enum {
	CELLWARD_RING_FAULT_OK = 0,
	CELLWARD_RING_FAULT_SUSPECT = 1,
	CELLWARD_RING_FAULT_RAISED = 2,
	CELLWARD_RING_FAULT_LATCHED = 3
};

enum { CELLWARD_RING_LITTLE_ENDIAN = 0, CELLWARD_RING_BIG_ENDIAN = 1 };
enum { CELLWARD_RING_UNSIGNED = 0, CELLWARD_RING_SIGNED = 1, CELLWARD_RING_FLOAT32 = 2, CELLWARD_RING_FLOAT64 = 3 };

/* Set in cellward_ring_stream.can_id for a 29-bit identifier; CAN_EFF_FLAG of <linux/can.h>. */
#define CELLWARD_RING_EXTENDED_ID 0x80000000u
/* Multiplexor of a signal that is present in every body. */
#define CELLWARD_RING_ALWAYS 0xffffffffu

typedef struct cellward_ring cellward_ring;

/* Why a function failed. text is one line, without a newline. */
typedef struct {
	int code;	/* as returned */
	int system;	/* errno for CELLWARD_RING_SYSTEM, else 0 */
	char field[64]; /* for CELLWARD_RING_LAYOUT, as in docs/ring.md: "streams[3].name_offset" */
	char text[256];
} cellward_ring_error;

/* Tune a reader; all zeros are good. */
typedef struct {
	const char *socket;	    /* NULL: CELLWARD_RING_DEFAULT_SOCKET */
	int from_now;		    /* begin with the next sample instead of the oldest one that the ring holds */
	int reconnect;		    /* wait for the next producer when the present one ends; see cellward_ring_next */
	int64_t stale_after_ns;	    /* age of the heartbeat that counts as stale; 0: three periods; < 0: never */
	int64_t spin_ns;	    /* how long to look for samples in a busy loop before sleeping; 0: not at all */
	int64_t connect_timeout_ns; /* bounds the connection to a server that says nothing; 0: 5 s; < 0: no bound */
} cellward_ring_options;

/* One verified sample. The body is valid until the next call of cellward_ring_next with the same reader. */
typedef struct {
	uint64_t position;    /* counts the samples of a ring from 0 */
	uint64_t counter;     /* of the stream, 48 bits */
	int64_t receive_time; /* when the filter saw the frame */
	int64_t publish_time;
	const uint8_t *body;
	uint32_t stream;      /* index into the stream table */
	uint32_t epoch;	      /* of the key */
	uint32_t source_time; /* ms since the start of the node's run, modulo 2^32 */
	uint16_t flags;
	uint16_t length; /* of the body */
} cellward_ring_sample;

/* One physical value in a body, with the bit numbering of DBC files. */
typedef struct {
	const char *name;
	const char *unit;
	uint32_t multiplexor; /* index of the signal of the same stream that selects; or CELLWARD_RING_ALWAYS */
	uint32_t mux_value;   /* raw value of that signal with which this one is present */
	uint32_t bytes;	      /* how long a body must be to hold the signal */
	uint16_t start;
	uint16_t length;
	uint8_t byte_order;
	uint8_t value_type;
	double factor; /* physical value = raw value * factor + offset */
	double offset;
} cellward_ring_signal;

/* One entry of the stream table: one message identifier of one node on one bus. */
typedef struct {
	const char *name;
	const char *source; /* identifier of the policy's data source */
	const char *bus;    /* network interface */
	uint64_t period_ns; /* expected between two samples; 0: unknown */
	const cellward_ring_signal *signals;
	uint32_t signal_count; /* 0: the body is opaque */
	uint32_t stream_id;
	uint32_t source_id;
	uint32_t can_id;
	uint8_t sensitivity;	 /* 0 unspecified, 1 LOW, 2 MEDIUM, 3 HIGH, 4 CRITICAL */
	uint8_t schema_hash[32]; /* SHA-256 over the canonical form of the signals */
} cellward_ring_stream;

/* One decoded signal. */
typedef struct {
	uint32_t signal; /* index into cellward_ring_stream.signals */
	uint64_t raw;	 /* bits of the signal, sign-extended for CELLWARD_RING_SIGNED */
	double physical;
} cellward_ring_value;

/* What the header says now. */
typedef struct {
	uint64_t generation; /* random, another one for each producer */
	uint64_t published;  /* samples since the producer's start */
	uint64_t slot_count;
	int64_t created_ns;
	int64_t heartbeat_age_ns;
	uint64_t heartbeat_period_ns;
	uint32_t body_max;
	uint32_t producer_pid;
	uint32_t fault;		/* CELLWARD_RING_FAULT_... */
	uint32_t fault_changes; /* how often it changed */
	uint16_t major;
	uint16_t minor;
	int closed; /* the producer ended in an orderly way */
	int gone;   /* the connection has ended, or has brought the next ring */
} cellward_ring_status;

/* What a fault record has room for. */
#define CELLWARD_RING_FAULT_SOURCES 4
#define CELLWARD_RING_FAULT_KINDS 6

/* Causes of the evidence for a fault. */
enum {
	CELLWARD_RING_FAULT_FORGEABLE = 1,     /* anyone on the bus can bring it about */
	CELLWARD_RING_FAULT_AUTHENTICATED = 2, /* only frames give it that have verified, or their absence */
	CELLWARD_RING_FAULT_LOCAL = 4	       /* it is against the gateway itself */
};

/* Which data sources a standing security fault is about and what speaks for it. All zeros: there is no fault. */
typedef struct {
	int64_t time_ns;				  /* CLOCK_BOOTTIME when it was so */
	uint32_t causes;				  /* CELLWARD_RING_FAULT_FORGEABLE... */
	uint32_t sources;				  /* how many data sources cannot be trusted */
	uint32_t source_ids[CELLWARD_RING_FAULT_SOURCES]; /* the first of them */
	uint32_t kinds;					  /* how many kinds of events speak for it */
	uint16_t kind[CELLWARD_RING_FAULT_KINDS];	  /* numbers of those with most events */
	uint64_t count[CELLWARD_RING_FAULT_KINDS];	  /* events of each, against one source */
} cellward_ring_fault_evidence;

/*
 * Connects to the server, receives the ring and checks it. options may be NULL. error may be NULL. On failure *out is
 * NULL and nothing is left open.
 */
CELLWARD_RING_DEF int cellward_ring_open(cellward_ring **out, const cellward_ring_options *options,
					 cellward_ring_error *error);

/*
 * The same with descriptors that were received elsewhere, such as by a process with more privileges. memory stays the
 * caller's; connection, the server's socket or -1, is the reader's on success. Such a reader cannot reconnect.
 */
CELLWARD_RING_DEF int cellward_ring_attach(cellward_ring **out, int memory, int connection,
					   const cellward_ring_options *options, cellward_ring_error *error);

/* Frees everything: samples' bodies and the stream table too. No other call with this reader may be going on. */
CELLWARD_RING_DEF void cellward_ring_close(cellward_ring *ring);

/*
 * Takes the next samples, at most room, and returns how many. It waits at most timeout_ns (negative: without limit)
 * for the first one, without polling, and returns 0 when nothing came. Other results:
 *
 *	GONE         after the last sample of a producer that ended, unless options.reconnect is set
 *	RESTARTED    with options.reconnect, once for each new producer: samples come from its oldest one on; the stream
 *	             table is that of the new ring, and pointers into the old one are dead
 *	STALE        nothing came and the heartbeat is old, once for each such time span
 *	INTERRUPTED  and the other errors
 *
 * With options.reconnect the reader follows a producer that goes on in another ring, as at an upgrade of the agent:
 *that ring came before it had a sample, and reading begins at position 0.
 *
 * Except after LAYOUT the reader goes on where it was. Allocates only when room grows.
 *
 * While it is connected to nobody, a call with options.reconnect may take 0.1 s longer than its time-out.
 *
 * A first call that waits starts a thread that watches the connection, so that the end of the producer ends the wait.
 * Waiting needs futex_waitv(2), Linux 5.16; without it the connection is looked at ten times a second.
 */
CELLWARD_RING_DEF int cellward_ring_next(cellward_ring *ring, cellward_ring_sample *batch, size_t room,
					 int64_t timeout_ns);

/* Ends a wait of cellward_ring_next, or the next one. From any thread and from signal handlers. */
CELLWARD_RING_DEF void cellward_ring_interrupt(cellward_ring *ring);

/*
 * Copies the newest sample of a stream, whatever has been read or overwritten: 1, or 0 when it has none yet. The body
 * goes to body, which has room bytes; cellward_ring_body_max are always enough. CELLWARD_RING_BUSY: try again later.
 */
CELLWARD_RING_DEF int cellward_ring_latest(cellward_ring *ring, uint32_t stream, cellward_ring_sample *sample,
					   void *body, size_t room);

/* The stream table. Valid until cellward_ring_next returns CELLWARD_RING_RESTARTED. */
CELLWARD_RING_DEF const cellward_ring_stream *cellward_ring_streams(const cellward_ring *ring, uint32_t *count);

/* The entry with the given stream id, or NULL. Its index is its distance from cellward_ring_streams. */
CELLWARD_RING_DEF const cellward_ring_stream *cellward_ring_lookup(const cellward_ring *ring, uint32_t stream_id);

/*
 * Decodes a body: the values of all signals that are present, in the order of the stream's signals; returns how many
 * there are and stores at most room of them (signal_count are always enough). A signal is absent when the body ends
 * before it, or when its multiplexor has another value or is absent itself.
 */
CELLWARD_RING_DEF size_t cellward_ring_decode(const cellward_ring_stream *stream, const void *body, size_t length,
					      cellward_ring_value *values, size_t room);

CELLWARD_RING_DEF void cellward_ring_get_status(cellward_ring *ring, cellward_ring_status *status);

/* State of the fault word; *changes (may be NULL) tells of one that came and went. One load: may be called often. */
CELLWARD_RING_DEF uint32_t cellward_ring_fault(const cellward_ring *ring, uint32_t *changes);

/*
 * The fault record: all zeros where the producer is one that has none. CELLWARD_RING_BUSY: it was being written each
 * time, or its writer died in between.
 */
CELLWARD_RING_DEF int cellward_ring_fault_record(cellward_ring *ring, cellward_ring_fault_evidence *record);

/* Next position to read. */
CELLWARD_RING_DEF uint64_t cellward_ring_position(const cellward_ring *ring);
/* Samples that were overwritten before this reader could read them, since it was opened. Exact. */
CELLWARD_RING_DEF uint64_t cellward_ring_missed(const cellward_ring *ring);
/* How often a new connection replaced one that had ended. */
CELLWARD_RING_DEF uint64_t cellward_ring_reconnects(const cellward_ring *ring);
CELLWARD_RING_DEF uint64_t cellward_ring_generation(const cellward_ring *ring);
CELLWARD_RING_DEF uint32_t cellward_ring_body_max(const cellward_ring *ring);

/* The last failure of a function with this reader. */
CELLWARD_RING_DEF const cellward_ring_error *cellward_ring_last_error(const cellward_ring *ring);
/* A few words for a code. */
CELLWARD_RING_DEF const char *cellward_ring_code_text(int code);

/*
 * The two accesses to the memory of which everything is made, for readers in languages without memory order: a
 * load-acquire of one aligned word; and a copy, each word loaded once, that is over before any later load begins.
 */
CELLWARD_RING_DEF uint64_t cellward_ring_load(const void *word);
CELLWARD_RING_DEF void cellward_ring_copy(void *to, const void *from, size_t words);

#ifdef __cplusplus
}
#endif

#endif /* CELLWARD_RING_H */

#if defined(CELLWARD_RING_IMPLEMENTATION) && !defined(CELLWARD_RING_IMPLEMENTED)
#define CELLWARD_RING_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if !defined(MAP_POPULATE) || !defined(F_GET_SEALS)
#error "include cellward_ring.h before any other header, or define _GNU_SOURCE"
#endif
#if UINTPTR_MAX < 0xffffffffffffffffu || __GCC_ATOMIC_LLONG_LOCK_FREE != 2
#error "cellward_ring.h needs a machine with 64-bit loads"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * ---- Layout: the table in docs/ring.md ----
 */

struct cellward_ring__hello {
	uint8_t magic[8];
	uint16_t major;
	uint16_t minor;
	uint32_t status;
	uint64_t generation;
	uint64_t file_size;
};

struct cellward_ring__header {
	uint8_t magic[8];
	uint32_t endian_tag;
	uint16_t major;
	uint16_t minor;
	uint32_t header_length;
	uint32_t clock_id;
	uint64_t generation;
	uint64_t file_size;
	int64_t created_ns;
	uint64_t heartbeat_period_ns;
	uint32_t producer_pid;
	uint32_t body_max;
	uint64_t slots_offset;
	uint32_t slot_size;
	uint32_t slot_count;
	uint64_t latest_offset;
	uint32_t latest_size;
	uint32_t stream_count;
	uint64_t streams_offset;
	uint32_t stream_size;
	uint32_t signal_count;
	uint64_t signals_offset;
	uint32_t signal_size;
	uint32_t strings_length;
	uint64_t strings_offset;
	uint32_t checksum;
	uint8_t reserved0[116];
	uint32_t state;
	uint8_t reserved1[252];
	uint64_t intent;
	uint8_t reserved2[120];
	uint64_t tail;
	uint8_t reserved3[120];
	int64_t heartbeat;
	uint8_t reserved4[120];
	uint64_t fault;
	uint64_t record_begin;
	uint64_t record_end;
	int64_t record_time;
	uint32_t record_causes;
	uint32_t record_sources;
	uint32_t record_source_ids[CELLWARD_RING_FAULT_SOURCES];
	uint32_t record_kinds;
	uint16_t record_kind[CELLWARD_RING_FAULT_KINDS];
	uint64_t record_count[CELLWARD_RING_FAULT_KINDS];
	uint8_t reserved5[8];
};

struct cellward_ring__stream {
	uint32_t stream_id;
	uint32_t source_id;
	uint32_t can_id;
	uint32_t first_signal;
	uint32_t signal_count;
	uint8_t sensitivity;
	uint8_t reserved0[3];
	uint64_t period_ns;
	uint32_t name_offset;
	uint32_t name_length;
	uint32_t source_offset;
	uint32_t source_length;
	uint32_t interface_offset;
	uint32_t interface_length;
	uint8_t reserved1[8];
	uint8_t schema_hash[32];
	uint8_t reserved2[32];
};

struct cellward_ring__signal {
	uint32_t name_offset;
	uint32_t name_length;
	uint32_t unit_offset;
	uint32_t unit_length;
	uint16_t start;
	uint16_t length;
	uint8_t byte_order;
	uint8_t value_type;
	uint8_t reserved0[2];
	uint32_t multiplexor;
	uint32_t mux_value;
	double factor;
	double offset;
	uint8_t reserved1[16];
};

struct cellward_ring__slot {
	uint64_t marker;
	uint32_t stream;
	uint32_t epoch;
	uint64_t counter;
	uint32_t source_time;
	uint16_t flags;
	uint16_t length;
	int64_t receive_time;
	int64_t publish_time;
};

struct cellward_ring__latest {
	uint64_t begin;
	struct cellward_ring__slot slot;
};

/* The low half of the tail, which is the futex word. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define CELLWARD_RING__TAIL_FUTEX (offsetof(struct cellward_ring__header, tail) + 4)
#else
#define CELLWARD_RING__TAIL_FUTEX offsetof(struct cellward_ring__header, tail)
#endif

enum {
	CELLWARD_RING__ENDIAN_TAG = 0x01020304,
	CELLWARD_RING__CLOCK_BOOTTIME = 7,
	CELLWARD_RING__READY = 1,
	CELLWARD_RING__CLOSED = 2,
	CELLWARD_RING__LINE = 64,
	CELLWARD_RING__HELLO_RING = 0,
	CELLWARD_RING__HELLO_NOT_AUTHORIZED = 1,
	CELLWARD_RING__HELLO_TOO_MANY = 2,
	CELLWARD_RING__MAX_STREAMS = 4096,
	CELLWARD_RING__MAX_SIGNALS = 1 << 18,
	CELLWARD_RING__MAX_STRINGS = 1 << 24,
	CELLWARD_RING__MAX_SLOTS = 1 << 24,
	CELLWARD_RING__MAX_BODY = 65535,
	CELLWARD_RING__MAX_SIZE = 1 << 30,
	CELLWARD_RING__MAX_TEXT = 255,
	CELLWARD_RING__LATEST_ATTEMPTS = 100,
	CELLWARD_RING__FAULT_MINOR = 2 /* from which on there is a fault record */
};

#define CELLWARD_RING__MAGIC "CELLWARD"
#define CELLWARD_RING__SECOND INT64_C(1000000000)
#define CELLWARD_RING__HOUR (3600 * CELLWARD_RING__SECOND)
#define CELLWARD_RING__CHECKSUM_START offsetof(struct cellward_ring__header, checksum)
#define CELLWARD_RING__SLOT_WORDS (sizeof(struct cellward_ring__slot) / 8)

/* A failed check makes the size of an array negative. */
typedef char cellward_ring__check_hello[sizeof(struct cellward_ring__hello) == 32 ? 1 : -1];
typedef char cellward_ring__check_header[sizeof(struct cellward_ring__header) == 1024 ? 1 : -1];
typedef char cellward_ring__check_stream[sizeof(struct cellward_ring__stream) == 128 ? 1 : -1];
typedef char cellward_ring__check_signal[sizeof(struct cellward_ring__signal) == 64 ? 1 : -1];
typedef char cellward_ring__check_slot[sizeof(struct cellward_ring__slot) == 48 ? 1 : -1];
typedef char cellward_ring__check_latest[sizeof(struct cellward_ring__latest) == 56 ? 1 : -1];

/* A mapped ring with a checked, private copy of everything in it that does not change. */
struct cellward_ring__view {
	const unsigned char *memory;
	size_t size;
	struct cellward_ring__header header;
	cellward_ring_stream *streams;
	cellward_ring_signal *signals;
	char *text;   /* names and units, each with a terminating zero */
	size_t words; /* that one copied sample takes */
};

struct cellward_ring {
	struct cellward_ring__view view;
	cellward_ring_options options;
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* empty: attached, not opened */
	cellward_ring_error error;

	uint64_t position;
	uint64_t missed;
	uint64_t reconnects;
	uint64_t *buffer; /* words of the last batch, room for the samples of one */
	size_t buffer_samples;
	uint64_t *latest; /* words of one sample */
	int stale;	  /* CELLWARD_RING_STALE has been returned for the present silence */

	int connection;
	int watched; /* the thread below runs or has ended by itself */
	pthread_t watcher;
	int no_waitv; /* the kernel or a sandbox refuses futex_waitv */

	/* Shared with the watcher and with callers of cellward_ring_interrupt. */
	uint32_t kicks; /* private futex word: each change ends a wait */
	uint32_t gone;
	uint32_t interrupted;
};

#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
static int
cellward_ring__fail(cellward_ring_error *error, int code, int system, const char *field, const char *format, ...)
{
	va_list arguments;
	char reason[128];
	const char *what = cellward_ring_code_text(code);

	if (!error)
		return code;
	va_start(arguments, format);
	vsnprintf(reason, sizeof reason, format, arguments);
	va_end(arguments);
	memset(error, 0, sizeof *error);
	error->code = code;
	error->system = system;
	if (field) {
		snprintf(error->field, sizeof error->field, "%s", field);
		snprintf(error->text, sizeof error->text, "%s: %s: %s", what, field, reason);
	} else if (system) {
		snprintf(error->text, sizeof error->text, "%s: %s", reason, strerror(system));
	} else if (reason[0]) {
		snprintf(error->text, sizeof error->text, "%s: %s", what, reason);
	} else {
		snprintf(error->text, sizeof error->text, "%s", what);
	}
	return code;
}

#define CELLWARD_RING__DAMAGED(error, field, ...)                                                                      \
	cellward_ring__fail(error, CELLWARD_RING_LAYOUT, 0, field, __VA_ARGS__)

CELLWARD_RING_DEF const char *cellward_ring_code_text(int code)
{
	switch (code) {
	case CELLWARD_RING_OK:
		return "ok";
	case CELLWARD_RING_GONE:
		return "producer of the ring is gone";
	case CELLWARD_RING_STALE:
		return "heartbeat of the ring's producer is stale";
	case CELLWARD_RING_RESTARTED:
		return "another producer serves the ring";
	case CELLWARD_RING_INTERRUPTED:
		return "interrupted";
	case CELLWARD_RING_BUSY:
		return "value is being written";
	case CELLWARD_RING_NOT_AUTHORIZED:
		return "not authorized to read the ring";
	case CELLWARD_RING_TOO_MANY:
		return "too many readers on the ring";
	case CELLWARD_RING_VERSION:
		return "unknown layout version of the ring";
	case CELLWARD_RING_LAYOUT:
		return "damaged ring";
	case CELLWARD_RING_NOT_SEALED:
		return "shared memory of the ring is not sealed";
	case CELLWARD_RING_ARGUMENT:
		return "wrong argument";
	case CELLWARD_RING_SYSTEM:
		return "system call failed";
	}
	return "unknown code";
}

/*
 * ---- Memory order ----
 *
 * The producer stores the intent, then a full barrier, then the slots, then the tail with release. A reader that loaded
 * a word of a slot which belongs to a later turn of the ring must therefore see the intent of that turn in any load
 * that comes after: the acquire fence at the end of a copy keeps later loads behind all loads of the copy (C11 7.17.4,
 * on arm64 DMB ISHLD). Within the copy the order does not matter, so its loads are relaxed.
 */

CELLWARD_RING_DEF uint64_t cellward_ring_load(const void *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE);
}

static void cellward_ring__load_words(uint64_t *to, const unsigned char *from, size_t first, size_t words)
{
	size_t i;

	for (i = first; i < words; i++)
		to[i] = __atomic_load_n((const uint64_t *)(const void *)(from + 8 * i), __ATOMIC_RELAXED);
}

CELLWARD_RING_DEF void cellward_ring_copy(void *to, const void *from, size_t words)
{
	cellward_ring__load_words((uint64_t *)to, (const unsigned char *)from, 0, words);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

static uint64_t cellward_ring__hot(const struct cellward_ring__view *view, size_t offset)
{
	return cellward_ring_load(view->memory + offset);
}

static uint64_t cellward_ring__tail(const struct cellward_ring__view *view)
{
	return cellward_ring__hot(view, offsetof(struct cellward_ring__header, tail));
}

static uint32_t cellward_ring__state(const unsigned char *memory)
{
	return __atomic_load_n((const uint32_t *)(const void *)(memory + offsetof(struct cellward_ring__header, state)),
			       __ATOMIC_ACQUIRE);
}

/* The lowest position that no announced batch overwrites. */
static uint64_t cellward_ring__oldest(const struct cellward_ring__view *view)
{
	uint64_t intent = cellward_ring__hot(view, offsetof(struct cellward_ring__header, intent));

	return intent < view->header.slot_count ? 0 : intent - view->header.slot_count;
}

/*
 * ---- Sums ----
 */

/* CRC-32 of IEEE 802.3, four bits at a time: rings are opened rarely. */
static uint32_t cellward_ring__crc32(uint32_t sum, const void *data, size_t length)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const unsigned char *p = (const unsigned char *)data;

	for (sum = ~sum; length > 0; length--) {
		sum ^= *p++;
		sum = sum >> 4 ^ table[sum & 15];
		sum = sum >> 4 ^ table[sum & 15];
	}
	return ~sum;
}

/* SHA-256 of FIPS 180-4. */
struct cellward_ring__sha256 {
	uint32_t state[8];
	uint64_t length;
	unsigned char block[64];
};

static void cellward_ring__sha256_block(uint32_t state[8], const unsigned char *block)
{
	static const uint32_t k[64] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	};
	uint32_t w[64], s[8];
	int i;

#define CELLWARD_RING__ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
	for (i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] + (CELLWARD_RING__ROTATE(a, 7) ^ CELLWARD_RING__ROTATE(a, 18) ^ a >> 3) +
		       (CELLWARD_RING__ROTATE(b, 17) ^ CELLWARD_RING__ROTATE(b, 19) ^ b >> 10);
	}
	memcpy(s, state, sizeof s);
	for (i = 0; i < 64; i++) {
		uint32_t t1 = s[7] + k[i] + w[i] + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
			      (CELLWARD_RING__ROTATE(s[4], 6) ^ CELLWARD_RING__ROTATE(s[4], 11) ^
			       CELLWARD_RING__ROTATE(s[4], 25));
		uint32_t t2 = ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2])) + (CELLWARD_RING__ROTATE(s[0], 2) ^
										 CELLWARD_RING__ROTATE(s[0], 13) ^
										 CELLWARD_RING__ROTATE(s[0], 22));

		memmove(s + 1, s, 7 * sizeof s[0]);
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (i = 0; i < 8; i++)
		state[i] += s[i];
#undef CELLWARD_RING__ROTATE
}

static void cellward_ring__sha256_init(struct cellward_ring__sha256 *sum)
{
	static const uint32_t start[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};

	memcpy(sum->state, start, sizeof start);
	sum->length = 0;
}

static void cellward_ring__sha256_add(struct cellward_ring__sha256 *sum, const void *data, size_t length)
{
	const unsigned char *p = (const unsigned char *)data;

	while (length > 0) {
		size_t used = sum->length % 64, n = 64 - used < length ? 64 - used : length;

		memcpy(sum->block + used, p, n);
		sum->length += n;
		p += n;
		length -= n;
		if (sum->length % 64 == 0)
			cellward_ring__sha256_block(sum->state, sum->block);
	}
}

/* Adds a number of the given size, little-endian. */
static void cellward_ring__sha256_number(struct cellward_ring__sha256 *sum, uint64_t value, size_t size)
{
	unsigned char b[8];
	size_t i;

	for (i = 0; i < size; i++)
		b[i] = (unsigned char)(value >> (8 * i));
	cellward_ring__sha256_add(sum, b, size);
}

static void cellward_ring__sha256_end(struct cellward_ring__sha256 *sum, uint8_t out[32])
{
	static const unsigned char padding[64] = {0x80};
	uint64_t bits = sum->length * 8;
	unsigned char b[8];
	int i;

	cellward_ring__sha256_add(sum, padding, 1 + (119 - sum->length % 64) % 64);
	for (i = 0; i < 8; i++)
		b[i] = (unsigned char)(bits >> (56 - 8 * i));
	cellward_ring__sha256_add(sum, b, 8);
	for (i = 0; i < 32; i++)
		out[i] = (uint8_t)(sum->state[i / 4] >> (24 - 8 * (i % 4)));
}

/*
 * ---- Checks ----
 *
 * The same as the producer's own and those of the Go reader, in the same order. Everything is checked in private
 * copies, and nothing is read from the shared header again, so no later change there can lead an access out of bounds.
 */

static int cellward_ring__printable(uint32_t c)
{
	/* Controls, separators other than the space, format characters, surrogates, private use, noncharacters. */
	static const uint32_t refused[][2] = {
		{0x0000, 0x001f},      {0x007f, 0x00a0},   {0x00ad, 0x00ad},   {0x0600, 0x0605},   {0x061c, 0x061c},
		{0x06dd, 0x06dd},      {0x070f, 0x070f},   {0x0890, 0x0891},   {0x08e2, 0x08e2},   {0x1680, 0x1680},
		{0x180e, 0x180e},      {0x2000, 0x200f},   {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},
		{0xd800, 0xf8ff},      {0xfdd0, 0xfdef},   {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0x110bd, 0x110bd},
		{0x110cd, 0x110cd},    {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0001, 0xe007f},
		{0xf0000, UINT32_MAX},
	};
	size_t i;

	if ((c & 0xfffe) == 0xfffe)
		return 0;
	for (i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (c >= refused[i][0] && c <= refused[i][1])
			return 0;
	return 1;
}

/* NULL when the text can mislead neither a terminal nor a parser of its reader's output, else what is wrong. */
static const char *cellward_ring__text_fault(const char *text, size_t length)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + length;

	if (length > CELLWARD_RING__MAX_TEXT)
		return "has more than 255 bytes";
	while (p < end) {
		static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
		uint32_t c = *p++;
		int more = c < 0x80		   ? 0
			   : c >= 0xc0 && c < 0xe0 ? 1
			   : c >= 0xe0 && c < 0xf0 ? 2
			   : c >= 0xf0 && c < 0xf8 ? 3
						   : -1;
		int i;

		if (more < 0 || end - p < more)
			return "is not UTF-8";
		if (more > 0)
			c &= 0x3fu >> more;
		for (i = 0; i < more; i++, p++) {
			if ((*p & 0xc0) != 0x80)
				return "is not UTF-8";
			c = c << 6 | (*p & 0x3fu);
		}
		if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return "is not UTF-8";
		if (!cellward_ring__printable(c))
			return "has an unprintable character";
	}
	return NULL;
}

static uint64_t cellward_ring__round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* Name of a field with up to two indices. */
struct cellward_ring__place {
	char text[64];
};

static const char *cellward_ring__stream_field(struct cellward_ring__place *place, uint32_t stream, const char *field)
{
	snprintf(place->text, sizeof place->text, "streams[%u].%s", (unsigned)stream, field);
	return place->text;
}

static const char *cellward_ring__signal_field(struct cellward_ring__place *place, uint32_t stream, uint32_t signal,
					       const char *field)
{
	snprintf(place->text, sizeof place->text, "streams[%u].signals[%u].%s", (unsigned)stream, (unsigned)signal,
		 field);
	return place->text;
}

/* The wanted version comes as arguments, because a comparison with a constant of 0 is a warning. */
static int cellward_ring__known_version(const struct cellward_ring__header *header, int major, int least_minor)
{
	return header->major == major && header->minor >= least_minor;
}

/* Checks the header of a ring in memory of the given size; *header receives a copy of its constant part. */
static int cellward_ring__check_header_fields(const unsigned char *memory, size_t size,
					      struct cellward_ring__header *header, cellward_ring_error *error)
{
	uint32_t state;
	uint64_t at;
	size_t i;

	if (size < sizeof *header)
		return CELLWARD_RING__DAMAGED(error, "file_size", "%zu bytes cannot hold the header of %zu", size,
					      sizeof *header);
	/* The state is the last word that a producer writes before it hands the memory over: loaded first. */
	state = cellward_ring__state(memory);
	memset(header, 0, sizeof *header);
	memcpy(header, memory, CELLWARD_RING__CHECKSUM_START + 4);

	if (memcmp(header->magic, CELLWARD_RING__MAGIC, 8) != 0)
		return CELLWARD_RING__DAMAGED(error, "magic", "is another one");
	if (header->endian_tag != CELLWARD_RING__ENDIAN_TAG)
		return CELLWARD_RING__DAMAGED(error, "endian_tag", "%#x: another byte order", header->endian_tag);
	if (!cellward_ring__known_version(header, CELLWARD_RING_MAJOR, CELLWARD_RING_MINOR))
		return cellward_ring__fail(
			error, CELLWARD_RING_VERSION, 0, NULL, "%u.%u, this reader knows %d and needs %d.%d or later",
			header->major, header->minor, CELLWARD_RING_MAJOR, CELLWARD_RING_MAJOR, CELLWARD_RING_MINOR);
	if (state != CELLWARD_RING__READY && state != CELLWARD_RING__CLOSED)
		return CELLWARD_RING__DAMAGED(error, "state", "%u: not ready", state);
	if (header->header_length < sizeof *header || header->header_length > size ||
	    header->header_length % CELLWARD_RING__LINE != 0)
		return CELLWARD_RING__DAMAGED(error, "header_length", "%u", header->header_length);
	if (header->clock_id != CELLWARD_RING__CLOCK_BOOTTIME)
		return CELLWARD_RING__DAMAGED(error, "clock_id", "%u, want 7 (CLOCK_BOOTTIME)", header->clock_id);
	if (header->file_size != size)
		return CELLWARD_RING__DAMAGED(error, "file_size", "%llu, but the memory has %zu bytes",
					      (unsigned long long)header->file_size, size);
	if (header->heartbeat_period_ns == 0 || header->heartbeat_period_ns > (uint64_t)CELLWARD_RING__HOUR)
		return CELLWARD_RING__DAMAGED(error, "heartbeat_period_ns", "%llu",
					      (unsigned long long)header->heartbeat_period_ns);
	if (header->body_max > CELLWARD_RING__MAX_BODY)
		return CELLWARD_RING__DAMAGED(error, "body_max", "%u", header->body_max);
	if (header->slot_size !=
	    cellward_ring__round_up(sizeof(struct cellward_ring__slot) + header->body_max, CELLWARD_RING__LINE))
		return CELLWARD_RING__DAMAGED(error, "slot_size", "%u for bodies of up to %u bytes", header->slot_size,
					      header->body_max);
	if (header->slot_count < 2 || header->slot_count > CELLWARD_RING__MAX_SLOTS ||
	    (header->slot_count & (header->slot_count - 1)) != 0)
		return CELLWARD_RING__DAMAGED(error, "slot_count", "%u", header->slot_count);
	if (header->latest_size !=
	    cellward_ring__round_up(sizeof(struct cellward_ring__latest) + header->body_max, CELLWARD_RING__LINE))
		return CELLWARD_RING__DAMAGED(error, "latest_size", "%u for bodies of up to %u bytes",
					      header->latest_size, header->body_max);
	if (header->stream_count > CELLWARD_RING__MAX_STREAMS)
		return CELLWARD_RING__DAMAGED(error, "stream_count", "%u", header->stream_count);
	if (header->stream_size != sizeof(struct cellward_ring__stream))
		return CELLWARD_RING__DAMAGED(error, "stream_size", "%u", header->stream_size);
	if (header->signal_count > CELLWARD_RING__MAX_SIGNALS)
		return CELLWARD_RING__DAMAGED(error, "signal_count", "%u", header->signal_count);
	if (header->signal_size != sizeof(struct cellward_ring__signal))
		return CELLWARD_RING__DAMAGED(error, "signal_size", "%u", header->signal_size);
	if (header->strings_length > CELLWARD_RING__MAX_STRINGS)
		return CELLWARD_RING__DAMAGED(error, "strings_length", "%u", header->strings_length);

	/* The regions follow one another in this order, each aligned to a line, so that none overlaps another. */
	at = header->header_length;
	for (i = 0; i < 5; i++) {
		static const char *const fields[5] = {"streams_offset", "signals_offset", "strings_offset",
						      "latest_offset", "slots_offset"};
		const uint64_t offsets[5] = {header->streams_offset, header->signals_offset, header->strings_offset,
					     header->latest_offset, header->slots_offset};
		const uint64_t lengths[5] = {
			(uint64_t)header->stream_count * header->stream_size,
			(uint64_t)header->signal_count * header->signal_size,
			header->strings_length,
			(uint64_t)header->stream_count * header->latest_size,
			(uint64_t)header->slot_count * header->slot_size,
		};

		if (offsets[i] % CELLWARD_RING__LINE != 0 || offsets[i] < at || offsets[i] > size ||
		    lengths[i] > size - offsets[i])
			return CELLWARD_RING__DAMAGED(error, fields[i],
						      "%llu bytes at %llu, after %llu, in memory of %zu",
						      (unsigned long long)lengths[i], (unsigned long long)offsets[i],
						      (unsigned long long)at, size);
		at = offsets[i] + lengths[i];
	}
	return CELLWARD_RING_OK;
}

/* A key of a table with the row that it is in, to find keys that are used twice. */
struct cellward_ring__key {
	const char *text;
	uint32_t length; /* of the text; or a number, when text is NULL */
	uint32_t row;
};

static int cellward_ring__compare_keys(const void *left, const void *right)
{
	const struct cellward_ring__key *a = (const struct cellward_ring__key *)left;
	const struct cellward_ring__key *b = (const struct cellward_ring__key *)right;
	int order;

	if (a->length != b->length)
		return a->length < b->length ? -1 : 1;
	if (a->text && (order = memcmp(a->text, b->text, a->length)) != 0)
		return order;
	return a->row < b->row ? -1 : a->row > b->row;
}

/* Names that are too long are refused for that, and are not worth comparing: they may be very long. */
static uint32_t cellward_ring__key_length(uint32_t length)
{
	return length > CELLWARD_RING__MAX_TEXT ? 0 : length;
}

/* Sets bit in marks[row] for each row whose key stands in an earlier row too. Changes the order of the keys. */
static void cellward_ring__mark_repeated(struct cellward_ring__key *keys, size_t count, unsigned char *marks,
					 unsigned char bit)
{
	size_t i;

	if (count > 1)
		qsort(keys, count, sizeof *keys, cellward_ring__compare_keys);
	for (i = 1; i < count; i++)
		if (keys[i].length == keys[i - 1].length &&
		    (!keys[i].text || memcmp(keys[i].text, keys[i - 1].text, keys[i].length) == 0))
			marks[keys[i].row] |= bit;
}

/* Everything that the check of the tables works on; all of it private. */
struct cellward_ring__tables {
	const struct cellward_ring__header *header;
	struct cellward_ring__stream *streams;
	struct cellward_ring__signal *signals;
	char *strings;
	struct cellward_ring__key *keys; /* scratch, for the longer of the tables */
	unsigned char *marks;		 /* scratch, likewise */
};

enum { CELLWARD_RING__REPEATED_ID = 1, CELLWARD_RING__REPEATED_NAME = 2 };

static int cellward_ring__text_inside(const struct cellward_ring__tables *t, uint32_t offset, uint32_t length,
				      const char *field, cellward_ring_error *error)
{
	if ((uint64_t)offset + length > t->header->strings_length)
		return CELLWARD_RING__DAMAGED(error, field, "%u bytes at %u in a string area of %u", length, offset,
					      t->header->strings_length);
	return CELLWARD_RING_OK;
}

/* The references of all entries lead into their tables. */
static int cellward_ring__check_references(const struct cellward_ring__tables *t, cellward_ring_error *error)
{
	struct cellward_ring__place place;
	uint32_t next = 0, i, j; /* signals belong to the streams in order, each to one */

	for (i = 0; i < t->header->stream_count; i++) {
		const struct cellward_ring__stream *s = &t->streams[i];

		if (cellward_ring__text_inside(t, s->name_offset, s->name_length,
					       cellward_ring__stream_field(&place, i, "name_offset"), error) ||
		    cellward_ring__text_inside(t, s->source_offset, s->source_length,
					       cellward_ring__stream_field(&place, i, "source_offset"), error) ||
		    cellward_ring__text_inside(t, s->interface_offset, s->interface_length,
					       cellward_ring__stream_field(&place, i, "interface_offset"), error))
			return CELLWARD_RING_LAYOUT;
		if (s->first_signal != next)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__stream_field(&place, i, "first_signal"),
						      "%u, want %u", s->first_signal, next);
		if (s->signal_count > t->header->signal_count - next)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__stream_field(&place, i, "signal_count"),
						      "%u, but %u are left", s->signal_count,
						      t->header->signal_count - next);
		for (j = 0; j < s->signal_count; j++) {
			const struct cellward_ring__signal *g = &t->signals[next + j];

			if (cellward_ring__text_inside(t, g->name_offset, g->name_length,
						       cellward_ring__signal_field(&place, i, j, "name_offset"),
						       error) ||
			    cellward_ring__text_inside(t, g->unit_offset, g->unit_length,
						       cellward_ring__signal_field(&place, i, j, "unit_offset"), error))
				return CELLWARD_RING_LAYOUT;
			if (g->factor == 0)
				return CELLWARD_RING__DAMAGED(
					error, cellward_ring__signal_field(&place, i, j, "factor"), "is 0");
		}
		for (j = 0; j < s->signal_count; j++) {
			uint32_t mux = t->signals[next + j].multiplexor;

			if (mux != CELLWARD_RING_ALWAYS && mux >= s->signal_count)
				return CELLWARD_RING__DAMAGED(error,
							      cellward_ring__signal_field(&place, i, j, "multiplexor"),
							      "%u of %u signals", mux, s->signal_count);
		}
		next += s->signal_count;
	}
	if (next != t->header->signal_count)
		return CELLWARD_RING__DAMAGED(error, "signal_count", "%u, but the streams have %u",
					      t->header->signal_count, next);
	return CELLWARD_RING_OK;
}

/* How long a body must be to hold a signal. */
static uint32_t cellward_ring__signal_bytes(const struct cellward_ring__signal *signal)
{
	uint32_t start = signal->start, length = signal->length, rest;

	if (signal->byte_order == CELLWARD_RING_LITTLE_ENDIAN)
		return (start + length + 7) / 8;
	/* The first byte gives start % 8 + 1 bits, each further byte eight. */
	rest = length > start % 8 + 1 ? length - start % 8 - 1 : 0;
	return start / 8 + 1 + (rest + 7) / 8;
}

static int cellward_ring__finite(double value)
{
	return value - value == 0;
}

/* The signals of stream i are possible ones, no multiplexor leads to itself, and all are unsigned. */
static int cellward_ring__check_signals(const struct cellward_ring__tables *t, uint32_t i, cellward_ring_error *error)
{
	const struct cellward_ring__signal *signals = t->signals + t->streams[i].first_signal;
	uint32_t count = t->streams[i].signal_count, j;
	struct cellward_ring__place place;

	for (j = 0; j < count; j++) {
		t->keys[j].text = t->strings + signals[j].name_offset;
		t->keys[j].length = cellward_ring__key_length(signals[j].name_length);
		t->keys[j].row = j;
	}
	memset(t->marks, 0, count);
	cellward_ring__mark_repeated(t->keys, count, t->marks, CELLWARD_RING__REPEATED_NAME);
	for (j = 0; j < count; j++) {
		const struct cellward_ring__signal *g = &signals[j];
		const char *field = NULL, *reason = NULL;

		if (g->name_length == 0)
			field = "name", reason = "is empty";
		else if ((reason = cellward_ring__text_fault(t->strings + g->name_offset, g->name_length)) != NULL)
			field = "name";
		else if ((reason = cellward_ring__text_fault(t->strings + g->unit_offset, g->unit_length)) != NULL)
			field = "unit";
		else if (t->marks[j] & CELLWARD_RING__REPEATED_NAME)
			field = "name", reason = "is used twice";
		else if (g->length < 1 || g->length > 64)
			field = "length", reason = "is not 1 to 64 bits";
		else if (g->byte_order > CELLWARD_RING_BIG_ENDIAN)
			field = "byte_order", reason = "is unknown";
		else if (g->value_type > CELLWARD_RING_FLOAT64)
			field = "value_type", reason = "is unknown";
		else if ((g->value_type == CELLWARD_RING_FLOAT32 && g->length != 32) ||
			 (g->value_type == CELLWARD_RING_FLOAT64 && g->length != 64))
			field = "length", reason = "is not that of the floating-point value";
		else if (cellward_ring__signal_bytes(g) > t->header->body_max)
			field = "start", reason = "leads behind the longest body";
		else if (!cellward_ring__finite(g->factor))
			field = "factor", reason = "is not a finite number";
		else if (!cellward_ring__finite(g->offset))
			field = "offset", reason = "is not a finite number";
		if (field)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__signal_field(&place, i, j, field), "%s",
						      reason);
	}
	/* Each chain of multiplexors is followed until it ends or meets one that is known to be good (mark 1). Marks 2
	 * are those of the chain that is being followed: to meet one is a cycle. */
	memset(t->marks, 0, count);
	for (j = 0; j < count; j++) {
		uint32_t at;
		const char *reason = NULL;

		for (at = j; t->marks[at] != 1; at = signals[at].multiplexor) {
			t->marks[at] = 2;
			if (signals[at].multiplexor == CELLWARD_RING_ALWAYS)
				break;
			if (t->marks[signals[at].multiplexor] == 2)
				reason = "leads to itself";
			else if (signals[signals[at].multiplexor].value_type != CELLWARD_RING_UNSIGNED)
				reason = "is not unsigned";
			if (reason)
				return CELLWARD_RING__DAMAGED(
					error, cellward_ring__signal_field(&place, i, j, "multiplexor"), "%s", reason);
		}
		for (at = j; at != CELLWARD_RING_ALWAYS && t->marks[at] == 2; at = signals[at].multiplexor)
			t->marks[at] = 1;
	}
	return CELLWARD_RING_OK;
}

static int cellward_ring__interface_name(const char *name, uint32_t length)
{
	uint32_t i;

	if (length == 0 || length > 15)
		return 0;
	for (i = 0; i < length; i++)
		if (strchr("/ ()#", name[i]))
			return 0;
	return 1;
}

static int cellward_ring__check_streams(const struct cellward_ring__tables *t, unsigned char *repeated,
					cellward_ring_error *error)
{
	uint32_t count = t->header->stream_count, i;
	struct cellward_ring__place place;

	for (i = 0; i < count; i++) {
		t->keys[i].text = NULL;
		t->keys[i].length = t->streams[i].stream_id;
		t->keys[i].row = i;
	}
	cellward_ring__mark_repeated(t->keys, count, repeated, CELLWARD_RING__REPEATED_ID);
	for (i = 0; i < count; i++) {
		t->keys[i].text = t->strings + t->streams[i].name_offset;
		t->keys[i].length = cellward_ring__key_length(t->streams[i].name_length);
		t->keys[i].row = i;
	}
	cellward_ring__mark_repeated(t->keys, count, repeated, CELLWARD_RING__REPEATED_NAME);

	for (i = 0; i < count; i++) {
		const struct cellward_ring__stream *s = &t->streams[i];
		uint32_t limit = s->can_id & CELLWARD_RING_EXTENDED_ID ? 0x1fffffff : 0x7ff;
		const char *field = NULL, *reason = NULL;
		int code;

		if (s->stream_id == 0 || s->stream_id == UINT32_MAX)
			field = "stream_id", reason = "is reserved";
		else if (s->name_length == 0)
			field = "name", reason = "is empty";
		else if ((reason = cellward_ring__text_fault(t->strings + s->name_offset, s->name_length)) != NULL)
			field = "name";
		else if ((reason = cellward_ring__text_fault(t->strings + s->source_offset, s->source_length)) != NULL)
			field = "source";
		else if ((reason = cellward_ring__text_fault(t->strings + s->interface_offset, s->interface_length)) !=
			 NULL)
			field = "interface";
		else if (!cellward_ring__interface_name(t->strings + s->interface_offset, s->interface_length))
			field = "interface", reason = "is not an interface name";
		else if ((s->can_id & ~CELLWARD_RING_EXTENDED_ID) > limit)
			field = "can_id", reason = "is out of range";
		else if (s->period_ns > INT64_MAX)
			field = "period_ns", reason = "is out of range";
		else if (s->sensitivity > 4)
			field = "sensitivity", reason = "is unknown";
		if (field)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__stream_field(&place, i, field), "%s",
						      reason);
		if ((code = cellward_ring__check_signals(t, i, error)) != CELLWARD_RING_OK)
			return code;
		if (repeated[i] & CELLWARD_RING__REPEATED_ID)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__stream_field(&place, i, "stream_id"),
						      "%u is used twice", s->stream_id);
		if (repeated[i] & CELLWARD_RING__REPEATED_NAME)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__stream_field(&place, i, "name"),
						      "is used twice");
	}
	return CELLWARD_RING_OK;
}

static uint64_t cellward_ring__double_bits(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static int cellward_ring__check_hashes(const struct cellward_ring__tables *t, cellward_ring_error *error)
{
	struct cellward_ring__place place;
	uint32_t i, j;

	for (i = 0; i < t->header->stream_count; i++) {
		const struct cellward_ring__stream *s = &t->streams[i];
		struct cellward_ring__sha256 sum;
		uint8_t hash[32];

		cellward_ring__sha256_init(&sum);
		for (j = 0; j < s->signal_count; j++) {
			const struct cellward_ring__signal *g = &t->signals[s->first_signal + j];

			cellward_ring__sha256_number(&sum, g->name_length, 2);
			cellward_ring__sha256_add(&sum, t->strings + g->name_offset, g->name_length);
			cellward_ring__sha256_number(&sum, g->unit_length, 2);
			cellward_ring__sha256_add(&sum, t->strings + g->unit_offset, g->unit_length);
			cellward_ring__sha256_number(&sum, g->start, 2);
			cellward_ring__sha256_number(&sum, g->length, 2);
			cellward_ring__sha256_number(&sum, g->byte_order, 1);
			cellward_ring__sha256_number(&sum, g->value_type, 1);
			cellward_ring__sha256_number(&sum, g->multiplexor, 4);
			cellward_ring__sha256_number(&sum, g->mux_value, 4);
			cellward_ring__sha256_number(&sum, cellward_ring__double_bits(g->factor), 8);
			cellward_ring__sha256_number(&sum, cellward_ring__double_bits(g->offset), 8);
		}
		cellward_ring__sha256_end(&sum, hash);
		if (memcmp(hash, s->schema_hash, sizeof hash) != 0)
			return CELLWARD_RING__DAMAGED(error, cellward_ring__stream_field(&place, i, "schema_hash"),
						      "is not that of the signals");
	}
	return CELLWARD_RING_OK;
}

static uint32_t cellward_ring__checksum(const struct cellward_ring__tables *t)
{
	uint32_t sum = cellward_ring__crc32(0, t->header, CELLWARD_RING__CHECKSUM_START);

	sum = cellward_ring__crc32(sum, t->streams, t->header->stream_count * sizeof *t->streams);
	sum = cellward_ring__crc32(sum, t->signals, t->header->signal_count * sizeof *t->signals);
	return cellward_ring__crc32(sum, t->strings, t->header->strings_length);
}

/* Copies a text with a terminating zero to *at and moves that on. */
static const char *cellward_ring__take_text(const struct cellward_ring__tables *t, uint32_t offset, uint32_t length,
					    char **at)
{
	char *text = *at;

	memcpy(text, t->strings + offset, length);
	text[length] = 0;
	*at = text + length + 1;
	return text;
}

/* Makes the tables that the caller gets out of checked ones. */
static int cellward_ring__build(const struct cellward_ring__tables *t, struct cellward_ring__view *view,
				cellward_ring_error *error)
{
	uint32_t streams = t->header->stream_count, signals = t->header->signal_count, i;
	size_t text = 0;
	char *at;

	for (i = 0; i < streams; i++)
		text += (size_t)t->streams[i].name_length + t->streams[i].source_length +
			t->streams[i].interface_length + 3;
	for (i = 0; i < signals; i++)
		text += (size_t)t->signals[i].name_length + t->signals[i].unit_length + 2;
	view->streams = (cellward_ring_stream *)calloc(streams ? streams : 1, sizeof *view->streams);
	view->signals = (cellward_ring_signal *)calloc(signals ? signals : 1, sizeof *view->signals);
	view->text = at = (char *)malloc(text ? text : 1);
	if (!view->streams || !view->signals || !view->text)
		return cellward_ring__fail(error, CELLWARD_RING_SYSTEM, ENOMEM, NULL, "open ring");
	for (i = 0; i < signals; i++) {
		const struct cellward_ring__signal *from = &t->signals[i];
		cellward_ring_signal *to = &view->signals[i];

		to->name = cellward_ring__take_text(t, from->name_offset, from->name_length, &at);
		to->unit = cellward_ring__take_text(t, from->unit_offset, from->unit_length, &at);
		to->multiplexor = from->multiplexor;
		to->mux_value = from->mux_value;
		to->bytes = cellward_ring__signal_bytes(from);
		to->start = from->start;
		to->length = from->length;
		to->byte_order = from->byte_order;
		to->value_type = from->value_type;
		to->factor = from->factor;
		to->offset = from->offset;
	}
	for (i = 0; i < streams; i++) {
		const struct cellward_ring__stream *from = &t->streams[i];
		cellward_ring_stream *to = &view->streams[i];

		to->name = cellward_ring__take_text(t, from->name_offset, from->name_length, &at);
		to->source = cellward_ring__take_text(t, from->source_offset, from->source_length, &at);
		to->bus = cellward_ring__take_text(t, from->interface_offset, from->interface_length, &at);
		to->period_ns = from->period_ns;
		to->signals = view->signals + from->first_signal;
		to->signal_count = from->signal_count;
		to->stream_id = from->stream_id;
		to->source_id = from->source_id;
		to->can_id = from->can_id;
		to->sensitivity = from->sensitivity;
		memcpy(to->schema_hash, from->schema_hash, sizeof to->schema_hash);
	}
	return CELLWARD_RING_OK;
}

/* A private copy; never NULL for nothing. */
static void *cellward_ring__clone(const unsigned char *from, size_t length)
{
	void *to = malloc(length ? length : 1);

	if (to && length)
		memcpy(to, from, length);
	return to;
}

static int cellward_ring__check_tables(struct cellward_ring__view *view, cellward_ring_error *error)
{
	const struct cellward_ring__header *h = &view->header;
	size_t rows = h->stream_count > h->signal_count ? h->stream_count : h->signal_count;
	unsigned char *repeated = (unsigned char *)calloc(h->stream_count + 1, 1);
	struct cellward_ring__tables t;
	int code;

	t.header = h;
	t.streams = (struct cellward_ring__stream *)cellward_ring__clone(view->memory + h->streams_offset,
									 h->stream_count * sizeof *t.streams);
	t.signals = (struct cellward_ring__signal *)cellward_ring__clone(view->memory + h->signals_offset,
									 h->signal_count * sizeof *t.signals);
	t.strings = (char *)cellward_ring__clone(view->memory + h->strings_offset, h->strings_length);
	t.keys = (struct cellward_ring__key *)malloc((rows + 1) * sizeof *t.keys);
	t.marks = (unsigned char *)malloc(rows + 1);
	if (!t.streams || !t.signals || !t.strings || !t.keys || !t.marks || !repeated)
		code = cellward_ring__fail(error, CELLWARD_RING_SYSTEM, ENOMEM, NULL, "open ring");
	else if ((code = cellward_ring__check_references(&t, error)) == CELLWARD_RING_OK &&
		 (code = cellward_ring__check_streams(&t, repeated, error)) == CELLWARD_RING_OK &&
		 (code = cellward_ring__check_hashes(&t, error)) == CELLWARD_RING_OK) {
		/* Last, because the checks above say more about what is wrong. */
		uint32_t sum = cellward_ring__checksum(&t);

		if (sum != h->checksum)
			code = CELLWARD_RING__DAMAGED(error, "checksum", "%#x, want %#x", h->checksum, sum);
		else
			code = cellward_ring__build(&t, view, error);
	}
	free(t.streams);
	free(t.signals);
	free(t.strings);
	free(t.keys);
	free(t.marks);
	free(repeated);
	return code;
}

static void cellward_ring__view_free(struct cellward_ring__view *view)
{
	free(view->streams);
	free(view->signals);
	free(view->text);
	memset(view, 0, sizeof *view);
}

/* Checks the memory of a ring, aligned to 8 bytes, and prepares it for reading. It does not take it over. */
static int cellward_ring__view_init(struct cellward_ring__view *view, const void *memory, size_t size,
				    cellward_ring_error *error)
{
	uint64_t tail, intent;
	int code;

	memset(view, 0, sizeof *view);
	view->memory = (const unsigned char *)memory;
	view->size = size;
	if ((code = cellward_ring__check_header_fields(view->memory, size, &view->header, error)) != CELLWARD_RING_OK)
		return code;
	view->words =
		(size_t)cellward_ring__round_up(sizeof(struct cellward_ring__slot) + view->header.body_max, 8) / 8;
	if ((code = cellward_ring__check_tables(view, error)) == CELLWARD_RING_OK) {
		/* The tail is loaded first: the intent only grows, so a later reading of it is never below. */
		tail = cellward_ring__tail(view);
		intent = cellward_ring__hot(view, offsetof(struct cellward_ring__header, intent));
		if (intent < tail || intent > UINT64_C(1) << 62)
			code = CELLWARD_RING__DAMAGED(error, "intent", "%llu with a tail of %llu",
						      (unsigned long long)intent, (unsigned long long)tail);
	}
	if (code != CELLWARD_RING_OK)
		cellward_ring__view_free(view);
	return code;
}

/*
 * ---- Reading ----
 */

/* Copies the words of a slot that are in use. The caller looks at the intent, or begin, afterwards. */
static void cellward_ring__copy_slot(const struct cellward_ring__view *view, const unsigned char *from, uint64_t *to)
{
	struct cellward_ring__slot head;
	size_t length;

	cellward_ring__load_words(to, from, 0, CELLWARD_RING__SLOT_WORDS);
	/* The length may be torn: it is clamped here and checked after the second look. */
	memcpy(&head, to, sizeof head);
	length = head.length < view->header.body_max ? head.length : view->header.body_max;
	cellward_ring__load_words(to, from, CELLWARD_RING__SLOT_WORDS, CELLWARD_RING__SLOT_WORDS + (length + 7) / 8);
}

/* Turns copied words into a sample whose body lies in those words. */
static int cellward_ring__sample(const struct cellward_ring__view *view, uint64_t position, const uint64_t *words,
				 cellward_ring_sample *sample, cellward_ring_error *error)
{
	struct cellward_ring__slot head;
	char field[32];

	memcpy(&head, words, sizeof head);
	if (head.marker != position + 1 || head.stream >= view->header.stream_count ||
	    head.length > view->header.body_max) {
		snprintf(field, sizeof field, "slots[%u]", (unsigned)(position & (view->header.slot_count - 1)));
		return CELLWARD_RING__DAMAGED(error, field, "position %llu has marker %llu, stream %u, length %u",
					      (unsigned long long)position, (unsigned long long)head.marker,
					      head.stream, head.length);
	}
	sample->position = position;
	sample->counter = head.counter;
	sample->receive_time = head.receive_time;
	sample->publish_time = head.publish_time;
	sample->body = (const uint8_t *)(words + CELLWARD_RING__SLOT_WORDS);
	sample->stream = head.stream;
	sample->epoch = head.epoch;
	sample->source_time = head.source_time;
	sample->flags = head.flags;
	sample->length = head.length;
	return CELLWARD_RING_OK;
}

/*
 * Copies samples from *position on into batch and buffer, which holds view->words words for each. *position becomes
 * the one after what was consumed and *missed grows by those that were overwritten before they could be read. Returns
 * how many were delivered, or an error when there was none before it. 0 with a changed position: the producer overtook
 * everything that was copied.
 */
static int cellward_ring__read(const struct cellward_ring__view *view, uint64_t *position, uint64_t *missed,
			       cellward_ring_sample *batch, uint64_t *buffer, size_t room, cellward_ring_error *error)
{
	uint64_t tail = cellward_ring__tail(view), first = *position, oldest;
	size_t n, torn, i;

	if (first > tail)
		return CELLWARD_RING__DAMAGED(error, "tail", "%llu went back below %llu", (unsigned long long)tail,
					      (unsigned long long)first);
	if (first == tail)
		return 0;
	oldest = cellward_ring__oldest(view);
	if (first < oldest)
		first = oldest;
	n = 0;
	if (first < tail) /* else a whole turn of the ring came since the tail was loaded */
		n = tail - first < room ? (size_t)(tail - first) : room;
	for (i = 0; i < n; i++)
		cellward_ring__copy_slot(view,
					 view->memory + view->header.slots_offset +
						 ((first + i) & (view->header.slot_count - 1)) * view->header.slot_size,
					 buffer + i * view->words);
	/* The second look: not before the copy is complete. Those that may be torn are at the front of it. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	oldest = cellward_ring__oldest(view);
	torn = 0;
	if (oldest > first)
		torn = oldest - first < n ? (size_t)(oldest - first) : n;
	*missed += first + torn - *position;
	*position = first + torn;
	for (i = torn; i < n; i++) {
		int code = cellward_ring__sample(view, *position, buffer + i * view->words, &batch[i - torn], error);

		if (code != CELLWARD_RING_OK)
			return i > torn ? (int)(i - torn) : code;
		++*position;
	}
	return (int)(n - torn);
}

/* One attempt to copy the newest sample of a stream into words. */
static int cellward_ring__read_latest(const struct cellward_ring__view *view, uint32_t stream, uint64_t *words,
				      cellward_ring_sample *sample, cellward_ring_error *error)
{
	const unsigned char *entry =
		view->memory + view->header.latest_offset + (size_t)stream * view->header.latest_size;
	const unsigned char *slot = entry + offsetof(struct cellward_ring__latest, slot);
	uint64_t marker = cellward_ring_load(slot + offsetof(struct cellward_ring__slot, marker)), begin;
	char field[32];
	int code;

	cellward_ring__copy_slot(view, slot, words);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	begin = cellward_ring_load(entry + offsetof(struct cellward_ring__latest, begin));
	if (begin != marker)
		return cellward_ring__fail(error, CELLWARD_RING_BUSY, 0, NULL, "%s", "");
	if (marker == 0)
		return 0;
	/* The marker is loaded twice, here and with the words; begin equal to the first fixes the second. */
	words[0] = marker;
	if ((code = cellward_ring__sample(view, marker - 1, words, sample, error)) != CELLWARD_RING_OK)
		return code;
	if (sample->stream != stream) {
		snprintf(field, sizeof field, "latest[%u]", (unsigned)stream);
		return CELLWARD_RING__DAMAGED(error, field, "holds stream %u", sample->stream);
	}
	return 1;
}

/*
 * ---- Decoding ----
 */

/* Collects the bits of a signal, byte by byte. The caller has checked that the body is long enough. */
static uint64_t cellward_ring__extract(const unsigned char *body, const cellward_ring_signal *signal)
{
	unsigned at = signal->start / 8, bit = signal->start % 8, left = signal->length, done, n;
	uint64_t raw = 0;

	if (signal->byte_order == CELLWARD_RING_LITTLE_ENDIAN) {
		for (done = 0; left > 0; done += n, left -= n, at++, bit = 0) {
			n = 8 - bit < left ? 8 - bit : left;
			raw |= ((uint64_t)(body[at] >> bit) & ((1u << n) - 1)) << done;
		}
		return raw;
	}
	/* From the most significant bit downwards: what is left of a byte are its bits bit..0. */
	for (; left > 0; left -= n, at++, bit = 7) {
		n = bit + 1 < left ? bit + 1 : left;
		raw = raw << n | ((uint64_t)(body[at] >> (bit + 1 - n)) & ((1u << n) - 1));
	}
	return raw;
}

/* Whether the multiplexors of a signal, and theirs, have the values with which it is present. */
static int cellward_ring__selected(const cellward_ring_stream *stream, const cellward_ring_signal *signal,
				   const unsigned char *body, size_t length)
{
	while (signal->multiplexor != CELLWARD_RING_ALWAYS) { /* ends: opening the ring has excluded cycles */
		const cellward_ring_signal *mux = &stream->signals[signal->multiplexor];

		if (mux->bytes > length || cellward_ring__extract(body, mux) != signal->mux_value)
			return 0;
		signal = mux;
	}
	return 1;
}

CELLWARD_RING_DEF size_t cellward_ring_decode(const cellward_ring_stream *stream, const void *body, size_t length,
					      cellward_ring_value *values, size_t room)
{
	const unsigned char *bytes = (const unsigned char *)body;
	/* Signals of one group stand next to each other, so remembering one answer is enough. */
	uint32_t known_mux = CELLWARD_RING_ALWAYS, known_value = 0, i;
	int known = 0;
	size_t n = 0;

	for (i = 0; i < stream->signal_count; i++) {
		const cellward_ring_signal *signal = &stream->signals[i];
		double physical;
		int64_t integer;
		uint64_t raw;

		if (signal->bytes > length)
			continue;
		if (signal->multiplexor != CELLWARD_RING_ALWAYS) {
			if (signal->multiplexor != known_mux || signal->mux_value != known_value) {
				known_mux = signal->multiplexor;
				known_value = signal->mux_value;
				known = cellward_ring__selected(stream, signal, bytes, length);
			}
			if (!known)
				continue;
		}
		raw = cellward_ring__extract(bytes, signal);
		switch (signal->value_type) {
		case CELLWARD_RING_SIGNED:
			if (signal->length < 64 && raw >> (signal->length - 1))
				raw |= UINT64_MAX << signal->length;
			memcpy(&integer, &raw, sizeof integer);
			physical = (double)integer;
			break;
		case CELLWARD_RING_FLOAT32: {
			uint32_t bits = (uint32_t)raw;
			float value;

			memcpy(&value, &bits, sizeof value);
			physical = value;
			break;
		}
		case CELLWARD_RING_FLOAT64:
			memcpy(&physical, &raw, sizeof physical);
			break;
		default:
			physical = (double)raw;
		}
		if (n < room) {
			values[n].signal = i;
			values[n].raw = raw;
			values[n].physical = physical * signal->factor + signal->offset;
		}
		n++;
	}
	return n;
}

/*
 * ---- Connection ----
 */

static int64_t cellward_ring__now(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * CELLWARD_RING__SECOND + now.tv_nsec;
}

static int64_t cellward_ring__connect_timeout(const cellward_ring_options *options)
{
	return options->connect_timeout_ns ? options->connect_timeout_ns : 5 * CELLWARD_RING__SECOND;
}

/* Bounds connect and receive of a socket; ns < 0: no bound. */
static void cellward_ring__bound(int fd, int64_t ns)
{
	struct timeval limit;

	memset(&limit, 0, sizeof limit);
	if (ns >= 0) {
		limit.tv_sec = (time_t)(ns / CELLWARD_RING__SECOND);
		limit.tv_usec = (suseconds_t)(ns % CELLWARD_RING__SECOND / 1000);
		if (limit.tv_sec == 0 && limit.tv_usec == 0)
			limit.tv_usec = 1; /* zero means no bound */
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* connect(2) on a Unix socket obeys this one */
}

/* Reads the server's one message and returns the descriptor that came with it, or a negative code. */
static int cellward_ring__receive_hello(int connection, int flags, cellward_ring_error *error)
{
	struct cellward_ring__hello hello;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr message;
	struct iovec part;
	struct cmsghdr *c;
	int fds[4], n = 0, code, i;
	ssize_t got;

	memset(&hello, 0, sizeof hello);
	memset(&message, 0, sizeof message);
	part.iov_base = &hello;
	part.iov_len = sizeof hello;
	message.msg_iov = &part;
	message.msg_iovlen = 1;
	message.msg_control = control.bytes;
	message.msg_controllen = sizeof control.bytes;
	do
		got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC | flags);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return cellward_ring__fail(error, CELLWARD_RING_SYSTEM, errno, NULL, "receive the ring");
	for (c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < (int)count && n < 4; i++)
			memcpy(&fds[n++], CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof(int));
	}

	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		code = cellward_ring__fail(error, CELLWARD_RING_SYSTEM, EPROTO, NULL,
					   "receive the ring: server's message is too long");
	else if (got == 0)
		code = cellward_ring__fail(error, CELLWARD_RING_GONE, 0, NULL, "it said nothing");
	else if (got < (ssize_t)sizeof hello || memcmp(hello.magic, CELLWARD_RING__MAGIC, 8) != 0)
		code = cellward_ring__fail(error, CELLWARD_RING_SYSTEM, EPROTO, NULL,
					   "receive the ring: %zd bytes that are no server's message", got);
	else if (hello.major != CELLWARD_RING_MAJOR)
		code = cellward_ring__fail(error, CELLWARD_RING_VERSION, 0, NULL, "%u.%u, this reader knows %d",
					   hello.major, hello.minor, CELLWARD_RING_MAJOR);
	else if (hello.status == CELLWARD_RING__HELLO_NOT_AUTHORIZED)
		code = cellward_ring__fail(error, CELLWARD_RING_NOT_AUTHORIZED, 0, NULL, "%s", "");
	else if (hello.status == CELLWARD_RING__HELLO_TOO_MANY)
		code = cellward_ring__fail(error, CELLWARD_RING_TOO_MANY, 0, NULL, "%s", "");
	else if (hello.status != CELLWARD_RING__HELLO_RING)
		code = cellward_ring__fail(error, CELLWARD_RING_SYSTEM, EPROTO, NULL,
					   "receive the ring: refused with status %u", hello.status);
	else if (n != 1)
		code = cellward_ring__fail(error, CELLWARD_RING_SYSTEM, EPROTO, NULL,
					   "receive the ring: %d descriptors instead of one", n);
	else
		return fds[0];
	for (i = 0; i < n; i++)
		close(fds[i]);
	return code;
}

/* Maps memory that came from a producer and checks it. */
static int cellward_ring__map(struct cellward_ring__view *view, int memory, cellward_ring_error *error)
{
	int seals = fcntl(memory, F_GET_SEALS), code;
	struct stat file;
	void *at;

	/* Reading behind the end of memory that shrank is a fatal SIGBUS; another reader's writes would be forged
	 * samples. F_SEAL_FUTURE_WRITE is 0x10 (Linux 5.1), F_SEAL_WRITE 0x8, F_SEAL_SHRINK 0x2. */
	if (seals < 0)
		return cellward_ring__fail(error, CELLWARD_RING_NOT_SEALED, 0, NULL, "%s", strerror(errno));
	if (!(seals & 0x2) || !(seals & 0x18))
		return cellward_ring__fail(error, CELLWARD_RING_NOT_SEALED, 0, NULL, "seals %#x", (unsigned)seals);
	if (fstat(memory, &file) != 0)
		return cellward_ring__fail(error, CELLWARD_RING_SYSTEM, errno, NULL, "get size of shared memory");
	if (file.st_size < (off_t)sizeof(struct cellward_ring__header) || file.st_size > CELLWARD_RING__MAX_SIZE)
		return CELLWARD_RING__DAMAGED(error, "file_size", "memory has %lld bytes", (long long)file.st_size);
	at = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, memory, 0);
	if (at == MAP_FAILED)
		return cellward_ring__fail(error, CELLWARD_RING_SYSTEM, errno, NULL, "map shared memory");
	if ((code = cellward_ring__view_init(view, at, (size_t)file.st_size, error)) != CELLWARD_RING_OK)
		munmap(at, (size_t)file.st_size);
	return code;
}

static void cellward_ring__unmap(struct cellward_ring__view *view)
{
	if (view->memory)
		munmap((void *)(uintptr_t)view->memory, view->size);
	cellward_ring__view_free(view);
}

static int cellward_ring__dial(const char *path, int64_t timeout_ns, int *connection, struct cellward_ring__view *view,
			       cellward_ring_error *error)
{
	struct sockaddr_un address;
	int memory, code;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return cellward_ring__fail(error, CELLWARD_RING_SYSTEM, errno, NULL, "make socket");
	memset(&address, 0, sizeof address);
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, path, strlen(path)); /* the caller has checked that it fits */
	cellward_ring__bound(fd, timeout_ns);
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
		code = cellward_ring__fail(error, CELLWARD_RING_SYSTEM, errno, NULL, "connect to %.90s", path);
		close(fd);
		return code;
	}
	memory = cellward_ring__receive_hello(fd, 0, error);
	if (memory < 0) {
		close(fd);
		return memory;
	}
	code = cellward_ring__map(view, memory, error);
	close(memory); /* the mapping keeps the memory */
	if (code != CELLWARD_RING_OK) {
		close(fd);
		return code;
	}
	cellward_ring__bound(fd, -1); /* from now on it may be silent for as long as it likes */
	*connection = fd;
	return CELLWARD_RING_OK;
}

/*
 * ---- Waiting ----
 */

/* struct futex_waitv of <linux/futex.h>, which older systems lack. */
struct cellward_ring__futex_waitv {
	uint64_t val;
	uint64_t uaddr;
	uint32_t flags;
	uint32_t reserved;
};

enum {
	CELLWARD_RING__FUTEX_WAIT = 0,
	CELLWARD_RING__FUTEX_WAKE = 1,
	CELLWARD_RING__FUTEX_32 = 2,
	CELLWARD_RING__FUTEX_PRIVATE = 128,
	CELLWARD_RING__SYS_FUTEX_WAITV = 449 /* the same on all machines that this reader runs on */
};

/* Ends a wait, also one that is about to begin. */
static void cellward_ring__kick(cellward_ring *ring)
{
	int kept = errno; /* a signal handler may call this */

	__atomic_add_fetch(&ring->kicks, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &ring->kicks, CELLWARD_RING__FUTEX_WAKE | CELLWARD_RING__FUTEX_PRIVATE, INT_MAX, NULL, NULL,
		0);
	errno = kept;
}

CELLWARD_RING_DEF void cellward_ring_interrupt(cellward_ring *ring)
{
	__atomic_store_n(&ring->interrupted, 1, __ATOMIC_SEQ_CST);
	cellward_ring__kick(ring);
}

static int cellward_ring__take_interrupt(cellward_ring *ring)
{
	return __atomic_exchange_n(&ring->interrupted, 0, __ATOMIC_SEQ_CST) != 0;
}

/*
 * A server has nothing to say behind its hello but to whom it has told so (cellward_ring__follow), and then the ring
 * with which it goes on: either that or the end is the first thing to happen, and both say that this ring has its last
 * sample.
 */
static void *cellward_ring__watch(void *argument)
{
	cellward_ring *ring = (cellward_ring *)argument;
	ssize_t n;
	char b;

	do
		n = recv(ring->connection, &b, 1, MSG_PEEK); /* the message is for cellward_ring__go_on */
	while (n < 0 && errno == EINTR);
	__atomic_store_n(&ring->gone, 1, __ATOMIC_SEQ_CST);
	cellward_ring__kick(ring);
	return NULL;
}

/* Starts the watcher when there is a connection to watch. Without it (no threads left) waiting falls back. */
static void cellward_ring__start_watcher(cellward_ring *ring)
{
	sigset_t all, before;

	if (ring->watched || ring->connection < 0 || ring->no_waitv)
		return;
	/* The program's signals are for the program's threads. */
	sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
		return;
	ring->watched = pthread_create(&ring->watcher, NULL, cellward_ring__watch, ring) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Tells a server that knows of it (minor 1) that the reader goes along when the producer goes on in another ring. */
static void cellward_ring__follow(cellward_ring *ring)
{
	if (ring->options.reconnect && ring->view.header.minor >= 1)
		(void)!send(ring->connection, "F", 1,
			    MSG_DONTWAIT | MSG_NOSIGNAL); /* a dead server is noticed elsewhere */
}

static void cellward_ring__drop_buffers(cellward_ring *ring)
{
	free(ring->buffer);
	free(ring->latest);
	ring->buffer = NULL;
	ring->latest = NULL;
	ring->buffer_samples = 0;
}

/*
 * Goes on with a ring that has come over the connection: RESTARTED, or OK when none has. It was sent before anything
 * was published in it, so all of it is this reader's.
 */
static int cellward_ring__go_on(cellward_ring *ring)
{
	struct cellward_ring__view view;
	int memory, code;

	memory = cellward_ring__receive_hello(ring->connection, MSG_DONTWAIT, &ring->error);
	if (memory < 0)
		return CELLWARD_RING_OK;
	code = cellward_ring__map(&view, memory, &ring->error);
	close(memory);
	if (code != CELLWARD_RING_OK)
		return CELLWARD_RING_OK; /* another connection tells why */
	if (ring->watched) {
		pthread_join(ring->watcher, NULL); /* it has seen the message */
		ring->watched = 0;
	}
	__atomic_store_n(&ring->gone, 0, __ATOMIC_SEQ_CST);
	cellward_ring__unmap(&ring->view);
	ring->view = view;
	cellward_ring__drop_buffers(ring);
	ring->position = 0;
	ring->stale = 0;
	return cellward_ring__fail(&ring->error, CELLWARD_RING_RESTARTED, 0, NULL, "%s", "");
}

static void cellward_ring__disconnect(cellward_ring *ring)
{
	if (ring->connection < 0)
		return;
	if (ring->watched) {
		shutdown(ring->connection, SHUT_RDWR); /* ends the watcher's recv */
		pthread_join(ring->watcher, NULL);
		ring->watched = 0;
	}
	close(ring->connection);
	ring->connection = -1;
}

/*
 * Whether the connection has ended, or another ring has come over it. The kernel closes a dead producer's socket after
 * its last store, and a producer has made its last store before another goes on for it: so what is in the memory once
 * this has been seen is all there will ever be.
 */
static int cellward_ring__is_gone(cellward_ring *ring)
{
	if (!__atomic_load_n(&ring->gone, __ATOMIC_SEQ_CST) && !ring->watched && ring->connection >= 0) {
		char b;
		ssize_t n = recv(ring->connection, &b, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n >= 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
			__atomic_store_n(&ring->gone, 1, __ATOMIC_SEQ_CST);
	}
	return (int)__atomic_load_n(&ring->gone, __ATOMIC_SEQ_CST);
}

static void cellward_ring__timespec(struct timespec *to, int64_t ns)
{
	to->tv_sec = (time_t)(ns / CELLWARD_RING__SECOND);
	to->tv_nsec = (long)(ns % CELLWARD_RING__SECOND);
}

/*
 * Sleeps until the tail is no longer the reader's position, until a kick after kicks was loaded, or for limit_ns. It
 * may return early. One wait on both words is what makes a lost wake-up impossible: the kernel compares each with
 * what was found before.
 */
static int cellward_ring__wait(cellward_ring *ring, uint32_t kicks, int64_t limit_ns)
{
	const unsigned char *tail = ring->view.memory + CELLWARD_RING__TAIL_FUTEX;
	struct timespec until;
	long result;

	if (limit_ns > CELLWARD_RING__HOUR)
		limit_ns = CELLWARD_RING__HOUR;
	cellward_ring__start_watcher(ring);
	if (!ring->no_waitv && (ring->watched || ring->connection < 0)) {
		struct cellward_ring__futex_waitv words[2];

		memset(words, 0, sizeof words);
		words[0].val = (uint32_t)ring->position;
		words[0].uaddr = (uint64_t)(uintptr_t)tail;
		words[0].flags = CELLWARD_RING__FUTEX_32;
		words[1].val = kicks;
		words[1].uaddr = (uint64_t)(uintptr_t)&ring->kicks;
		words[1].flags = CELLWARD_RING__FUTEX_32 | CELLWARD_RING__FUTEX_PRIVATE;
		/* Absolute, so that an interrupted wait does not start over. */
		cellward_ring__timespec(&until, cellward_ring__now(CLOCK_MONOTONIC) + limit_ns);
		result = syscall(CELLWARD_RING__SYS_FUTEX_WAITV, words, 2, 0, &until, CLOCK_MONOTONIC);
		if (result < 0 && (errno == ENOSYS || errno == EPERM))
			ring->no_waitv = 1;
	} else {
		const int64_t slice = CELLWARD_RING__SECOND / 10;

		cellward_ring__timespec(&until, limit_ns < slice ? limit_ns : slice);
		result = syscall(SYS_futex, tail, CELLWARD_RING__FUTEX_WAIT, (uint32_t)ring->position, &until, NULL, 0);
	}
	if (result >= 0 || errno == EAGAIN || errno == ETIMEDOUT || errno == ENOSYS || errno == EPERM)
		return CELLWARD_RING_OK;
	if (errno == EINTR)
		return cellward_ring__fail(&ring->error, CELLWARD_RING_INTERRUPTED, 0, NULL, "by a signal");
	return cellward_ring__fail(&ring->error, CELLWARD_RING_SYSTEM, errno, NULL, "wait for samples");
}

/* Sleeps without a ring to look at. */
static int cellward_ring__pause(cellward_ring *ring, uint32_t kicks, int64_t limit_ns)
{
	struct timespec limit;

	cellward_ring__timespec(&limit, limit_ns);
	if (syscall(SYS_futex, &ring->kicks, CELLWARD_RING__FUTEX_WAIT | CELLWARD_RING__FUTEX_PRIVATE, kicks, &limit,
		    NULL, 0) != 0 &&
	    errno == EINTR)
		return cellward_ring__fail(&ring->error, CELLWARD_RING_INTERRUPTED, 0, NULL, "by a signal");
	return CELLWARD_RING_OK;
}

/* Modulo 2^64: a damaged ring may hold any heartbeat. */
static int64_t cellward_ring__heartbeat_age(const struct cellward_ring__view *view)
{
	uint64_t now = (uint64_t)cellward_ring__now(CLOCK_BOOTTIME);

	return (int64_t)(now - cellward_ring__hot(view, offsetof(struct cellward_ring__header, heartbeat)));
}

/*
 * How long to wait before the heartbeat must be looked at again; -1 when it is stale now. After it was found stale
 * once, the next complaint comes after another full time span.
 */
static int64_t cellward_ring__patience(cellward_ring *ring)
{
	int64_t after = ring->options.stale_after_ns, age;

	if (after == 0)
		after = 3 * (int64_t)ring->view.header.heartbeat_period_ns;
	if (after < 0)
		return CELLWARD_RING__HOUR;
	age = cellward_ring__heartbeat_age(&ring->view);
	if (age < 0)
		age = 0;
	if (age < after) {
		ring->stale = 0;
		return after - age;
	}
	ring->stale = !ring->stale;
	return ring->stale ? -1 : after;
}

/*
 * ---- The reader ----
 */

/* Begins to read what view shows, at its oldest sample or after its newest. */
static void cellward_ring__begin(cellward_ring *ring, int from_now)
{
	ring->position = from_now ? cellward_ring__tail(&ring->view) : cellward_ring__oldest(&ring->view);
	ring->stale = 0;
}

/* Gives the reader the buffers that its view needs. */
static int cellward_ring__size_buffers(cellward_ring *ring, size_t samples)
{
	size_t bytes = ring->view.words * sizeof *ring->buffer;
	uint64_t *more;

	if (!ring->latest) {
		ring->latest = (uint64_t *)malloc(bytes);
		if (!ring->latest)
			return cellward_ring__fail(&ring->error, CELLWARD_RING_SYSTEM, ENOMEM, NULL, "read ring");
	}
	if (samples > ring->buffer_samples) {
		more = (uint64_t *)realloc(ring->buffer, samples * bytes);
		if (!more)
			return cellward_ring__fail(&ring->error, CELLWARD_RING_SYSTEM, ENOMEM, NULL, "read ring");
		ring->buffer = more;
		ring->buffer_samples = samples;
	}
	return CELLWARD_RING_OK;
}

static int cellward_ring__new(cellward_ring **out, const cellward_ring_options *options, cellward_ring_error *error)
{
	*out = (cellward_ring *)calloc(1, sizeof **out);
	if (!*out)
		return cellward_ring__fail(error, CELLWARD_RING_SYSTEM, ENOMEM, NULL, "open ring");
	if (options)
		(*out)->options = *options;
	(*out)->options.socket = NULL; /* the caller's text; kept as a copy where it is needed */
	(*out)->connection = -1;
	return CELLWARD_RING_OK;
}

CELLWARD_RING_DEF int cellward_ring_open(cellward_ring **out, const cellward_ring_options *options,
					 cellward_ring_error *error)
{
	const char *path = options && options->socket ? options->socket : CELLWARD_RING_DEFAULT_SOCKET;
	cellward_ring *ring;
	int code;

	*out = NULL;
	if (path[0] == 0 || strlen(path) >= sizeof ring->socket)
		return cellward_ring__fail(error, CELLWARD_RING_ARGUMENT, 0, NULL,
					   "path of the socket has %zu bytes, at most %zu are possible", strlen(path),
					   sizeof ring->socket - 1);
	if ((code = cellward_ring__new(&ring, options, error)) != CELLWARD_RING_OK)
		return code;
	memcpy(ring->socket, path, strlen(path) + 1);
	code = cellward_ring__dial(ring->socket, cellward_ring__connect_timeout(&ring->options), &ring->connection,
				   &ring->view, error);
	if (code != CELLWARD_RING_OK) {
		free(ring);
		return code;
	}
	cellward_ring__follow(ring);
	cellward_ring__begin(ring, ring->options.from_now);
	*out = ring;
	return CELLWARD_RING_OK;
}

CELLWARD_RING_DEF int cellward_ring_attach(cellward_ring **out, int memory, int connection,
					   const cellward_ring_options *options, cellward_ring_error *error)
{
	cellward_ring *ring;
	int code;

	*out = NULL;
	if ((code = cellward_ring__new(&ring, options, error)) != CELLWARD_RING_OK)
		return code;
	if ((code = cellward_ring__map(&ring->view, memory, error)) != CELLWARD_RING_OK) {
		free(ring);
		return code;
	}
	ring->options.reconnect = 0;
	ring->connection = connection;
	cellward_ring__begin(ring, ring->options.from_now);
	*out = ring;
	return CELLWARD_RING_OK;
}

CELLWARD_RING_DEF void cellward_ring_close(cellward_ring *ring)
{
	if (!ring)
		return;
	cellward_ring__disconnect(ring);
	cellward_ring__unmap(&ring->view);
	cellward_ring__drop_buffers(ring);
	free(ring);
}

/* Whether a failure to connect belongs to a producer that is about to come or to go. */
static int cellward_ring__will_pass(const cellward_ring_error *error)
{
	switch (error->code) {
	case CELLWARD_RING_GONE:
	case CELLWARD_RING_TOO_MANY:
		return 1;
	case CELLWARD_RING_SYSTEM:
		return error->system == ENOENT || error->system == ECONNREFUSED || error->system == EAGAIN ||
		       error->system == ECONNRESET;
	}
	return 0;
}

/*
 * Waits for a producer to serve the socket, until the deadline: OK when the ring is the same as before (its server
 * came back), RESTARTED when it is another one, 1 at the deadline.
 */
static int cellward_ring__reconnect(cellward_ring *ring, int64_t deadline)
{
	const int64_t longest = CELLWARD_RING__SECOND, least = CELLWARD_RING__SECOND / 10;
	int64_t pause = CELLWARD_RING__SECOND / 100, left, bound;
	struct cellward_ring__view view;
	int connection, code;
	uint32_t kicks;

	if ((code = cellward_ring__go_on(ring)) != CELLWARD_RING_OK)
		return code;
	for (;; pause = 2 * pause < longest ? 2 * pause : longest) {
		kicks = __atomic_load_n(&ring->kicks, __ATOMIC_SEQ_CST);
		if (cellward_ring__take_interrupt(ring))
			return cellward_ring__fail(&ring->error, CELLWARD_RING_INTERRUPTED, 0, NULL, "%s", "");
		/* Even a caller with little time gets a chance to hear a server that is there. */
		left = deadline - cellward_ring__now(CLOCK_MONOTONIC);
		if (left < least)
			left = least;
		bound = cellward_ring__connect_timeout(&ring->options);
		if (bound < 0 || bound > left)
			bound = left;
		code = cellward_ring__dial(ring->socket, bound, &connection, &view, &ring->error);
		if (code == CELLWARD_RING_OK)
			break;
		if (code == CELLWARD_RING_SYSTEM && ring->error.system == EINTR)
			return cellward_ring__fail(&ring->error, CELLWARD_RING_INTERRUPTED, 0, NULL, "by a signal");
		if (!cellward_ring__will_pass(&ring->error))
			return code;
		left = deadline - cellward_ring__now(CLOCK_MONOTONIC);
		if (left <= 0)
			return 1;
		if ((code = cellward_ring__pause(ring, kicks, pause < left ? pause : left)) != CELLWARD_RING_OK)
			return code;
	}
	cellward_ring__disconnect(ring);
	ring->connection = connection;
	__atomic_store_n(&ring->gone, 0, __ATOMIC_SEQ_CST);
	ring->reconnects++;
	if (view.header.generation == ring->view.header.generation) {
		cellward_ring__unmap(&view);
		cellward_ring__follow(ring);
		return CELLWARD_RING_OK;
	}
	cellward_ring__unmap(&ring->view);
	ring->view = view;
	cellward_ring__follow(ring);
	cellward_ring__drop_buffers(ring);
	cellward_ring__begin(ring, 0); /* a new history */
	return cellward_ring__fail(&ring->error, CELLWARD_RING_RESTARTED, 0, NULL, "%s", "");
}

/* Looks for a new tail for a while. */
static int cellward_ring__spin(const cellward_ring *ring)
{
	int64_t begin = cellward_ring__now(CLOCK_MONOTONIC);
	int i;

	do {
		for (i = 0; i < 64; i++)
			if (cellward_ring__tail(&ring->view) != ring->position)
				return 1;
	} while (cellward_ring__now(CLOCK_MONOTONIC) - begin < ring->options.spin_ns);
	return 0;
}

CELLWARD_RING_DEF int cellward_ring_next(cellward_ring *ring, cellward_ring_sample *batch, size_t room,
					 int64_t timeout_ns)
{
	int64_t deadline = INT64_MAX, limit, left;
	int gone, n;

	if (!batch || room == 0)
		return cellward_ring__fail(&ring->error, CELLWARD_RING_ARGUMENT, 0, NULL, "batch has no room");
	if (timeout_ns >= 0) {
		deadline = cellward_ring__now(CLOCK_MONOTONIC);
		deadline = timeout_ns < INT64_MAX - deadline ? deadline + timeout_ns : INT64_MAX;
	}
	for (;;) {
		/* Loaded before the conditions are looked at: a kick in between makes the wait return at once. */
		uint32_t kicks = __atomic_load_n(&ring->kicks, __ATOMIC_SEQ_CST);
		uint64_t before = ring->position;

		if (cellward_ring__take_interrupt(ring))
			return cellward_ring__fail(&ring->error, CELLWARD_RING_INTERRUPTED, 0, NULL, "%s", "");
		if (room > ring->view.header.slot_count)
			room = ring->view.header.slot_count;
		if ((n = cellward_ring__size_buffers(ring, room)) != CELLWARD_RING_OK)
			return n;
		gone = (int)__atomic_load_n(&ring->gone, __ATOMIC_SEQ_CST); /* before the memory: see is_gone */
		n = cellward_ring__read(&ring->view, &ring->position, &ring->missed, batch, ring->buffer, room,
					&ring->error);
		if (n > 0)
			ring->stale = 0;
		if (n != 0)
			return n;
		if (ring->position != before)
			continue;
		if (!gone && cellward_ring__is_gone(ring))
			continue; /* and one more look at the memory */
		if (gone && !ring->options.reconnect)
			return cellward_ring__fail(&ring->error, CELLWARD_RING_GONE, 0, NULL, "%s",
						   cellward_ring__state(ring->view.memory) == CELLWARD_RING__CLOSED
							   ? "it ended in an orderly way"
							   : "it ended without closing the ring");
		if (gone) {
			n = cellward_ring__reconnect(ring, deadline);
			if (n == 1)
				return 0;
			if (n != CELLWARD_RING_OK)
				return n;
			continue;
		}
		if (ring->options.spin_ns > 0 && timeout_ns != 0 && cellward_ring__spin(ring))
			continue;
		left = deadline - cellward_ring__now(CLOCK_MONOTONIC);
		if (left <= 0)
			return 0;
		limit = cellward_ring__patience(ring);
		if (limit < 0)
			return cellward_ring__fail(&ring->error, CELLWARD_RING_STALE, 0, NULL, "%s", "");
		n = cellward_ring__wait(ring, kicks, limit < left ? limit : left);
		if (n != CELLWARD_RING_OK)
			return n;
	}
}

CELLWARD_RING_DEF int cellward_ring_latest(cellward_ring *ring, uint32_t stream, cellward_ring_sample *sample,
					   void *body, size_t room)
{
	int attempt, code;

	if (stream >= ring->view.header.stream_count)
		return cellward_ring__fail(&ring->error, CELLWARD_RING_ARGUMENT, 0, NULL, "stream %u of %u", stream,
					   ring->view.header.stream_count);
	if ((code = cellward_ring__size_buffers(ring, 0)) != CELLWARD_RING_OK)
		return code;
	for (attempt = 1;; attempt++) {
		code = cellward_ring__read_latest(&ring->view, stream, ring->latest, sample, &ring->error);
		if (code != CELLWARD_RING_BUSY || attempt == CELLWARD_RING__LATEST_ATTEMPTS)
			break;
		sched_yield(); /* the producer may be waiting for this very processor */
	}
	if (code != 1)
		return code;
	if (sample->length > room)
		return cellward_ring__fail(&ring->error, CELLWARD_RING_ARGUMENT, 0, NULL,
					   "body of %u bytes, room for %zu", sample->length, room);
	if (sample->length > 0)
		memcpy(body, sample->body, sample->length);
	sample->body = (const uint8_t *)body;
	return 1;
}

CELLWARD_RING_DEF const cellward_ring_stream *cellward_ring_streams(const cellward_ring *ring, uint32_t *count)
{
	if (count)
		*count = ring->view.header.stream_count;
	return ring->view.streams;
}

CELLWARD_RING_DEF const cellward_ring_stream *cellward_ring_lookup(const cellward_ring *ring, uint32_t stream_id)
{
	uint32_t i;

	for (i = 0; i < ring->view.header.stream_count; i++)
		if (ring->view.streams[i].stream_id == stream_id)
			return &ring->view.streams[i];
	return NULL;
}

CELLWARD_RING_DEF uint32_t cellward_ring_fault(const cellward_ring *ring, uint32_t *changes)
{
	uint64_t fault = cellward_ring__hot(&ring->view, offsetof(struct cellward_ring__header, fault));

	if (changes)
		*changes = (uint32_t)(fault >> 32);
	return (uint32_t)fault;
}

CELLWARD_RING_DEF int cellward_ring_fault_record(cellward_ring *ring, cellward_ring_fault_evidence *record)
{
	const size_t first = offsetof(struct cellward_ring__header, record_time);
	uint64_t words[sizeof *record / sizeof(uint64_t)], end;
	int attempt;
	size_t i;

	memset(record, 0, sizeof *record);
	if (ring->view.header.minor < CELLWARD_RING__FAULT_MINOR)
		return CELLWARD_RING_OK;
	for (attempt = 0; attempt < CELLWARD_RING__LATEST_ATTEMPTS; attempt++) {
		end = cellward_ring__hot(&ring->view, offsetof(struct cellward_ring__header, record_end));
		for (i = 0; i < sizeof words / sizeof *words; i++)
			words[i] = cellward_ring__hot(&ring->view, first + i * sizeof *words);
		if (cellward_ring__hot(&ring->view, offsetof(struct cellward_ring__header, record_begin)) == end) {
			memcpy(record, words, sizeof words); /* the fields stand there as here */
			return CELLWARD_RING_OK;
		}
		sched_yield(); /* the producer may be waiting for this very processor */
	}
	return cellward_ring__fail(&ring->error, CELLWARD_RING_BUSY, 0, NULL, "%s", "");
}

CELLWARD_RING_DEF void cellward_ring_get_status(cellward_ring *ring, cellward_ring_status *status)
{
	const struct cellward_ring__header *h = &ring->view.header;

	memset(status, 0, sizeof *status);
	status->generation = h->generation;
	status->published = cellward_ring__tail(&ring->view);
	status->slot_count = h->slot_count;
	status->created_ns = h->created_ns;
	status->heartbeat_age_ns = cellward_ring__heartbeat_age(&ring->view);
	status->heartbeat_period_ns = h->heartbeat_period_ns;
	status->body_max = h->body_max;
	status->producer_pid = h->producer_pid;
	status->fault = cellward_ring_fault(ring, &status->fault_changes);
	status->major = h->major;
	status->minor = h->minor;
	status->closed = cellward_ring__state(ring->view.memory) == CELLWARD_RING__CLOSED;
	status->gone = cellward_ring__is_gone(ring);
}

CELLWARD_RING_DEF uint64_t cellward_ring_position(const cellward_ring *ring)
{
	return ring->position;
}

CELLWARD_RING_DEF uint64_t cellward_ring_missed(const cellward_ring *ring)
{
	return ring->missed;
}

CELLWARD_RING_DEF uint64_t cellward_ring_reconnects(const cellward_ring *ring)
{
	return ring->reconnects;
}

CELLWARD_RING_DEF uint64_t cellward_ring_generation(const cellward_ring *ring)
{
	return ring->view.header.generation;
}

CELLWARD_RING_DEF uint32_t cellward_ring_body_max(const cellward_ring *ring)
{
	return ring->view.header.body_max;
}

CELLWARD_RING_DEF const cellward_ring_error *cellward_ring_last_error(const cellward_ring *ring)
{
	return &ring->error;
}

#ifdef __cplusplus
}
#endif

#endif /* CELLWARD_RING_IMPLEMENTATION */
