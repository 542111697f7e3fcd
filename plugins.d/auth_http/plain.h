/* SPDX-License-Identifier: MIT */
#ifndef AUTH_HTTP_PLAIN_H
#define AUTH_HTTP_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <startalkd/module.h>

/* A message of SASL PLAIN (RFC 4616): who is to be logged in (mostly ""), who says so, and the password. */
struct plain {
	char *text; /* holds all three */
	size_t len;
	const char *authzid, *authcid, *password;
};

/* 0; -EINVAL: not authzid NUL authcid NUL password; -ENOMEM. PLAIN is the caller's to wipe. */
int plain_parse(const uint8_t *in, size_t len, struct plain *plain);
void plain_wipe(struct plain *plain); /* and frees */
/* Whose account it is, folded: BARE JID and its node. 0; -EINVAL: nobody of DOMAIN can be called so; -EACCES: authzid
 * is somebody else. */
int plain_user(const struct plain *plain, const char *domain, char bare[STK_JID_MAX + 1],
	       char node[STK_JID_PART_MAX + 1]);
/* Does the password look like base64 of what an RSA key encrypted? Some clients do that; this module has no key. */
bool plain_is_encrypted(const struct plain *plain);

#endif
