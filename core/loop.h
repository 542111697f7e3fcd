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

/* An I/O loop owns sockets: it accepts, speaks TLS, cuts frames and runs the codec. It meets the router through two mailboxes
 * only: events to it, commands from it. A connection is named by its handle, never by a pointer. */
struct loop;

#define CONN_NONE 0 /* no connection has this handle */

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
	struct stk_stanza *stanza; /* one reference; the event lies in its arena when there is one, else it is malloc'd */
	const char *from;
	const char *why; /* constant text */
	int code;
	uint64_t mark;
	int tls; /* enum listen_tls of the listener */
	bool secure;
	char address[56]; /* "ADDRESS:PORT", IPv6 in brackets */
};

void event_free(struct event *event);

/* Commands, in the loop's mailbox. */
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
	bool tell_sent;
	char self[];               /* COMMAND_LOGIN and COMMAND_SELF */
};

/* A loop on EV, which the calling thread runs. EVENTS is where its events go. SETTINGS must live as long as the loop. */
struct loop *loop_new(struct ev_loop *ev, struct mailbox *events, const struct settings *settings,
                      struct tls_credentials *credentials);
/* Binds LISTEN's socket and accepts from it. 0 or -errno with ERR a text. */
int loop_listen(struct loop *loop, const struct settings_listen *listen, char *err, size_t errlen);
void loop_stop_listening(struct loop *loop);
/* Gives the loop a command. SELF may be NULL. The reference to STANZA is taken in every case. 0 or -ENOMEM. Thread-safe. */
int loop_command(struct loop *loop, enum command_kind kind, uint64_t conn, struct stk_stanza *stanza, const char *self);
/* COMMAND_SEND of a tracked stanza: EVENT_DELIVERED, and EVENT_SENT if TELL_SENT, come back with MARK, or with a later one. */
int loop_send_tracked(struct loop *loop, uint64_t conn, struct stk_stanza *stanza, uint64_t mark, bool tell_sent);
/* Deals with the commands that wait; true when there were any. The loop's thread. */
bool loop_run_commands(struct loop *loop);
/* Writes what connections have waiting: once an iteration, so that frames share TCP segments. The loop's thread. */
void loop_flush(struct loop *loop);
/* Used for connections from now on; those that are open keep theirs. The loop's thread. */
void loop_set_credentials(struct loop *loop, struct tls_credentials *credentials);
/* Calls EACH with the address ("ADDRESS:PORT") of each listener until it returns false. The loop's thread. */
void loop_each_listener(const struct loop *loop, bool (*each)(const char *address, enum stk_tls tls, void *arg), void *arg);
size_t loop_connections(const struct loop *loop);
/* Closes everything at once. */
void loop_free(struct loop **loop);

#endif
