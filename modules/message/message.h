/* SPDX-License-Identifier: MIT */
#ifndef MESSAGE_MESSAGE_H
#define MESSAGE_MESSAGE_H

#include <startalkd/module.h>
#include <startalkd/service.h>

/* What is special about a type of message. */
enum kind_flags {
	KIND_CLIENT = 1,   /* clients send it; the others come from modules only */
	KIND_STORE = 2,    /* goes into the archive, and waits there for who is offline */
	KIND_APPLY = 4,    /* acts on what is in the archive */
	KIND_BODY = 8,     /* makes no sense without text */
	KIND_RECEIPT = 16, /* its sender is told with an mstat when the server has it */
	KIND_COPY = 32,    /* the sender's other sessions get a copy, unless the option says otherwise */
	KIND_FLEETING = 64 /* may be dropped when nobody is there to see it */
};

struct kind {
	const char *type;
	unsigned flags;
};

struct conf {
	int deliver_to; /* enum deliver_to */
	const char *const *copies;
};

enum deliver_to { DELIVER_HIGHEST, DELIVER_ALL };

struct state {
	const struct conf *conf;
	struct stk_service *archive;
	struct sender *senders; /* all of them */
	struct sender *modules; /* what modules send has one queue */
	int slot;               /* of each session's struct sender */
};

/* A message on its way, as it goes through the queue of its sender. */
struct parcel {
	struct parcel *next;
	struct stk_module *module; /* NULL: unloaded while the archive was at work */
	struct sender *sender;
	struct stk_stanza *stanza; /* one reference */
	const struct kind *kind;
	bool ready;
	int status;
	uint64_t row;
	int64_t time; /* of the message that is stored under this id already; 0: it is new */
};

/* ---- deliver.c ---- */

/* Brings PARCEL to its recipients, own copies to the sender's other sessions, and tells the sender. SESSION is the sender's, or
 * NULL: gone, or a module. */
void deliver_parcel(struct stk_module *module, struct stk_session *session, const struct parcel *parcel);

#endif
