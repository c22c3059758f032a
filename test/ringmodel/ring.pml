/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of the ring's order of stores and loads (docs/ring.md, "Order of stores") for Spin, on memory weaker than that
 * of any processor the ring runs on: the producer's stores pass through a store buffer that lets them out in any order,
 * except that
 *
 *	stores to one cell stay in order,
 *	a store-release leaves after all stores before it (but holds back none after it: STLR of arm64, Go's atomic store),
 *	a barrier waits until the buffer is empty (STLR followed by LDAR: Go's atomic store and load).
 *
 * With TSO the buffer is first in, first out, as on x86-64.
 *
 * A reader's loads of a copy happen in any order; they are over before the second look at the intent, which is what the
 * acquire loads or the acquire fence are for.
 *
 * A sample is WORDS cells that all hold position + 1, so any mixture of two samples shows. Checked:
 *
 *	ring reader     what it accepts is whole and is the sample of its position; every position is delivered or counted
 *	                as missed; it reaches the end, or the last tail of a producer that was killed
 *	latest reader   what it accepts is whole and is the sample that the marker names
 *
 * Parameters, by -D:
 *
 *	SLOTS    slots of the ring, a power of two
 *	BATCH    largest batch, at most SLOTS / 2
 *	TOTAL    positions published
 *	COPIES   samples that the reader copies between two looks at the intent
 *	RING, LATEST   which of the readers is there
 *	KILL     the producer may be killed between any two stores
 *	TSO, TORN_ONLY   see above and below
 *
 * Seeded bugs, each of which must be found: NO_INTENT, LATE_INTENT, NO_BARRIER_AFTER_INTENT, NO_SECOND_BARRIER (for latest
 * values, and together with PLAIN_TAIL for the ring), NO_BARRIER_AFTER_TAIL, LATE_BEGIN, NO_SECOND_LOOK, NO_FENCE, MISSED_TWICE.
 *
 *	spin -a -DRING ring.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -m500000
 */

#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef BATCH
#define BATCH 1
#endif
#ifndef TOTAL
#define TOTAL 5
#endif
#ifndef COPIES
#define COPIES 1
#endif
#define WORDS 2

/* Cells of the shared memory. */
#define INTENT 0
#define TAIL 1
#define SLOT(position, word) (2 + ((position) % SLOTS) * WORDS + (word))
#define BEGIN (2 + SLOTS * WORDS)
#define MARKER (BEGIN + 1)
#define VALUE(word) (BEGIN + 2 + (word))
#define CELLS (BEGIN + 2 + WORDS)

/* What one batch can put into the buffer, and what the one before may have left in it. */
#define BUFFER (2 * (5 + BATCH * WORDS + WORDS))

#define NOTHING 255

byte memory[CELLS];
byte pending_cell[BUFFER];
byte pending_value[BUFFER];
bit pending_release[BUFFER];
byte pending = 0;
bool ended = false; /* the producer has finished or was killed */

/* ---- The producer ---- */

#ifdef KILL
#define MAY_BE_KILLED                                                                                                  \
	if                                                                                                             \
	:: true                                                                                                        \
	:: goto over                                                                                                   \
	fi;
#else
#define MAY_BE_KILLED
#endif

#define STORE_AS(cell, value, release)                                                                                 \
	MAY_BE_KILLED                                                                                                  \
	atomic {                                                                                                       \
		assert(pending < BUFFER);                                                                              \
		pending_cell[pending] = cell;                                                                          \
		pending_value[pending] = value;                                                                        \
		pending_release[pending] = release;                                                                    \
		pending++                                                                                              \
	}
#define STORE(cell, value) STORE_AS(cell, value, 0)
#define STORE_RELEASE(cell, value) STORE_AS(cell, value, 1)
#define BARRIER (pending == 0)

active proctype Producer()
{
	byte tail = 0, size, room, i, word;

	do
	:: tail < TOTAL ->
		size = 1;
		do
		:: size < BATCH && tail + size < TOTAL -> size++
		:: break
		od;

		/* announce: a writer may not know yet how much of the room it needs */
		room = size;
		do
		:: room < BATCH -> room++
		:: break
		od;
#if !defined(NO_INTENT) && !defined(LATE_INTENT)
		STORE_RELEASE(INTENT, tail + room);
#endif
#ifndef NO_BARRIER_AFTER_INTENT
		BARRIER;
#endif

		/* draft */
		i = 0;
		do
		:: i < size ->
			word = 0;
			do
			:: word < WORDS ->
				STORE(SLOT(tail + i, word), tail + i + 1);
				word++
			:: else -> break
			od;
			i++
		:: else -> break
		od;

		/* announce the latest value, and exactly what is written */
#if defined(LATEST) && !defined(LATE_BEGIN)
		STORE(BEGIN, tail + size);
#endif
#if !defined(NO_INTENT) && !defined(LATE_INTENT)
		STORE_RELEASE(INTENT, tail + size);
#endif
#ifndef NO_SECOND_BARRIER
		BARRIER;
#endif
#if defined(LATEST) && defined(LATE_BEGIN)
		STORE(BEGIN, tail + size);
#endif
#ifdef LATEST
		word = 0;
		do
		:: word < WORDS -> STORE(VALUE(word), tail + size); word++
		:: else -> break
		od;
#endif

		/* commit */
#ifdef LATE_INTENT
		STORE_RELEASE(INTENT, tail + size);
#endif
#ifdef PLAIN_TAIL
		STORE(TAIL, tail + size);
#else
		STORE_RELEASE(TAIL, tail + size);
#endif
#ifndef NO_BARRIER_AFTER_TAIL
		BARRIER;
#endif
#ifdef LATEST
		STORE(MARKER, tail + size);
#endif
		tail = tail + size
	:: else -> break
	od;
over:
	ended = true
}

/* ---- The store buffer ---- */

active proctype Buffer()
{
	byte chosen, i;
	bool allowed;

end:
	do
	:: atomic {
		pending > 0 ->
		chosen = 0;
#ifndef TSO
		do
		:: chosen + 1 < pending -> chosen++
		:: break
		od;
#endif
		allowed = !(pending_release[chosen] && chosen > 0);
		i = 0;
		do
		:: i < chosen ->
			if
			:: pending_cell[i] == pending_cell[chosen] -> allowed = false
			:: else
			fi;
			i++
		:: else -> break
		od;
		if
		:: allowed ->
			memory[pending_cell[chosen]] = pending_value[chosen];
			pending--;
			do
			:: chosen < pending ->
				pending_cell[chosen] = pending_cell[chosen + 1];
				pending_value[chosen] = pending_value[chosen + 1];
				pending_release[chosen] = pending_release[chosen + 1];
				chosen++
			:: else -> break
			od;
			/* so that equal buffers are equal states */
			pending_cell[pending] = 0;
			pending_value[pending] = 0;
			pending_release[pending] = 0
		:: else
		fi;
		chosen = 0;
		i = 0;
		allowed = false
	}
	od
}

/* ---- The reader of the ring ---- */

#define OLDEST(intent) ((intent) < SLOTS -> 0 : (intent) - SLOTS)
#define LEAST(a, b) ((a) < (b) -> (a) : (b))
#define MOST(a, b) ((a) > (b) -> (a) : (b))

/*
 * A reader refuses a sample whose first word, the marker, is not that of the position. With TORN_ONLY this counts as
 * good, so what is found is a mixture that a reader would have delivered.
 */
#ifdef TORN_ONLY
#define ACCEPTABLE(i) (copy[(i) / WORDS * WORDS] != first + (i) / WORDS + 1)
#else
#define ACCEPTABLE(i) false
#endif

#ifdef RING
active proctype Reader()
{
	byte position = 0, delivered = 0, missed = 0;
	byte tail, first, count, intent, torn, i, left;
	byte copy[COPIES * WORDS];

	do
	:: true ->
		tail = memory[TAIL];
		assert(position <= tail);
		if
		:: position == tail && ended && pending == 0 && memory[TAIL] == position -> break
		:: position == tail && !(ended && pending == 0 && memory[TAIL] == position) ->
			(memory[TAIL] != position || (ended && pending == 0)) /* the futex */
		:: position < tail ->
			first = MOST(position, OLDEST(memory[INTENT]));
			count = (first < tail -> LEAST(tail - first, COPIES) : 0);

			/* Copy the words, in any order. left is a bit for each that is still to be loaded; with NO_FENCE the
			 * second look at the intent is one of them. */
			left = (1 << (count * WORDS)) - 1;
			intent = NOTHING;
			do
			:: left != 0 ->
				i = 0;
				do
				:: i + 1 < count * WORDS && (left >> (i + 1)) != 0 -> i++
				:: break
				od;
				if
				:: left & (1 << i) ->
					copy[i] = memory[SLOT(first + i / WORDS, i % WORDS)];
					left = left & ~(1 << i)
				:: else
				fi
#ifdef NO_FENCE
			:: left != 0 && intent == NOTHING -> intent = memory[INTENT]
#endif
			:: else -> break
			od;

			/* The second look. */
			if
			:: intent == NOTHING -> intent = memory[INTENT]
			:: else
			fi;
			torn = (OLDEST(intent) > first -> LEAST(OLDEST(intent) - first, count) : 0);
#ifdef NO_SECOND_LOOK
			torn = 0;
#endif
			atomic {
				missed = missed + (first - position) + torn;
#ifdef MISSED_TWICE
				missed = missed + torn;
#endif
				i = torn * WORDS;
				do
				:: i < count * WORDS ->
					/* Whole, and the right one. */
					assert(copy[i] == first + i / WORDS + 1 || ACCEPTABLE(i));
					i++
				:: else -> break
				od;
				delivered = delivered + count - torn;
				position = first + count;
				assert(delivered + missed == position);
				/* so that what is no longer used tells no states apart */
				i = 0;
				do
				:: i < COPIES * WORDS -> copy[i] = 0; i++
				:: else -> break
				od;
				i = 0;
				first = 0;
				count = 0;
				intent = 0;
				torn = 0;
				tail = 0
			}
		fi
	od;
#ifndef KILL
	assert(position == TOTAL)
#endif
}
#endif

/* ---- The reader of a latest value ---- */

#ifdef LATEST
active proctype Latest()
{
	byte marker, begin, i, left, seen = 0;
	byte copy[WORDS];

	do
	:: !(ended && pending == 0) ->
		marker = memory[MARKER];
		left = (1 << WORDS) - 1;
		begin = NOTHING;
		do
		:: left != 0 ->
			i = 0;
			do
			:: i + 1 < WORDS && (left >> (i + 1)) != 0 -> i++
			:: break
			od;
			if
			:: left & (1 << i) ->
				copy[i] = memory[VALUE(i)];
				left = left & ~(1 << i)
			:: else
			fi
#ifdef NO_FENCE
		:: left != 0 && begin == NOTHING -> begin = memory[BEGIN]
#endif
		:: else -> break
		od;
		if
		:: begin == NOTHING -> begin = memory[BEGIN]
		:: else
		fi;
#ifdef NO_SECOND_LOOK
		begin = marker;
#endif
		atomic {
			if
			:: begin == marker && marker != 0 ->
				i = 0;
				do
				:: i < WORDS -> assert(copy[i] == marker); i++
				:: else -> break
				od;
				assert(marker >= seen); /* never older than the one before */
				seen = marker
			:: else
			fi;
			i = 0;
			do
			:: i < WORDS -> copy[i] = 0; i++
			:: else -> break
			od;
			i = 0;
			marker = 0;
			begin = 0
		}
	:: else -> break
	od
}
#endif
