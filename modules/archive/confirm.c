/* SPDX-License-Identifier: MIT */
/* Rows that clients have: gathers them while a write is under way, so that many are marked by few writes. What is lost
 * here is pushed again, never missed. */

#include "archive.h"

#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define GROUP_MAX 1000 /* rows in one write */

struct group {
	size_t count;
	uint64_t rows[];
};

static int write_group(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	(void)module;
	const struct group *group = arg;
	return store_confirm(db, group->rows, group->count);
}

static void on_written(struct stk_module *module, int status, void *arg)
{
	struct state *state = stk_data(module);
	if (status < 0) {
		stk_log(module, LOG_WARNING,
			"%zu messages could not be marked as delivered, they will be pushed again: %s",
			((struct group *)arg)->count, strerror(-status));
	}
	free(arg);
	state->confirmed.writing--;
	confirm_flush(module, false);
}

void confirm_flush(struct stk_module *module, bool all)
{
	struct state *state = stk_data(module);
	while (state->confirmed.count && (all || !state->confirmed.writing)) {
		size_t count = state->confirmed.count < GROUP_MAX ? state->confirmed.count : GROUP_MAX;
		struct group *group = malloc(sizeof(*group) + count * sizeof(group->rows[0]));
		if (group) {
			group->count = count;
			memcpy(group->rows, state->confirmed.rows, count * sizeof(group->rows[0]));
		}
		if (!group || stk_db_append(module, ARCHIVE_FILE, write_group, on_written, group) < 0) {
			free(group);
			archive_retry_later(module);
			return;
		}
		state->confirmed.writing++;
		state->confirmed.count -= count;
		memmove(state->confirmed.rows, state->confirmed.rows + count,
			state->confirmed.count * sizeof(state->confirmed.rows[0]));
	}
}

void confirm_add(struct stk_module *module, uint64_t row)
{
	struct state *state = stk_data(module);
	if (state->confirmed.count == state->confirmed.cap) {
		size_t cap = state->confirmed.cap ? state->confirmed.cap * 2 : 64;
		uint64_t *rows = realloc(state->confirmed.rows, cap * sizeof(*rows));
		if (!rows) {
			return;
		}
		state->confirmed.rows = rows;
		state->confirmed.cap = cap;
	}
	state->confirmed.rows[state->confirmed.count++] = row;
}

void confirm_fini(struct state *state)
{
	free(state->confirmed.rows);
}
