/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the programs of this folder have in common: records as the product has them, a clock, and one line of output.
 *
 *	PROGRAM open|forged|seal|tags CIPHERTEXT BATCH KEYS MILLISECONDS
 *
 * prints the median ns for a PDU over runs of 16 batches; "tags" prints the tags of one batch instead, in hexadecimal,
 *so that whoever runs several programs can see that they do the same work.
 *
 * A program defines what is below "struct peer". Keys are expanded and nonces are made before the clock starts, which
 *is to the advantage of the peer: the product makes its nonces inside.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AAD 16
#define TAG 16
#define MAX_TEXT 2024
#define MAX_BATCH 1024
#define MAX_KEYS 1024

struct pdu {
	unsigned int key;
	unsigned char nonce[12];
	unsigned char record[AAD + MAX_TEXT + TAG]; /* AAD, text, tag */
	unsigned char plain[MAX_TEXT];
};

struct peer {
	/* prepare expands key number i. */
	void (*prepare)(unsigned int i, const unsigned char key[32]);
	/* seal and open work on a batch; open returns how many tags were right. */
	void (*seal)(struct pdu *pdus, int n, int text);
	int (*open)(struct pdu *pdus, int n, int text);
};

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

/* fill writes a fixed pseudo-random pattern, the same as the runner's. */
static void fill(unsigned char *b, size_t n, uint32_t seed)
{
	uint64_t x = (uint64_t)seed * 0x9E3779B97F4A7C15u + 1;

	for (size_t i = 0; i < n; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		b[i] = (unsigned char)(x >> (8 * (i % 8)));
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int bench(int argc, char **argv, const struct peer *p)
{
	static struct pdu pdus[MAX_BATCH];
	static double runs[1 << 16];
	const int batches = 16;

	if (argc != 6)
		die("usage: PROGRAM open|forged|seal|tags CIPHERTEXT BATCH KEYS MILLISECONDS");
	int text = atoi(argv[2]), n = atoi(argv[3]), keys = atoi(argv[4]);
	double budget = atof(argv[5]) * 1e6;
	if (text < 0 || text > MAX_TEXT || n < 1 || n > MAX_BATCH || keys < 1 || keys > MAX_KEYS)
		die("argument out of range");

	for (int i = 0; i < keys; i++) {
		unsigned char key[32];

		fill(key, sizeof(key), (uint32_t)(2 * i + 1));
		p->prepare((unsigned int)i, key);
	}
	for (int i = 0; i < n; i++) {
		struct pdu *d = &pdus[i];

		d->key = (unsigned int)(i % keys);
		fill(d->record, (size_t)(AAD + text), (uint32_t)(1000 + i));
		fill(d->nonce, sizeof(d->nonce), (uint32_t)(2 * (i % keys) + 2));
		for (int j = 0; j < 4; j++)
			d->nonce[j] ^= d->record[j];
		for (int j = 0; j < 6; j++)
			d->nonce[6 + j] ^= d->record[10 + j];
	}
	p->seal(pdus, n, text);
	if (strcmp(argv[1], "tags") == 0) {
		for (int i = 0; i < n; i++)
			for (int j = 0; j < TAG; j++)
				printf("%02x", pdus[i].record[AAD + text + j]);
		printf("\n");
		return 0;
	}
	int seal = strcmp(argv[1], "seal") == 0, forged = strcmp(argv[1], "forged") == 0;
	if (!seal && !forged && strcmp(argv[1], "open") != 0)
		die("unknown operation");
	for (int i = 0; forged && i < n; i++)
		pdus[i].record[AAD + text + TAG - 1] ^= 1;

	size_t count = 0;
	for (double end = now() + budget; count < sizeof(runs) / sizeof(runs[0]);) {
		double begin = now();
		for (int b = 0; b < batches; b++) {
			if (seal)
				p->seal(pdus, n, text);
			else if (p->open(pdus, n, text) != (forged ? 0 : n))
				die("a batch is judged wrong");
		}
		double done = now();
		runs[count++] = (done - begin) / (double)(batches * n);
		if (done > end)
			break;
	}
	qsort(runs, count, sizeof(runs[0]), ascending);
	printf("%.3f\n", runs[count / 2]);
	return 0;
}

#endif
