/* SPDX-License-Identifier: Apache-2.0 */

/* Intel's Multi-Buffer Crypto for IPsec. AES-GCM takes one message at a time there: its direct interface. */
#include <intel-ipsec-mb.h>

#include "bench.h"

static IMB_MGR *mgr;
static struct gcm_key_data keys[MAX_KEYS] __attribute__((aligned(64)));

static void prepare(unsigned int i, const unsigned char key[32])
{
	if (!mgr) {
		mgr = alloc_mb_mgr(0);
		if (!mgr)
			die("cannot make a manager");
		init_mb_mgr_auto(mgr, NULL);
	}
	IMB_AES256_GCM_PRE(mgr, key, &keys[i]);
}

static void seal(struct pdu *pdus, int n, int text)
{
	struct gcm_context_data c;

	for (int i = 0; i < n; i++) {
		struct pdu *d = &pdus[i];

		IMB_AES256_GCM_ENC(mgr, &keys[d->key], &c, d->record + AAD, d->record + AAD, (uint64_t)text, d->nonce,
				   d->record, AAD, d->record + AAD + text, TAG);
	}
}

static int open_batch(struct pdu *pdus, int n, int text)
{
	struct gcm_context_data c;
	int good = 0;

	for (int i = 0; i < n; i++) {
		struct pdu *d = &pdus[i];
		uint64_t tag[2], came[2];

		IMB_AES256_GCM_DEC(mgr, &keys[d->key], &c, d->plain, d->record + AAD, (uint64_t)text, d->nonce,
				   d->record, AAD, (uint8_t *)tag, TAG);
		memcpy(came, d->record + AAD + text, TAG);
		good += ((tag[0] ^ came[0]) | (tag[1] ^ came[1])) == 0;
	}
	return good;
}

int main(int argc, char **argv)
{
	const struct peer p = {prepare, seal, open_batch};

	return bench(argc, argv, &p);
}
