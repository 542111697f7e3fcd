/* SPDX-License-Identifier: MIT */
/* What a session gets and in which order: first what waited for its user, in batches that the client's reading paces,
 * then what came meanwhile, then each message at once. Owns a session's state of this; what is stored is not its
 * business. */

#include "archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define BATCH 100                    /* stanzas that are sent before the client must have read some */
#define BATCH_BYTES (256 * 1024)     /* ... and of about how many bytes */
#define HELD_MAX 16384               /* what may wait behind a backlog; the session ends beyond */
#define HELD_STANZAS 1000            /* of these, what is in no table and kept in memory */
#define HELD_BYTES (4 * 1024 * 1024) /* of these */
#define SENT_MAX 65536 /* sent rows that are waited for; beyond, rows stay undelivered and are pushed again */

struct entry {
	uint64_t row;              /* 0: in no table */
	struct stk_stanza *stanza; /* NULL: to be read by its row */
};

struct queue {
	struct entry *list;
	size_t first, count, cap;
};

/*  state   | what is under way                                   | then
 *  LIVE    | nothing: each message is sent at once               | the session becomes eligible: BARRIER
 *  BARRIER | a write, so that all writes before it are on disk   | BACKLOG, or HELD when nothing waits
 *  BACKLOG | a batch of undelivered rows is read, or is leaving  | no more: HELD
 *  HELD    | a batch of what came meanwhile, likewise            | no more: LIVE, or BARRIER when it is eligible anew */
enum inbox_state { INBOX_LIVE, INBOX_BARRIER, INBOX_BACKLOG, INBOX_HELD };

struct inbox {
	enum inbox_state state;
	bool again, stuck;     /* eligible again; waits for inbox_retry() */
	bool failing;          /* the last read did, and that was logged */
	uint64_t cursor, last; /* BACKLOG: rows behind the one up to the other are left */
	uint64_t awaited;      /* the mark of a batch that is leaving; 0: none is */
	const struct fetch *fetch; /* under way, or NULL */
	uint64_t highest;      /* row sent */
	uint64_t marks;        /* the mark of the first in sent */
	struct queue sent;     /* what the client may not have yet */
	struct queue held;
	size_t held_stanzas, held_bytes;
};

/* What goes to another thread for a session, and comes back. */
struct fetch {
	uint64_t session;
	uint64_t after; /* the user's undelivered rows from there are wanted; comes back from each batch */
	uint64_t last;  /* ... up to there; comes back from the barrier */
	int64_t limit;  /* only the newest that many; 0: all */
	bool end;       /* there are no more */
	int status;
	size_t wanted, count, bytes;
	uint64_t rows[BATCH]; /* the wanted ones; what comes back */
	struct stk_stanza *stanzas[BATCH];
	struct stk_module *module;
	char bare[]; /* folded */
};

static void advance(struct stk_module *module, struct stk_session *session, struct inbox *inbox);

/* ---- queues ---- */

static bool push(struct queue *queue, struct entry entry)
{
	if (queue->first + queue->count == queue->cap && queue->first > queue->count) {
		memmove(queue->list, queue->list + queue->first, queue->count * sizeof(*queue->list));
		queue->first = 0;
	}
	if (queue->first + queue->count == queue->cap) {
		size_t cap = queue->cap ? queue->cap * 2 : 16;
		struct entry *list = realloc(queue->list, cap * sizeof(*list));
		if (!list) {
			return false;
		}
		queue->list = list;
		queue->cap = cap;
	}
	queue->list[queue->first + queue->count++] = entry;
	return true;
}

static struct entry *entry_at(const struct queue *queue, size_t i)
{
	return &queue->list[queue->first + i];
}

static void drop(struct queue *queue, size_t count)
{
	queue->first += count;
	queue->count -= count;
	if (!queue->count) {
		free(queue->list);
		*queue = (struct queue){ 0 };
	}
}

/* ---- a session's own ---- */

static void destroy(void *data)
{
	struct inbox *inbox = data;
	for (size_t i = 0; i < inbox->held.count; i++) {
		stk_stanza_unref(entry_at(&inbox->held, i)->stanza);
	}
	free(inbox->held.list);
	free(inbox->sent.list);
	free(inbox);
}

static struct inbox *find_inbox(struct stk_module *module, const struct stk_session *session)
{
	const struct state *state = stk_data(module);
	return session ? stk_session_get(session, state->slot) : NULL;
}

static struct inbox *get_inbox(struct stk_module *module, struct stk_session *session)
{
	const struct state *state = stk_data(module);
	struct inbox *inbox = stk_session_get(session, state->slot);
	if (!inbox && (inbox = calloc(1, sizeof(*inbox)))) {
		inbox->marks = 1;
		stk_session_set(session, state->slot, inbox);
	}
	return inbox;
}

/* ---- sending ---- */

/* Rows rise from one to the next but where a session becomes eligible a second time. */
static bool is_on_its_way(const struct inbox *inbox, uint64_t row)
{
	for (size_t i = 0; row && row <= inbox->highest && i < inbox->sent.count; i++) {
		if (entry_at(&inbox->sent, i)->row == row) {
			return true;
		}
	}
	return false;
}

/* Takes STANZA. ROW 0: it is followed for TELL only. The mark, 0: sent but not followed, -errno. */
static int64_t send_followed(struct stk_session *session, struct inbox *inbox, struct stk_stanza *stanza, uint64_t row,
			     bool tell)
{
	bool follow = tell || (row && inbox->sent.count < SENT_MAX);
	if (!follow || !push(&inbox->sent, (struct entry){ .row = row })) {
		return stk_send_to(session, stanza);
	}
	uint64_t mark = inbox->marks + inbox->sent.count - 1;
	int rc = stk_send_tracked(session, stanza, mark, tell);
	if (rc < 0) {
		inbox->sent.count--;
		return rc;
	}
	inbox->highest = row > inbox->highest ? row : inbox->highest;
	return (int64_t)mark;
}

/* Sends the COUNT first of LIST, which are taken, and waits until the last has left. False: there is nothing to wait
 * for. */
static bool send_batch(struct stk_session *session, struct inbox *inbox, const struct entry *list, size_t count)
{
	size_t left = count;
	int64_t mark = 0;
	while (left && (!list[left - 1].stanza || is_on_its_way(inbox, list[left - 1].row))) {
		left--;
	}
	for (size_t i = 0; i < count; i++) {
		if (!list[i].stanza || is_on_its_way(inbox, list[i].row)) {
			stk_stanza_unref(list[i].stanza);
		} else {
			mark = send_followed(session, inbox, list[i].stanza, list[i].row, i + 1 == left);
		}
	}
	inbox->awaited = mark > 0 ? (uint64_t)mark : 0;
	return inbox->awaited != 0;
}

/* ---- reading, on a worker ---- */

static bool take_row(const struct row *row, void *arg)
{
	struct fetch *fetch = arg;
	struct stk_stanza *stanza = record_stanza(&row->record);
	fetch->after = row->seq;
	if (!stanza) {
		stk_log(fetch->module, LOG_ERR, "%s: message %llu cannot be built from its row", ARCHIVE_FILE,
			(unsigned long long)row->seq);
		return true;
	}
	fetch->rows[fetch->count] = row->seq;
	fetch->stanzas[fetch->count++] = stanza;
	fetch->bytes += strlen(row->record.body) + (row->record.more ? strlen(row->record.more) : 0);
	fetch->end = fetch->count < BATCH && fetch->bytes < BATCH_BYTES;
	return fetch->end;
}

static void read_backlog(struct stk_module *module, void *arg)
{
	struct fetch *fetch = arg;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	int64_t recipient = db ? store_find_jid(db, fetch->bare) : -EIO;
	fetch->end = true;
	if (recipient > 0 && fetch->limit && !fetch->after) {
		int64_t skip = store_skip_undelivered(db, recipient, fetch->last, fetch->limit);
		fetch->after = skip > 0 ? (uint64_t)skip : 0;
	}
	fetch->status = recipient > 0
				? store_each_undelivered(db, recipient, fetch->after, fetch->last, take_row, fetch)
				: (int)recipient;
}

/* A wanted row may be gone by now; then its stanza is NULL. */
static bool take_wanted(const struct row *row, void *arg)
{
	struct fetch *fetch = arg;
	fetch->stanzas[fetch->count] = record_stanza(&row->record);
	fetch->bytes += strlen(row->record.body) + (row->record.more ? strlen(row->record.more) : 0);
	return true;
}

static void read_held(struct stk_module *module, void *arg)
{
	struct fetch *fetch = arg;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	fetch->status = db ? 0 : -EIO;
	while (fetch->status == 0 && fetch->count < fetch->wanted && fetch->bytes < BATCH_BYTES) {
		fetch->status = store_row(db, fetch->rows[fetch->count], take_wanted, fetch);
		fetch->count += fetch->status == 0;
	}
}

static int read_barrier(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	(void)module;
	struct fetch *fetch = arg;
	int64_t recipient = store_find_jid(db, fetch->bare);
	int64_t newest = recipient > 0 ? store_skip_undelivered(db, recipient, INT64_MAX, 0) : recipient;
	fetch->last = newest > 0 ? (uint64_t)newest : 0;
	return newest < 0 ? (int)newest : 0;
}

/* ---- fetching ---- */

static struct fetch *new_fetch(struct stk_module *module, const struct stk_session *session)
{
	char bare[STK_JID_MAX + 1];
	if (stk_jid_fold(stk_session_bare(session), bare, sizeof(bare)) < 0) {
		return NULL;
	}
	size_t len = strlen(bare);
	struct fetch *fetch = calloc(1, sizeof(*fetch) + len + 1);
	if (fetch) {
		fetch->module = module;
		fetch->session = stk_session_id(session);
		memcpy(fetch->bare, bare, len + 1);
	}
	return fetch;
}

static void free_fetch(struct fetch *fetch)
{
	for (size_t i = 0; i < BATCH; i++) {
		stk_stanza_unref(fetch->stanzas[i]);
	}
	free(fetch);
}

/* The inbox that FETCH came back for; NULL: the session is gone, or it failed and is tried again later. */
static struct inbox *come_back(struct stk_module *module, struct fetch *fetch, int status, struct stk_session **session)
{
	*session = stk_session_find(module, fetch->session);
	struct inbox *inbox = find_inbox(module, *session);
	status = status < 0 ? status : fetch->status;
	if (inbox) {
		inbox->fetch = NULL;
	}
	if (inbox && status < 0) {
		if (status != -ECANCELED && !inbox->failing) {
			inbox->failing = true;
			stk_log(module, LOG_ERR, "%s: what waits for the user cannot be read, trying again: %s",
				stk_session_jid(*session), strerror(-status));
		}
		inbox->stuck = true;
		archive_retry_later(module);
	} else if (inbox) {
		inbox->failing = false;
	}
	return status < 0 ? NULL : inbox;
}

/* ---- the backlog ---- */

static void on_barrier(struct stk_module *module, int status, void *arg)
{
	struct fetch *fetch = arg;
	struct stk_session *session;
	struct inbox *inbox = come_back(module, fetch, status, &session);
	if (inbox) {
		/* Whatever was stored since the session became eligible and is for it is held: the backlog ends before
		 * it. */
		inbox->last = fetch->last;
		if (!fetch->last) {
			waiting_remove(((const struct state *)stk_data(module))->waiting_users, fetch->bare);
		}
		for (size_t i = 0; i < inbox->held.count; i++) {
			uint64_t row = entry_at(&inbox->held, i)->row;
			if (row) {
				inbox->last = row - 1 < inbox->last ? row - 1 : inbox->last;
				break;
			}
		}
		inbox->state = inbox->last ? INBOX_BACKLOG : INBOX_HELD;
		inbox->cursor = 0;
		advance(module, session, inbox);
	}
	free_fetch(fetch);
}

static void on_backlog(struct stk_module *module, int status, void *arg)
{
	struct fetch *fetch = arg;
	struct stk_session *session;
	struct inbox *inbox = come_back(module, fetch, status, &session);
	if (inbox) {
		struct entry list[BATCH];
		for (size_t i = 0; i < fetch->count; i++) {
			list[i] = (struct entry){ .row = fetch->rows[i], .stanza = fetch->stanzas[i] };
			fetch->stanzas[i] = NULL;
		}
		inbox->cursor = fetch->after;
		inbox->state = fetch->end ? INBOX_HELD : INBOX_BACKLOG;
		if (!send_batch(session, inbox, list, fetch->count)) {
			advance(module, session, inbox);
		}
	}
	free_fetch(fetch);
}

/* Sends the first of what was held; COUNT stanzas that had to be read are in STANZAS and are taken. */
static bool send_held(struct stk_session *session, struct inbox *inbox, struct stk_stanza **stanzas, size_t count)
{
	struct entry list[BATCH];
	size_t n = 0, used = 0;
	for (; n < inbox->held.count && n < BATCH; n++) {
		list[n] = *entry_at(&inbox->held, n);
		if (list[n].row && used == count) {
			break;
		}
		if (list[n].row) {
			list[n].stanza = stanzas[used];
			stanzas[used++] = NULL;
		} else {
			inbox->held_stanzas--;
			inbox->held_bytes -= archive_weight(list[n].stanza);
		}
	}
	drop(&inbox->held, n);
	return send_batch(session, inbox, list, n);
}

static void on_held(struct stk_module *module, int status, void *arg)
{
	struct fetch *fetch = arg;
	struct stk_session *session;
	struct inbox *inbox = come_back(module, fetch, status, &session);
	if (inbox && !send_held(session, inbox, fetch->stanzas, fetch->count)) {
		advance(module, session, inbox);
	}
	free_fetch(fetch);
}

/* The rows among the first of what is held. */
static void want_held(const struct inbox *inbox, struct fetch *fetch)
{
	for (size_t i = 0; i < inbox->held.count && i < BATCH; i++) {
		uint64_t row = entry_at(&inbox->held, i)->row;
		if (row) {
			fetch->rows[fetch->wanted++] = row;
		}
	}
}

static int start_fetch(struct stk_module *module, struct inbox *inbox, struct fetch *fetch)
{
	const struct state *state = stk_data(module);
	if (inbox->state == INBOX_BARRIER) {
		confirm_flush(module, true);
		return stk_db_append(module, ARCHIVE_FILE, read_barrier, on_barrier, fetch);
	}
	if (inbox->state == INBOX_BACKLOG) {
		fetch->after = inbox->cursor;
		fetch->last = inbox->last;
		fetch->limit = state->conf->push_limit;
		return stk_job(module, fetch->session, read_backlog, on_backlog, fetch);
	}
	want_held(inbox, fetch);
	return stk_job(module, fetch->session, read_held, on_held, fetch);
}

/* Does what is next; called when nothing is under way. */
static void advance(struct stk_module *module, struct stk_session *session, struct inbox *inbox)
{
	while (inbox->state == INBOX_HELD && inbox->held.count && !entry_at(&inbox->held, 0)->row) {
		if (send_held(session, inbox, NULL, 0)) {
			return;
		}
	}
	if (inbox->state == INBOX_HELD && !inbox->held.count) {
		inbox->state = inbox->again ? INBOX_BARRIER : INBOX_LIVE;
		inbox->again = false;
	}
	if (inbox->state == INBOX_LIVE) {
		return;
	}
	struct fetch *fetch = new_fetch(module, session);
	int rc = fetch ? start_fetch(module, inbox, fetch) : -ENOMEM;
	if (rc < 0) {
		free(fetch);
		inbox->stuck = true;
		archive_retry_later(module);
		return;
	}
	inbox->fetch = fetch;
}

static bool retry_one(struct stk_session *session, void *arg)
{
	struct inbox *inbox = find_inbox(arg, session);
	if (inbox && inbox->stuck) {
		inbox->stuck = false;
		advance(arg, session, inbox);
	}
	return true;
}

void inbox_retry(struct stk_module *module)
{
	stk_sessions(module, NULL, retry_one, module);
}

struct lost {
	struct stk_module *module;
	const void *fetch;
};

static bool give_up(struct stk_session *session, void *arg)
{
	const struct lost *lost = arg;
	struct inbox *inbox = find_inbox(lost->module, session);
	if (!inbox || inbox->fetch != lost->fetch) {
		return true;
	}
	inbox->fetch = NULL;
	inbox->stuck = true;
	archive_retry_later(lost->module);
	return false;
}

void inbox_lost(struct stk_module *module, const void *arg)
{
	struct lost lost = { .module = module, .fetch = arg };
	stk_sessions(module, NULL, give_up, &lost);
}

/* ---- what happens ---- */

static bool may_wait(const struct state *state, const struct stk_session *session)
{
	char bare[STK_JID_MAX + 1];
	return stk_jid_fold(stk_session_bare(session), bare, sizeof(bare)) < 0 || waiting_may(state->waiting_users, bare);
}

static void begin_backlog(struct stk_module *module, struct stk_session *session)
{
	const struct state *state = stk_data(module);
	struct inbox *inbox = find_inbox(module, session);
	if (!state->conf->push_offline || ((!inbox || inbox->state == INBOX_LIVE) && !may_wait(state, session))) {
		return;
	}
	inbox = get_inbox(module, session);
	if (!inbox) {
		stk_log(module, LOG_ERR, "%s: out of memory: what waits for the user is not pushed",
			stk_session_jid(session));
	} else if (inbox->state != INBOX_LIVE) {
		inbox->again = true;
	} else {
		inbox->state = INBOX_BARRIER;
		advance(module, session, inbox);
	}
}

static int on_eligible(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	begin_backlog(module, event->session);
	return STK_PASS;
}

/* What a session that is gone may not have gets to the user's others, which may not be asked to wait for a new one. */
static bool push_again(struct stk_session *session, void *arg)
{
	struct stk_module *module = arg;
	if (stk_session_available(session) && stk_session_priority(session) >= 0) {
		begin_backlog(module, session);
	}
	return true;
}

static int on_closed(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	const struct inbox *inbox = find_inbox(module, event->session);
	bool unsure = inbox && inbox->state != INBOX_LIVE;
	for (size_t i = 0; inbox && i < inbox->sent.count && !unsure; i++) {
		unsure = entry_at(&inbox->sent, i)->row != 0;
	}
	if (unsure) {
		stk_sessions(module, stk_session_bare(event->session), push_again, module);
	}
	return STK_PASS;
}

static int on_sent(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	struct inbox *inbox = find_inbox(module, event->session);
	if (inbox && inbox->awaited && event->mark >= inbox->awaited) {
		inbox->awaited = 0;
		advance(module, event->session, inbox);
	}
	return STK_PASS;
}

static int on_delivered(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	struct inbox *inbox = find_inbox(module, event->session);
	size_t count = 0;
	while (inbox && count < inbox->sent.count && inbox->marks <= event->mark) {
		uint64_t row = entry_at(&inbox->sent, count++)->row;
		inbox->marks++;
		if (row) {
			confirm_add(module, row);
		}
	}
	if (count) {
		drop(&inbox->sent, count);
		confirm_flush(module, false);
	}
	return STK_PASS;
}

static int hold(struct stk_session *session, struct inbox *inbox, struct stk_stanza *message, uint64_t row)
{
	size_t bytes = row ? 0 : archive_weight(message);
	struct entry entry = { .row = row, .stanza = row ? NULL : message };
	bool fits = inbox->held.count < HELD_MAX && (row || inbox->held_stanzas < HELD_STANZAS) &&
		    inbox->held_bytes + bytes <= HELD_BYTES;
	if (!fits || !push(&inbox->held, entry)) {
		stk_stanza_unref(message);
		stk_session_end(session, 102, "too much waits behind what waited for you: the client does not read");
		return -ENOTCONN;
	}
	if (row) {
		stk_stanza_unref(message); /* it is read again in its turn */
	} else {
		inbox->held_stanzas++;
		inbox->held_bytes += bytes;
	}
	return 0;
}

int inbox_deliver(struct stk_module *module, struct stk_session *session, struct stk_stanza *message, uint64_t row)
{
	struct inbox *inbox = row ? get_inbox(module, session) : find_inbox(module, session);
	if (!inbox) {
		return stk_send_to(session, message); /* untold, a stored one is pushed again */
	}
	if (inbox->state != INBOX_LIVE) {
		return hold(session, inbox, message, row);
	}
	if (is_on_its_way(inbox, row)) {
		stk_stanza_unref(message);
		return 0;
	}
	int64_t rc = send_followed(session, inbox, message, row, false);
	return rc < 0 ? (int)rc : 0;
}

int inbox_init(struct stk_module *module)
{
	struct state *state = stk_data(module);
	state->slot = stk_session_slot(module, destroy);
	int rc = state->slot < 0 ? state->slot : stk_on(module, STK_SESSION_ELIGIBLE, 0, on_eligible, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_CLOSED, 0, on_closed, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SENT, 0, on_sent, NULL);
	return rc < 0 ? rc : stk_on(module, STK_DELIVERED, 0, on_delivered, NULL);
}
