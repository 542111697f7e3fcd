/* SPDX-License-Identifier: MIT */
/* Fuzz target: what a client sends as a PLAIN message. What begins like JSON is also tried as the content of an encrypted
 * credential: it is encrypted first, since no fuzzer finds RSA padding. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "modules/auth_sqlite/credential.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gnutls_privkey_t key;
static gnutls_pubkey_t public;

static void make_key(void)
{
	if (!key && (gnutls_privkey_init(&key) < 0 || gnutls_privkey_generate(key, GNUTLS_PK_RSA, 1024, 0) < 0 ||
	             gnutls_pubkey_init(&public) < 0 || gnutls_pubkey_import_privkey(public, key, 0, 0) < 0)) {
		abort();
	}
}

static void try_message(const uint8_t *data, size_t size)
{
	struct plain plain;
	bool rsa;
	if (plain_parse(data, size, &plain) == 0) {
		credential_wipe(credential_password(key, plain.authcid, plain.credential, &rsa));
	}
	plain_fini(&plain);
}

static void try_encrypted(const uint8_t *data, size_t size)
{
	gnutls_datum_t clear = { .data = (unsigned char *)(uintptr_t)data, .size = (unsigned)size }, cipher, text;
	bool rsa;
	if (size > 100 || gnutls_pubkey_encrypt_data(public, 0, &clear, &cipher) < 0) {
		return;
	}
	if (gnutls_base64_encode2(&cipher, &text) == 0) {
		char *copy = strndup((const char *)text.data, text.size);
		credential_wipe(credential_password(key, "alice", copy, &rsa));
		free(copy);
		gnutls_free(text.data);
	}
	gnutls_free(cipher.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	make_key();
	try_message(data, size);
	if (size && data[0] == '{') {
		try_encrypted(data, size);
	}
	return 0;
}
