/* SPDX-License-Identifier: MIT */
/* Sharing: tells the show of available sessions to other users, all of the domain or those who asked. Owns who has
 * asked for whom and what is still to be told; a user's own sessions are presence.c's business. */

#define HASH_NONFATAL_OOM 1
#include "share.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <uthash.h>
#include <utlist.h>

#include "circle.h"

#define STEPS 256   /* of telling in one go; each is one frame at most */
#define PAUSE 0.001 /* seconds until the next */

struct domain {
	const char *name;
	struct circle circle; /* its available sessions */
};

/* One who has available sessions, is gone but not everybody knows, or was asked for. */
struct user {
	UT_hash_handle hh;
	struct domain *domain;
	struct circle askers;
	struct member *members; /* available sessions */
	struct said gone;
	char *gone_jid;
	char bare[]; /* folded */
};

struct asked {
	struct asked *next;
	struct reader reader;
};

/* A session that is available or has asked. */
struct member {
	struct member *prev, *next; /* of the user */
	uint64_t session;
	struct domain *domain;
	struct user *user;          /* NULL: not available */
	struct said said;
	struct reader place;        /* in the domain's circle */
	struct asked *asked;
	int64_t asked_count;
};

struct share {
	struct stk_module *module;
	enum share_with with;
	int64_t asks;
	int slot;
	uint64_t version;
	struct user *users;
	struct circle *waiting;
	struct stk_timer *timer;
	bool telling;
	size_t domain_count;
	struct domain domains[];
};

/* ---- telling ---- */

/* What the circle of a user has to tell is little: it is looked through. */
static struct said *next_of_user(struct user *user, uint64_t after)
{
	struct said *next = user->gone.version > after ? &user->gone : NULL;
	struct member *member;
	DL_FOREACH (user->members, member) {
		if (member->said.version > after && (!next || member->said.version < next->version)) {
			next = &member->said;
		}
	}
	return next;
}

/* Is SAID news to READER? Own sessions are told by presence.c as it happens; who comes is told of those that are there. */
static bool is_news(const struct share *share, const struct reader *reader, const struct said *said)
{
	const struct member *member = reader->member;
	if (reader->circle->user && share->with == SHARE_DOMAIN && member->user && member->domain == said->user->domain) {
		return false; /* told as one of the domain */
	}
	if (!said->session) {
		return said->version > reader->joined;
	}
	return said->user != member->user || (said->session != member->session && said->version <= reader->joined);
}

static struct stk_stanza *compose(struct share *share, const struct stk_session *to, const struct said *said)
{
	const struct stk_session *from = said->session ? stk_session_find(share->module, said->session) : NULL;
	const char *show = from ? stk_session_show(from) : "offline";
	if ((said->session && !from) || !*show) {
		return NULL;
	}
	struct stk_stanza *stanza = stk_stanza_new(STK_PRESENCE, NULL, NULL);
	struct stk_node *root = stk_stanza_edit(stanza);
	stk_stanza_set_from(stanza, from ? stk_session_jid(from) : said->user->gone_jid);
	stk_stanza_set_to(stanza, stk_session_jid(to));
	stk_node_set_text(stk_node_add(root, "show", NULL), show);
	if (from) {
		char priority[16];
		snprintf(priority, sizeof(priority), "%d", stk_session_priority(from));
		stk_node_set_text(stk_node_add(root, "priority", NULL), priority);
	}
	return stanza;
}

/* Tells one reader one thing. Circles and readers take turns. */
static void tell_one(struct share *share)
{
	struct circle *circle = share->waiting;
	DL_DELETE(share->waiting, circle);
	DL_APPEND(share->waiting, circle);
	struct reader *reader = circle->behind;
	struct said *said = circle->user ? next_of_user(circle->user, reader->seen) :
	                                   said_list_after(&circle->said, reader->seen);
	struct stk_session *to = stk_session_find(share->module, reader->member->session);
	struct stk_stanza *stanza = said && to && is_news(share, reader, said) ? compose(share, to, said) : NULL;
	circle_advance(reader, said ? said->version : circle->latest);
	if (stanza) {
		stk_send_to(to, stanza); /* the last: a hook may end sessions */
	}
}

static void tell_some(struct share *share)
{
	share->telling = true;
	for (int i = 0; i < STEPS && share->waiting; i++) {
		tell_one(share);
	}
	share->telling = false;
}

static void on_timer(struct stk_module *module, void *arg)
{
	(void)module;
	struct share *share = arg;
	tell_some(share);
	if (!share->waiting) {
		stk_timer_stop(&share->timer);
	}
}

static void tell(struct share *share)
{
	if (share->timer || share->telling) {
		return; /* in its turn */
	}
	tell_some(share);
	if (share->waiting) {
		share->timer = stk_timer(share->module, PAUSE, PAUSE, on_timer, share);
	}
}

/* ---- users ---- */

static struct domain *find_domain(struct share *share, const char *name)
{
	for (size_t i = 0; i < share->domain_count; i++) {
		if (strcmp(share->domains[i].name, name) == 0) {
			return &share->domains[i];
		}
	}
	return NULL;
}

/* The user, who is made when there is none yet. NULL: no JID of a user of ours, or out of memory. */
static struct user *get_user(struct share *share, const char *bare)
{
	char folded[STK_JID_MAX + 1];
	struct user *user = NULL;
	if (stk_jid_fold(bare, folded, sizeof(folded)) < 0) {
		return NULL;
	}
	HASH_FIND_STR(share->users, folded, user);
	const char *at = strchr(folded, '@');
	struct domain *domain = at ? find_domain(share, at + 1) : NULL;
	if (user || !domain) {
		return user;
	}
	size_t len = strlen(folded);
	user = calloc(1, sizeof(*user) + len + 1);
	if (!user) {
		return NULL;
	}
	memcpy(user->bare, folded, len + 1);
	user->domain = domain;
	user->gone.user = user->askers.user = user;
	user->askers.waiting = &share->waiting;
	HASH_ADD_KEYPTR(hh, share->users, user->bare, len, user);
	if (!user->hh.tbl) {
		free(user);
		return NULL;
	}
	return user;
}

static void free_user(struct share *share, struct user *user)
{
	HASH_DEL(share->users, user);
	free(user->gone_jid);
	free(user);
}

/* Frees USER when nothing needs it; a domain may still have to tell that it is gone. */
static void release_user(struct share *share, struct user *user)
{
	bool untold = user->gone.version && share->with == SHARE_DOMAIN;
	if (!user->members && circle_is_empty(&user->askers) && !untold) {
		free_user(share, user);
	}
}

static void unsay(struct share *share, struct said *said)
{
	if (said->version && share->with == SHARE_DOMAIN) {
		said_list_remove(&said->user->domain->circle.said, said->version);
	}
	said->version = 0;
}

struct tidying {
	struct share *share;
	uint64_t told; /* to everybody of the domain */
};

static bool drop_told(struct said *said, void *arg)
{
	const struct tidying *tidying = arg;
	if (said->session || said->version > tidying->told) {
		return false;
	}
	said->version = 0;
	release_user(tidying->share, said->user);
	return true;
}

static void say(struct share *share, struct said *said)
{
	struct circle *circle = &said->user->domain->circle;
	unsay(share, said);
	if (share->with == SHARE_DOMAIN) {
		if (circle->said.count == circle->said.size) {
			struct tidying tidying = { .share = share, .told = circle_lowest(circle) };
			if (said_list_tidy(&circle->said, drop_told, &tidying) < 0) {
				stk_log(share->module, LOG_WARNING, "%s: out of memory, a change is not told", said->user->bare);
				return;
			}
		}
		said->version = ++share->version;
		said_list_add(&circle->said, said);
		circle_wake(circle, said->version);
	} else {
		said->version = ++share->version;
	}
	circle_wake(&said->user->askers, said->version);
}

/* ---- sessions ---- */

static struct member *get_member(struct share *share, struct stk_session *session)
{
	struct member *member = stk_session_get(session, share->slot);
	struct domain *domain = find_domain(share, stk_session_domain(session));
	if (member || !domain) {
		return member;
	}
	member = calloc(1, sizeof(*member));
	if (member) {
		member->session = stk_session_id(session);
		member->domain = domain;
		member->place.member = member;
		stk_session_set(session, share->slot, member);
	}
	return member;
}

static bool join(struct share *share, struct member *member, const struct stk_session *session)
{
	struct user *user = get_user(share, stk_session_bare(session));
	if (!user) {
		return false;
	}
	member->user = user;
	member->said = (struct said){ .user = user, .session = member->session };
	DL_APPEND(user->members, member);
	if (share->with == SHARE_DOMAIN) {
		circle_join(&member->domain->circle, &member->place, 0, share->version);
	}
	return true;
}

void share_update(struct share *share, struct stk_session *session, bool says)
{
	if (!share) {
		return;
	}
	struct member *member = get_member(share, session);
	bool came = member && !member->user;
	if (!member || (came && !join(share, member, session))) {
		stk_log(share->module, LOG_WARNING, "%s: out of memory, presence is not shared", stk_session_jid(session));
		return;
	}
	if (came ? *stk_session_show(session) != '\0' : says) {
		unsay(share, &member->user->gone);
		say(share, &member->said);
	}
	tell(share);
}

/* The session of USER that messages would go to, among those that have said a show; or NULL. */
static struct member *find_best(struct share *share, struct user *user)
{
	struct member *best = NULL, *member;
	int highest = 0;
	DL_FOREACH (user->members, member) {
		const struct stk_session *session = stk_session_find(share->module, member->session);
		if (session && *stk_session_show(session) && (!best || stk_session_priority(session) > highest)) {
			best = member;
			highest = stk_session_priority(session);
		}
	}
	return best;
}

/* The show of a session that is gone must not stand: what the user's other sessions show is told anew. */
static void say_what_is_left(struct share *share, struct user *user, const struct stk_session *gone)
{
	struct member *best = user->members ? find_best(share, user) : NULL;
	if (best && *stk_session_show(gone)) {
		say(share, &best->said);
	} else if (!user->members) {
		free(user->gone_jid);
		user->gone_jid = strdup(stk_session_jid(gone));
		if (user->gone_jid) {
			say(share, &user->gone);
		}
	}
}

void share_withdraw(struct share *share, struct stk_session *session)
{
	struct member *member = share ? stk_session_get(session, share->slot) : NULL;
	struct user *user = member ? member->user : NULL;
	if (!user) {
		return;
	}
	circle_leave(&member->place);
	unsay(share, &member->said);
	DL_DELETE(user->members, member);
	member->user = NULL;
	say_what_is_left(share, user, session);
	release_user(share, user);
	tell(share);
}

void share_forget(struct share *share, struct stk_session *session)
{
	struct member *member = share ? stk_session_get(session, share->slot) : NULL;
	if (!member) {
		return;
	}
	share_withdraw(share, session);
	while (member->asked) {
		struct asked *asked = member->asked;
		struct user *user = asked->reader.circle->user;
		member->asked = asked->next;
		circle_leave(&asked->reader);
		free(asked);
		release_user(share, user);
	}
	stk_session_set(session, share->slot, NULL);
	free(member);
}

int share_ask(struct share *share, struct stk_session *session, const char *bare)
{
	if (stk_jid_same_bare(bare, stk_session_bare(session))) {
		return 0; /* own sessions are told anyway */
	}
	if (!share) {
		return -EACCES;
	}
	struct member *member = get_member(share, session);
	struct user *user = member ? get_user(share, bare) : NULL;
	if (!user) {
		return -ENOMEM;
	}
	for (struct asked *asked = member->asked; asked; asked = asked->next) {
		if (asked->reader.circle->user == user) {
			return 0;
		}
	}
	struct asked *asked = member->asked_count < share->asks ? calloc(1, sizeof(*asked)) : NULL;
	if (!asked) {
		int rc = member->asked_count < share->asks ? -ENOMEM : -EDQUOT;
		release_user(share, user);
		return rc;
	}
	asked->reader.member = member;
	asked->next = member->asked;
	member->asked = asked;
	member->asked_count++;
	circle_join(&user->askers, &asked->reader, share->version, share->version);
	return 0;
}

/* ---- life ---- */

int share_new(struct stk_module *module, enum share_with with, int64_t asks, struct share **out)
{
	int slot = stk_session_slot(module, NULL);
	const char *const *domains = stk_domains(module);
	size_t count = 0;
	while (domains[count]) {
		count++;
	}
	struct share *share = slot < 0 ? NULL : calloc(1, sizeof(*share) + count * sizeof(share->domains[0]));
	if (!share) {
		return slot < 0 ? slot : -ENOMEM;
	}
	share->module = module;
	share->with = with;
	share->asks = asks;
	share->slot = slot;
	share->domain_count = count;
	for (size_t i = 0; i < count; i++) {
		share->domains[i].name = domains[i];
		share->domains[i].circle.waiting = &share->waiting;
	}
	*out = share;
	return 0;
}

static bool forget_each(struct stk_session *session, void *arg)
{
	share_forget(arg, session);
	return true;
}

void share_free(struct share **share)
{
	struct share *all = share ? *share : NULL;
	if (!all) {
		return;
	}
	stk_timer_stop(&all->timer);
	all->telling = true; /* nobody is told any more */
	stk_sessions(all->module, NULL, forget_each, all);
	struct user *user, *next;
	HASH_ITER (hh, all->users, user, next) {
		free_user(all, user);
	}
	for (size_t i = 0; i < all->domain_count; i++) {
		free(all->domains[i].circle.said.places);
	}
	free(all);
	*share = NULL;
}
