/* SPDX-License-Identifier: MIT */
/* The router: takes what the I/O loop read, checks it against the session's state, finds the handler, and sees to it
 * that every request has exactly one answer. Knows no feature of the protocol beyond login. */

#include "core/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ask.h"
#include "core/job.h"
#include "core/log.h"
#include "core/modapi.h"
#include "core/pending.h"
#include "core/sasl.h"
#include "core/transport.h"

#define BIND_XMLNS    "urn:ietf:params:xml:ns:xmpp-bind"
#define STANZAS_XMLNS "urn:ietf:params:xml:ns:xmpp-stanzas"

/* ---- errors ---- */

struct stanza_error {
	int error; /* errno */
	const char *code, *type, *condition, *text;
};

static const struct stanza_error errors[] = {
	{ EINVAL, "400", "modify", "bad-request", "The request makes no sense" },
	{ EACCES, "403", "auth", "forbidden", "Not allowed" },
	{ EPERM, "403", "auth", "forbidden", "Not allowed" },
	{ ENOENT, "404", "cancel", "item-not-found", "Not found" },
	{ ENOTCONN, "405", "cancel", "not-allowed", "Not allowed in this state" },
	{ EEXIST, "409", "cancel", "conflict", "It exists already" },
	{ ENOSPC, "500", "wait", "resource-constraint", "The server's disk is full" },
	{ EROFS, "500", "wait", "resource-constraint", "The server cannot write to its disk" },
	{ EBUSY, "500", "wait", "resource-constraint", "The server's database is locked" },
	{ EDQUOT, "500", "wait", "resource-constraint", "A limit is reached" },
	{ EAGAIN, "500", "wait", "resource-constraint", "Too busy, try again later" },
	{ ENOMEM, "500", "wait", "resource-constraint", "Too busy, try again later" },
	{ EOPNOTSUPP, "501", "cancel", "feature-not-implemented", "Not implemented" },
	{ ENOSYS, "503", "cancel", "service-unavailable", "No module is handling this query" },
	{ ECANCELED, "503", "cancel", "service-unavailable", "The module was withdrawn" },
	{ ENOLINK, "503", "wait", "recipient-unavailable", "The recipient is not online" },
	{ EHOSTDOWN, "404", "cancel", "remote-server-not-found", "This server does not serve that domain" },
	{ EHOSTUNREACH, "503", "cancel", "service-unavailable", "Authentication required" },
	{ EDESTADDRREQ, "503", "cancel", "service-unavailable", "Bind a resource first" },
	{ ETIMEDOUT, "504", "wait", "remote-server-timeout", "No answer in time" },
	{ 0, "500", "wait", "internal-server-error", "The server failed" },
};

static void add_error(struct stk_stanza *stanza, int error)
{
	const struct stanza_error *row = errors;
	while (row->error && row->error != -error) {
		row++;
	}
	struct stk_node *node = stk_node_add(stk_stanza_edit(stanza), "error", NULL);
	stk_node_set(node, "code", row->code);
	stk_node_set(node, "type", row->type);
	stk_node_add(node, row->condition, STANZAS_XMLNS);
	stk_node_set_text(stk_node_add(node, "text", NULL), row->text);
}

/* Before login the domain speaks to itself, as clients expect. */
static void address_answer(struct stk_stanza *answer, const struct stk_session *session)
{
	const char *from = session->bare ? session->bare : session->domain;
	stk_stanza_set_from(answer, from);
	stk_stanza_set_to(answer, session->jid ? session->jid : from);
}

static int send_iq_error(struct stk_session *session, const struct stk_stanza *request, int error)
{
	struct stk_stanza *answer = stk_stanza_new(STK_IQ, "error", stk_stanza_id(request));
	if (!answer) {
		return -ENOMEM;
	}
	address_answer(answer, session);
	add_error(answer, error);
	return router_deliver(session, answer);
}

/* What comes back of a message or presence; errors and receipts are never answered. */
static void send_back(struct stk_session *session, const struct stk_stanza *stanza, int error)
{
	const char *type = stk_stanza_type(stanza);
	struct stk_stanza *answer = NULL;
	if (!type || (strcmp(type, "error") != 0 && strcmp(type, "mstat") != 0)) {
		answer = stk_stanza_copy(stanza);
	}
	if (!answer) {
		return;
	}
	stk_node_set(stk_stanza_edit(answer), "type", "error");
	stk_stanza_set_from(answer, stk_stanza_to(stanza));
	stk_stanza_set_to(answer, session->bare);
	add_error(answer, error);
	router_deliver(session, answer);
}

/* Does a module look after STANZA, which nobody could be given? */
static bool is_taken_over(struct server *server, struct stk_session *sender, struct stk_stanza *stanza, int error)
{
	struct stk_event event = { .size = sizeof(event), .hook = STK_UNDELIVERED, .session = sender, .stanza = stanza, .reason = error };
	stanza_seal(stanza);
	return module_run_hooks(server, &event) > STK_PASS;
}

void stk_bounce(struct stk_session *session, struct stk_stanza *stanza, int error)
{
	if (stanza_is_request(stanza)) {
		send_iq_error(session, stanza, error);
	} else if (stk_stanza_element(stanza) != STK_IQ && !is_taken_over(session->server, session, stanza, error)) {
		send_back(session, stanza, error);
	}
}

/* ---- out ---- */

static int deliver_tracked(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent)
{
	if (!stanza || stanza_failed(stanza)) {
		stk_stanza_unref(stanza);
		return -ENOMEM;
	}
	if (session->state == SESSION_ENDED) {
		stk_stanza_unref(stanza);
		return -ENOTCONN;
	}
	struct stk_event event = {
		.size = sizeof(event), .hook = STK_STANZA_OUT, .session = session, .stanza = stanza
	};
	if (session->state == SESSION_BOUND && module_run_hooks(session->server, &event) != STK_PASS) {
		stk_stanza_unref(stanza);
		return -ECANCELED;
	}
	stanza_seal(stanza);
	return session_send(session, stanza, mark, tell_sent);
}

int router_deliver(struct stk_session *session, struct stk_stanza *stanza)
{
	return deliver_tracked(session, stanza, 0, false);
}

int stk_send_tracked(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent)
{
	return deliver_tracked(session, stanza, mark, tell_sent);
}

int router_fail(struct stk_stanza *request, int error)
{
	struct request *context = stanza_context(request);
	if (!context) {
		return -EINVAL;
	}
	if (context->answered) {
		return -EALREADY;
	}
	context->answered = true;
	struct stk_session *session = session_by_id(context->server, context->session);
	return session ? send_iq_error(session, request, error) : -ECANCELED;
}

int stk_reply(struct stk_stanza *request, struct stk_stanza *answer)
{
	struct request *context = stanza_context(request);
	if (!context || context->answered) {
		stk_stanza_unref(answer);
		return context ? -EALREADY : -EINVAL;
	}
	struct stk_session *session = session_by_id(context->server, context->session);
	if (!session) {
		stk_stanza_unref(answer);
		return -ECANCELED;
	}
	if (!answer) {
		answer = stk_stanza_result(request);
	}
	if (!answer || stanza_failed(answer)) {
		stk_stanza_unref(answer);
		return -ENOMEM; /* not answered: the caller's error goes out instead */
	}
	context->answered = true;
	return router_deliver(session, answer);
}

int stk_send_to(struct stk_session *session, struct stk_stanza *stanza)
{
	return router_deliver(session, stanza);
}

/* The domain of a JID, if a module serves it. */
static const char *served_by_module(const struct server *server, const struct stk_jid *parts)
{
	char domain[STK_JID_PART_MAX + 1], folded[STK_JID_MAX + 1];
	if (!server->modules.domains) {
		return NULL;
	}
	memcpy(domain, parts->domain, parts->domain_len);
	domain[parts->domain_len] = '\0';
	return stk_jid_fold(domain, folded, sizeof(folded)) == 0 ? module_find_domain(server, folded) : NULL;
}

static int call_handler(const struct handler *handler, struct stk_session *session, struct stk_stanza *stanza)
{
	double entered = module_enter(handler->module, "handler");
	int verdict = handler->fn(handler->module, session, stanza, handler->arg);
	module_leave(handler->module, "handler", entered);
	handler->module->figures.stanzas += verdict != STK_PASS;
	return verdict;
}

/* From a module to a module: there is no session, so nothing that has to be answered to one. */
static int send_into_domain(struct server *server, struct stk_stanza *stanza, const char *domain)
{
	int rc = stanza_failed(stanza) ? -ENOMEM : -EOPNOTSUPP;
	if (rc != -ENOMEM && stk_stanza_element(stanza) != STK_IQ) {
		stanza_seal(stanza);
		const struct handler *handler = module_find_handler(server, stanza, domain);
		rc = handler ? call_handler(handler, NULL, stanza) : -ENOENT;
		rc = rc == STK_PASS ? -ENOENT : rc < 0 ? rc : 1;
	}
	stk_stanza_unref(stanza);
	return rc;
}

int stk_send(struct stk_module *module, struct stk_stanza *stanza)
{
	const char *to = stanza ? stk_stanza_to(stanza) : NULL;
	struct stk_jid parts;
	if (!to || stk_jid_parse(&parts, to) < 0) {
		stk_stanza_unref(stanza);
		return stanza ? -EINVAL : -ENOMEM;
	}
	const char *domain = served_by_module(module->server, &parts);
	if (domain) {
		return send_into_domain(module->server, stanza, domain);
	}
	struct stk_event event = { .size = sizeof(event), .hook = STK_ROUTE, .stanza = stanza };
	int verdict = module_run_hooks(module->server, &event);
	if (verdict != STK_PASS) {
		stk_stanza_unref(stanza);
		return verdict < 0 ? verdict : 0;
	}
	int count = 0;
	struct stk_session *one = parts.resource_len ? session_by_jid(module->server, to) : NULL;
	struct stk_session *each = parts.resource_len ? one : session_of_user(module->server, to);
	while (each) {
		struct stk_session *next = one ? NULL : each->user_next;
		if ((one || each->available) && router_deliver(each, stk_stanza_ref(stanza)) == 0) {
			count++;
		}
		each = next;
	}
	int rc = stanza_failed(stanza) ? -ENOMEM : count ? count : -ENOENT;
	if (rc == -ENOENT && stk_stanza_element(stanza) != STK_IQ && is_taken_over(module->server, NULL, stanza, rc)) {
		rc = 0;
	}
	stk_stanza_unref(stanza);
	return rc;
}

void stk_stored(struct stk_module *module, struct stk_stanza *message)
{
	struct stk_event event = { .size = sizeof(event), .hook = STK_STORED, .stanza = message };
	module_run_hooks(module->server, &event);
}

/* ---- in: login ---- */

static const char *serve_domain(const struct server *server, const char *domain)
{
	char folded[STK_JID_MAX + 1];
	struct stk_jid parts;
	if (!domain || stk_jid_parse(&parts, domain) < 0 || parts.node_len || parts.resource_len ||
	    stk_jid_fold(domain, folded, sizeof(folded)) < 0) {
		return NULL;
	}
	return settings_find_domain(server->settings, folded);
}

static struct stk_stanza *stream_header(const struct stk_session *session, const char *user)
{
	struct stk_stanza *stanza = stanza_new(STANZA_STREAM, "stream:stream", NULL, 512);
	if (!stanza) {
		return NULL;
	}
	struct stk_node *root = stanza_root(stanza);
	bool offered = !session->secure && (session->listen_tls == LISTEN_TLS_OPTIONAL || session->listen_tls == LISTEN_TLS_REQUIRED);
	stk_node_set(root, "from", session->domain);
	stk_node_set(root, "version", "1.0");
	stk_node_set(root, "user", user);
	stk_node_set(root, "sockmod", offered ? "TLS" : "");
	return stanza;
}

/* A client may leave its own JID out or write it bare or in full, before bind with any resource. */
static bool is_own(const struct stk_session *session, const char *from)
{
	if (!from) {
		return true;
	}
	const char *own = session->bare ? session->bare : session->claimed;
	const char *at = from[0] == '@' ? from + 1 : from; /* "@domain": a Welcome without user */
	struct stk_jid parts;
	if ((session->jid && strcmp(from, session->jid) == 0) || (session->bare && strcmp(from, session->bare) == 0)) {
		return true;
	}
	if (!stk_jid_same_bare(at, own) || stk_jid_parse(&parts, at) < 0) {
		return false;
	}
	return !session->jid || !parts.resource_len || strcmp(parts.resource, session->resource) == 0;
}

static void on_stream(struct stk_session *session, const struct stk_stanza *stanza, const char *from)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *version = stk_node_attr(root, "version"), *user = stk_node_attr(root, "user");
	const char *domain = serve_domain(session->server, stk_node_attr(root, "to"));
	user = user ? user : "";
	if (!domain) {
		stk_session_end(session, 222, "host is not surport");
		return;
	}
	if (!version || strcmp(version, "1.0") != 0) {
		stk_session_end(session, 222, "vresion is error");
		return;
	}
	size_t size = strlen(user) + strlen(domain) + 2;
	session->domain = strdup(domain);
	session->claimed = malloc(size);
	if (!session->domain || !session->claimed) {
		stk_session_end(session, 102, "out of memory");
		return;
	}
	snprintf(session->claimed, size, "%s%s%s", user, *user ? "@" : "", domain);
	if (!is_own(session, from)) {
		stk_session_end(session, 222, "from is not your own");
		return;
	}
	session->state = SESSION_STREAM;
	session_set_deadline(session, session->server->settings->login.auth_timeout);
	router_deliver(session, stream_header(session, user));
}

static void on_starttls(struct stk_session *session)
{
	if (session->secure) {
		stk_session_end(session, 222, "StartTLS inside TLS");
	} else if (session->listen_tls != LISTEN_TLS_OPTIONAL && session->listen_tls != LISTEN_TLS_REQUIRED) {
		stk_session_end(session, 222, "TLS is not offered here");
	} else {
		struct stk_stanza *proceed = stanza_new(STANZA_PROCEED, "proceed", "urn:ietf:params:xml:ns:xmpp-tls", 256);
		if (proceed) {
			stk_node_set(stanza_root(proceed), "domain", session->domain);
			stanza_seal(proceed);
			session->state = SESSION_SECURING;
			loop_command(session->server->loop, COMMAND_PROCEED, session->id, proceed, NULL);
		} else {
			stk_session_end(session, 102, "out of memory");
		}
	}
}

/* Welcomed, not logged in. */
static void input_stream(struct stk_session *session, const struct stk_stanza *stanza)
{
	switch (stanza_element(stanza)) {
	case STANZA_STREAM: stk_session_end(session, 222, "a second Welcome"); return;
	case STANZA_STARTTLS: on_starttls(session); return;
	case STANZA_AUTH:
		if (!session->secure && session->listen_tls == LISTEN_TLS_REQUIRED) {
			sasl_note_refusal(session, NULL, "TLS is required");
			stk_session_end(session, 222, "TLS is required");
		} else {
			sasl_start(session, stanza);
		}
		return;
	default: break;
	}
	if (stanza_is_request(stanza)) {
		send_iq_error(session, stanza, -EHOSTUNREACH);
	} else {
		log_write(LOG_DEBUG, "router: %s: dropped before login", session->address);
	}
}

/* ---- in: stanzas ---- */

static void settle(struct stk_session *session, struct stk_stanza *stanza, const struct handler *handler, int verdict)
{
	struct request *context = stanza_context(stanza);
	if (verdict < 0) {
		router_fail(stanza, verdict);
	} else if (verdict == STK_PASS) {
		router_fail(stanza, -ENOSYS);
	} else if (!context->answered && !context->deferred) {
		log_write(LOG_ERR, "module: %s: took a request of %s without an answer", handler->module->name, session->address);
		router_fail(stanza, -EIO);
	}
}

struct destination {
	int error;          /* 0, -EINVAL: no JID, -EHOSTDOWN: no domain of ours, -ENOENT: nobody */
	const char *domain; /* that it is in */
};

/* Where does TO lead? A user's bare JID is good whether the user is online or not; a request is for a session that is there;
 * who is in a domain that a module serves is the module's to say. */
static struct destination find_destination(const struct stk_session *session, const char *to, bool request)
{
	struct destination none = { .error = -EINVAL };
	struct stk_jid parts;
	struct folded bare;
	char user[STK_JID_MAX + 1];
	if (stk_jid_parse(&parts, to) < 0) {
		return none;
	}
	size_t len = strlen(session->bare);
	if (strncmp(to, session->bare, len) == 0 && (to[len] == '\0' || to[len] == '/')) { /* the usual spelling, checked below */
		return (struct destination){ .domain = session->domain };
	}
	if (jid_fold_bare(to, &parts, &bare) < 0) {
		return none;
	}
	memcpy(user, bare.text, bare.len);
	user[bare.len] = '\0';
	const char *in = parts.node_len ? strchr(user, '@') + 1 : user;
	const char *domain = settings_find_domain(session->server->settings, in);
	if (!domain) {
		domain = module_find_domain(session->server, in);
		return (struct destination){ .error = domain ? 0 : -EHOSTDOWN, .domain = domain };
	}
	bool foreign_resource = parts.resource_len && request && !stk_jid_same_bare(to, session->bare);
	if (foreign_resource && !session_by_jid(session->server, to)) {
		return (struct destination){ .error = -ENOENT, .domain = domain };
	}
	bool there = !parts.node_len || session_of_folded(session->server, &bare) || module_has_user(session->server, user);
	return (struct destination){ .error = there ? 0 : -ENOENT, .domain = domain };
}

static void dispatch(struct stk_session *session, struct stk_stanza *stanza)
{
	struct server *server = session->server;
	bool request = stanza_is_request(stanza);
	struct destination destination = find_destination(session, stk_stanza_to(stanza), request);
	if (destination.error < 0) {
		log_write(LOG_DEBUG, "router: %s: nobody at %s", session->address, stk_stanza_to(stanza));
		stk_bounce(session, stanza, destination.error);
		return;
	}
	struct stk_event event = { .size = sizeof(event), .hook = STK_STANZA_IN, .session = session, .stanza = stanza };
	int verdict = module_run_hooks(server, &event);
	stanza_seal(stanza);
	if (verdict != STK_PASS) {
		struct request *context = stanza_context(stanza);
		if (request && !context->answered && !context->deferred) {
			router_fail(stanza, verdict < 0 ? verdict : -EACCES);
		} else if (verdict < 0 && stanza_element(stanza) == STK_MESSAGE) {
			send_back(session, stanza, verdict);
		}
		return;
	}
	const struct handler *handler = module_find_handler(server, stanza, destination.domain);
	if (handler && request) {
		((struct request *)stanza_context(stanza))->module = handler->module;
	}
	verdict = handler ? call_handler(handler, session, stanza) : STK_PASS;
	if (request) {
		settle(session, stanza, handler, verdict);
	} else if (stanza_element(stanza) == STK_MESSAGE && verdict <= STK_PASS && session->state == SESSION_BOUND) {
		send_back(session, stanza, verdict < 0 ? verdict : -ENOSYS);
	} else if (verdict <= STK_PASS) {
		log_write(LOG_DEBUG, "router: %s: %s xmlns %s: nobody took it", session->address,
		          stk_node_name(stk_stanza_root(stanza)), stk_stanza_xmlns(stanza) ? stk_stanza_xmlns(stanza) : "-");
	}
}

/* From the session's own, to the own bare JID when nothing is said. A notify keeps the form of its sender that it came with. */
static void address_input(const struct stk_session *session, struct stk_stanza *stanza)
{
	bool notify = stanza_element(stanza) == STK_PRESENCE && stk_stanza_from(stanza);
	const char *self = session->jid ? session->jid : session->bare;
	if (!notify) {
		stk_stanza_set_from(stanza, self);
	}
	if (!stk_stanza_to(stanza)) {
		stk_stanza_set_to(stanza, session->bare);
	}
}

static void input_stanza(struct stk_session *session, struct stk_stanza *stanza)
{
	int element = stanza_element(stanza);
	if (element != STK_IQ && element != STK_MESSAGE && element != STK_PRESENCE) {
		stk_session_end(session, 222, "login is over");
		return;
	}
	bool request = stanza_is_request(stanza);
	if (element == STK_IQ && !request) {
		if (!ask_answered(session, stanza)) {
			log_write(LOG_DEBUG, "router: %s: an IQ that answers nothing", session->address);
		}
		session_run_due(session);
		return;
	}
	const char *xmlns = stk_stanza_xmlns(stanza);
	if (session->state != SESSION_BOUND && !(request && xmlns && strcmp(xmlns, BIND_XMLNS) == 0)) {
		if (request) {
			send_iq_error(session, stanza, -EDESTADDRREQ);
		}
		return;
	}
	address_input(session, stanza);
	struct request *context = NULL;
	if (request) {
		context = arena_alloc(stanza_arena(stanza), sizeof(*context));
		if (context) {
			*context = (struct request){ .server = session->server, .session = session->id };
			stanza_set_context(stanza, context);
		}
	}
	if (stanza_failed(stanza) || (request && !context)) {
		stk_session_end(session, 102, "out of memory");
		return;
	}
	dispatch(session, stanza);
	session_run_due(session);
}

static void input(struct stk_session *session, struct event *event)
{
	struct stk_stanza *stanza = event->stanza;
	log_write(LOG_DEBUG, "router: %s: %s", session->address, stk_node_name(stk_stanza_root(stanza)));
	if (session->state == SESSION_OPEN && stanza_element(stanza) == STANZA_STREAM) {
		on_stream(session, stanza, event->from);
	} else if (session->state == SESSION_OPEN) {
		stk_session_end(session, 222, "wait for stream");
	} else if (!is_own(session, event->from)) {
		stk_session_end(session, 222, "from is not your own");
	} else if (session->state == SESSION_STREAM) {
		input_stream(session, stanza);
	} else if (session->state == SESSION_AUTH && stanza_element(stanza) == STANZA_AUTH) {
		sasl_continue(session, stanza);
	} else if (session->state == SESSION_LOGGED_IN || session->state == SESSION_BOUND) {
		input_stanza(session, stanza);
	}
}

/* ---- mail ---- */

static void on_opened(struct server *server, const struct event *event)
{
	const char *why = NULL;
	if (server->stopping) {
		session_refuse(server, event->conn, 111, "system shutdown");
		return;
	}
	struct stk_session *session = session_new(server, event->conn, event->address, event->tls, &why);
	if (session) {
		session_tell_opened(session);
	} else {
		session_refuse(server, event->conn, 102, why);
	}
}

static void on_event(struct server *server, struct event *event)
{
	struct stk_session *session = session_by_id(server, event->conn);
	switch ((enum event_kind)event->mail.kind) {
	case EVENT_OPENED:
		on_opened(server, event);
		break;
	case EVENT_STANZA:
		if (session) {
			input(session, event);
			if (session->state == SESSION_STREAM) {
				session_go_on(session);
			}
		}
		break;
	case EVENT_SECURED:
		if (session) {
			session->secure = true;
			session->state = session->state == SESSION_SECURING ? SESSION_STREAM : session->state;
		}
		break;
	case EVENT_SENT:
	case EVENT_DELIVERED:
		if (session) {
			struct stk_event told = { .size = sizeof(told), .session = session, .mark = event->mark };
			told.hook = event->mail.kind == EVENT_SENT ? STK_SENT : STK_DELIVERED;
			module_run_hooks(server, &told);
		}
		break;
	case EVENT_BROKEN:
		if (session) {
			stk_session_end(session, event->code, event->why);
		} else if (!(event->conn & TRANSPORT_IDS)) {
			loop_command(server->loop, COMMAND_END, event->conn, NULL, NULL);
		}
		break;
	case EVENT_CLOSED:
		if (session) {
			log_write(LOG_INFO, "session: %s: %s (%s)", session->jid ? session->jid : "-", event->why, session->address);
			session_gone(session);
		}
		break;
	}
	event_free(event);
}

bool router_run(struct server *server)
{
	struct mail *mail = mailbox_take(&server->inbox);
	bool any = mail != NULL;
	while (mail) {
		struct mail *next = mail->next;
		switch (mail->kind) {
		case MAIL_JOB_DONE: job_returned(mail); break;
		case MAIL_POST: modapi_run_post(mail); break;
		case MAIL_WRITTEN: modapi_run_written(mail); break;
		default: on_event(server, (struct event *)mail); break;
		}
		mail = next;
	}
	session_reap(server);
	module_reap(server);
	return any;
}
