/* SPDX-License-Identifier: MIT */
/* Keeps the archive within its bounds: deletes what is too old or too much for one user and gives pages back, in small
 * steps with pauses, so that receipts do not wait for it. Owns the hourly run and what a vacuum of an operator adds to
 * it. */

#include "archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define EVERY 3600.0 /* s between runs */
#define PAUSE 0.05   /* s between steps */
#define JIDS_MAX 200 /* users looked at in one job */

/*  phase      | a step                                          | then
 *  IDLE       |                                                 | EXPIRE, hourly or when asked
 *  EXPIRE     | a write deletes some that are too old           | none left: LOOK
 *  LOOK       | a job finds the next user who has too many      | found: TRIM; none left: SHRINK
 *  TRIM       | a write deletes some of that user's             | none left: LOOK
 *  SHRINK     | a write gives some pages back                   | none left: CHECKPOINT when somebody waits, else IDLE
 *  CHECKPOINT | a job moves the log into the file               | IDLE */
enum phase { PHASE_IDLE, PHASE_EXPIRE, PHASE_LOOK, PHASE_TRIM, PHASE_SHRINK, PHASE_CHECKPOINT };

struct waiter {
	struct waiter *next;
	keeper_done_fn *done;
	void *arg;
};

/* What a step is given and finds, all its own: a job that was written off may still use it. */
struct step {
	enum phase phase;
	int64_t before, keep_rows;
	int64_t jid;   /* whose messages were looked at last */
	uint64_t last; /* of that user's messages, the newest that is too much; 0: none is */
	int count;     /* what was done, or -errno */
};

struct keeper {
	enum phase phase;
	struct stk_timer *hourly, *pause;
	struct waiter *waiters, *joining; /* those who asked during a run wait for the next */
	struct keeper_result result;
	int64_t before, keep_rows, jid;
	uint64_t last;
	const struct step *under_way;
};

static void next_step(struct stk_module *module);

static struct keeper *keeper_of(struct stk_module *module)
{
	const struct state *state = stk_data(module);
	return state->keeper;
}

/* ---- steps ---- */

static int write_step(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	struct step *step = arg;
	(void)module;
	step->count = step->phase == PHASE_EXPIRE ? store_expire(db, step->before)
		      : step->phase == PHASE_TRIM ? store_trim(db, step->jid, step->last)
						  : store_shrink(db);
	return step->count < 0 ? step->count : 0;
}

static void look(struct stk_module *module, void *arg)
{
	struct step *step = arg;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	int64_t last = 0, next = db ? 1 : -EIO;
	for (int i = 0; i < JIDS_MAX && next > 0 && last == 0; i++) {
		next = store_next_jid(db, step->jid);
		step->jid = next > 0 ? next : step->jid;
		last = next > 0 ? store_excess(db, step->jid, step->keep_rows) : 0;
	}
	step->last = last > 0 ? (uint64_t)last : 0;
	step->count = next < 0 ? (int)next : last < 0 ? (int)last : next > 0;
}

static void checkpoint(struct stk_module *module, void *arg)
{
	struct step *step = arg;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	step->count = db ? store_checkpoint(db) : -EIO;
}

/* ---- a run ---- */

static void end_run(struct stk_module *module, int status)
{
	struct keeper *keeper = keeper_of(module);
	struct waiter *waiters = keeper->waiters;
	if (status < 0 && status != -ECANCELED) {
		stk_log(module, LOG_ERR, "%s: cannot be cleaned up: %s", ARCHIVE_FILE,
			status == -ETIMEDOUT ? "a job that hangs was written off" : strerror(-status));
	} else if (keeper->result.rows) {
		stk_log(module, LOG_INFO, "%s: %lld messages deleted, %lld pages given back", ARCHIVE_FILE,
			(long long)keeper->result.rows, (long long)keeper->result.pages);
	}
	keeper->phase = PHASE_IDLE;
	keeper->under_way = NULL;
	keeper->waiters = NULL;
	while (waiters) {
		struct waiter *next = waiters->next;
		waiters->done(module, status, &keeper->result, waiters->arg);
		free(waiters);
		waiters = next;
	}
	if (keeper->joining && status != -ECANCELED) {
		keeper_run(module, NULL, NULL);
	}
}

static void on_pause(struct stk_module *module, void *arg)
{
	struct keeper *keeper = arg;
	stk_timer_stop(&keeper->pause);
	next_step(module);
}

/* What comes after a step that did COUNT of something. */
static enum phase follow(struct keeper *keeper, int count)
{
	switch (keeper->phase) {
	case PHASE_EXPIRE: keeper->result.rows += count; return count ? PHASE_EXPIRE : PHASE_LOOK;
	case PHASE_LOOK: return keeper->last ? PHASE_TRIM : count ? PHASE_LOOK : PHASE_SHRINK;
	case PHASE_TRIM: keeper->result.rows += count; return count ? PHASE_TRIM : PHASE_LOOK;
	case PHASE_SHRINK:
		keeper->result.pages += count;
		return count ? PHASE_SHRINK : keeper->waiters ? PHASE_CHECKPOINT : PHASE_IDLE;
	default: return PHASE_IDLE;
	}
}

static void on_step(struct stk_module *module, int status, void *arg)
{
	struct step *step = arg;
	struct keeper *keeper = keeper_of(module);
	int count = step->count;
	keeper->under_way = NULL;
	keeper->jid = step->jid;
	keeper->last = step->last;
	free(step);
	status = status < 0 ? status : count < 0 ? count : 0;
	keeper->phase = status < 0 ? PHASE_IDLE : follow(keeper, count);
	if (keeper->phase == PHASE_IDLE) {
		end_run(module, status);
	} else if (!(keeper->pause = stk_timer(module, PAUSE, 0, on_pause, keeper))) {
		end_run(module, -ECANCELED);
	}
}

static int begin_step(struct stk_module *module, struct step *step)
{
	switch (step->phase) {
	case PHASE_LOOK: return stk_job(module, 0, look, on_step, step);
	case PHASE_CHECKPOINT: return stk_job(module, 0, checkpoint, on_step, step);
	default: return stk_db_write(module, ARCHIVE_FILE, write_step, on_step, step);
	}
}

/* Phases that have nothing to do are passed over. */
static void next_step(struct stk_module *module)
{
	struct keeper *keeper = keeper_of(module);
	if (keeper->phase == PHASE_EXPIRE && keeper->before <= 0) {
		keeper->phase = PHASE_LOOK;
	}
	if (keeper->phase == PHASE_LOOK && !keeper->keep_rows) {
		keeper->phase = PHASE_SHRINK;
	}
	struct step *step = malloc(sizeof(*step));
	int rc = -ENOMEM;
	if (step) {
		*step = (struct step){ .phase = keeper->phase, .before = keeper->before, .keep_rows = keeper->keep_rows, .jid = keeper->jid,
			               .last = keeper->last };
		rc = begin_step(module, step);
	}
	if (rc < 0) {
		free(step);
		end_run(module, rc);
		return;
	}
	keeper->under_way = step;
}

void keeper_lost(struct stk_module *module, const void *arg)
{
	if (arg == keeper_of(module)->under_way) {
		end_run(module, -ETIMEDOUT);
	}
}

int keeper_run(struct stk_module *module, keeper_done_fn *done, void *arg)
{
	const struct state *state = stk_data(module);
	struct keeper *keeper = state->keeper;
	if (done) {
		struct waiter *waiter = malloc(sizeof(*waiter));
		if (!waiter) {
			return -ENOMEM;
		}
		*waiter = (struct waiter){ .next = keeper->joining, .done = done, .arg = arg };
		keeper->joining = waiter;
	}
	if (keeper->phase != PHASE_IDLE) {
		return 0;
	}
	keeper->waiters = keeper->joining;
	keeper->joining = NULL;
	keeper->result = (struct keeper_result){ 0 };
	keeper->before = state->conf->keep > 0 ? stk_now_ms() - (int64_t)(state->conf->keep * 1000) : 0;
	keeper->keep_rows = state->conf->keep_rows;
	keeper->jid = 0;
	keeper->phase = PHASE_EXPIRE;
	next_step(module);
	return 0;
}

static void on_hour(struct stk_module *module, void *arg)
{
	(void)arg;
	keeper_run(module, NULL, NULL);
}

int keeper_init(struct stk_module *module)
{
	struct state *state = stk_data(module);
	state->keeper = calloc(1, sizeof(*state->keeper));
	if (!state->keeper) {
		return -ENOMEM;
	}
	state->keeper->hourly = stk_timer(module, EVERY, EVERY, on_hour, NULL);
	return state->keeper->hourly ? 0 : -ENOMEM;
}

/* Nothing is under way any more; whoever waits for a pause that did not end hears of it. */
void keeper_fini(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (state->keeper) {
		state->keeper->result = (struct keeper_result){ 0 };
		end_run(module, -ECANCELED);
		state->keeper->waiters = state->keeper->joining;
		state->keeper->joining = NULL;
		end_run(module, -ECANCELED);
	}
	free(state->keeper);
	state->keeper = NULL;
}
