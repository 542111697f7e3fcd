/* SPDX-License-Identifier: MIT */
/* Logging in, step by step, as real clients do: each step waits for the answer to the one before. A session counts as
 * online when a ping sent behind its first presence is answered. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/session.h"

#define PASSWORD_MAX 128
#define ID_FIRST "first"

enum {
	WELCOME_SOCKMOD = 4,
	FAILURE_ERROR = 3,
	IQ_ID = 4,
	IQ_BODY = 6,
	IQ_DEFINED_KEY = 11,
	BODY_VALUE = 2,
	KEY_RESULT = 80
};

const char *login_step(enum session_state state)
{
	static const char *const names[] = { "the connection",
					     "Welcome",
					     "ProceedTLS",
					     "the TLS handshake",
					     "the answer to Auth",
					     "the answer to Bind",
					     "the answer to the first ping",
					     "nothing",
					     "nothing" };
	return names[state];
}

static void send_welcome(struct session *session)
{
	char user[64];
	struct bench *bench = session->bench;
	snprintf(user, sizeof(user), "%s%05u", bench->options.prefix, session->user);
	session->state = SESSION_WELCOME;
	session_send(session, frame_welcome(&bench->codec, bench->options.domain, user));
}

/* The credential: the password, or JSON with it under the server's RSA key, in base64. Returns its length. */
static size_t make_credential(struct bench *bench, const char *user, char *out, size_t size)
{
	char json[512];
	gnutls_datum_t plain = { .data = (unsigned char *)json }, secret = { 0 }, text = { 0 };
	if (!bench->rsa) {
		return (size_t)snprintf(out, size, "%s", bench->options.password);
	}
	plain.size = (unsigned)snprintf(json, sizeof(json), "{\"p\":\"%s\",\"u\":\"%s\",\"a\":\"testapp\"}",
					bench->options.password, user);
	if (gnutls_pubkey_encrypt_data(bench->rsa, 0, &plain, &secret) < 0 ||
	    gnutls_base64_encode2(&secret, &text) < 0 || text.size >= size) {
		die("RSA: cannot encrypt the credential");
	}
	size_t n = text.size;
	memcpy(out, text.data, n);
	gnutls_free(secret.data);
	gnutls_free(text.data);
	return n;
}

static void send_auth(struct session *session)
{
	char key[2048], from[BENCH_JID], user[64];
	struct bench *bench = session->bench;
	int n = snprintf(user, sizeof(user), "%s%05u", bench->options.prefix, session->user);
	key[0] = '\0';
	memcpy(key + 1, user, (size_t)n + 1);
	size_t len = (size_t)n + 2;
	len += make_credential(bench, user, key + len, sizeof(key) - len);
	gnutls_datum_t plain = { .data = (unsigned char *)key, .size = (unsigned)len }, text = { 0 };
	if (gnutls_base64_encode2(&plain, &text) < 0) {
		die("out of memory");
	}
	snprintf(from, sizeof(from), "%s@%s", user, bench->options.domain);
	session->state = SESSION_AUTH;
	struct view frame = frame_auth(&bench->codec, from, (const char *)text.data);
	gnutls_free(text.data);
	session_send(session, frame);
}

/* Of startalk-bare, which sends back what it gets: the ping too. */
static void begin_bare(struct session *session)
{
	char jid[BENCH_JID];
	const struct options *options = &session->bench->options;
	snprintf(jid, sizeof(jid), "%s%05u@%s/bare", options->prefix, session->user, options->domain);
	session->jid = strdup(jid);
	if (!session->jid) {
		die("out of memory");
	}
	session->state = SESSION_PING;
	session_send(session, frame_ping(&session->bench->codec, session->jid, ID_FIRST));
}

void login_connected(struct session *session)
{
	if (session->bench->options.bare) {
		begin_bare(session);
	} else {
		send_welcome(session);
	}
}

void login_secured(struct session *session)
{
	if (session->bench->options.tls == TLS_DIRECT) {
		login_connected(session);
	} else {
		send_auth(session);
	}
}

static void take_welcome(struct session *session, const struct frame *frame)
{
	bool offered = view_is(field_bytes(frame->inner, WELCOME_SOCKMOD), "TLS");
	if (session->bench->options.tls != TLS_START) {
		send_auth(session);
	} else if (offered) {
		session->state = SESSION_PROCEED;
		session_send(session, frame_starttls(&session->bench->codec));
	} else {
		session_fail(session, "the server does not offer StartTLS");
	}
}

static void take_auth(struct session *session, const struct frame *frame)
{
	char resource[96];
	struct bench *bench = session->bench;
	if (frame->signal == SIGNAL_FAILURE) {
		struct view reason = field_bytes(frame->inner, FAILURE_ERROR);
		session_fail(session, "login refused: %.*s", (int)(reason.len < 100 ? reason.len : 100),
			     reason.data ? (const char *)reason.data : "");
		return;
	}
	snprintf(resource, sizeof(resource),
		 bench->options.short_resource ? "%016x%016x" : "V[200012]_P[PC64]_ID[%016x%016x]_C[1]_PB", bench->run,
		 session->serial);
	session->state = SESSION_BIND;
	session_send(session, frame_bind(&bench->codec, resource));
}

static void take_bind(struct session *session, const struct frame *frame)
{
	struct codec *codec = &session->bench->codec;
	struct view jid = field_bytes(field_bytes(frame->inner, IQ_BODY), BODY_VALUE);
	if (field_int(frame->inner, IQ_DEFINED_KEY) != KEY_RESULT || !jid.len || jid.len >= BENCH_JID) {
		session_fail(session, "bind was refused");
		return;
	}
	session->jid = strndup((const char *)jid.data, jid.len);
	if (!session->jid) {
		die("out of memory");
	}
	session->state = SESSION_PING;
	session_send(session, frame_priority(codec, session->jid));
	session_send(session, frame_ping(codec, session->jid, ID_FIRST));
}

static void come_online(struct session *session)
{
	session->state = SESSION_ONLINE;
	session->bench->logging_in--;
	session->bench->online++;
	session->role->online(session->bench, session);
}

void login_frame(struct session *session, const struct frame *frame)
{
	unsigned signal = frame->signal;
	bool answers_ping = signal == SIGNAL_IQ && view_is(field_bytes(frame->inner, IQ_ID), ID_FIRST);
	if (session->state == SESSION_WELCOME && signal == SIGNAL_WELCOME) {
		take_welcome(session, frame);
	} else if (session->state == SESSION_PROCEED && signal == SIGNAL_PROCEED) {
		session_start_tls(session);
	} else if (session->state == SESSION_AUTH && (signal == SIGNAL_SUCCESS || signal == SIGNAL_FAILURE)) {
		take_auth(session, frame);
	} else if (session->state == SESSION_BIND && signal == SIGNAL_IQ) {
		take_bind(session, frame);
	} else if (session->state == SESSION_PING && answers_ping) {
		if (session->bench->options.bare || field_int(frame->inner, IQ_DEFINED_KEY) == KEY_RESULT) {
			come_online(session);
		} else {
			session_fail(session, "the first ping was answered with an error; is the module ping on?");
		}
	} else if (signal != SIGNAL_PRESENCE && signal != SIGNAL_CHAT) {
		session_fail(session, "signal %u came instead of %s", signal, login_step(session->state));
	}
}
