/* SPDX-License-Identifier: MIT */
/* Password formats: tells them apart, makes SCRAM verifiers, and checks a password against any of them. Knows neither
 * users nor databases. */

#include "verifier.h"

#include <crypt.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#define KEY  32 /* bytes of a SHA-256 */
#define SALT 16 /* bytes of a salt that we make */
#define SCRAM_PREFIX "SCRAM-SHA-256$"
#define ITERATIONS_MAX 10000000

struct scram {
	unsigned long iterations;
	unsigned char salt[64], stored_key[KEY], server_key[KEY];
	size_t salt_len;
};

/* LEN characters of base64 into OUT; returns the bytes, or -1. */
static int decode(const char *text, size_t len, unsigned char *out, size_t size)
{
	gnutls_datum_t in = { .data = (unsigned char *)(uintptr_t)text, .size = (unsigned)len }, bytes = { 0 };
	if (!len || gnutls_base64_decode2(&in, &bytes) < 0) {
		return -1;
	}
	int n = bytes.size <= size ? (int)bytes.size : -1;
	if (n > 0) {
		memcpy(out, bytes.data, bytes.size);
	}
	gnutls_free(bytes.data);
	return n;
}

static bool parse_scram(const char *stored, struct scram *scram)
{
	if (strncmp(stored, SCRAM_PREFIX, strlen(SCRAM_PREFIX)) != 0) {
		return false;
	}
	const char *at = stored + strlen(SCRAM_PREFIX);
	size_t digits = strspn(at, "0123456789");
	if (!digits || digits > 8 || at[digits] != ':') {
		return false;
	}
	scram->iterations = strtoul(at, NULL, 10);
	const char *salt = at + digits + 1, *keys = strchr(salt, '$');
	const char *server = keys ? strchr(keys, ':') : NULL;
	if (!server || !scram->iterations || scram->iterations > ITERATIONS_MAX) {
		return false;
	}
	int salt_len = decode(salt, (size_t)(keys - salt), scram->salt, sizeof(scram->salt));
	scram->salt_len = salt_len > 0 ? (size_t)salt_len : 0;
	return salt_len > 0 && decode(keys + 1, (size_t)(server - keys - 1), scram->stored_key, KEY) == KEY &&
	       decode(server + 1, strlen(server + 1), scram->server_key, KEY) == KEY;
}

enum verifier_kind verifier_kind(const char *stored)
{
	struct scram scram;
	if (!stored || !*stored) {
		return VERIFIER_NONE;
	}
	if (parse_scram(stored, &scram)) {
		return VERIFIER_SCRAM;
	}
	if (strncmp(stored, "CRY:", 4) == 0 && strlen(stored) == 36 && strspn(stored + 4, "0123456789abcdefABCDEF") == 32) {
		return VERIFIER_CRY;
	}
	if (stored[0] == '$' && strlen(stored) < CRYPT_OUTPUT_SIZE) {
		int rc = crypt_checksalt(stored);
		const char *hash = strrchr(stored, '$');
		if ((rc == CRYPT_SALT_OK || rc == CRYPT_SALT_METHOD_LEGACY || rc == CRYPT_SALT_TOO_CHEAP) && strlen(hash) > 20) {
			return VERIFIER_CRYPT;
		}
	}
	return VERIFIER_PLAIN;
}

const char *verifier_lookalike(const char *stored)
{
	const char *last = strrchr(stored, '$'), *brace = strchr(stored, '}');
	if (strncmp(stored, SCRAM_PREFIX, strlen(SCRAM_PREFIX)) == 0) {
		return "a SCRAM-SHA-256 verifier";
	}
	if (strncmp(stored, "CRY:", 4) == 0) {
		return "a CRY: hash";
	}
	if (stored[0] == '$' && last > stored + 1 && strlen(stored) > 12) {
		return "a crypt(3) string";
	}
	if (stored[0] == '{' && brace && brace > stored + 1 && strlen(brace) > 20 && stored[1] >= 'A' && stored[1] <= 'Z') {
		return "an LDAP hash";
	}
	return NULL;
}

static int derive(const char *password, const struct scram *scram, unsigned char stored_key[KEY], unsigned char server_key[KEY])
{
	unsigned char salted[KEY], client_key[KEY];
	gnutls_datum_t key = { .data = (unsigned char *)(uintptr_t)password, .size = (unsigned)strlen(password) };
	gnutls_datum_t salt = { .data = (unsigned char *)(uintptr_t)scram->salt, .size = (unsigned)scram->salt_len };
	int rc = gnutls_pbkdf2(GNUTLS_MAC_SHA256, &key, &salt, (unsigned)scram->iterations, salted, KEY);
	rc = rc < 0 ? rc : gnutls_hmac_fast(GNUTLS_MAC_SHA256, salted, KEY, "Client Key", 10, client_key);
	rc = rc < 0 ? rc : gnutls_hash_fast(GNUTLS_DIG_SHA256, client_key, KEY, stored_key);
	rc = rc < 0 ? rc : gnutls_hmac_fast(GNUTLS_MAC_SHA256, salted, KEY, "Server Key", 10, server_key);
	gnutls_memset(salted, 0, sizeof(salted));
	gnutls_memset(client_key, 0, sizeof(client_key));
	return rc < 0 ? -EIO : 0;
}

static int encode(const unsigned char *bytes, size_t len, char *out, size_t size)
{
	gnutls_datum_t in = { .data = (unsigned char *)(uintptr_t)bytes, .size = (unsigned)len }, text = { 0 };
	if (gnutls_base64_encode2(&in, &text) < 0) {
		return -EIO;
	}
	int n = snprintf(out, size, "%.*s", (int)text.size, text.data);
	gnutls_free(text.data);
	return n < (int)size ? 0 : -EIO;
}

int verifier_make(const char *password, unsigned iterations, char out[VERIFIER_MAX])
{
	struct scram scram = { .iterations = iterations, .salt_len = SALT };
	char salt[32], stored[64], server[64];
	if (gnutls_rnd(GNUTLS_RND_NONCE, scram.salt, SALT) < 0 || derive(password, &scram, scram.stored_key, scram.server_key) < 0 ||
	    encode(scram.salt, SALT, salt, sizeof(salt)) < 0 || encode(scram.stored_key, KEY, stored, sizeof(stored)) < 0 ||
	    encode(scram.server_key, KEY, server, sizeof(server)) < 0) {
		return -EIO;
	}
	int n = snprintf(out, VERIFIER_MAX, SCRAM_PREFIX "%u:%s$%s:%s", iterations, salt, stored, server);
	return n > 0 && n < VERIFIER_MAX ? 0 : -EIO;
}

static bool check_scram(const struct scram *scram, const char *password)
{
	unsigned char stored_key[KEY], server_key[KEY];
	bool ok = derive(password, scram, stored_key, server_key) == 0 && gnutls_memcmp(stored_key, scram->stored_key, KEY) == 0;
	gnutls_memset(stored_key, 0, KEY);
	gnutls_memset(server_key, 0, KEY);
	return ok;
}

static bool equal(const char *a, const char *b)
{
	size_t len = strlen(a);
	return len == strlen(b) && gnutls_memcmp(a, b, len) == 0;
}

static bool check_crypt(const char *stored, const char *password)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	if (!data) {
		return false;
	}
	const char *hash = crypt_rn(password, stored, data, sizeof(*data));
	bool ok = hash && equal(hash, stored);
	gnutls_memset(data, 0, sizeof(*data));
	free(data);
	return ok;
}

static bool md5_hex(const char *text, char out[33])
{
	unsigned char digest[16];
	if (gnutls_hash_fast(GNUTLS_DIG_MD5, text, strlen(text), digest) < 0) {
		return false;
	}
	for (size_t i = 0; i < sizeof(digest); i++) {
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
	}
	return true;
}

/* The scheme of existing deployments: md5hex(md5hex(md5hex(password) + salt)). */
static bool check_cry(const char *stored, const char *salt, const char *password)
{
	char hex[33], wanted[33], *salted = NULL;
	if (!md5_hex(password, hex) || asprintf(&salted, "%s%s", hex, salt ? salt : "") < 0) {
		return false;
	}
	bool ok = md5_hex(salted, hex) && md5_hex(hex, hex);
	free(salted);
	for (size_t i = 0; i < 33; i++) {
		char c = stored[4 + i];
		wanted[i] = c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
	}
	return ok && equal(hex, wanted);
}

bool verifier_check(const char *stored, const char *salt, const char *password, unsigned iterations)
{
	struct scram scram;
	enum verifier_kind kind = verifier_kind(stored);
	if (kind == VERIFIER_SCRAM && parse_scram(stored, &scram)) {
		return check_scram(&scram, password) && *password;
	}
	/* The same price for all that is no SCRAM verifier. */
	scram = (struct scram){ .iterations = iterations, .salt_len = SALT };
	(void)check_scram(&scram, password);
	switch (kind) {
	case VERIFIER_PLAIN: return equal(stored, password) && *password;
	case VERIFIER_CRYPT: return check_crypt(stored, password) && *password;
	case VERIFIER_CRY: return check_cry(stored, salt, password) && *password;
	default: return false;
	}
}
