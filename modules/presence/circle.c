/* SPDX-License-Identifier: MIT */
/* Circles: who has been told how much of what was said. Every step costs the same however many readers there are, and a
 * reader that lags is told only the latest of each. What is said, and to whom it goes, is share.c's business. */

#include "circle.h"

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

static bool is_behind(const struct reader *reader)
{
	return reader->seen < reader->circle->latest;
}

static void put(struct reader *reader)
{
	struct circle *circle = reader->circle;
	if (!is_behind(reader)) {
		DL_APPEND(circle->current, reader);
		return;
	}
	if (!circle->behind) {
		DL_APPEND(*circle->waiting, circle);
	}
	DL_APPEND(circle->behind, reader);
}

static void take(struct reader *reader)
{
	struct circle *circle = reader->circle;
	if (!is_behind(reader)) {
		DL_DELETE(circle->current, reader);
		return;
	}
	DL_DELETE(circle->behind, reader);
	if (!circle->behind) {
		DL_DELETE(*circle->waiting, circle);
	}
}

void circle_join(struct circle *circle, struct reader *reader, uint64_t seen, uint64_t joined)
{
	reader->circle = circle;
	reader->seen = seen;
	reader->joined = joined;
	put(reader);
}

void circle_leave(struct reader *reader)
{
	if (reader->circle) {
		take(reader);
		reader->circle = NULL;
	}
}

void circle_wake(struct circle *circle, uint64_t version)
{
	circle->latest = version;
	if (!circle->current) {
		return;
	}
	if (!circle->behind) {
		DL_APPEND(*circle->waiting, circle);
	}
	DL_CONCAT(circle->behind, circle->current);
	circle->current = NULL;
}

bool circle_is_empty(const struct circle *circle)
{
	return !circle->behind && !circle->current;
}

void circle_advance(struct reader *reader, uint64_t seen)
{
	take(reader);
	reader->seen = seen;
	put(reader);
}

uint64_t circle_lowest(const struct circle *circle)
{
	uint64_t lowest = circle->latest;
	const struct reader *reader;
	DL_FOREACH (circle->behind, reader) {
		lowest = reader->seen < lowest ? reader->seen : lowest;
	}
	return lowest;
}

/* ---- what is said ---- */

/* The place of the first version above VERSION; count when there is none. */
static size_t find_after(const struct said_list *list, uint64_t version)
{
	size_t low = 0, high = list->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (list->places[middle].version > version) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return low;
}

int said_list_add(struct said_list *list, struct said *said)
{
	if (list->count == list->size) {
		return -ENOBUFS;
	}
	list->places[list->count++] = (struct said_place){ .version = said->version, .said = said };
	return 0;
}

void said_list_remove(struct said_list *list, uint64_t version)
{
	size_t at = find_after(list, version);
	if (at && list->places[at - 1].version == version) {
		list->places[at - 1].said = NULL;
	}
}

struct said *said_list_after(const struct said_list *list, uint64_t version)
{
	size_t at = find_after(list, version);
	while (at < list->count && !list->places[at].said) {
		at++;
	}
	return at < list->count ? list->places[at].said : NULL;
}

int said_list_tidy(struct said_list *list, bool (*drop)(struct said *said, void *arg), void *arg)
{
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++) {
		struct said_place place = list->places[i];
		if (place.said && !drop(place.said, arg)) {
			list->places[kept++] = place;
		}
	}
	list->count = kept;
	if (kept * 2 < list->size) {
		return 0;
	}
	size_t size = list->size ? list->size * 2 : 32;
	struct said_place *places = reallocarray(list->places, size, sizeof(*places));
	if (!places) {
		return kept < list->size ? 0 : -ENOMEM;
	}
	list->places = places;
	list->size = size;
	return 0;
}
