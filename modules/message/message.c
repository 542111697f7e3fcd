/* SPDX-License-Identifier: MIT */
/* One-to-one messages: checks them, has the archive keep them, and sends them on in the order in which each sender sent them. Owns
 * the types of messages and the senders' queues; where a message goes is in deliver.c. */

#include "message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define HOLD_AT    512 /* messages of a session that wait for the archive before it is no longer read */
#define RELEASE_AT 128 /* ... and when it is read again */

static const struct kind kinds[] = {
	{ "chat", KIND_CLIENT | KIND_STORE | KIND_BODY | KIND_RECEIPT | KIND_COPY },
	{ "normal", KIND_STORE | KIND_BODY | KIND_RECEIPT | KIND_COPY },
	{ "consult", KIND_CLIENT | KIND_STORE | KIND_BODY | KIND_RECEIPT | KIND_COPY },
	{ "collection", KIND_STORE | KIND_BODY | KIND_RECEIPT },
	{ "note", KIND_BODY | KIND_RECEIPT | KIND_COPY },
	{ "typing", KIND_CLIENT | KIND_RECEIPT | KIND_FLEETING },
	{ "readmark", KIND_CLIENT | KIND_APPLY | KIND_BODY | KIND_RECEIPT | KIND_COPY | KIND_FLEETING },
	{ "revoke", KIND_CLIENT | KIND_APPLY | KIND_BODY | KIND_RECEIPT | KIND_COPY | KIND_FLEETING },
	{ "headline", KIND_CLIENT | KIND_BODY },
	{ "subscription", KIND_CLIENT | KIND_BODY },
	{ "webrtc", KIND_CLIENT | KIND_BODY | KIND_RECEIPT | KIND_COPY },
	{ "encrypt", KIND_CLIENT | KIND_BODY | KIND_RECEIPT | KIND_COPY },
};
#define KINDS (sizeof(kinds) / sizeof(*kinds))

static const char *const targets[] = { "highest", "all", NULL };

static const struct stk_option options[] = {
	{ "deliver-to", STK_OPT_ENUM, offsetof(struct conf, deliver_to), "highest", 0, 0,
	  "Which of a user's available sessions of priority 0 or above get a message to the bare JID: those that share the highest "
	  "priority, or all", targets },
	{ "copies", STK_OPT_LIST, offsetof(struct conf, copies), "chat, normal, note, revoke, consult, encrypt, webrtc, readmark", 0, 100,
	  "The message types of which the sender's other sessions get copies", NULL },
	{ 0 },
};

/* Who sends: a session, or the modules. Outlives the session while messages are on their way. */
struct sender {
	struct sender *next, **at; /* of the module's */
	struct parcel *first, **last;
	uint64_t session; /* id; 0: modules */
	size_t count;
	bool held, gone;
};

/* ---- queues ---- */

static struct sender *new_sender(struct state *state, uint64_t session)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	if (!sender) {
		return NULL;
	}
	*sender = (struct sender){ .next = state->senders, .at = &state->senders, .session = session, .last = &sender->first };
	if (state->senders) {
		state->senders->at = &sender->next;
	}
	state->senders = sender;
	return sender;
}

static void free_sender(struct sender *sender)
{
	*sender->at = sender->next;
	if (sender->next) {
		sender->next->at = sender->at;
	}
	free(sender);
}

static struct sender *sender_of(struct stk_module *module, struct stk_session *session)
{
	struct state *state = stk_data(module);
	if (!session) {
		return state->modules;
	}
	struct sender *sender = stk_session_get(session, state->slot);
	if (!sender) {
		sender = new_sender(state, stk_session_id(session));
		stk_session_set(session, state->slot, sender);
	}
	return sender;
}

static void leave_sender(void *data)
{
	struct sender *sender = data;
	sender->gone = true;
	if (!sender->first) {
		free_sender(sender);
	}
}

static void finish(struct stk_module *module, struct stk_session *session, const struct parcel *parcel)
{
	if (parcel->status == 0) {
		deliver_parcel(module, session, parcel);
	} else if (session) {
		stk_bounce(session, parcel->stanza, parcel->status);
	} else {
		stk_log(module, LOG_WARNING, "%s: a message to %s is lost: %s", stk_stanza_from(parcel->stanza),
		        stk_stanza_to(parcel->stanza), strerror(-parcel->status));
	}
}

/* Sends on what is ready, in the order it came in. */
static void drain(struct stk_module *module, struct sender *sender)
{
	while (sender->first && sender->first->ready) {
		struct parcel *parcel = sender->first;
		sender->first = parcel->next;
		sender->last = sender->first ? sender->last : &sender->first;
		sender->count--;
		struct stk_session *session = sender->session ? stk_session_find(module, sender->session) : NULL;
		if (session && sender->held && sender->count <= RELEASE_AT) {
			sender->held = false;
			stk_session_hold(session, false);
		}
		finish(module, session, parcel);
		stk_stanza_unref(parcel->stanza);
		free(parcel);
	}
	if (sender->gone && !sender->first) {
		free_sender(sender);
	}
}

static void on_stored(int status, uint64_t row, int64_t time, void *arg)
{
	struct parcel *parcel = arg;
	if (!parcel->module) {
		stk_stanza_unref(parcel->stanza); /* when it is stored, it waits in the archive */
		free(parcel);
		return;
	}
	parcel->ready = true;
	parcel->status = status;
	parcel->row = row;
	parcel->time = status == 0 && !row && parcel->kind->flags & KIND_STORE ? time : 0;
	drain(parcel->module, parcel->sender);
}

/* Puts what has to wait into the sender's queue: for the archive, or behind a message that waits for it. */
static int enqueue(struct stk_session *session, const struct parcel *wanted)
{
	struct stk_module *module = wanted->module;
	const struct state *state = stk_data(module);
	struct sender *sender = wanted->sender;
	struct parcel *parcel = malloc(sizeof(*parcel));
	if (!parcel) {
		return -ENOMEM;
	}
	*parcel = *wanted;
	stk_stanza_ref(parcel->stanza);
	*sender->last = parcel;
	sender->last = &parcel->next;
	sender->count++;
	struct stk_module *provider = NULL;
	const struct stk_archive *archive = stk_service(state->archive, &provider);
	int rc = -ENOSYS;
	if (archive && parcel->kind->flags & (KIND_STORE | KIND_APPLY)) {
		rc = (parcel->kind->flags & KIND_STORE ? archive->store : archive->apply)(provider, parcel->stanza, on_stored, parcel);
	}
	if (rc < 0) {
		parcel->ready = true;
		parcel->status = rc == -ENOSYS ? 0 : rc;
	}
	if (session && sender->count >= HOLD_AT && !sender->held) {
		sender->held = true;
		stk_session_hold(session, true);
	}
	if (rc < 0) {
		drain(module, sender);
	}
	return 0;
}

/* SESSION NULL: from a module. */
static int submit(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, const struct kind *kind)
{
	const struct state *state = stk_data(module);
	struct sender *sender = sender_of(module, session);
	if (!sender) {
		return -ENOMEM;
	}
	struct parcel parcel = { .module = module, .sender = sender, .stanza = stanza, .kind = kind };
	if (sender->first || (kind->flags & (KIND_STORE | KIND_APPLY) && stk_service(state->archive, NULL))) {
		int rc = enqueue(session, &parcel);
		return rc < 0 ? rc : STK_DONE;
	}
	deliver_parcel(module, session, &parcel);
	return STK_DONE;
}

/* ---- what comes in ---- */

static const struct kind *find_kind(const char *type)
{
	for (size_t i = 0; type && i < KINDS; i++) {
		if (strcmp(kinds[i].type, type) == 0) {
			return &kinds[i];
		}
	}
	return NULL;
}

static bool has_text(const struct stk_stanza *stanza)
{
	const char *text = stk_node_text(stk_node_child(stk_stanza_root(stanza), "body", NULL));
	return text && *text;
}

static int handle_message(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	const struct kind *kind = arg;
	struct stk_jid to;
	if ((kind->flags & KIND_BODY && !has_text(stanza)) || stk_jid_parse(&to, stk_stanza_to(stanza)) < 0) {
		return -EINVAL;
	}
	if (!to.node_len) {
		return STK_PASS; /* the server itself reads no messages: service-unavailable */
	}
	return submit(module, session, stanza, kind);
}

/* Every message is stamped: without the C library's regard for formats. */
static void stamp(struct stk_node *root)
{
	char now[24] = "", *at = now + sizeof(now) - 1;
	int64_t rest = stk_now_ms(); /* a time long after 1970 */
	do {
		*--at = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	stk_node_set(root, "msec_times", at);
}

/* The server's clock says when a message was sent, not the client's. */
static int on_stanza_in(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)module;
	(void)arg;
	if (stk_stanza_element(event->stanza) == STK_MESSAGE) {
		stamp(stk_stanza_edit(event->stanza));
	}
	return STK_PASS;
}

/* What a module sends lacks a time, and perhaps an id. */
static struct stk_stanza *complete(const struct stk_stanza *stanza)
{
	struct stk_stanza *copy = stk_stanza_copy(stanza);
	struct stk_node *root = stk_stanza_edit(copy);
	if (!root) {
		return copy;
	}
	stamp(root);
	struct stk_node *body = (struct stk_node *)(uintptr_t)stk_node_child(root, "body", NULL); /* the copy is ours to change */
	if (body && !stk_node_attr(body, "id")) {
		static unsigned long made;
		char id[64];
		snprintf(id, sizeof(id), "srv_%lld_%lu", (long long)stk_now_ms(), ++made);
		stk_node_set(body, "id", stk_stanza_id(stanza) ? stk_stanza_id(stanza) : id);
	}
	return copy;
}

static int on_route(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	const struct kind *kind = NULL;
	struct stk_jid jid;
	if (stk_stanza_element(event->stanza) == STK_MESSAGE) {
		kind = find_kind(stk_stanza_type(event->stanza));
	}
	if (!kind) {
		return STK_PASS;
	}
	if (stk_jid_parse(&jid, stk_stanza_from(event->stanza)) < 0 || (kind->flags & KIND_BODY && !has_text(event->stanza))) {
		return -EINVAL;
	}
	struct stk_stanza *stanza = complete(event->stanza);
	int rc = stanza ? submit(module, NULL, stanza, kind) : -ENOMEM;
	stk_stanza_unref(stanza);
	return rc;
}

/* ---- life ---- */

static int check(const void *arg, char *err, size_t errlen)
{
	const struct conf *conf = arg;
	for (const char *const *name = conf->copies; name && *name; name++) {
		const struct kind *kind = find_kind(*name);
		if (!kind || !(kind->flags & KIND_COPY)) {
			snprintf(err, errlen, "copies: there are none of '%s'; possible are chat, normal, note, revoke, consult, encrypt, webrtc, "
			         "readmark", *name);
			return -EINVAL;
		}
	}
	return 0;
}

/* What the archive still has comes back to nobody; the rest waits behind it and goes. */
static void leave_parcels(struct sender *sender)
{
	while (sender->first) {
		struct parcel *parcel = sender->first;
		sender->first = parcel->next;
		if (parcel->ready) {
			stk_stanza_unref(parcel->stanza);
			free(parcel);
		} else {
			parcel->module = NULL;
		}
	}
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	while (state && state->senders) {
		leave_parcels(state->senders);
		free_sender(state->senders);
	}
	free(state);
	stk_set_data(module, NULL);
}

static int start(struct stk_module *module, struct state *state)
{
	state->archive = stk_use(module, "archive", 1, 0);
	state->modules = new_sender(state, 0);
	if (!state->archive || !state->modules) {
		return -ENOMEM;
	}
	state->slot = stk_session_slot(module, leave_sender);
	int rc = state->slot;
	for (size_t i = 0; i < KINDS && rc >= 0; i++) {
		struct stk_match match = { .size = sizeof(match), .element = STK_MESSAGE, .type = kinds[i].type };
		if (kinds[i].flags & KIND_CLIENT) {
			rc = stk_handle(module, &match, handle_message, (void *)(uintptr_t)&kinds[i]);
		}
	}
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_IN, 1000, on_stanza_in, NULL);
	return rc < 0 ? rc : stk_on(module, STK_ROUTE, 0, on_route, NULL);
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	state->conf = conf;
	stk_set_data(module, state);
	int rc = start(module, state);
	if (rc < 0) {
		unload(module);
	}
	return rc;
}

static int reload(struct stk_module *module, const void *conf)
{
	struct state *state = stk_data(module);
	state->conf = conf;
	return 0;
}

STK_MODULE(.name = "message", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .check = check,
           .load = load, .reload = reload, .unload = unload);
