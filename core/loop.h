/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_LOOP_H
#define STK_CORE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "core/mailbox.h"
#include "core/settings.h"
#include "core/stanza.h"
#include "core/tls.h"

/* An I/O loop owns sockets: it speaks TLS, cuts frames and runs the codec. The router's thread runs the first loop, which accepts; others,
 * each on a thread of its own, may stand beside it. A loop meets the router through two mailboxes only: events to it, commands
 * from it. A connection is named by its handle, never by a pointer; the handle tells which loop has it. */
struct loop;

#define CONN_NONE 0        /* no connection has this handle */
#define LOOP_THREADS_MAX 64

/* Events, in the router's mailbox. */
enum event_kind {
	EVENT_OPENED,  /* a new connection: address, tls, secure */
	EVENT_STANZA,  /* stanza, from (the envelope's, or NULL) */
	EVENT_SECURED, /* the TLS handshake that COMMAND_PROCEED began is done */
	EVENT_BROKEN,  /* nothing more will be read; the router is to end it: code, why */
	EVENT_CLOSED,  /* gone by itself: why */
	EVENT_SENT,      /* all tracked stanzas up to mark have been given to the kernel */
	EVENT_DELIVERED, /* ... are with the peer */
};

struct event {
	struct mail mail;
	uint64_t conn;
	struct loop *loop;         /* it came from; NULL: none */
	size_t weight;             /* of what is under way from that loop, this much */
	struct stk_stanza *stanza; /* one reference; the event lies in its arena when there is one, else it is malloc'd */
	const char *from;
	const char *why; /* constant text */
	int code;
	uint64_t mark;
	int tls; /* enum listen_tls of the listener */
	bool secure;
	char address[56]; /* "ADDRESS:PORT", IPv6 in brackets */
};

/* EVENT has been dealt with: its connection may send more. The router's thread. */
void event_free(struct event *event);

/* Commands, in a loop's mailbox. */
enum command_kind {
	COMMAND_SEND,    /* stanza; mark and tell_sent when it is tracked */
	COMMAND_HOLD,    /* stop reading until COMMAND_RESUME */
	COMMAND_RESUME,  /* before login a connection waits after each stanza until the router has dealt with it */
	COMMAND_PROCEED, /* stanza in clear, then the TLS handshake */
	COMMAND_LOGIN,   /* self: the account is known, larger frames are read and no longer one by one */
	COMMAND_SELF,    /* self: the full JID */
	COMMAND_END,     /* stanza (may be NULL), then close */
};

struct command {
	struct mail mail;
	uint64_t conn;
	struct stk_stanza *stanza; /* one reference, or NULL */
	uint64_t mark;             /* 0: not tracked */
	bool tell_sent, pooled;
	char self[];               /* COMMAND_LOGIN and COMMAND_SELF */
};

/* The first loop, on EV, which the calling thread runs: it is the router's. EVENTS is where events go. */
struct loop *loop_new(struct ev_loop *ev, struct mailbox *events, const struct settings_limits *limits,
                      struct tls_credentials *credentials);

/* All of the following are for the router's thread, and LOOP is the first loop. */

/* FN(ARG) is called between two connections when a batch of events from LOOP waits for the router, so that stanzas are still in the
 * processor's caches when they are routed and written. */
void loop_on_batch(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Starts THREADS (LOOP_THREADS_MAX at most) loops more, among which new connections are spread. 0 or -errno. */
int loop_start(struct loop *loop, unsigned threads);
/* A socket bound to LISTEN's address, or -errno with ERR a text. Nobody can connect to it yet, unless it was handed over. */
int listen_bind(const struct settings_listen *listen, char *err, size_t errlen);
/* Could each of LIST be bound that is not in LISTENING, addresses parted by spaces? 0, or -errno and every fault reported. */
int listen_check(const struct settings_listen *list, const char *listening, conf_report_fn *report, void *arg);
/* Accepts from FD, which is bound and the loop's from now on. 0 or -errno with ERR a text; then FD stays the caller's. */
int loop_listen(struct loop *loop, const struct settings_listen *listen, int fd, char *err, size_t errlen);
/* Accepts no more. Up to MOST of the sockets are not closed but given to FDS; how many. */
size_t loop_stop_listening(struct loop *loop, int *fds, size_t most);
/* Gives the loop that has CONN a command, with the next loop_deliver() at the latest. SELF may be NULL. The reference to STANZA is taken
 * in every case. 0 or -ENOMEM. */
int loop_command(struct loop *loop, enum command_kind kind, uint64_t conn, struct stk_stanza *stanza, const char *self);
/* COMMAND_SEND of a tracked stanza: EVENT_DELIVERED, and EVENT_SENT if TELL_SENT, come back with MARK, or with a later one. */
int loop_send_tracked(struct loop *loop, uint64_t conn, struct stk_stanza *stanza, uint64_t mark, bool tell_sent);
/* Hands over all commands, and lets loops read on as far as their events have been dealt with. */
void loop_deliver(struct loop *loop);
/* One round of LOOP itself: commands, what connections have to write (once an iteration, so that frames share TCP segments), events. True:
 * there was anything. */
bool loop_run(struct loop *loop);
/* Only does the commands; what they send leaves with the next loop_run(). */
bool loop_work(struct loop *loop);
/* Limits and credentials of all loops from now on; connections that are open keep their credentials. */
void loop_configure(struct loop *loop, const struct settings_limits *limits, struct tls_credentials *credentials);
/* Calls EACH with the address ("ADDRESS:PORT") of each listener until it returns false. */
void loop_each_listener(struct loop *loop, bool (*each)(const char *address, enum stk_tls tls, void *arg), void *arg);
/* New connections are refused, because of WHY (constant text); NULL: no more. */
void loop_refuse_all(struct loop *loop, const char *why);
size_t loop_connections(const struct loop *loop); /* of all loops */
/* Ends the threads and closes everything at once. Events may be left in the router's mailbox, and must be freed before loop_free(). */
void loop_stop(struct loop *loop);
void loop_free(struct loop **loop);

#endif
