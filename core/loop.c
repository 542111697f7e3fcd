/* SPDX-License-Identifier: MIT */
/* The I/O loops: threads, tables of connections, commands from the router and events to it, and how much of both may be
 * under way. What happens on one connection is in conn.c, listeners are in listen.c. */

#include "core/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <startalkd/module.h>

#include "core/conn.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/wheel.h"
#include "proto/frame.h"

#define SAMPLE_EVERY 0.25 /* seconds between looks at what peers have acknowledged */
#define END_POLL     0.02 /* seconds between looks whether ending connections have ended */
#define SLOW_POLL    0.02 /* seconds between looks whether connections that were too fast may go on */
#define BATCH        32   /* mails that are collected before they are handed over */
#define UNDER_WAY_MAX (16 * 1024 * 1024) /* weight of the events from one loop that the router has not dealt with */
#define BACKLOG_MAX  8192 /* commands that a loop may be behind before all of them read less */
#define EVENT_WEIGHT 256  /* of an event beside its stanza */
#define CACHE_LINE   64

/* A handle is generation (31 bits; the highest bit stays free, see transport.h), loop (8), slot (24). */
#define GENERATIONS 0x7fffffffu
#define SLOT_BITS 24
#define SLOTS_MAX (1u << SLOT_BITS)

/* Mail to a loop beside commands. */
enum { MAIL_ADOPT = 100, MAIL_CONFIGURE, MAIL_STOP };

struct adoption {
	struct mail mail;
	int fd;
	struct event *opened;
};

/* It lies on the stack of who waits for TAKEN. */
struct configuration {
	struct mail mail;
	const struct settings_limits *limits;
	struct tls_credentials *credentials;
	sem_t *taken;
};

struct slot {
	struct conn *conn;   /* NULL: free */
	uint32_t generation; /* of the connection that is or was last here */
	uint32_t next_free;
};

/* All loops; the first is the router's. Fixed while there is more than one thread, but for the count. */
struct loop_set {
	struct mailbox *events;
	struct listener *listeners;
	bool full_told;
	const char *refused; /* why new connections are refused; NULL: they are not */
	unsigned count;
	struct loop *loops[1 + LOOP_THREADS_MAX];
	alignas(CACHE_LINE) atomic_size_t connections;
};

struct loop {
	struct loop_set *set;
	unsigned index; /* in the set */
	struct ev_loop *ev;
	pthread_t thread;
	bool threaded; /* it has a thread, which is to be joined */

	/* The router thread's. */
	alignas(CACHE_LINE) struct mail_batch outbox;
	uint64_t sent; /* mails put into the inbox so far */
	uint64_t dealt; /* weight of the events dealt with; told in settled */
	struct mail stop;
	void (*batch_fn)(void *arg);
	void *batch_arg;

	/* Written by one, read by the other. */
	alignas(CACHE_LINE) struct mailbox inbox;
	alignas(CACHE_LINE) _Atomic uint64_t settled; /* the router: weight of the events up to which the loop may go on */
	atomic_bool lags;                             /* the router waits for the loop to have done its commands */
	alignas(CACHE_LINE) _Atomic uint64_t done;    /* the loop: mails dealt with */
	atomic_bool stalls;                           /* the loop waits for settled to grow */
	atomic_size_t load;                           /* connections that it has or is about to have */

	/* The loop's own. */
	alignas(CACHE_LINE) struct mail_batch events;
	bool posted;
	uint64_t emitted;
	struct settings_limits limits;
	struct tls_credentials *credentials;
	struct slot *slots; /* the first is never used: handle 0 is none */
	uint32_t slot_count, first_free;
	struct link *dirty, *sampled, *stalled, *slow, *ending;
	struct wheel wheel;
	struct ev_timer sample, slow_timer, turn, poll_end;
	struct ev_prepare prepare; /* of a loop with a thread */
	struct conn_scratch scratch;
};

/* ---- what connections need ---- */

struct ev_loop *loop_ev(struct loop *loop)
{
	return loop->ev;
}

const struct settings_limits *loop_limits(const struct loop *loop)
{
	return &loop->limits;
}

struct conn_scratch *loop_scratch(struct loop *loop)
{
	return &loop->scratch;
}

struct tls_credentials *loop_credentials(struct loop *loop)
{
	return loop->credentials;
}

struct listener **loop_listeners(struct loop *loop)
{
	return &loop->set->listeners;
}

void loop_mark_dirty(struct loop *loop, struct conn *conn)
{
	if (!link_is_in(&conn->dirty)) {
		link_push(&loop->dirty, &conn->dirty);
	}
}

/* ---- time ---- */

uint32_t loop_turn(const struct loop *loop)
{
	return loop->wheel.now;
}

void loop_wait_turn(struct loop *loop, struct conn *conn, uint32_t turn)
{
	wheel_add(&loop->wheel, &conn->timed, turn);
}

static void on_turn(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)events;
	struct loop *loop = timer->data;
	wheel_turn(&loop->wheel);
	for (struct link *link; (link = wheel_take(&loop->wheel));) {
		conn_turn(LINK_OWNER(link, struct conn, timed));
	}
}

/* A turn lasts as long as idle-timeout makes it; it is not turned without need. */
static void set_turns(struct loop *loop)
{
	bool need = loop->limits.idle_timeout > 0 && atomic_load_explicit(&loop->load, memory_order_relaxed);
	double every = loop->limits.idle_timeout / CONN_IDLE_TURNS;
	if (!need) {
		ev_timer_stop(loop->ev, &loop->turn);
	} else if (!ev_is_active(&loop->turn) || loop->turn.repeat < every || loop->turn.repeat > every) {
		loop->turn.repeat = every;
		ev_timer_again(loop->ev, &loop->turn);
	}
}

void loop_sample(struct loop *loop, struct conn *conn)
{
	if (link_is_in(&conn->sampled)) {
		return;
	}
	if (!loop->sampled) {
		ev_timer_again(loop->ev, &loop->sample);
	}
	link_push(&loop->sampled, &conn->sampled);
}

static void on_sample(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)events;
	struct loop *loop = timer->data;
	struct link *link = loop->sampled;
	while (link) {
		struct link *next = link->next;
		conn_sample(LINK_OWNER(link, struct conn, sampled));
		link = next;
	}
	if (!loop->sampled) {
		ev_timer_stop(ev, timer);
	}
}

void loop_slow(struct loop *loop, struct conn *conn)
{
	link_remove(&conn->stalled);
	if (!loop->slow) {
		ev_timer_again(loop->ev, &loop->slow_timer);
	}
	link_push(&loop->slow, &conn->stalled);
}

static void on_slow(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)events;
	struct loop *loop = timer->data;
	struct link *waiting = loop->slow;
	loop->slow = NULL;
	if (waiting) {
		waiting->at = &waiting;
	}
	while (waiting) {
		struct conn *conn = LINK_OWNER(waiting, struct conn, stalled);
		link_remove(&conn->stalled);
		conn_unslow(conn);
	}
	if (!loop->slow) {
		ev_timer_stop(ev, timer);
	}
}

void loop_wait_end(struct loop *loop, struct conn *conn)
{
	if (!loop->ending) {
		ev_timer_again(loop->ev, &loop->poll_end);
	}
	link_remove(&conn->timed);
	link_push(&loop->ending, &conn->timed);
}

static void on_poll_end(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)events;
	struct loop *loop = timer->data;
	struct link *link = loop->ending;
	while (link) {
		struct link *next = link->next;
		conn_poll_end(LINK_OWNER(link, struct conn, timed));
		link = next;
	}
	if (!loop->ending) {
		ev_timer_stop(ev, timer);
	}
}

/* ---- events ---- */

static void post_events(struct loop *loop)
{
	loop->posted |= loop->events.newest != NULL;
	mailbox_put_batch(loop->set->events, &loop->events);
}

void loop_emit(struct loop *loop, struct event *event)
{
	event->loop = loop;
	event->weight = EVENT_WEIGHT + (event->stanza ? arena_used(stanza_arena(event->stanza)) : 0);
	loop->emitted += event->weight;
	mail_batch_add(&loop->events, &event->mail);
	if (loop->events.count >= BATCH) {
		post_events(loop);
	}
}

void event_free(struct event *event)
{
	if (event->loop) {
		event->loop->dealt += event->weight;
	}
	if (event->stanza) {
		stk_stanza_unref(event->stanza); /* the event lies in it */
	} else {
		free(event);
	}
}

void loop_on_batch(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	loop->batch_fn = fn;
	loop->batch_arg = arg;
}

void loop_hand_on(struct loop *loop)
{
	if (loop->posted && loop->batch_fn) {
		loop->posted = false;
		loop->batch_fn(loop->batch_arg);
	}
}

uint64_t loop_emitted(const struct loop *loop)
{
	return loop->emitted;
}

bool loop_is_settled(const struct loop *loop, uint64_t emitted)
{
	return atomic_load(&loop->settled) >= emitted;
}

bool loop_is_full(const struct loop *loop)
{
	return loop->emitted - atomic_load_explicit(&loop->settled, memory_order_relaxed) > UNDER_WAY_MAX;
}

void loop_stall(struct loop *loop, struct conn *conn)
{
	if (!link_is_in(&conn->stalled)) {
		link_push(&loop->stalled, &conn->stalled);
	}
}

/* First the router is told that it is waited for, then there is a look at how far it is, so that no step is missed. */
static void go_on(struct loop *loop)
{
	if (!loop->stalled) {
		return;
	}
	atomic_store(&loop->stalls, true);
	struct link *waiting = loop->stalled;
	loop->stalled = NULL;
	waiting->at = &waiting;
	while (waiting) {
		struct conn *conn = LINK_OWNER(waiting, struct conn, stalled);
		link_remove(&conn->stalled);
		if (loop_is_settled(loop, conn->emitted)) {
			conn_unstall(conn);
		} else {
			loop_stall(loop, conn);
		}
	}
	if (!loop->stalled) {
		atomic_store(&loop->stalls, false);
	}
}

/* ---- the table ---- */

static int grow_slots(struct loop *loop)
{
	uint32_t count = loop->slot_count ? loop->slot_count * 2 : 64;
	struct slot *slots = count <= SLOTS_MAX ? realloc(loop->slots, count * sizeof(*slots)) : NULL;
	if (!slots) {
		return -ENOMEM;
	}
	loop->slots = slots;
	for (uint32_t i = count; i-- > loop->slot_count;) {
		slots[i] = (struct slot){ .next_free = loop->first_free };
		loop->first_free = i ? i : loop->first_free;
	}
	loop->slot_count = count;
	return 0;
}

static uint32_t slot_of(uint64_t id)
{
	return (uint32_t)id & (SLOTS_MAX - 1);
}

static struct conn *find(struct loop *loop, uint64_t id)
{
	uint32_t i = slot_of(id);
	bool live = i < loop->slot_count && loop->slots[i].conn && loop->slots[i].generation == (uint32_t)(id >> 32);
	return live ? loop->slots[i].conn : NULL;
}

/* Who has the connection ID; for handles that no loop gave out the first. */
static struct loop *owner_of(const struct loop *loop, uint64_t id)
{
	unsigned index = (unsigned)((uint32_t)id >> SLOT_BITS);
	return loop->set->loops[index < loop->set->count ? index : 0];
}

/* A handle for a new connection, or CONN_NONE: out of memory. */
static uint64_t take_slot(struct loop *loop)
{
	if (!loop->first_free && grow_slots(loop) < 0) {
		return CONN_NONE;
	}
	uint32_t i = loop->first_free;
	return (uint64_t)((loop->slots[i].generation + 1) & GENERATIONS) << 32 | loop->index << SLOT_BITS | i;
}

/* One connection less. The router's thread may wait for the last one to go. */
static void discount(struct loop *loop)
{
	atomic_fetch_sub(&loop->load, 1);
	if (atomic_fetch_sub(&loop->set->connections, 1) == 1) {
		mailbox_wake(loop->set->events);
	}
}

void loop_remove(struct loop *loop, struct conn *conn)
{
	uint32_t i = slot_of(conn->id);
	link_remove(&conn->dirty);
	link_remove(&conn->sampled);
	link_remove(&conn->stalled);
	link_remove(&conn->timed);
	loop->slots[i].conn = NULL;
	loop->slots[i].next_free = loop->first_free;
	loop->first_free = i;
	conn_free(conn);
	discount(loop);
	set_turns(loop);
}

/* ---- new connections ---- */

static void adopt(struct loop *loop, int fd, struct event *opened)
{
	uint64_t id = take_slot(loop);
	struct conn *conn = NULL;
	if (id == CONN_NONE) {
		close(fd);
	} else {
		conn = conn_new(loop, id, fd, opened->tls);
	}
	if (!conn) {
		log_write(LOG_WARNING, "listen: out of memory for a connection");
		free(opened);
		discount(loop);
		return;
	}
	struct slot *slot = &loop->slots[slot_of(id)];
	loop->first_free = slot->next_free;
	slot->generation = (uint32_t)(id >> 32);
	slot->conn = conn;
	opened->mail.kind = EVENT_OPENED;
	opened->conn = id;
	loop_emit(loop, opened);
	set_turns(loop);
}

/* The one with the fewest connections. The router's has none while there is another: the router is what all wait for. */
static struct loop *choose(const struct loop_set *set)
{
	struct loop *best = set->loops[0];
	size_t least = SIZE_MAX;
	for (unsigned i = set->count - 1; i > 0; i--) {
		size_t load = atomic_load_explicit(&set->loops[i]->load, memory_order_relaxed);
		if (load < least) {
			least = load;
			best = set->loops[i];
		}
	}
	return best;
}

void loop_accepted(struct loop *loop, int fd, struct event *opened)
{
	struct loop_set *set = loop->set;
	size_t open = atomic_load(&set->connections);
	if (open >= (size_t)loop->limits.max_connections) {
		if (!set->full_told) {
			log_write(LOG_WARNING, "listen: max-connections (%zu) is reached: new connections are refused", open);
		}
		set->full_told = true;
		conn_refuse(fd, opened->tls, "too many connections");
		free(opened);
		return;
	}
	set->full_told = false;
	if (set->refused) {
		conn_refuse(fd, opened->tls, set->refused);
		free(opened);
		return;
	}
	struct loop *taker = choose(set);
	struct adoption *adoption = taker == loop ? NULL : malloc(sizeof(*adoption));
	if (taker != loop && !adoption) {
		log_write(LOG_WARNING, "listen: out of memory for a connection");
		close(fd);
		free(opened);
		return;
	}
	atomic_fetch_add(&set->connections, 1);
	atomic_fetch_add(&taker->load, 1);
	if (taker == loop) {
		adopt(loop, fd, opened);
		return;
	}
	*adoption = (struct adoption){ .mail.kind = MAIL_ADOPT, .fd = fd, .opened = opened };
	mail_batch_add(&taker->outbox, &adoption->mail);
}

/* ---- commands: the router's side ---- */

/* Most commands are of one size. */
static struct command *new_command(enum command_kind kind, uint64_t conn, struct stk_stanza *stanza, size_t extra)
{
	_Static_assert(sizeof(struct command) <= POOL_SMALL_SIZE, "a command fits into a piece of the pool");
	bool pooled = sizeof(struct command) + extra <= POOL_SMALL_SIZE;
	struct command *command = pooled ? pool_take(POOL_SMALL) : malloc(sizeof(*command) + extra);
	if (!command) {
		stk_stanza_unref(stanza);
		return NULL;
	}
	*command = (struct command){ .mail.kind = (int)kind, .pooled = pooled, .conn = conn, .stanza = stanza };
	return command;
}

static void free_command(struct command *command)
{
	stk_stanza_unref(command->stanza);
	if (command->pooled) {
		pool_give(POOL_SMALL, command);
	} else {
		free(command);
	}
}

static void hand_over(struct loop *loop)
{
	loop->sent += loop->outbox.count;
	mailbox_put_batch(&loop->inbox, &loop->outbox);
}

static void put_command(struct loop *loop, struct command *command)
{
	struct loop *owner = owner_of(loop, command->conn);
	mail_batch_add(&owner->outbox, &command->mail);
	if (owner->outbox.count >= BATCH && owner != loop) {
		hand_over(owner);
	}
}

int loop_send_tracked(struct loop *loop, uint64_t conn, struct stk_stanza *stanza, uint64_t mark, bool tell_sent)
{
	struct command *command = new_command(COMMAND_SEND, conn, stanza, 0);
	if (!command) {
		return -ENOMEM;
	}
	command->mark = mark;
	command->tell_sent = tell_sent;
	put_command(loop, command);
	return 0;
}

int loop_command(struct loop *loop, enum command_kind kind, uint64_t conn, struct stk_stanza *stanza, const char *self)
{
	size_t size = self ? strlen(self) + 1 : 0;
	struct command *command = new_command(kind, conn, stanza, size);
	if (!command) {
		return -ENOMEM;
	}
	if (self) {
		memcpy(command->self, self, size);
	}
	put_command(loop, command);
	return 0;
}

/* As in go_on(): first the loop is told that it is waited for, then there is a look. */
static bool is_behind(struct loop *loop)
{
	if (!loop->threaded || loop->sent - atomic_load_explicit(&loop->done, memory_order_relaxed) <= BACKLOG_MAX) {
		return false;
	}
	atomic_store(&loop->lags, true);
	return loop->sent - atomic_load(&loop->done) > BACKLOG_MAX;
}

/* What was dealt with counts for the loops only while none of them is far behind with what came of it: so input waits for output. */
void loop_deliver(struct loop *loop)
{
	const struct loop_set *set = loop->set;
	bool behind = false;
	for (unsigned i = 0; i < set->count; i++) {
		hand_over(set->loops[i]);
		behind |= is_behind(set->loops[i]);
	}
	for (unsigned i = 0; i < set->count && !behind; i++) {
		struct loop *each = set->loops[i];
		if (atomic_load_explicit(&each->settled, memory_order_relaxed) == each->dealt) {
			continue;
		}
		atomic_store(&each->settled, each->dealt);
		if (atomic_load(&each->stalls)) {
			mailbox_wake(&each->inbox);
		}
	}
}

static void configure(struct loop *loop, const struct settings_limits *limits, struct tls_credentials *credentials)
{
	loop->limits = *limits;
	tls_credentials_unref(loop->credentials);
	loop->credentials = tls_credentials_ref(credentials);
	set_turns(loop);
}

/* It waits until all loops have taken it, which is when each has come to the end of its round: who is told that a reload is done may
 * count on it. */
void loop_configure(struct loop *loop, const struct settings_limits *limits, struct tls_credentials *credentials)
{
	const struct loop_set *set = loop->set;
	sem_t taken;
	struct configuration configurations[1 + LOOP_THREADS_MAX];
	sem_init(&taken, 0, 0);
	configure(loop, limits, credentials);
	for (unsigned i = 1; i < set->count; i++) {
		struct configuration *each = &configurations[i];
		*each = (struct configuration){ .mail.kind = MAIL_CONFIGURE, .limits = limits, .credentials = credentials };
		each->taken = &taken;
		mail_batch_add(&set->loops[i]->outbox, &each->mail);
		hand_over(set->loops[i]);
	}
	for (unsigned i = 1; i < set->count; i++) {
		while (sem_wait(&taken) < 0) {
		}
	}
	sem_destroy(&taken);
}

/* ---- commands: the loop's side ---- */

static void take_configuration(struct loop *loop, const struct configuration *configuration)
{
	configure(loop, configuration->limits, configuration->credentials);
	sem_post(configuration->taken);
}

static void run_command(struct loop *loop, struct command *command)
{
	struct conn *conn = find(loop, command->conn);
	if (conn) {
		conn_command(conn, command);
	}
	free_command(command);
}

static void run_mail(struct loop *loop, struct mail *mail)
{
	struct adoption *adoption;
	switch (mail->kind) {
	case MAIL_ADOPT:
		adoption = (struct adoption *)mail;
		adopt(loop, adoption->fd, adoption->opened);
		free(adoption);
		break;
	case MAIL_CONFIGURE: take_configuration(loop, (struct configuration *)mail); break;
	case MAIL_STOP:
		ev_break(loop->ev, EVBREAK_ALL);
		break;
	default: run_command(loop, (struct command *)mail); break;
	}
}

bool loop_work(struct loop *loop)
{
	struct mail *mail = mailbox_take(&loop->inbox);
	if (!mail) {
		return false;
	}
	uint64_t done = atomic_load_explicit(&loop->done, memory_order_relaxed);
	loop->scratch.now_ms = stk_now_ms();
	loop->scratch.encoded = NULL;
	while (mail) {
		struct mail *next = mail->next;
		run_mail(loop, mail);
		mail = next;
		done++;
	}
	atomic_store(&loop->done, done);
	if (atomic_exchange(&loop->lags, false)) {
		mailbox_wake(loop->set->events);
	}
	return true;
}

static void flush(struct loop *loop)
{
	while (loop->dirty) {
		struct link *link = loop->dirty;
		link_remove(link);
		conn_flush(LINK_OWNER(link, struct conn, dirty));
	}
}

bool loop_run(struct loop *loop)
{
	bool any = loop_work(loop);
	go_on(loop);
	flush(loop);
	post_events(loop);
	any |= loop->posted;
	loop->posted = false;
	return any;
}

/* ---- threads ---- */

/* Nothing is told of it, nobody would listen. */
static void close_connections(struct loop *loop)
{
	for (uint32_t i = 1; i < loop->slot_count; i++) {
		if (loop->slots[i].conn) {
			loop_remove(loop, loop->slots[i].conn);
		}
	}
}

static void on_prepare(struct ev_loop *ev, struct ev_prepare *prepare, int events)
{
	(void)ev;
	(void)events;
	loop_run(prepare->data);
}

static void *run_thread(void *arg)
{
	struct loop *loop = arg;
	char name[16];
	snprintf(name, sizeof(name), "io-%u", loop->index);
	pthread_setname_np(pthread_self(), name);
	pool_thread_init();
	ev_run(loop->ev, 0);
	close_connections(loop);
	frame_thread_fini();
	pool_thread_fini();
	return NULL;
}

static struct loop *new_loop(struct loop_set *set, struct ev_loop *ev, const struct settings_limits *limits,
                             struct tls_credentials *credentials)
{
	struct loop *loop = aligned_alloc(CACHE_LINE, sizeof(*loop));
	if (!loop) {
		return NULL;
	}
	memset(loop, 0, sizeof(*loop));
	loop->set = set;
	loop->index = set->count;
	loop->ev = ev;
	loop->limits = *limits;
	loop->scratch.raw = malloc(CONN_RAW_SIZE);
	loop->scratch.plain = malloc(CONN_PLAIN_SIZE);
	if (!loop->scratch.raw || !loop->scratch.plain || grow_slots(loop) < 0) {
		free(loop->scratch.raw);
		free(loop->scratch.plain);
		free(loop);
		return NULL;
	}
	loop->credentials = tls_credentials_ref(credentials);
	ev_timer_init(&loop->sample, on_sample, SAMPLE_EVERY, SAMPLE_EVERY);
	ev_timer_init(&loop->slow_timer, on_slow, SLOW_POLL, SLOW_POLL);
	ev_timer_init(&loop->turn, on_turn, 0, 0);
	ev_timer_init(&loop->poll_end, on_poll_end, END_POLL, END_POLL);
	loop->sample.data = loop->slow_timer.data = loop->turn.data = loop->poll_end.data = loop;
	mailbox_init(&loop->inbox, ev);
	set->loops[set->count++] = loop;
	return loop;
}

struct loop *loop_new(struct ev_loop *ev, struct mailbox *events, const struct settings_limits *limits,
                      struct tls_credentials *credentials)
{
	struct loop_set *set = aligned_alloc(CACHE_LINE, sizeof(*set));
	if (!set) {
		return NULL;
	}
	memset(set, 0, sizeof(*set));
	set->events = events;
	struct loop *loop = new_loop(set, ev, limits, credentials);
	if (!loop) {
		free(set);
	}
	return loop;
}

static int start_one(const struct loop *first)
{
	struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO);
	struct loop *loop = ev ? new_loop(first->set, ev, &first->limits, first->credentials) : NULL;
	if (!loop) {
		if (ev) {
			ev_loop_destroy(ev);
		}
		return -ENOMEM;
	}
	ev_prepare_init(&loop->prepare, on_prepare);
	loop->prepare.data = loop;
	ev_prepare_start(ev, &loop->prepare);
	int rc = pthread_create(&loop->thread, NULL, run_thread, loop);
	loop->threaded = rc == 0;
	if (loop->threaded) {
		mailbox_give(&loop->inbox, loop->thread);
	}
	return -rc;
}

int loop_start(struct loop *loop, unsigned threads)
{
	assert(threads <= LOOP_THREADS_MAX);
	/* Signals are for the router thread. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = 0;
	for (unsigned i = 0; i < threads && rc == 0; i++) {
		rc = start_one(loop);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

/* ---- the end ---- */

static void drop_mail(struct loop *loop, struct mail *mail)
{
	struct adoption *adoption;
	switch (mail->kind) {
	case MAIL_ADOPT:
		adoption = (struct adoption *)mail;
		close(adoption->fd);
		free(adoption->opened);
		free(adoption);
		discount(loop);
		break;
	case MAIL_STOP: break;
	default: free_command((struct command *)mail); break;
	}
}

static void drop_mails(struct loop *loop)
{
	hand_over(loop);
	struct mail *mail = mailbox_take(&loop->inbox);
	while (mail) {
		struct mail *next = mail->next;
		drop_mail(loop, mail);
		mail = next;
	}
}

void loop_stop(struct loop *loop)
{
	const struct loop_set *set = loop->set;
	for (unsigned i = 0; i < set->count; i++) {
		struct loop *each = set->loops[i];
		if (each->threaded) {
			each->stop.kind = MAIL_STOP;
			mail_batch_add(&each->outbox, &each->stop);
		}
		hand_over(each);
	}
	for (unsigned i = 0; i < set->count; i++) {
		struct loop *each = set->loops[i];
		if (each->threaded) {
			pthread_join(each->thread, NULL);
			each->threaded = false;
			mailbox_give(&each->inbox, pthread_self());
		}
		close_connections(each);
		post_events(each);
	}
}

static void free_loop(struct loop *loop)
{
	drop_mails(loop);
	ev_timer_stop(loop->ev, &loop->sample);
	ev_timer_stop(loop->ev, &loop->slow_timer);
	ev_timer_stop(loop->ev, &loop->turn);
	ev_timer_stop(loop->ev, &loop->poll_end);
	mailbox_fini(&loop->inbox);
	if (loop->index) {
		ev_prepare_stop(loop->ev, &loop->prepare);
		ev_loop_destroy(loop->ev);
	}
	tls_credentials_unref(loop->credentials);
	buf_fini(&loop->scratch.frame);
	free(loop->scratch.raw);
	free(loop->scratch.plain);
	free(loop->slots);
	free(loop);
}

void loop_free(struct loop **loop_ptr)
{
	struct loop *loop = *loop_ptr;
	if (!loop) {
		return;
	}
	*loop_ptr = NULL;
	struct loop_set *set = loop->set;
	(void)loop_stop_listening(loop, NULL, 0);
	loop_stop(loop);
	for (unsigned i = 0; i < set->count; i++) {
		free_loop(set->loops[i]);
	}
	free(set);
}

void loop_refuse_all(struct loop *loop, const char *why)
{
	loop->set->refused = why;
}

size_t loop_connections(const struct loop *loop)
{
	return atomic_load(&loop->set->connections);
}
