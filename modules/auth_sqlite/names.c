/* SPDX-License-Identifier: MIT */
/* The set of account names, so that whether somebody exists can be told without asking the database. */

#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#define FIRST_CAP 64

/* Never 0. */
static uint64_t hash(const struct names *names, const char *text)
{
	uint8_t digest[32];
	uint64_t value = 0;
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, names->key, sizeof(names->key), text, strlen(text), digest) == 0) {
		memcpy(&value, digest, sizeof(value));
	}
	return value ? value : 1;
}

/* Where VALUE is, or the free slot where it would be. */
static uint64_t *find(const struct names *names, uint64_t value)
{
	size_t i = value & (names->cap - 1);
	while (names->slots[i] && names->slots[i] != value) {
		i = (i + 1) & (names->cap - 1);
	}
	return &names->slots[i];
}

int names_init(struct names *names)
{
	*names = (struct names){ .cap = FIRST_CAP };
	names->slots = calloc(names->cap, sizeof(*names->slots));
	return !names->slots ? -ENOMEM : gnutls_rnd(GNUTLS_RND_KEY, names->key, sizeof(names->key)) < 0 ? -EIO : 0;
}

void names_fini(struct names *names)
{
	free(names->slots);
	*names = (struct names){ 0 };
}

static int grow(struct names *names)
{
	struct names larger = *names;
	larger.cap = names->cap * 2;
	larger.slots = calloc(larger.cap, sizeof(*larger.slots));
	if (!larger.slots) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < names->cap; i++) {
		if (names->slots[i]) {
			*find(&larger, names->slots[i]) = names->slots[i];
		}
	}
	free(names->slots);
	*names = larger;
	return 0;
}

int names_add(struct names *names, const char *bare)
{
	if (2 * (names->used + 1) > names->cap && grow(names) < 0) {
		return -ENOMEM;
	}
	uint64_t value = hash(names, bare), *slot = find(names, value);
	names->used += !*slot;
	*slot = value;
	return 0;
}

void names_remove(struct names *names, const char *bare)
{
	uint64_t *slot = find(names, hash(names, bare));
	if (!*slot) {
		return;
	}
	*slot = 0;
	names->used--;
	/* Those behind it may have been put there because it was in their way. */
	for (size_t i = (size_t)(slot - names->slots + 1) & (names->cap - 1); names->slots[i]; i = (i + 1) & (names->cap - 1)) {
		uint64_t value = names->slots[i];
		names->slots[i] = 0;
		*find(names, value) = value;
	}
}

bool names_has(const struct names *names, const char *bare)
{
	return *find(names, hash(names, bare)) != 0;
}
