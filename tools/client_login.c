/* SPDX-License-Identifier: MIT */
/* The terminal client's login: Welcome, TLS, Auth, Bind and the first presence, one after the other, each with a bound.
 * Owns their order and what is said when one is refused. What Auth carries is made in client_secret.c. */

#include "tools/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <startalkd/jid.h>

#include "core/stanza.h"

#define XMLNS_TLS "urn:ietf:params:xml:ns:xmpp-tls"
#define XMLNS_SASL "urn:ietf:params:xml:ns:xmpp-sasl"
#define XMLNS_BIND "urn:ietf:params:xml:ns:xmpp-bind"

static int end_login(struct client *client, const struct stk_stanza *end)
{
	const struct stk_node *root = stk_stanza_root(end);
	const char *code = stk_node_attr(root, "code"), *reason = stk_node_attr(root, "reason");
	show_error(client, "login refused: the server ended the stream with %s (%s): %s", code ? code : "no code",
		   show_end(code), reason ? reason : "no reason");
	return -ECONNREFUSED;
}

/* Waits for the next stanza; WHAT names what it answers. */
static int await_stanza(struct client *client, const char *what, int64_t deadline, struct stk_stanza **out)
{
	int rc, lost = 0;
	while ((rc = client_receive(client, out)) == 0) {
		struct pollfd pollfd = { .fd = client->net.fd, .events = net_events(&client->net) };
		if (lost < 0) {
			show_error(client, "login failed: no answer to %s: %s", what, client->net.error);
			return lost;
		}
		int ready = net_has_buffered(&client->net) ? 1 : wait_fds(&pollfd, 1, deadline);
		ready = ready > 0 && clock_us() >= deadline ? 0 : ready; /* what comes stands for nothing */
		if (ready <= 0) {
			show_error(client, "login failed: no answer to %s: %s", what,
				   ready ? "interrupted" : "time-out");
			return ready ? ready : -ETIMEDOUT;
		}
		lost = net_io(&client->net);
	}
	if (rc < 0) {
		return rc;
	}
	if (stanza_element(*out) == STANZA_STREAM_END) {
		rc = end_login(client, *out);
		stk_stanza_unref(*out);
		*out = NULL;
		return rc;
	}
	return 0;
}

/* The same, for one of two elements; what else comes is shown. */
static int await_element(struct client *client, const char *what, int one, int other, struct stk_stanza **out)
{
	int64_t deadline = clock_us() + client->options->timeout;
	for (;;) {
		int rc = await_stanza(client, what, deadline, out);
		if (rc < 0 || stanza_element(*out) == one || stanza_element(*out) == other) {
			return rc;
		}
		show_stanza(client, *out);
		stk_stanza_unref(*out);
		*out = NULL;
	}
}

/* ---- Welcome and TLS ---- */

static int welcome(struct client *client, bool *tls_offered)
{
	struct stk_stanza *stanza = stanza_new(STANZA_STREAM, "stream:stream", "jabber:client", 512), *answer;
	struct stk_node *root = stk_stanza_edit(stanza);
	stk_node_set(root, "to", client->account->domain);
	stk_node_set(root, "version", "1.0");
	stk_node_set(root, "user", client->account->user);
	int rc = client_send(client, stanza, NULL);
	rc = rc < 0 ? rc : await_element(client, "Welcome", STANZA_STREAM, STANZA_STREAM, &answer);
	if (rc < 0) {
		return rc;
	}
	const char *sockmod = stk_node_attr(stk_stanza_root(answer), "sockmod");
	*tls_offered = sockmod && strcmp(sockmod, "TLS") == 0;
	stk_stanza_unref(answer);
	return 0;
}

static int handshake(struct client *client)
{
	const struct client_options *options = client->options;
	struct net_trust trust = { .domain = client->account->domain,
				   .ca_file = options->tls_ca,
				   .insecure = options->tls_insecure,
				   .lenient = !options->tls_verify && !options->tls_ca };
	int rc = net_start_tls(&client->net, &trust, clock_us() + options->timeout);
	if (rc == 1) {
		show_error(client,
			   "warning: accepted on this machine only: the server's certificate cannot be verified: %s",
			   client->net.error);
		return 0;
	}
	if (rc == -EACCES) {
		show_error(client,
			   "the server's certificate for %s cannot be trusted: %s "
			   "If it is the server's own (tls.crt in its state directory), give it with --tls-ca FILE; "
			   "--tls-insecure takes any certificate.",
			   client->account->domain, client->net.error);
	} else if (rc < 0) {
		show_error(client, "%s", rc == -EINTR ? "interrupted" : client->net.error);
	}
	return rc;
}

static int start_tls(struct client *client)
{
	struct stk_stanza *stanza = stanza_new(STANZA_STARTTLS, "starttls", XMLNS_TLS, 256), *answer;
	int rc = client_send(client, stanza, NULL);
	rc = rc < 0 ? rc : await_element(client, "StartTLS", STANZA_PROCEED, STANZA_PROCEED, &answer);
	if (rc < 0) {
		return rc;
	}
	stk_stanza_unref(answer);
	if (client->net.in.len) {
		show_error(client, "there were bytes in clear behind ProceedTLS: somebody may be tampering with them");
		return -EPROTO;
	}
	return handshake(client);
}

static int secure(struct client *client)
{
	const struct client_options *options = client->options;
	bool offered = false;
	int rc = options->tls_direct ? handshake(client) : 0;
	rc = rc < 0 ? rc : welcome(client, &offered);
	if (rc < 0 || options->tls_direct) {
		return rc;
	}
	if (options->no_tls) {
		if (!client->net.loopback && !client->account->rsa_key) {
			show_error(client, "warning: the password goes over the network in clear");
		}
		return 0;
	}
	if (!offered) {
		show_error(client, "the server does not offer TLS; --no-tls goes on in clear");
		return -EPROTO;
	}
	return start_tls(client);
}

/* ---- Auth ---- */

static const char *explain(const char *reason)
{
	static const struct {
		const char *reason, *words;
	} known[] = {
		{ "not-authorized", "wrong user name or password" },
		{ "no-user", "there is no such user" },
		{ "nopass", "no password was given" },
		{ "out_of_date", "the token is no longer valid" },
		{ "bad-protocol", "the server did not understand the login" },
		{ "cancel-rsa", "the server does not take RSA credentials here; try without --rsa-key" },
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (strcmp(known[i].reason, reason) == 0) {
			return known[i].words;
		}
	}
	return "see the server's log";
}

static struct stk_stanza *make_auth(const char *id, const char *text)
{
	struct stk_stanza *stanza = stanza_new(STANZA_AUTH, "auth", XMLNS_SASL, strlen(text) + 512);
	struct stk_node *root = stk_stanza_edit(stanza);
	stk_node_set(root, "mechanism", "PLAIN");
	stk_node_set(root, "id", id);
	stk_node_set_text(root, text);
	return stanza;
}

static int authenticate(struct client *client, const char *auth_key)
{
	char id[CLIENT_ID_SIZE];
	struct stk_stanza *answer;
	client_make_id(id);
	struct stk_stanza *auth = make_auth(id, auth_key), *shown = make_auth(id, "(not shown)");
	int rc = client_send(client, shown ? auth : NULL, shown);
	if (!shown) {
		stk_stanza_unref(auth);
	}
	stk_stanza_unref(shown);
	rc = rc < 0 ? rc : await_element(client, "Auth", STANZA_SUCCESS, STANZA_FAILURE, &answer);
	if (rc < 0) {
		return rc;
	}
	if (stanza_element(answer) == STANZA_FAILURE) {
		const char *reason = stk_node_attr(stk_stanza_root(answer), "reason");
		reason = reason ? reason : "no reason";
		show_error(client, "login refused: %s (%s)", reason, explain(reason));
		rc = -EACCES;
	}
	stk_stanza_unref(answer);
	return rc;
}

/* ---- Bind and presence ---- */

static int take_jid(struct client *client, const char *jid)
{
	struct stk_jid parts;
	if (stk_jid_parse(&parts, jid) < 0 || !parts.node_len || !parts.resource_len) {
		show_error(client, "login failed: the answer to Bind has no full JID");
		return -EPROTO;
	}
	char *full = strdup(jid), *bare = strndup(jid, (size_t)(parts.resource - jid) - 1);
	if (!full || !bare) {
		free(full);
		free(bare);
		show_error(client, "out of memory");
		return -ENOMEM;
	}
	free(client->full);
	free(client->bare);
	client->full = full;
	client->bare = bare;
	return 0;
}

static struct stk_stanza *make_bind(const struct client *client)
{
	char resource[128], id[CLIENT_ID_SIZE], id_of_device[CLIENT_ID_SIZE];
	client_make_id(id);
	client_make_id(id_of_device);
	snprintf(resource, sizeof(resource), "V[%d]_P[LINUX]_ID[%s]_C[1]_PB", CLIENT_VERSION, id_of_device);
	struct stk_stanza *stanza = stk_stanza_new(STK_IQ, "set", id);
	struct stk_node *bind = stk_node_add(stk_stanza_edit(stanza), "bind", XMLNS_BIND);
	stk_node_set_text(stk_node_add(bind, "resource", NULL),
			  client->account->resource ? client->account->resource : resource);
	return stanza;
}

static int bind_resource(struct client *client)
{
	struct stk_stanza *request = make_bind(client), *answer;
	char id[CLIENT_ID_SIZE], why[512];
	snprintf(id, sizeof(id), "%s", request ? stk_stanza_id(request) : "");
	int rc = client_send(client, request, NULL);
	while (rc == 0) {
		rc = await_element(client, "Bind", STK_IQ, STK_IQ, &answer);
		if (rc < 0) {
			return rc;
		}
		const char *answered = stk_stanza_id(answer), *type = stk_stanza_type(answer);
		bool ours = answered && strcmp(answered, id) == 0;
		if (ours && type && strcmp(type, "result") == 0) {
			const struct stk_node *bind = stk_node_child(stk_stanza_root(answer), "bind", XMLNS_BIND);
			rc = take_jid(client, stk_node_text(stk_node_child(bind, "jid", NULL)));
		} else if (ours) {
			show_failure(answer, why, sizeof(why));
			show_error(client, "login refused: no resource: error %s", why);
			rc = -EACCES;
		} else {
			show_stanza(client, answer);
		}
		stk_stanza_unref(answer);
		if (ours) {
			return rc;
		}
	}
	return rc;
}

static int become_available(struct client *client)
{
	char priority[16];
	struct stk_stanza *presence = stk_stanza_new(STK_PRESENCE, NULL, NULL);
	snprintf(priority, sizeof(priority), "%d", client->priority);
	stk_node_set_text(stk_node_add(stk_stanza_edit(presence), "priority", NULL), priority);
	return client_send(client, presence, NULL);
}

int client_login(struct client *client, const char *auth_key)
{
	int rc = secure(client);
	rc = rc < 0 ? rc : authenticate(client, auth_key);
	rc = rc < 0 ? rc : bind_resource(client);
	if (rc < 0) {
		return rc;
	}
	show_line(client, "logged in as %s%s", client->full, client->net.tls ? "" : " (in clear)");
	return become_available(client);
}
