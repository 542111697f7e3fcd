/* SPDX-License-Identifier: MIT */
/* The gate: counts connections by address and those that are not logged in, and refuses what is past the limits. Sixteen bytes an
 * address, in one table, since there may be as many addresses as connections. Limits on guessing are throttle.c's. */

#include "core/gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>

#include "core/log.h"

#define PLACES_MIN 64
#define TOLD_EVERY 10.0 /* seconds between log lines on the same limit */
#define V4_PREFIX  (UINT64_C(0xffff) << 48) /* no /64 that connections come from begins like this: it is multicast */

struct place {
	uint64_t key;
	uint32_t connections; /* 0: the place is free */
	uint32_t waiting;     /* of these, not logged in */
};

enum limit { LIMIT_ADDRESS, LIMIT_WAITING, LIMIT_ADDRESS_WAITING, LIMIT_COUNT };

struct gate {
	struct place *places; /* open addressing, at most half of them taken */
	size_t size, used, waiting;
	uint64_t seed;
	double told[LIMIT_COUNT]; /* when the log was */
};

struct gate *gate_new(void)
{
	struct gate *gate = calloc(1, sizeof(*gate));
	if (!gate || !(gate->places = calloc(PLACES_MIN, sizeof(*gate->places))) ||
	    getrandom(&gate->seed, sizeof(gate->seed), 0) != sizeof(gate->seed)) {
		gate_free(&gate);
		return NULL;
	}
	gate->size = PLACES_MIN;
	for (int i = 0; i < LIMIT_COUNT; i++) {
		gate->told[i] = -TOLD_EVERY;
	}
	return gate;
}

void gate_free(struct gate **gate)
{
	if (*gate) {
		free((*gate)->places);
		free(*gate);
		*gate = NULL;
	}
}

/* ---- addresses ---- */

/* The address of "ADDRESS:PORT" or "[ADDRESS]:PORT" or ADDRESS alone: AF_INET, AF_INET6, or 0: none. */
static int parse(const char *peer, size_t len, uint8_t out[16])
{
	char text[INET6_ADDRSTRLEN];
	if (len >= sizeof(text)) {
		return 0;
	}
	memcpy(text, peer, len);
	text[len] = '\0';
	return inet_pton(AF_INET, text, out) == 1 ? AF_INET : inet_pton(AF_INET6, text, out) == 1 ? AF_INET6 : 0;
}

static int parse_peer(const char *peer, uint8_t out[16])
{
	if (peer[0] == '[') {
		return parse(peer + 1, strcspn(peer + 1, "]"), out);
	}
	return parse(peer, strcspn(peer, ":"), out);
}

/* False: it has no address that could be counted by. */
static bool key_of(const char *peer, uint64_t *key)
{
	uint8_t address[16] = { 0 };
	int family = parse_peer(peer, address);
	*key = 0;
	for (int i = 0; i < (family == AF_INET ? 4 : 8); i++) {
		*key = *key << 8 | address[i];
	}
	*key |= family == AF_INET ? V4_PREFIX : 0;
	return family != 0;
}

/* A network: its family, address and length of the prefix; 0: none. */
static int parse_network(const char *text, uint8_t out[16], unsigned *bits)
{
	size_t len = strcspn(text, "/");
	int family = parse(text, len, out);
	*bits = family == AF_INET ? 32 : 128;
	if (family && text[len] == '/') {
		char *end;
		errno = 0;
		unsigned long most = *bits, value = strtoul(text + len + 1, &end, 10);
		if (errno || *end || end == text + len + 1 || text[len + 1] == '-' || value > most) {
			return 0;
		}
		*bits = (unsigned)value;
	}
	return family;
}

bool gate_is_network(const char *text)
{
	uint8_t address[16];
	unsigned bits;
	return parse_network(text, address, &bits) != 0;
}

static bool is_within(const uint8_t *address, const uint8_t *network, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	uint8_t mask = (uint8_t)(0xff00u >> rest);
	return memcmp(address, network, whole) == 0 && (!rest || ((address[whole] ^ network[whole]) & mask) == 0);
}

static bool is_trusted(const struct settings_limits *limits, const char *peer)
{
	uint8_t address[16], network[16];
	unsigned bits;
	int family = parse_peer(peer, address);
	for (const char *const *each = limits->trusted_addresses; each && *each; each++) {
		if (family && parse_network(*each, network, &bits) == family && is_within(address, network, bits)) {
			return true;
		}
	}
	return false;
}

/* ---- the table ---- */

/* SplitMix64's mixing: who connects chooses the address, so the seed is secret. */
static size_t home_of(const struct gate *gate, uint64_t key)
{
	uint64_t mixed = key ^ gate->seed;
	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (size_t)(mixed ^ (mixed >> 31)) & (gate->size - 1);
}

/* KEY's place, or the free one where it belongs. */
static struct place *find(const struct gate *gate, uint64_t key)
{
	size_t i = home_of(gate, key);
	while (gate->places[i].connections && gate->places[i].key != key) {
		i = (i + 1) & (gate->size - 1);
	}
	return &gate->places[i];
}

static int grow(struct gate *gate)
{
	struct place *before = gate->places;
	size_t size = gate->size;
	struct place *places = calloc(size * 2, sizeof(*places));
	if (!places) {
		return -ENOMEM;
	}
	gate->places = places;
	gate->size = size * 2;
	for (size_t i = 0; i < size; i++) {
		if (before[i].connections) {
			*find(gate, before[i].key) = before[i];
		}
	}
	free(before);
	return 0;
}

/* What lies behind the freed place moves up where it would not be found any more. */
static void remove_place(struct gate *gate, struct place *place)
{
	size_t mask = gate->size - 1, hole = (size_t)(place - gate->places);
	for (size_t i = (hole + 1) & mask; gate->places[i].connections; i = (i + 1) & mask) {
		if (((i - home_of(gate, gate->places[i].key)) & mask) >= ((i - hole) & mask)) {
			gate->places[hole] = gate->places[i];
			hole = i;
		}
	}
	gate->places[hole] = (struct place){ 0 };
	gate->used--;
}

/* ---- coming and going ---- */

static const char *refuse(struct gate *gate, enum limit limit, const char *peer, double now)
{
	static const char *const names[] = { "max-connections-per-address", "max-unauthenticated", "max-unauthenticated-per-address" };
	static const char *const reasons[] = {
		"too many connections from your address", "too many connections that are not logged in",
		"too many connections from your address that are not logged in",
	};
	if (now >= gate->told[limit] + TOLD_EVERY) {
		gate->told[limit] = now;
		log_write(LOG_WARNING, "listen: %s is reached: %s is refused", names[limit], peer);
	}
	return reasons[limit];
}

const char *gate_enter(struct gate *gate, const struct settings_limits *limits, const char *peer, double now)
{
	uint64_t key;
	if (limits->max_waiting && gate->waiting >= (size_t)limits->max_waiting) {
		return refuse(gate, LIMIT_WAITING, peer, now);
	}
	if (!key_of(peer, &key)) {
		gate->waiting++;
		return NULL;
	}
	const struct place *there = find(gate, key);
	bool many = limits->max_per_address && there->connections >= limits->max_per_address;
	bool waiting = limits->max_waiting_per_address && there->waiting >= limits->max_waiting_per_address;
	if ((many || waiting) && !is_trusted(limits, peer)) {
		return refuse(gate, many ? LIMIT_ADDRESS : LIMIT_ADDRESS_WAITING, peer, now);
	}
	if (gate->used * 2 >= gate->size && grow(gate) < 0) {
		return "out of memory";
	}
	struct place *place = find(gate, key);
	gate->used += !place->connections;
	place->key = key;
	place->connections++;
	place->waiting++;
	gate->waiting++;
	return NULL;
}

void gate_log_in(struct gate *gate, const char *peer)
{
	uint64_t key;
	gate->waiting--;
	if (key_of(peer, &key)) {
		find(gate, key)->waiting--;
	}
}

void gate_leave(struct gate *gate, const char *peer, bool logged_in)
{
	uint64_t key;
	gate->waiting -= !logged_in;
	if (!key_of(peer, &key)) {
		return;
	}
	struct place *place = find(gate, key);
	place->waiting -= !logged_in;
	if (--place->connections == 0) {
		remove_place(gate, place);
	}
}

size_t gate_waiting(const struct gate *gate)
{
	return gate->waiting;
}

size_t gate_connections(const struct gate *gate, const char *peer)
{
	uint64_t key;
	return key_of(peer, &key) ? find(gate, key)->connections : 0;
}
