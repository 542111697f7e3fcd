/* SPDX-License-Identifier: MIT */
/* What a client sends to prove who it is: the PLAIN message, and the password in it, which may be encrypted for the
 * server. Whether it is the right one is not decided here. */

#include "credential.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/gnutls.h>
#include <jansson.h>
#include <unistr.h>

#include <startalkd/jid.h>

int plain_parse(const uint8_t *in, size_t len, struct plain *plain)
{
	*plain = (struct plain){ 0 };
	const uint8_t *first = memchr(in, 0, len);
	const uint8_t *second = first ? memchr(first + 1, 0, len - (size_t)(first + 1 - in)) : NULL;
	if (!second || second == first + 1 || memchr(second + 1, 0, len - (size_t)(second + 1 - in)) || u8_check(in, len)) {
		return -EINVAL;
	}
	plain->text = malloc(len + 1);
	if (!plain->text) {
		return -ENOMEM;
	}
	memcpy(plain->text, in, len);
	plain->text[len] = '\0';
	plain->size = len + 1;
	plain->authzid = plain->text;
	plain->authcid = plain->text + (first + 1 - in);
	plain->credential = plain->text + (second + 1 - in);
	return 0;
}

void plain_fini(struct plain *plain)
{
	if (plain->text) {
		gnutls_memset(plain->text, 0, plain->size);
	}
	free(plain->text);
	*plain = (struct plain){ 0 };
}

void credential_wipe(char *text)
{
	if (text) {
		gnutls_memset(text, 0, strlen(text));
	}
	free(text);
}

static bool same_user(const char *a, const char *b)
{
	char fa[STK_JID_MAX + 1], fb[STK_JID_MAX + 1];
	/* A JID of a domain folds as a user name does. */
	return stk_jid_fold(a, fa, sizeof(fa)) == 0 && stk_jid_fold(b, fb, sizeof(fb)) == 0 && strcmp(fa, fb) == 0;
}

/* The member "p" of the JSON in TEXT, malloc'd, or NULL. */
static char *read_json(const char *text, size_t len, const char *user)
{
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *password = json_string_value(json_object_get(root, "p"));
	json_t *who = json_object_get(root, "u");
	bool mine = !who || (json_is_string(who) && same_user(json_string_value(who), user));
	char *copy = password && *password && mine ? strdup(password) : NULL;
	if (password) {
		gnutls_memset((char *)(uintptr_t)password, 0, strlen(password));
	}
	json_decref(root);
	return copy;
}

static char *decrypt(gnutls_privkey_t key, const char *user, const char *credential)
{
	gnutls_datum_t text = { .data = (unsigned char *)(uintptr_t)credential, .size = (unsigned)strlen(credential) };
	gnutls_datum_t cipher = { 0 }, clear = { 0 };
	unsigned bits = 0;
	char *password = NULL;
	if (!text.size || gnutls_privkey_get_pk_algorithm(key, &bits) < 0 || gnutls_base64_decode2(&text, &cipher) < 0) {
		return NULL;
	}
	if (cipher.size == (bits + 7) / 8 && gnutls_privkey_decrypt_data(key, 0, &cipher, &clear) == 0) {
		password = read_json((const char *)clear.data, clear.size, user);
		gnutls_memset(clear.data, 0, clear.size);
		gnutls_free(clear.data);
	}
	gnutls_free(cipher.data);
	return password;
}

char *credential_password(gnutls_privkey_t key, const char *user, const char *credential, bool *rsa)
{
	char *password = decrypt(key, user, credential);
	*rsa = password != NULL;
	return password ? password : strdup(credential);
}
