/* SPDX-License-Identifier: MIT */
#ifndef PRESENCE_CIRCLE_H
#define PRESENCE_CIRCLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct member;
struct user;

/* What is to be told: the show of a session, or that a user is gone. The version is its place among all that is said;
 * what is said anew gets a new one. */
struct said {
	uint64_t version; /* 0: nothing */
	struct user *user;
	uint64_t session; /* 0: the user is gone */
};

/* One who is told. It has been told everything up to the version `seen`. */
struct reader {
	struct reader *prev, *next;
	struct circle *circle; /* NULL: in none */
	struct member *member;
	uint64_t seen, joined; /* joined: the version when it came */
};

/* What is said in a circle, by version; places that are NULL have been said anew or withdrawn. */
struct said_list {
	struct said_place {
		uint64_t version;
		struct said *said;
	} *places;
	size_t count, size;
};

/* Those who are told the same: all of a domain, or all who asked for a user. A reader is in `behind` when its `seen` is
 * below `latest`, else in `current`. */
struct circle {
	struct circle *prev, *next;
	struct circle **waiting;    /* the list of circles that have readers behind */
	struct reader *behind, *current;
	uint64_t latest;
	struct user *user;          /* those who asked for this one; NULL: a domain */
	struct said_list said;      /* of a domain */
};

void circle_join(struct circle *circle, struct reader *reader, uint64_t seen, uint64_t joined);
void circle_leave(struct reader *reader); /* accepts one that is in no circle */
/* Something with VERSION, the highest so far, is to be told. */
void circle_wake(struct circle *circle, uint64_t version);
bool circle_is_empty(const struct circle *circle);
/* Marks READER, one that is behind, as having been told all up to SEEN, and lets the others go first. */
void circle_advance(struct reader *reader, uint64_t seen);
/* The lowest `seen` of all readers. */
uint64_t circle_lowest(const struct circle *circle);

/* Adds SAID at the end; its version is above all others. 0, -ENOBUFS: no room, tidy and grow. */
int said_list_add(struct said_list *list, struct said *said);
void said_list_remove(struct said_list *list, uint64_t version);
/* The first one above VERSION, or NULL. */
struct said *said_list_after(const struct said_list *list, uint64_t version);
/* Drops empty places and those that DROP says; then makes room for more when half or more is in use. 0 or -ENOMEM. */
int said_list_tidy(struct said_list *list, bool (*drop)(struct said *said, void *arg), void *arg);

#endif
