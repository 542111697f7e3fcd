/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_CREDENTIAL_H
#define AUTH_SQLITE_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gnutls/abstract.h>

/* A PLAIN message taken apart; one allocation, text holds all three. */
struct plain {
	char *text;
	size_t size;
	const char *authzid, *authcid, *credential;
};

/* 0; -EINVAL: not authzid NUL authcid NUL credential; -ENOMEM. PLAIN is the caller's to end with plain_fini. */
int plain_parse(const uint8_t *in, size_t len, struct plain *plain);
void plain_fini(struct plain *plain); /* wipes and frees */

/* The password that CREDENTIAL stands for: what it decrypts to under KEY, when it does and is the JSON of the protocol, else
 * CREDENTIAL itself. USER is who says so: a "u" that names somebody else spoils it. malloc'd, or NULL: out of memory. RSA says which it was. */
char *credential_password(gnutls_privkey_t key, const char *user, const char *credential, bool *rsa);
/* Wipes and frees a text; NULL is accepted. */
void credential_wipe(char *text);

#endif
