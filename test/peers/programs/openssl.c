/* SPDX-License-Identifier: Apache-2.0 */

/* OpenSSL's EVP, used as its manual recommends for many short messages: a context for each key, set up once. */
#include <openssl/evp.h>

#include "bench.h"

static EVP_CIPHER_CTX *sealing[MAX_KEYS], *opening[MAX_KEYS];

static void prepare(unsigned int i, const unsigned char key[32])
{
	sealing[i] = EVP_CIPHER_CTX_new();
	opening[i] = EVP_CIPHER_CTX_new();
	if (!EVP_EncryptInit_ex(sealing[i], EVP_aes_256_gcm(), NULL, key, NULL) ||
	    !EVP_DecryptInit_ex(opening[i], EVP_aes_256_gcm(), NULL, key, NULL))
		die("cannot set a key");
}

static void seal(struct pdu *pdus, int n, int text)
{
	for (int i = 0; i < n; i++) {
		struct pdu *d = &pdus[i];
		EVP_CIPHER_CTX *c = sealing[d->key];
		int len;

		if (!EVP_EncryptInit_ex(c, NULL, NULL, NULL, d->nonce) ||
		    !EVP_EncryptUpdate(c, NULL, &len, d->record, AAD) ||
		    (text && !EVP_EncryptUpdate(c, d->record + AAD, &len, d->record + AAD, text)) ||
		    !EVP_EncryptFinal_ex(c, d->record + AAD + text, &len) ||
		    !EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG, d->record + AAD + text))
			die("cannot seal");
	}
}

static int open_batch(struct pdu *pdus, int n, int text)
{
	int good = 0;

	for (int i = 0; i < n; i++) {
		struct pdu *d = &pdus[i];
		EVP_CIPHER_CTX *c = opening[d->key];
		int len;

		if (!EVP_DecryptInit_ex(c, NULL, NULL, NULL, d->nonce) ||
		    !EVP_DecryptUpdate(c, NULL, &len, d->record, AAD) ||
		    (text && !EVP_DecryptUpdate(c, d->plain, &len, d->record + AAD, text)) ||
		    !EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG, d->record + AAD + text))
			die("cannot open");
		good += EVP_DecryptFinal_ex(c, d->plain + text, &len) > 0;
	}
	return good;
}

int main(int argc, char **argv)
{
	const struct peer p = {prepare, seal, open_batch};

	return bench(argc, argv, &p);
}
