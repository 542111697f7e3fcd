/* SPDX-License-Identifier: MIT */
/* Refused logins, remembered so that operators can be told why a user does not get in. Owns what is kept and for how
 * long; nothing is decided here. */

#include "core/refusals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 100

struct entry {
	char *bare; /* folded */
	char *why;
	char peer[56];
	int64_t at;
	unsigned count;
	bool secure;
};

struct refusals {
	struct entry entries[ENTRIES_MAX]; /* the latest first */
	size_t count;
};

struct refusals *refusals_new(void)
{
	return calloc(1, sizeof(struct refusals));
}

static void fini_entry(struct entry *entry)
{
	free(entry->bare);
	free(entry->why);
}

void refusals_free(struct refusals **refusals_ptr)
{
	struct refusals *refusals = *refusals_ptr;
	if (!refusals) {
		return;
	}
	*refusals_ptr = NULL;
	for (size_t i = 0; i < refusals->count; i++) {
		fini_entry(&refusals->entries[i]);
	}
	free(refusals);
}

static bool same_host(const char *a, const char *b)
{
	const char *colon = strrchr(a, ':');
	size_t len = colon ? (size_t)(colon - a) : strlen(a);
	return strncmp(a, b, len) == 0 && (b[len] == ':' || b[len] == '\0');
}

static bool fold(const char *jid, char *out, size_t size)
{
	char bare[STK_JID_MAX + 1];
	return stk_jid_bare(jid, bare, sizeof(bare)) == 0 && stk_jid_fold(bare, out, size) == 0;
}

static bool same(const struct entry *a, const struct entry *b)
{
	return strcmp(a->bare, b->bare) == 0 && strcmp(a->why, b->why) == 0 && a->secure == b->secure &&
	       same_host(a->peer, b->peer);
}

void refusals_add(struct refusals *refusals, const char *user, const char *peer, bool secure, const char *why,
		  int64_t at)
{
	char folded[STK_JID_MAX + 1];
	struct entry entry = { .at = at, .count = 1, .secure = secure };
	snprintf(entry.peer, sizeof(entry.peer), "%s", peer);
	if (!fold(user, folded, sizeof(folded))) {
		return;
	}
	entry.bare = strdup(folded);
	entry.why = strdup(why);
	if (!entry.bare || !entry.why) {
		fini_entry(&entry);
		return;
	}
	size_t i = 0;
	while (i < refusals->count && !same(&refusals->entries[i], &entry)) {
		i++;
	}
	if (i < refusals->count) {
		entry.count += refusals->entries[i].count;
	} else if (refusals->count < ENTRIES_MAX) {
		refusals->count++;
	} else {
		i--; /* the oldest makes way */
	}
	fini_entry(&refusals->entries[i]);
	memmove(refusals->entries + 1, refusals->entries, i * sizeof(refusals->entries[0]));
	refusals->entries[0] = entry;
}

void refusals_each(const struct refusals *refusals, const char *bare, stk_refusal_fn *each, void *arg)
{
	char folded[STK_JID_MAX + 1];
	if (!fold(bare, folded, sizeof(folded))) {
		return;
	}
	for (size_t i = 0; i < refusals->count; i++) {
		const struct entry *entry = &refusals->entries[i];
		struct stk_refusal refusal = { .size = sizeof(refusal),
					       .count = entry->count,
					       .at = entry->at,
					       .address = entry->peer,
					       .why = entry->why,
					       .secure = entry->secure };
		if (strcmp(entry->bare, folded) == 0 && !each(&refusal, arg)) {
			return;
		}
	}
}
