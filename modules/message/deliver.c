/* SPDX-License-Identifier: MIT */
/* Where a message goes once it is known to be kept, or not to need keeping: the recipient's sessions, copies for the sender's
 * others, the receipt. Decides nothing about what is stored. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "message.h"

/* Addresses and sessions of one delivery. */
struct delivery {
	struct stk_module *module;
	const struct parcel *parcel;
	const struct stk_session *origin; /* NULL: gone, or a module */
	int best;   /* the highest priority among the recipient's available sessions; below 0: none is to get it */
	bool all;   /* not only to those of the highest priority */
	int count;  /* sessions that got it */
	struct stk_session *last; /* of the recipient's that were looked at */
};

static int hand_over(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, uint64_t row)
{
	const struct state *state = stk_data(module);
	struct stk_module *provider = NULL;
	const struct stk_archive *archive = stk_service(state->archive, &provider);
	return archive ? archive->deliver(provider, session, stanza, row) : stk_send_to(session, stanza);
}

static bool is_recipient(const struct delivery *delivery, const struct stk_session *session)
{
	return stk_session_available(session) && delivery->best >= 0 && stk_session_priority(session) >= 0 &&
	       (delivery->all || stk_session_priority(session) == delivery->best);
}

static bool find_best(struct stk_session *session, void *arg)
{
	struct delivery *delivery = arg;
	delivery->last = session;
	if (stk_session_available(session) && stk_session_priority(session) > delivery->best) {
		delivery->best = stk_session_priority(session);
	}
	return true;
}

static bool send_one(struct stk_session *session, void *arg)
{
	struct delivery *delivery = arg;
	const struct parcel *parcel = delivery->parcel;
	if (is_recipient(delivery, session) &&
	    hand_over(delivery->module, session, stk_stanza_ref(parcel->stanza), parcel->row) == 0) {
		delivery->count++;
	}
	return true;
}

static bool send_full(struct stk_session *session, void *arg)
{
	struct delivery *delivery = arg;
	const struct parcel *parcel = delivery->parcel;
	delivery->count += hand_over(delivery->module, session, stk_stanza_ref(parcel->stanza), parcel->row) == 0;
	return false;
}

/* A full JID means that session; when it is gone, whoever else of the user is there. */
static void send_to_recipient(struct delivery *delivery)
{
	const char *to = stk_stanza_to(delivery->parcel->stanza);
	char room[STK_JID_MAX + 1];
	const char *bare = to;
	struct stk_jid jid;
	if (stk_jid_parse(&jid, to) < 0) {
		return;
	}
	if (jid.resource_len) {
		if (stk_sessions(delivery->module, to, send_full, delivery) > 0 || stk_jid_bare(to, room, sizeof(room)) < 0) {
			return;
		}
		bare = room;
	}
	int sessions = stk_sessions(delivery->module, bare, find_best, delivery);
	if (sessions == 1) {
		send_one(delivery->last, delivery);
	} else if (sessions > 1) {
		stk_sessions(delivery->module, bare, send_one, delivery);
	}
}

/* ---- own copies ---- */

static bool names_kind(const char *const *names, const char *type)
{
	for (; names && *names; names++) {
		if (strcmp(*names, type) == 0) {
			return true;
		}
	}
	return false;
}

/* A copy comes from the partner, as clients expect it; so it is told from a message of one's own device by its header only. */
static bool send_copy(struct stk_session *session, void *arg)
{
	struct delivery *delivery = arg;
	const struct stk_stanza *message = delivery->parcel->stanza;
	char partner[STK_JID_MAX + 1];
	if (session == delivery->origin || !stk_session_available(session) ||
	    (is_recipient(delivery, session) && stk_jid_same_bare(stk_stanza_from(message), stk_stanza_to(message))) ||
	    stk_jid_bare(stk_stanza_to(message), partner, sizeof(partner)) < 0) {
		return true;
	}
	struct stk_stanza *copy = stk_stanza_copy(message);
	stk_stanza_set_from(copy, partner);
	stk_stanza_set_to(copy, stk_session_jid(session));
	stk_node_set(stk_stanza_edit(copy), "carbon_message", "true");
	hand_over(delivery->module, session, copy, 0);
	return true;
}

static bool wants_copies(const struct delivery *delivery)
{
	const struct parcel *parcel = delivery->parcel;
	const struct state *state = stk_data(delivery->module);
	const char *read_type = stk_node_attr(stk_stanza_root(parcel->stanza), "read_type");
	bool readmark = strcmp(parcel->kind->type, "readmark") == 0;
	return parcel->kind->flags & KIND_COPY && names_kind(state->conf->copies, parcel->kind->type) &&
	       (!readmark || (read_type && strcmp(read_type, "4") == 0));
}

/* ---- the sender ---- */

static void send_receipt(struct stk_session *session, const struct parcel *parcel)
{
	const struct stk_node *body = stk_node_child(stk_stanza_root(parcel->stanza), "body", NULL);
	const char *text = stk_node_text(body);
	if (!(parcel->kind->flags & KIND_RECEIPT) || !text || !*text) {
		return;
	}
	char time[24] = "";
	if (parcel->time) {
		snprintf(time, sizeof(time), "%lld", (long long)parcel->time);
	}
	struct stk_stanza *receipt = stk_stanza_new(STK_MESSAGE, "mstat", NULL);
	stk_stanza_set_from(receipt, stk_session_jid(session));
	stk_stanza_set_to(receipt, stk_session_bare(session));
	struct stk_node *root = stk_stanza_edit(receipt);
	stk_node_set(root, "msec_times", *time ? time : stk_node_attr(stk_stanza_root(parcel->stanza), "msec_times"));
	struct stk_node *told = stk_node_add(root, "body", NULL);
	stk_node_set(told, "id", stk_node_attr(body, "id"));
	stk_node_set(told, "msgType", "1");
	stk_send_to(session, receipt);
}

/* Marks of what was read up to a time, and of what was read in rooms, concern the user's own devices only. */
static bool is_for_own_devices(const struct parcel *parcel)
{
	const char *read_type = stk_node_attr(stk_stanza_root(parcel->stanza), "read_type");
	return strcmp(parcel->kind->type, "readmark") == 0 && read_type && (strcmp(read_type, "0") == 0 || strcmp(read_type, "2") == 0);
}

static bool send_own(struct stk_session *session, void *arg)
{
	const struct delivery *delivery = arg;
	if (session != delivery->origin && stk_session_available(session)) {
		hand_over(delivery->module, session, stk_stanza_ref(delivery->parcel->stanza), 0);
	}
	return true;
}

void deliver_parcel(struct stk_module *module, struct stk_session *session, const struct parcel *parcel)
{
	const struct state *state = stk_data(module);
	struct delivery delivery = { .module = module, .parcel = parcel, .origin = session, .best = -1 };
	char sender[STK_JID_MAX + 1];
	if (stk_jid_bare(stk_stanza_from(parcel->stanza), sender, sizeof(sender)) < 0) {
		return;
	}
	delivery.all = state->conf->deliver_to == DELIVER_ALL;
	if (parcel->time) { /* a re-send: who should have it has it, or it waits in the archive */
		if (session) {
			send_receipt(session, parcel);
		}
		return;
	}
	if (is_for_own_devices(parcel)) {
		stk_sessions(module, sender, send_own, &delivery);
	} else {
		send_to_recipient(&delivery);
	}
	if (!delivery.count && !parcel->row && !(parcel->kind->flags & KIND_FLEETING)) {
		if (session) {
			stk_bounce(session, parcel->stanza, -ENOLINK);
		}
		return;
	}
	if (session) {
		send_receipt(session, parcel);
	}
	if (wants_copies(&delivery)) {
		stk_sessions(module, sender, send_copy, &delivery);
	}
}
