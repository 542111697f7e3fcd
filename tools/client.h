/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CLIENT_H
#define STK_TOOLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <startalkd/stanza.h>

#include "core/buf.h"
#include "tools/client_net.h"

#define CLIENT_ID_SIZE 33    /* 32 hex digits and the NUL */
#define CLIENT_UNANSWERED 64 /* messages that may wait for the server's receipt */
#define CLIENT_VERSION 100   /* what the resource and messages say */
#define CLIENT_LINE_MAX (64u * 1024)
#define CLIENT_SECRET_MAX 4096

/* The command line. */
struct client_options {
	const char *user, *domain; /* of the JID */
	const char *host, *port;
	const char *password_file, *rsa_key, *tls_ca, *resource;
	const char *commands; /* of -c, one a line; NULL: they come from standard input */
	bool no_tls, tls_direct, tls_insecure, tls_verify, raw;
	int64_t timeout; /* microseconds */
};

/* Lines that come in: from standard input, or all there from the start. */
struct client_input {
	struct buf buf;
	bool eof;
};

struct client {
	const struct client_options *options;
	struct net net;
	struct client_input input;
	char *bare, *full; /* own JID; full: once bound */
	char *chosen;      /* who is talked to, or NULL */
	int priority;
	bool raw, interactive, quit;
	bool prompted;              /* a prompt stands on the terminal's last line */
	bool ended;                 /* the server has ended the stream, and that was shown */
	bool lost;                  /* the connection is over, or somebody wants us to stop */
	bool refused;               /* a message of ours came back and was not told as a failure yet */
	char asked[CLIENT_ID_SIZE]; /* id of the request that is waited for, or "" */
	struct stk_stanza *answer;  /* to it */
	char unanswered[CLIENT_UNANSWERED][CLIENT_ID_SIZE]; /* messages without a receipt */
	size_t unanswered_n;
	char keepalive[CLIENT_ID_SIZE]; /* id of the last keep-alive while it has no answer, or "" */
	int64_t keepalive_at;           /* when the next one is due */
	struct buf shown; /* lines of what arrived that no /expect has matched yet; the oldest are dropped */
};

/* ---- secrets (client_secret.c) ---- */

/* The password from FILE's first line, or, when FILE is NULL, asked on the terminal. 0 and SECRET to be freed with
 * client_secret_free(); else -errno, told. */
int client_password(struct client *client, const char *file, char **secret);
/* What Auth carries: base64 of NUL, user, NUL, credential; the credential is encrypted when there is an RSA key. Same
 * errors. */
int client_auth_key(struct client *client, const char *password, char **secret);
void client_secret_free(char **secret);

/* ---- login (client_login.c) ---- */

/* From the connected socket to an available session; AUTH_KEY as client_auth_key() made it. 0 or -errno, told. */
int client_login(struct client *client, const char *auth_key);

/* ---- the session (client_loop.c) ---- */

void client_make_id(char id[CLIENT_ID_SIZE]);
/* Queues STANZA (taken) and writes what can be written. SHOWN (borrowed) is what --raw shows instead, or NULL. 0 or
 * -errno, told. */
int client_send(struct client *client, struct stk_stanza *stanza, const struct stk_stanza *shown);
/* The next stanza that is in the input. 1 and STANZA (a reference), 0: none is there, or -EBADMSG, told. */
int client_receive(struct client *client, struct stk_stanza **stanza);
/* Waits for the server, and for standard input when WITH_INPUT, at most until DEADLINE; shows what arrived. 0 or
 * -errno: the connection is over, told. EXPIRED (may be NULL) tells whether DEADLINE has passed. */
int client_step(struct client *client, bool with_input, int64_t deadline, bool *expired);
/* Sends REQUEST (taken; an IQ get or set with id client->asked) and waits for its answer. 0 and ANSWER (a reference),
 * or -errno, told. */
int client_ask(struct client *client, struct stk_stanza *request, struct stk_stanza **answer, double *milliseconds);
/* Waits until the receipts of all but LEFT messages are there. 0 or -errno, told. */
int client_await_receipts(struct client *client, size_t left);
/* Commands and what arrives, until the input ends, /quit, a failure in a script or the loss of the connection. 0 or
 * -errno, told. */
int client_run(struct client *client);

/* ---- commands (client_cmd.c) ---- */

/* Does what LINE (changed on the way) says. 0 or -errno, told. */
int client_command(struct client *client, char *line);
/* A number of seconds, or with unit ms, s or min. 0 and microseconds, or -EINVAL. */
int client_duration(const char *text, int64_t *us);

/* ---- showing (client_show.c) ---- */

/* Appends TEXT with everything escaped that could steer a terminal or mislead its reader; XML: as character references.
 * 0 or -ENOMEM. */
int show_escape(const char *text, bool xml, struct buf *out);
/* One line on standard output, with the time, that /expect can find. */
void show_line(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One line on standard output without time, that /expect does not see. */
void show_plain(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One line on standard error. */
void show_error(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* STANZA as XML behind PREFIX; INCOMING: that /expect can find. */
void show_raw(struct client *client, const char *prefix, const struct stk_stanza *stanza, bool incoming);
/* STANZA in words. */
void show_stanza(struct client *client, const struct stk_stanza *stanza);
void show_prompt(struct client *client);
/* Error CODE's name, or "unknown error". */
const char *show_code(const char *code);
/* The code and the text of an error stanza, as "503 (service-unavailable): ..."; OUT has SIZE bytes. */
void show_failure(const struct stk_stanza *stanza, char *out, size_t size);
/* What the code of a StreamEnd means. */
const char *show_end(const char *code);

#endif
