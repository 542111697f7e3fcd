/* SPDX-License-Identifier: MIT */
/* Password guessing: who may try again when. A user, address or prefix of addresses that failed as often as its limit allows within a
 * minute is refused for a minute. Who logged in lately is told apart: an address that did may fail more, since an office sits behind
 * one, and is not refused for its neighbours; nor is a user refused at the own address for what others try elsewhere. */

#define HASH_NONFATAL_OOM 1
#include "core/throttle.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#define WINDOW      60.0   /* seconds in which failures add up, and for which tries are refused */
#define ENTRIES_MAX 65536  /* of each table; past it the oldest are forgotten */
#define TRUST       10     /* times the limit for an address that logged in lately */
#define HOME_MAX    1200   /* bytes of a user, an address and what parts them */

struct entry {
	UT_hash_handle hh;
	double since, refused_until, trusted_until;
	unsigned failures, running;
	char key[];
};

struct throttle {
	struct entry *users, *addresses, *prefixes;
	struct entry *homes; /* a user at an address at which the user logged in lately */
};

struct throttle *throttle_new(void)
{
	return calloc(1, sizeof(struct throttle));
}

static void free_table(struct entry **table)
{
	struct entry *entry, *next;
	HASH_ITER (hh, *table, entry, next) {
		HASH_DEL(*table, entry);
		free(entry);
	}
}

void throttle_free(struct throttle **throttle)
{
	if (*throttle) {
		free_table(&(*throttle)->users);
		free_table(&(*throttle)->addresses);
		free_table(&(*throttle)->prefixes);
		free_table(&(*throttle)->homes);
		free(*throttle);
		*throttle = NULL;
	}
}

void throttle_address(const char *peer, char *out, size_t size)
{
	const char *colon = strrchr(peer, ':');
	size_t len = colon ? (size_t)(colon - peer) : strlen(peer);
	if (peer[0] == '[' && len > 2) {
		char text[INET6_ADDRSTRLEN];
		struct in6_addr v6;
		snprintf(text, sizeof(text), "%.*s", (int)(len - 2), peer + 1);
		if (inet_pton(AF_INET6, text, &v6) == 1) {
			memset(v6.s6_addr + 8, 0, 8);
			inet_ntop(AF_INET6, &v6, text, sizeof(text));
			snprintf(out, size, "%s/64", text);
			return;
		}
	}
	snprintf(out, size, "%.*s", (int)len, peer);
}

#define PREFIX_MAX (INET6_ADDRSTRLEN + 4)

/* What ADDRESS, as it is counted, shares with its neighbours: a /24 of IPv4, a /48 of IPv6. */
static const char *prefix_of(const char *address, char out[PREFIX_MAX])
{
	char text[INET6_ADDRSTRLEN];
	uint8_t bytes[16];
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(address, "/"), address);
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, text, bytes) != 1) {
		snprintf(out, PREFIX_MAX, "%s", text);
		return out;
	}
	int kept = family == AF_INET6 ? 6 : 3;
	memset(bytes + kept, 0, sizeof(bytes) - (size_t)kept);
	inet_ntop(family, bytes, text, sizeof(text));
	snprintf(out, PREFIX_MAX, "%s/%d", text, kept * 8);
	return out;
}

static struct entry *find(struct entry *table, const char *key)
{
	struct entry *entry = NULL;
	HASH_FIND_STR(table, key, entry);
	return entry;
}

static bool is_needed(const struct entry *entry, double now)
{
	return entry->running || entry->trusted_until > now || entry->refused_until > now || entry->since + WINDOW > now;
}

/* Room for one more: what has run out goes first, then the oldest that nothing runs for. */
static void make_room(struct entry **table, double now)
{
	struct entry *entry, *next;
	if (HASH_COUNT(*table) < ENTRIES_MAX) {
		return;
	}
	HASH_ITER (hh, *table, entry, next) {
		if (!is_needed(entry, now)) {
			HASH_DEL(*table, entry);
			free(entry);
		}
	}
	HASH_ITER (hh, *table, entry, next) {
		if (HASH_COUNT(*table) < ENTRIES_MAX - ENTRIES_MAX / 16) { /* several, since this takes a while */
			break;
		}
		if (!entry->running) {
			HASH_DEL(*table, entry);
			free(entry);
		}
	}
}

static struct entry *get(struct entry **table, const char *key, double now)
{
	struct entry *entry = find(*table, key);
	if (entry) {
		return entry;
	}
	make_room(table, now);
	size_t len = strlen(key);
	entry = calloc(1, sizeof(*entry) + len + 1);
	if (!entry) {
		return NULL;
	}
	memcpy(entry->key, key, len + 1);
	entry->since = now - WINDOW;
	HASH_ADD_KEYPTR(hh, *table, entry->key, len, entry);
	if (!entry->hh.tbl) {
		free(entry);
		return NULL;
	}
	return entry;
}

/* Tries that run count against twice the limit, so that many at once are no way around it. */
static bool is_refused(const struct entry *entry, int64_t limit, double now)
{
	return limit && (entry->refused_until > now || entry->running >= 2 * limit);
}

static int64_t address_limit(const struct settings_login *limits, const struct entry *by_address, double now)
{
	return by_address->trusted_until > now ? limits->address_tries * TRUST : limits->address_tries;
}

static const char *home_key(char out[HOME_MAX], const char *user, const char *address)
{
	snprintf(out, HOME_MAX, "%s %s", address, user); /* no address has a space */
	return out;
}

static struct entry *find_home(const struct throttle *throttle, const char *user, const char *address)
{
	char key[HOME_MAX];
	return find(throttle->homes, home_key(key, user, address));
}

enum throttle_account throttle_begin(struct throttle *throttle, const struct settings_login *limits, const char *user,
                                     const char *address, double now)
{
	struct entry *home = find_home(throttle, user, address);
	bool at_home = home && home->trusted_until > now;
	struct entry *by_user = at_home ? home : get(&throttle->users, user, now);
	struct entry *by_address = get(&throttle->addresses, address, now);
	char prefix[PREFIX_MAX];
	struct entry *by_prefix = get(&throttle->prefixes, prefix_of(address, prefix), now);
	if (!by_user || !by_address || !by_prefix) {
		return THROTTLE_REFUSED;
	}
	if (by_address->trusted_until <= now && !at_home && is_refused(by_prefix, limits->prefix_tries, now)) {
		return THROTTLE_REFUSED;
	}
	if (is_refused(by_user, limits->user_tries, now) || is_refused(by_address, address_limit(limits, by_address, now), now)) {
		return THROTTLE_REFUSED;
	}
	by_user->running++;
	by_address->running++;
	by_prefix->running++;
	return at_home ? THROTTLE_HOME : THROTTLE_USER;
}

static void count_failure(struct entry *entry, int64_t limit, double now)
{
	if (!limit) {
		return;
	}
	if (entry->since + WINDOW <= now) {
		entry->since = now;
		entry->failures = 0;
	}
	if (++entry->failures >= limit) {
		entry->refused_until = now + WINDOW;
		entry->failures = 0;
		entry->since = now - WINDOW;
	}
}

static void trust_home(struct throttle *throttle, const struct settings_login *limits, const char *user, const char *address, double now)
{
	char key[HOME_MAX];
	struct entry *home = get(&throttle->homes, home_key(key, user, address), now);
	if (home) {
		home->trusted_until = now + limits->trusted_time;
	}
}

void throttle_end(struct throttle *throttle, const struct settings_login *limits, enum throttle_account account, const char *user,
                  const char *address, bool success, double now)
{
	struct entry *by_user = account == THROTTLE_HOME ? find_home(throttle, user, address) : find(throttle->users, user);
	struct entry *by_address = find(throttle->addresses, address);
	char prefix[PREFIX_MAX];
	struct entry *by_prefix = find(throttle->prefixes, prefix_of(address, prefix));
	struct entry *all[] = { by_user, by_address, by_prefix };
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (all[i] && all[i]->running) {
			all[i]->running--;
		}
	}
	if (success) {
		if (by_user) {
			by_user->failures = 0;
		}
		if (by_address) {
			by_address->refused_until = by_address->trusted_until > now ? by_address->refused_until : 0;
			by_address->trusted_until = now + limits->trusted_time;
		}
		trust_home(throttle, limits, user, address, now);
		return;
	}
	if (by_user) {
		count_failure(by_user, limits->user_tries, now);
	}
	if (by_address) {
		count_failure(by_address, address_limit(limits, by_address, now), now);
	}
	if (by_prefix) {
		count_failure(by_prefix, limits->prefix_tries, now);
	}
}

void throttle_ask(const struct throttle *throttle, const struct settings_login *limits, const char *user, const char *address,
                  double now, struct stk_auth_limit *limit)
{
	const struct entry *entry = find(user ? throttle->users : throttle->addresses, user ? user : address);
	*limit = (struct stk_auth_limit){ .tries = user ? limits->user_tries : limits->address_tries };
	char prefix[PREFIX_MAX];
	const struct entry *by_prefix = user ? NULL : find(throttle->prefixes, prefix_of(address, prefix));
	if (by_prefix && limits->prefix_tries && by_prefix->refused_until > now && !(entry && entry->trusted_until > now)) {
		limit->refused_for = by_prefix->refused_until - now;
	}
	if (!entry || !limit->tries) {
		return;
	}
	limit->trusted = entry->trusted_until > now;
	limit->failures = entry->since + WINDOW > now ? entry->failures : 0;
	if (entry->refused_until > now + limit->refused_for) {
		limit->refused_for = entry->refused_until - now;
	}
}
