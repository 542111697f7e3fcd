/* SPDX-License-Identifier: MIT */
/* Takes a PLAIN message apart. Owns its only copy outside of the server, and sees to it that nothing of it stays in
 * memory. */

#include "plain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RSA_TEXT_MIN 172 /* bytes of base64 for what a key of 1024 bits encrypts */

int plain_parse(const uint8_t *in, size_t len, struct plain *plain)
{
	const uint8_t *first = memchr(in, 0, len);
	const uint8_t *second = first ? memchr(first + 1, 0, len - (size_t)(first + 1 - in)) : NULL;
	if (!second || second == first + 1 || memchr(second + 1, 0, len - (size_t)(second + 1 - in))) {
		return -EINVAL;
	}
	char *text = malloc(len + 1); /* the password comes without a NUL */
	if (!text) {
		return -ENOMEM;
	}
	memcpy(text, in, len);
	text[len] = '\0';
	*plain = (struct plain){ .text = text, .len = len, .authzid = text };
	plain->authcid = text + (first + 1 - in);
	plain->password = text + (second + 1 - in);
	return 0;
}

void plain_wipe(struct plain *plain)
{
	explicit_bzero(plain->text, plain->len);
	free(plain->text);
	*plain = (struct plain){ 0 };
}

/* NAME is "user" or "user@domain". */
static int fold(const char *name, const char *domain, char bare[STK_JID_MAX + 1])
{
	char whole[STK_JID_MAX + 1];
	struct stk_jid jid;
	bool with_domain = strchr(name, '@') != NULL;
	int n = snprintf(whole, sizeof(whole), "%s%s%s", name, with_domain ? "" : "@", with_domain ? "" : domain);
	if (n >= (int)sizeof(whole) || stk_jid_fold(whole, bare, STK_JID_MAX + 1) < 0 ||
	    stk_jid_parse(&jid, bare) < 0) {
		return -EINVAL;
	}
	/* Without a resource the domain ends the text. */
	return jid.node_len && !jid.resource_len && stk_jid_same(jid.domain, domain) ? 0 : -EINVAL;
}

int plain_user(const struct plain *plain, const char *domain, char bare[STK_JID_MAX + 1],
	       char node[STK_JID_PART_MAX + 1])
{
	char other[STK_JID_MAX + 1];
	if (fold(plain->authcid, domain, bare) < 0) {
		return -EINVAL;
	}
	snprintf(node, STK_JID_PART_MAX + 1, "%.*s", (int)strcspn(bare, "@"), bare);
	return !*plain->authzid || (fold(plain->authzid, domain, other) == 0 && strcmp(other, bare) == 0) ? 0 : -EACCES;
}

bool plain_is_encrypted(const struct plain *plain)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
	size_t len = strlen(plain->password);
	return len >= RSA_TEXT_MIN && len % 4 == 0 && strspn(plain->password, base64) == len;
}
