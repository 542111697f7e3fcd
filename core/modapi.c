/* SPDX-License-Identifier: MIT */
/* The calls that modules make, but for those that belong to stanzas, sessions, SASL and pending answers, which stand with
 * their subject. Owns registration, timers and posts. */

#include "core/modapi.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "core/server.h"

/* ---- claims ---- */

int stk_handle(struct stk_module *module, const struct stk_match *match, stk_stanza_fn *fn, void *arg)
{
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	char domain[STK_JID_MAX + 1] = "";
	bool has_domain = match->size >= offsetof(struct stk_match, domain) + sizeof(match->domain);
	const char *wanted = has_domain ? match->domain : NULL;
	if (match->size < offsetof(struct stk_match, domain) || match->element < STK_IQ || match->element > STK_PRESENCE || !fn ||
	    (wanted && stk_jid_fold(wanted, domain, sizeof(domain)) < 0)) {
		return -EINVAL;
	}
	struct handler *handler = calloc(1, sizeof(*handler));
	if (!handler) {
		return -ENOMEM;
	}
	*handler = (struct handler){ .module = module, .element = match->element, .fn = fn, .arg = arg };
	handler->type = match->type ? strdup(match->type) : NULL;
	handler->xmlns = match->xmlns ? strdup(match->xmlns) : NULL;
	handler->domain = wanted ? strdup(domain) : NULL;
	struct handler **last = &module->handlers;
	while (*last) {
		last = &(*last)->next;
	}
	*last = handler;
	bool whole = !match->type == !handler->type && !match->xmlns == !handler->xmlns && !wanted == !handler->domain;
	return whole ? 0 : -ENOMEM;
}

int stk_domain(struct stk_module *module, const char *domain)
{
	struct module_registry *registry = &module->server->modules;
	char folded[STK_JID_MAX + 1];
	struct stk_jid parts;
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	if (!domain || stk_jid_parse(&parts, domain) < 0 || parts.node_len || parts.resource_len ||
	    stk_jid_fold(domain, folded, sizeof(folded)) < 0) {
		return -EINVAL;
	}
	bool own = settings_find_domain(module->server->settings, folded) != NULL;
	const struct served *other = registry->domains;
	while (other && (!module_counts(other->module) || strcmp(other->name, folded) != 0)) {
		other = other->next;
	}
	if (own || other) {
		log_write(LOG_ERR, "module: %s: domain %s is served by %s%s already", module->name, folded, own ? "the server" : "module ",
		          own ? "" : other->module->name);
		return -EEXIST;
	}
	size_t size = strlen(folded) + 1;
	struct served *served = malloc(sizeof(*served) + size);
	if (!served) {
		return -ENOMEM;
	}
	served->next = registry->domains;
	served->module = module;
	memcpy(served->name, folded, size);
	registry->domains = served;
	return 0;
}

int stk_on(struct stk_module *module, enum stk_hook kind, int priority, stk_hook_fn *fn, void *arg)
{
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	if (kind < 0 || kind >= STK_HOOKS || !fn) {
		return -EINVAL;
	}
	struct hook *hook = calloc(1, sizeof(*hook));
	if (!hook) {
		return -ENOMEM;
	}
	struct hook **at = &module->server->modules.hooks[kind];
	while (*at && (*at)->priority >= priority) {
		at = &(*at)->next;
	}
	*hook = (struct hook){ .next = *at, .module = module, .priority = priority, .fn = fn, .arg = arg };
	*at = hook;
	return 0;
}

int stk_mech(struct stk_module *module, const struct stk_mech *wanted)
{
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	if (wanted->size < sizeof(*wanted) || !wanted->name || !wanted->step) {
		return -EINVAL;
	}
	struct mech **last = &module->server->modules.mechs;
	for (; *last; last = &(*last)->next) {
		if (strcmp((*last)->name, wanted->name) == 0 && module_counts((*last)->module)) {
			log_write(LOG_ERR, "module: %s: SASL mechanism %s belongs to module %s already; disable one of them", module->name,
			          wanted->name, (*last)->module->name);
			return -EEXIST;
		}
	}
	struct mech *mech = calloc(1, sizeof(*mech));
	char *name = strdup(wanted->name);
	if (!mech || !name) {
		free(mech);
		free(name);
		return -ENOMEM;
	}
	*mech = (struct mech){ .module = module, .mech = *wanted, .name = name };
	*last = mech;
	return 0;
}

int stk_session_slot(struct stk_module *module, void (*destroy)(void *))
{
	struct module_registry *registry = &module->server->modules;
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	int i = 0;
	while (i < registry->slot_count && registry->slots[i].module) {
		i++;
	}
	if (i == SESSION_SLOTS_MAX) {
		return -ENOSPC;
	}
	registry->slots[i].module = module;
	registry->slots[i].destroy = destroy;
	registry->slot_count += i == registry->slot_count;
	return i;
}

/* ---- sessions ---- */

int stk_sessions(struct stk_module *module, const char *jid, stk_session_fn *each, void *arg)
{
	struct server *server = module->server;
	struct stk_jid parts;
	int count = 0;
	if (!jid) {
		struct stk_session *session, *next;
		HASH_ITER (hh, server->sessions.by_id, session, next) {
			if (session->state == SESSION_BOUND) {
				count++;
				if (!each(session, arg)) {
					break;
				}
			}
		}
		return count;
	}
	struct folded folded;
	if (stk_jid_parse(&parts, jid) < 0) {
		return -EINVAL;
	}
	struct stk_session *session = NULL;
	if (parts.resource_len) {
		session = session_by_jid(server, jid);
	} else if (jid_fold_bare(jid, &parts, &folded) == 0) {
		session = session_of_folded(server, &folded);
	}
	while (session) {
		struct stk_session *next = parts.resource_len ? NULL : session->user_next;
		count++;
		if (!each(session, arg)) {
			break;
		}
		session = next;
	}
	return count;
}

struct stk_session *stk_session_find(struct stk_module *module, uint64_t id)
{
	struct stk_session *session = session_by_id(module->server, id);
	return session && session->state == SESSION_BOUND ? session : NULL;
}

/* ---- timers ---- */

static void free_timer(struct stk_timer *timer)
{
	ev_timer_stop(timer->module->server->ev, &timer->ev);
	*timer->at = timer->next;
	if (timer->next) {
		timer->next->at = timer->at;
	}
	free(timer);
}

/* The callback may stop its own timer, and does not see it again when it runs once only. */
static void on_timer(struct ev_loop *ev, struct ev_timer *watcher, int events)
{
	(void)ev;
	(void)events;
	struct stk_timer *timer = watcher->data;
	struct stk_module *module = timer->module;
	double entered = module_enter(module, "timer");
	timer->fn(module, timer->arg);
	module_leave(module, "timer", entered);
}

struct stk_timer *stk_timer(struct stk_module *module, double after, double every, stk_timer_fn *fn, void *arg)
{
	struct stk_timer *timer = module->state == MODULE_CLOSING ? NULL : calloc(1, sizeof(*timer));
	if (!timer) {
		return NULL;
	}
	*timer = (struct stk_timer){ .next = module->timers, .at = &module->timers, .module = module, .fn = fn, .arg = arg };
	if (module->timers) {
		module->timers->at = &timer->next;
	}
	module->timers = timer;
	ev_timer_init(&timer->ev, on_timer, after, every);
	timer->ev.data = timer;
	ev_timer_start(module->server->ev, &timer->ev);
	return timer;
}

void stk_timer_stop(struct stk_timer **timer)
{
	if (timer && *timer) {
		free_timer(*timer);
		*timer = NULL;
	}
}

/* They stay until the module has been unloaded: it may still stop them itself. */
void modapi_stop_timers(struct stk_module *module)
{
	for (struct stk_timer *timer = module->timers; timer; timer = timer->next) {
		ev_timer_stop(module->server->ev, &timer->ev);
	}
}

void modapi_free_timers(struct stk_module *module)
{
	while (module->timers) {
		free_timer(module->timers);
	}
}

/* ---- descriptors ---- */

static void on_watch(struct ev_loop *ev, struct ev_io *watcher, int events)
{
	(void)ev;
	struct stk_watch *watch = watcher->data;
	struct stk_module *module = watch->module;
	double entered = module_enter(module, "watch");
	watch->fn(module, watcher->fd, (events & EV_READ ? STK_READ : 0) | (events & EV_WRITE ? STK_WRITE : 0), watch->arg);
	module_leave(module, "watch", entered);
}

void stk_watch_set(struct stk_watch *watch, unsigned events)
{
	struct ev_loop *ev = watch->module->server->ev;
	int wanted = (events & STK_READ ? EV_READ : 0) | (events & STK_WRITE ? EV_WRITE : 0);
	ev_io_stop(ev, &watch->ev);
	if (wanted && watch->module->state != MODULE_CLOSING) {
		ev_io_set(&watch->ev, watch->ev.fd, wanted);
		ev_io_start(ev, &watch->ev);
	}
}

int stk_watch(struct stk_module *module, int fd, unsigned events, stk_io_fn *fn, void *arg, struct stk_watch **out)
{
	if (fd < 0 || !fn || module->state == MODULE_CLOSING) {
		return fd < 0 || !fn ? -EINVAL : -ECANCELED;
	}
	struct stk_watch *watch = calloc(1, sizeof(*watch));
	if (!watch) {
		return -ENOMEM;
	}
	*watch = (struct stk_watch){ .next = module->watches, .at = &module->watches, .module = module, .fn = fn, .arg = arg };
	if (module->watches) {
		module->watches->at = &watch->next;
	}
	module->watches = watch;
	ev_io_init(&watch->ev, on_watch, fd, 0);
	watch->ev.data = watch;
	stk_watch_set(watch, events);
	*out = watch;
	return 0;
}

void stk_watch_stop(struct stk_watch **watch_ptr)
{
	struct stk_watch *watch = watch_ptr ? *watch_ptr : NULL;
	if (!watch) {
		return;
	}
	*watch_ptr = NULL;
	ev_io_stop(watch->module->server->ev, &watch->ev);
	*watch->at = watch->next;
	if (watch->next) {
		watch->next->at = watch->at;
	}
	free(watch);
}

void modapi_stop_watches(struct stk_module *module)
{
	for (struct stk_watch *watch = module->watches; watch; watch = watch->next) {
		ev_io_stop(module->server->ev, &watch->ev);
	}
}

void modapi_free_watches(struct stk_module *module)
{
	while (module->watches) {
		struct stk_watch *watch = module->watches;
		stk_watch_stop(&watch);
	}
}

/* ---- posts ---- */

struct post {
	struct mail mail;
	struct stk_module *module;
	stk_post_fn *fn;
	void *arg;
};

int stk_post(struct stk_module *module, stk_post_fn *fn, void *arg)
{
	struct post *post = calloc(1, sizeof(*post));
	if (!post) {
		return -ENOMEM;
	}
	*post = (struct post){ .mail.kind = MAIL_POST, .module = module, .fn = fn, .arg = arg };
	atomic_fetch_add(&module->posting, 1);
	bool refused = atomic_load(&module->no_posts);
	if (!refused) {
		atomic_fetch_add(&module->under_way, 1);
		mailbox_put(&module->server->inbox, &post->mail);
	}
	atomic_fetch_sub(&module->posting, 1);
	if (refused) {
		free(post);
	}
	return refused ? -ECANCELED : 0;
}

/* Else a thread that posts without end would keep its module from being unloaded, which is where it is stopped. */
void modapi_stop_posts(struct stk_module *module)
{
	atomic_store(&module->no_posts, true);
	while (atomic_load(&module->posting)) {
		sched_yield();
	}
}

void modapi_run_post(struct mail *mail)
{
	struct post *post = (struct post *)mail;
	struct stk_module *module = post->module;
	if (!atomic_load(&module->gone)) {
		double entered = module_enter(module, "post");
		post->fn(module, post->arg);
		module_leave(module, "post", entered);
	}
	atomic_fetch_sub(&module->under_way, 1);
	module_bury(module);
	free(post);
}

/* ---- the server ---- */

void stk_status(struct stk_module *module, struct stk_status *status)
{
	const struct server *server = module->server;
	struct stk_status all = { .size = status->size, .version = STK_VERSION, .started_at = server->started_at };
	all.connections = loop_connections(server->loop) + server->carried;
	all.sessions = server->sessions.bound;
	all.users = session_users(server);
	memcpy(status, &all, status->size < sizeof(all) ? status->size : sizeof(all));
}

void stk_listeners(struct stk_module *module, bool (*each)(const char *, enum stk_tls, void *), void *arg)
{
	loop_each_listener(module->server->loop, each, arg);
}

bool stk_planning(const struct stk_module *module)
{
	return module->server->dry;
}

/* ---- the rest ---- */

void stk_log(struct stk_module *module, int level, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	if (!module_logs(module, level)) {
		return;
	}
	int len = snprintf(text, sizeof(text), "%.100s: ", module->name);
	va_start(args, fmt);
	vsnprintf(text + len, sizeof(text) - (size_t)len, fmt, args);
	va_end(args);
	log_put(level, text);
}

/* A clock that is set back stands still until it has caught up, so that times of messages are in their order. */
int64_t stk_now_ms(void)
{
	static _Atomic int64_t latest;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	int64_t last = atomic_load_explicit(&latest, memory_order_relaxed);
	while (last < ms && !atomic_compare_exchange_weak_explicit(&latest, &last, ms, memory_order_relaxed, memory_order_relaxed)) {
	}
	return last > ms ? last : ms;
}

void *stk_data(struct stk_module *module)
{
	return module->data;
}

void stk_set_data(struct stk_module *module, void *data)
{
	module->data = data;
}

const char *stk_state_dir(struct stk_module *module)
{
	return module->server->settings->server.state_dir;
}

const char *const *stk_domains(struct stk_module *module)
{
	return module->server->settings->server.domains;
}
