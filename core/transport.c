/* SPDX-License-Identifier: MIT */
/* Sessions that a module carries instead of the I/O loop. Owns the way from a session to its transport; the other way is
 * mail to the router, as what the I/O loop reads is, so a transport may call from any thread and from inside a send. */

#include "core/transport.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/gnutls.h>

#include "core/log.h"
#include "core/server.h"

/* ---- to the transport ---- */

static int tell(struct server *server, uint64_t id, enum event_kind kind, int code, const char *why, uint64_t mark)
{
	struct event *event = calloc(1, sizeof(*event));
	if (!event) {
		log_write(LOG_ERR, "transport: out of memory");
		return -ENOMEM;
	}
	event->mail.kind = (int)kind;
	event->conn = id;
	event->code = code;
	event->why = why;
	event->mark = mark;
	mailbox_put(&server->inbox, &event->mail);
	return 0;
}

int transport_send(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent)
{
	struct carrier *carrier = session->carrier;
	double entered = module_enter(carrier->module, "transport");
	int rc = carrier->transport.send(carrier->module, carrier->conn, stanza, mark);
	module_leave(carrier->module, "transport", entered);
	stk_stanza_unref(stanza);
	if (rc < 0) {
		tell(session->server, session->id, EVENT_BROKEN, 102, "its transport cannot send", 0);
	} else if (mark && tell_sent) {
		rc = tell(session->server, session->id, EVENT_SENT, 0, NULL, mark);
	}
	return rc < 0 ? rc : 0;
}

void transport_tell_login(struct stk_session *session, const char *user, const char *reason)
{
	struct carrier *carrier = session->carrier;
	if (carrier->transport.login) {
		double entered = module_enter(carrier->module, "transport");
		carrier->transport.login(carrier->module, carrier->conn, user, reason);
		module_leave(carrier->module, "transport", entered);
	}
}

int transport_challenge(struct stk_session *session, const uint8_t *out, size_t len)
{
	struct carrier *carrier = session->carrier;
	if (!carrier->transport.challenge) {
		return -EOPNOTSUPP;
	}
	double entered = module_enter(carrier->module, "transport");
	int rc = carrier->transport.challenge(carrier->module, carrier->conn, out, len);
	module_leave(carrier->module, "transport", entered);
	return rc < 0 ? rc : 0;
}

void transport_hold(struct stk_session *session, bool hold)
{
	struct carrier *carrier = session->carrier;
	if (carrier->transport.hold) {
		double entered = module_enter(carrier->module, "transport");
		carrier->transport.hold(carrier->module, carrier->conn, hold);
		module_leave(carrier->module, "transport", entered);
	}
}

void transport_end(struct stk_session *session, int code, const char *reason)
{
	struct carrier *carrier = session->carrier;
	session->carrier = NULL;
	session->server->carried--;
	double entered = module_enter(carrier->module, "transport");
	carrier->transport.end(carrier->module, carrier->conn, code, reason);
	module_leave(carrier->module, "transport", entered);
	free(carrier);
}

void transport_withdraw(struct stk_module *module)
{
	struct stk_session *session, *next;
	if (!module->server->carried) {
		return;
	}
	HASH_ITER (hh, module->server->sessions.by_id, session, next) {
		if (session->carrier && session->carrier->module == module) {
			stk_session_end(session, 111, "its transport is unloaded");
		}
	}
}

/* ---- from the transport ---- */

static bool is_whole(const struct stk_transport *transport, const struct stk_peer *peer)
{
	return transport && transport->size >= offsetof(struct stk_transport, login) && transport->send && transport->end &&
	       peer && peer->size >= offsetof(struct stk_peer, user) && peer->address;
}

/* The served domain that the peer means: the first when it says none. */
static const char *find_domain(const struct server *server, const char *wanted)
{
	char folded[STK_JID_MAX + 1];
	if (!wanted) {
		return server->settings->server.domains[0];
	}
	return stk_jid_fold(wanted, folded, sizeof(folded)) < 0 ? NULL : settings_find_domain(server->settings, folded);
}

static int make_session(struct stk_module *module, const struct stk_peer *peer, const char *domain, struct stk_session **out)
{
	struct server *server = module->server;
	const char *why;
	struct stk_session *session = session_new(server, TRANSPORT_IDS | ++server->carried_ids, peer->address, LISTEN_TLS_OFF, &why);
	if (!session) {
		return -EMFILE;
	}
	session->secure = peer->secure;
	session->domain = strdup(domain);
	session->claimed = strdup(domain);
	session->state = SESSION_STREAM;
	session_set_deadline(session, server->settings->login.auth_timeout);
	int rc = session->domain && session->claimed ? 0 : -ENOMEM;
	if (rc == 0 && peer->user) {
		rc = session_log_in(session, peer->user);
	}
	if (rc < 0) {
		session_gone(session);
		return rc;
	}
	*out = session;
	return 0;
}

int stk_session_open(struct stk_module *module, const struct stk_transport *transport, void *conn, const struct stk_peer *from,
                     uint64_t *id)
{
	struct server *server = module->server;
	if (!is_whole(transport, from)) {
		return -EINVAL;
	}
	if (module->state != MODULE_LIVE || server->stopping) {
		return -ECANCELED;
	}
	struct stk_peer peer = { 0 };
	memcpy(&peer, from, from->size < sizeof(peer) ? from->size : sizeof(peer));
	const char *domain = find_domain(server, peer.domain);
	if (!domain) {
		return -EHOSTDOWN;
	}
	if (server->memory_full || loop_connections(server->loop) + server->carried >= (size_t)server->settings->limits.max_connections) {
		return -EMFILE;
	}
	struct carrier *carrier = calloc(1, sizeof(*carrier));
	struct stk_session *session = NULL;
	int rc = carrier ? make_session(module, &peer, domain, &session) : -ENOMEM;
	if (rc < 0) {
		free(carrier);
		return rc;
	}
	size_t size = transport->size < sizeof(carrier->transport) ? transport->size : sizeof(carrier->transport);
	memcpy(&carrier->transport, transport, size);
	carrier->module = module;
	carrier->conn = conn;
	session->carrier = carrier;
	server->carried++;
	*id = session->id;
	return session_tell_opened(session) ? 0 : -ECONNREFUSED;
}

/* Only what clients may send; the rest of a stream is the transport's own affair. */
int stk_session_input(struct stk_module *module, uint64_t id, struct stk_stanza *stanza)
{
	if (!stanza || stanza_failed(stanza)) {
		stk_stanza_unref(stanza);
		return -ENOMEM;
	}
	if (!(id & TRANSPORT_IDS) || !stk_stanza_edit(stanza)) {
		stk_stanza_unref(stanza);
		return -EINVAL;
	}
	struct event *event = arena_alloc(stanza_arena(stanza), sizeof(*event));
	if (!event) {
		stk_stanza_unref(stanza);
		return -ENOMEM;
	}
	*event = (struct event){ .mail.kind = EVENT_STANZA, .conn = id, .stanza = stanza };
	mailbox_put(&module->server->inbox, &event->mail);
	return 0;
}

int stk_session_auth(struct stk_module *module, uint64_t id, const char *mechanism, const uint8_t *in, size_t len)
{
	gnutls_datum_t bytes = { .data = (unsigned char *)(uintptr_t)in, .size = (unsigned)len }, text = { 0 };
	if (gnutls_base64_encode2(&bytes, &text) < 0) {
		return -ENOMEM;
	}
	struct stk_stanza *stanza = stanza_new(STANZA_AUTH, "auth", "urn:ietf:params:xml:ns:xmpp-sasl", text.size + 512);
	if (stanza) {
		stk_node_set(stanza_root(stanza), "mechanism", mechanism);
		stk_node_set_text(stanza_root(stanza), (const char *)text.data);
	}
	gnutls_memset(text.data, 0, text.size);
	gnutls_free(text.data);
	return stk_session_input(module, id, stanza);
}

int stk_session_delivered(struct stk_module *module, uint64_t id, uint64_t mark)
{
	return id & TRANSPORT_IDS ? tell(module->server, id, EVENT_DELIVERED, 0, NULL, mark) : -EINVAL;
}

int stk_session_close(struct stk_module *module, uint64_t id)
{
	return id & TRANSPORT_IDS ? tell(module->server, id, EVENT_CLOSED, 0, "its transport has lost it", 0) : -EINVAL;
}
