/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CLIENT_H
#define STK_TOOLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <startalkd/stanza.h>

#include "core/buf.h"
#include "tools/client_net.h"

#define CLIENT_ACCOUNTS_MAX 32
#define CLIENT_ID_SIZE 33    /* of an id that is made here: 32 hex digits and the NUL */
#define CLIENT_ID_MAX 128    /* bytes of an id that is given */
#define CLIENT_UNANSWERED 64 /* messages that may wait for the server's receipt */
#define CLIENT_VERSION 100   /* what the resource and messages say */
#define CLIENT_LINE_MAX (64u * 1024)
#define CLIENT_SECRET_MAX 4096

/* Somebody who logs in. */
struct client_account {
	char *name; /* by which /as and the output call the account */
	char *user, *domain;
	const char *password_file, *rsa_key, *resource; /* NULL: not given */
};

/* The command line. */
struct client_options {
	struct client_account accounts[CLIENT_ACCOUNTS_MAX]; /* the first is the main one */
	size_t accounts_n;
	const char *host; /* NULL: the domain of each account */
	const char *port, *tls_ca;
	const char *commands; /* of -c, one a line; NULL: they come from standard input */
	bool no_tls, tls_direct, tls_insecure, tls_verify, raw, no_marks;
	int64_t timeout; /* microseconds */
};

/* Lines that come in: from standard input, or all there from the start. */
struct client_input {
	struct buf buf;
	bool eof;
};

struct client;

/* What all accounts share. */
struct client_run {
	const struct client_options *options;
	struct client *clients; /* one for each account, in the same order */
	size_t clients_n;
	struct client *current; /* whom commands act for */
	struct client_input input;
	bool raw, interactive, quit;
	bool prompted; /* a prompt stands on the terminal's last line */
	bool lost;     /* a connection is over, or somebody wants us to stop */
};

/* What is sent and has an answer. */
enum client_sent { CLIENT_MESSAGE, CLIENT_MARK, CLIENT_OWN_MARK, CLIENT_REVOKE };

/* A message without the server's receipt. */
struct client_waiting {
	char id[CLIENT_ID_MAX + 1];
	enum client_sent kind;
};

/* One account, and its session. */
struct client {
	struct client_run *run;
	const struct client_account *account;
	const struct client_options *options; /* the run's */
	struct net net;
	char *bare, *full; /* own JID; full: once bound */
	char *chosen;      /* who is talked to, or NULL */
	int priority;
	bool unsettled;             /* something was sent that the server may not have dealt with */
	bool ended;                 /* the server has ended the stream, and that was shown */
	bool refused;               /* a message of ours came back and was not told as a failure yet */
	char asked[CLIENT_ID_SIZE]; /* id of the request that is waited for, or "" */
	struct stk_stanza *answer;  /* to it */
	struct client_waiting unanswered[CLIENT_UNANSWERED]; /* in the order they were sent */
	size_t unanswered_n;
	char *last_id, *last_to; /* of the last message that was sent, or NULL */
	struct json_t *unmarked; /* array of {to, ids}: what was displayed and its sender was not told; or NULL */
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

/* ---- stanzas out and in (client_stanza.c) ---- */

void client_make_id(char id[CLIENT_ID_SIZE]);
/* Queues STANZA (taken) and writes what can be written. SHOWN (borrowed) is what --raw shows instead, or NULL. 0 or
 * -errno, told. */
int client_send(struct client *client, struct stk_stanza *stanza, const struct stk_stanza *shown);
/* The next stanza that is in the input. 1 and STANZA (a reference), 0: none is there, or -EBADMSG, told. */
int client_receive(struct client *client, struct stk_stanza **stanza);

/* ---- the session (client_loop.c) ---- */

/* Waits for the server on all accounts' connections, and for standard input when WITH_INPUT, at most until DEADLINE;
 * shows what arrived. 0 or -errno: a connection is over, told. EXPIRED (may be NULL) tells whether DEADLINE has passed.
 */
int client_step(struct client_run *run, bool with_input, int64_t deadline, bool *expired);
/* Sends REQUEST (taken; an IQ get or set with id client->asked) and waits for its answer. 0 and ANSWER (a reference),
 * or -errno, told. */
int client_ask(struct client *client, struct stk_stanza *request, struct stk_stanza **answer, double *milliseconds);
/* Waits until the receipts of all but LEFT messages are there. 0 or -errno, told. */
int client_await_receipts(struct client *client, size_t left);
/* Waits until the server has dealt with what the other accounts sent. 0 or -errno, told. */
int client_settle_others(struct client *client);
/* Commands and what arrives, until the input ends, /quit, a failure in a script or the loss of a connection. 0 or
 * -errno, told. */
int client_run(struct client_run *run);

/* ---- chat (client_chat.c) ---- */

/* A message from STANZA, which has just arrived: shown, and its answers and marks seen to. */
void client_message(struct client *client, const struct stk_stanza *stanza);
/* Notes that MESSAGE, which was just displayed, was read, if its sender is one who wants to know. */
void client_displayed(struct client *client, const struct stk_node *message);
/* Sends the marks for what was displayed, one for all of a sender's messages. 0 or -errno, told. */
int client_send_marks(struct client *client);
/* Sends TEXT to a JID; ID: NULL makes one. 0 or -errno, told. */
int client_chat(struct client *client, const char *to, const char *text, const char *id);

/* ---- commands (client_cmd.c) ---- */

/* Does for CLIENT what LINE (changed on the way) says. 0 or -errno, told. */
int client_command(struct client *client, char *line);

/* ---- words (client_codes.c) ---- */

/* Error CODE's name, or "unknown error". */
const char *show_code(const char *code);
/* The code and the text of an error stanza, as "503 (service-unavailable): ..."; OUT has SIZE bytes. */
void show_failure(const struct stk_stanza *stanza, char *out, size_t size);
/* What the code of a StreamEnd means. */
const char *show_end(const char *code);
/* A number of seconds, or with unit ms, s or min. 0 and microseconds, or -EINVAL. */
int client_duration(const char *text, int64_t *us);

/* ---- showing (client_show.c) ---- */

/* Appends TEXT with everything escaped that could steer a terminal or mislead its reader; XML: as character references.
 * 0 or -ENOMEM. */
int show_escape(const char *text, bool xml, struct buf *out);
/* One line on standard output, with the time, that /expect can find. */
void show_line(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same without time. */
void show_untimed(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One line on standard output without time, that /expect does not see. */
void show_plain(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One line on standard error. */
void show_error(struct client *client, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* STANZA as XML behind PREFIX; INCOMING: that /expect can find. */
void show_raw(struct client *client, const char *prefix, const struct stk_stanza *stanza, bool incoming);
/* STANZA in words. */
void show_stanza(struct client *client, const struct stk_stanza *stanza);
void show_prompt(struct client_run *run);

/* JID as a person would call it: the user alone in the own domain; DEVICE: with the device in parentheses when it is
 * known. NULL is the own JID. OUT has SIZE bytes. */
void show_name(const struct client *client, const char *jid, bool device, char *out, size_t size);

/* ---- messages in words (client_words.c) ---- */

#define SHOW_NAME_SIZE 1200
#define SHOW_DATE_SIZE 48

void show_message(struct client *client, const struct stk_stanza *stanza);
/* The server's receipt for a message of KIND. */
void show_receipt(struct client *client, enum client_sent kind, const char *id);
/* A message of KIND that came back. */
void show_refusal(struct client *client, enum client_sent kind, const struct stk_stanza *stanza);
/* MS, digits: milliseconds since the epoch, as local date and time. */
void show_date(const char *ms, char out[SHOW_DATE_SIZE]);
/* Is NODE, a message, from the own account? */
bool show_is_own(const struct client *client, const struct stk_node *node);

#endif
